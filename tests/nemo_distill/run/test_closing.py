"""What is said at the end of a run: what is done and what is next, or the cause of a failure, first and once."""

import dataclasses
import io
import json
import traceback

import pytest
from rich.console import Console

from nemo_distill.run.closing import print_done, print_failure, print_next
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import FAILED, LOG_FILE, Step, mark_done, place

NOISE = """\
[distill-1] started in /runs/distill-1
[NeMo W 2026-01-01 12:00:00 nemo_logging:364] The `srun` command is available but not used.
2026-01-01 12:00:00,332 INFO pytorch_lightning.utilities.rank_zero: GPU available: False, used: False
2026-01-01 12:00:00,332 WARNING OneLogger: no exporter is configured
/x/torch/nn.py:12: UserWarning: this is deprecated
  warnings.warn(
2026-01-01 12:00:00,400 INFO nemo_distill.steps.distill: activation recomputation: none

"""


@pytest.fixture
def run(tmp_path, small_steps):
    steps = [
        Step("prune", small_steps, {}),
        Step("distill-1", small_steps, {}, ("prune",)),
        Step("report", "nemo_distill.steps.report", {}, ("distill-1",)),
    ]
    return Run(name="mine-debug", runs=tmp_path, specs=place(steps, runs=tmp_path))


def said(function, *arguments, **options) -> list[str]:
    file = io.StringIO()
    function(*arguments, Console(file=file, width=200), **options)
    return file.getvalue().splitlines()


def failing(run: Run, error: str, log: str, **record) -> list[str]:
    """What is said where distill-1 has failed so."""
    run.specs["prune"].save()
    mark_done(run.specs["prune"].folder, seconds=1.0)
    folder = run.specs["distill-1"].save().parent
    (folder / FAILED).write_text(json.dumps({"error": error, "refused": False, "lasting": False, **record}))
    (folder / LOG_FILE).write_text(log)
    return said(print_failure, run)


def raised(message: str) -> tuple[str, str]:
    """An error of two, one raised while the other was handled, as a step writes it into its mark and its log."""
    try:
        try:
            {}["weights"]
        except KeyError as cause:
            raise RuntimeError(message) from cause
    except RuntimeError as error:
        return f"RuntimeError: {error}", traceback.format_exc()


def test_a_failure_says_its_cause_first_and_once_and_leaves_out_what_frameworks_say_of_themselves(run):
    error, trace = raised("the loss is no number\nat iteration 7")
    lines = failing(run, error, NOISE + "iteration 7: loss nan\n" + trace)
    text = "\n".join(lines)
    assert lines[1] == "distill-1 failed: RuntimeError: the loss is no number"
    assert text.count("the loss is no number") == text.count("at iteration 7") == 1
    assert "  iteration 7: loss nan" in lines and "activation recomputation: none" in text
    assert f"raised at {__file__}:" in text and ", in raised" in text
    for noise in ("srun", "GPU available", "OneLogger", "warn", "started in", "Traceback", "weights"):
        assert noise not in text, noise
    assert lines[-2:] == ["Not started: report.", "The same command goes on from here."]


def test_a_users_mistake_is_one_sentence_and_has_to_be_mended(run):
    sentence = "there is no source 'mth'. Did you mean 'math'?"
    lines = failing(run, sentence, NOISE + f"[distill-1] failed: {sentence}\n", lasting=True)
    assert lines[1] == f"distill-1 failed: {sentence}" and "\n".join(lines).count("mth") == 1
    assert lines[2].startswith("  all of it: ") and lines[-1].startswith("As it is, it would end alike")


def test_going_on_is_promised_where_it_helps_and_with_what_it_takes(run):
    full = "OSError: [Errno 28] No space left on device: 'x.bin'"
    assert failing(run, full, "")[-1] == "The same command goes on from here, once there is room."
    damaged = "not started: the output of prune is damaged: x is missing. Remove prune and run again to make it anew."
    assert failing(run, damaged, "", refused=True)[-1].startswith("As it is, it would end alike")


def test_the_end_says_what_is_done_where_it_lies_and_what_is_next(run, monkeypatch):
    command = ["nemo-run", "recipes/mine.py", "--until", "distill-1", "seed=7"]
    part = dataclasses.replace(run, specs={name: run.specs[name] for name in ("prune", "distill-1")})
    assert said(print_done, part, seconds=62.4, until="distill-1") == [
        "Done in 1:02: 2 steps of mine-debug, up to distill-1.",
        f"distill-1 lies in {run.specs['distill-1'].folder}",
    ]
    assert said(print_next, part, until="distill-1", command=command) == ["Next: nemo-run recipes/mine.py seed=7"]
    assert said(print_done, run, seconds=3723) == ["Done in 1:02:03: 3 steps of mine-debug."]
    assert said(print_done, run, seconds=None) == ["Nothing to do: all 3 steps of mine-debug are done."]

    def commands() -> list[str]:
        return [line.partition("#")[0].strip() for line in said(print_next, run, command=command)]

    assert commands() == [
        f"Next: nemo-run report mine-debug RUN --runs {run.runs}", f"nemo-run card mine-debug --runs {run.runs}",
    ]  # fmt: skip
    monkeypatch.chdir(run.runs.parent)
    run = dataclasses.replace(run, runs=run.runs.parent / "runs")
    assert commands() == ["Next: nemo-run report mine-debug RUN", "nemo-run card mine-debug"]
