"""The two steps in which the packages meet: what they read and write."""

import dataclasses
import json

import pytest

from nemo_distill.errors import UserError
from nemo_distill.outcome.gather import gather
from nemo_distill.run.step import Spec, mark_done
from nemo_distill.steps import evaluate
from nemo_distill.steps import report as report_step


def placed(folder, name: str, *, config: dict | None = None, upstream: dict | None = None, **extra) -> Spec:
    """A finished step's folder."""
    spec = Spec(
        name, "nemo_distill.steps.distill", config or {}, folder / name / "0123456789ab", upstream or {}, "0123456789ab"
    )
    spec.save(**extra)
    return spec


@pytest.fixture
def upstream(report, tmp_path) -> dict:
    """Folders as the steps before the report leave them: two segments, three evaluations."""
    prepare = placed(tmp_path, "prepare")
    sources = {"science-mcq": {"tokens": 100_000}, "code": {"tokens": 1_000_000}}
    (prepare.folder / "sources.json").write_text(json.dumps(sources))
    prune = placed(tmp_path, "prune")
    layers = {"pattern_before": "M-M*-", "pattern_after": "M-*-", "dropped": [3], "parameters_before": 2_000_000}
    (prune.folder / "layers.json").write_text(json.dumps(layers | {"parameters_after": 1_500_000}))
    candidates = [
        {"num_layers": 4, "hidden_size": 96, "parameters": 1_500_000, "score": -0.5, "chosen": True},
        {"num_layers": 5, "hidden_size": 80, "parameters": 1_400_000, "score": -0.75, "chosen": False},
    ]
    (prune.folder / "candidates.json").write_text(json.dumps(candidates))
    steps, before = [prepare, prune], {"prepare": prepare.folder, "prune": prune.folder}
    for index in (1, 2):
        segment = placed(tmp_path, f"distill-{index}", upstream=before)
        lines = [{"iteration": i, "tokens": 1000 * i, "loss": 1 / i} for i in range(100 * index - 99, 100 * index + 1)]
        (segment.folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        source = {"kl": 0.5, "kl_stderr": 0.1, "loss": 2.0, "loss_stderr": None, "teacher_loss": 1.5}
        source |= {"documents": 3, "tokens": 300}
        line = {"iteration": 100 * index, "tokens": 100_000 * index, "seconds": 0.1, "sources": {"code": source}}
        (segment.folder / "held_out.jsonl").write_text(json.dumps(line) + "\n")
        before = before | {segment.name: segment.folder}
        steps.append(segment)
    for name, row in zip(("teacher", "pruned", "0.2M"), report.rows, strict=False):
        evaluation = placed(tmp_path, f"evaluate-{name}")
        row.result.save(evaluation.folder)
        steps.append(evaluation)
    for step in steps:
        mark_done(step.folder, seconds=12.0)
    return {step.name: step.folder for step in steps if step.name not in ("prepare", "prune")}


CONFIG = {
    "title": "a_blend",
    "suite": "offline",
    "repeats": None,
    "blend": {"science-mcq": 20, "code": 80},
    "provenance": {"science-mcq": "published", "code": "reconstructed: for the tests"},
    "distill": ["distill-1", "distill-2"],
    "checkpoints": [
        {"step": "evaluate-teacher", "role": "teacher", "tokens": None, "iteration": None},
        {"step": "evaluate-pruned", "role": "pruned", "tokens": 0, "iteration": 0},
        {"step": "evaluate-0.2M", "role": "milestone", "tokens": 200_000, "iteration": 200},
    ],
}


def test_the_report_step_gathers_what_its_upstream_steps_left(tmp_path, upstream):
    provenance = {"packages": {"nemo-run": "0.11.1", "unrelated": "1"}, "git": {"commit": "c0ffee", "dirty": True}}
    command = ["nemo-run", "recipe.py", "seed=1"]
    spec = placed(tmp_path, "report", config=CONFIG, upstream=upstream, command=command, provenance=provenance)
    report_step.main(spec)
    text = (spec.folder / "report.md").read_text()
    assert text.startswith("# a_blend\n")
    assert "| science-mcq | 20% | 0.04M | 0.1M | 0.40 |" in text
    assert "2M parameters became 1.5M (75.0%); layers `M-M*-` became `M-*-`, without 3." in text
    assert "| 4 | 96 | 1.5M | -0.5000 | chosen |" in text
    assert "| Source | KL, 0.2M | Next token, 0.2M | Teacher | Documents | Tokens |" in text
    assert "| code | 0.500 ± 0.100 | 2.000 | 1.500 | 3 | 300 |" in text
    assert "- Command: `nemo-run recipe.py seed=1`" in text
    assert "- Commit: `c0ffee, with changes kept in spec.json`" in text
    assert "- Packages: `nemo_run 0.11.1`" in text
    assert "| prepare | `prepare/0123456789ab` | 12 s |" in text
    assert "200 iterations" in (spec.folder / "report.html").read_text()
    assert json.loads((spec.folder / "progress.json").read_text())["done"] == 1


def test_the_report_says_how_it_was_asked_and_not_how_the_suite_would(tmp_path, upstream, report):
    evaluation = placed(tmp_path, "evaluate-0.2M", config={"max_new_tokens": 33, "protocol": "abc"})
    tasks = tuple(
        dataclasses.replace(task, questions=task.questions[:7], scores=task.scores[:7])
        for task in report.rows[0].result.tasks
    )
    for folder in (upstream["evaluate-teacher"], upstream["evaluate-pruned"], evaluation.folder):
        dataclasses.replace(report.rows[0].result, tasks=tasks).save(folder)
    made = gather(placed(tmp_path, "report", config=CONFIG, upstream=upstream))
    assert (made.suite.max_new_tokens, made.protocol) == (33, "abc")
    assert {benchmark.questions for benchmark in made.suite.benchmarks} == {7}


def test_the_evaluate_step_refuses_a_damaged_checkpoint_by_name(tmp_path, copied):
    (copied / "tokenizer.json").unlink()
    config = {"checkpoint": str(copied), "label": "x", "suite": "offline", "repeats": 4, "seed": 0, "threads": 1}
    spec = placed(tmp_path, "evaluate-x", config=config)
    with pytest.raises(UserError, match=r"lacks the file '.*tokenizer.json'"):
        evaluate.main(spec)
    assert not list(spec.folder.glob("attempt-*"))


def test_the_evaluate_step_reads_the_export_of_an_upstream_step(tmp_path):
    export = placed(tmp_path, "export-0.2M")
    config = {"checkpoint": "export-0.2M", "label": "x", "suite": "offline", "repeats": 4, "seed": 0, "threads": 1}
    spec = placed(tmp_path, "evaluate-x", config=config, upstream={"export-0.2M": export.folder})
    with pytest.raises(UserError, match=r"no checkpoint folder '.*export-0.2M/0123456789ab/hf'"):
        evaluate.main(spec)
