"""The preview."""

import io
import json

import pytest
from rich.console import Console

from nemo_distill.config.blend import PUBLISHED, Blend, reconstructed
from nemo_distill.config.schedule import Schedule
from nemo_distill.plan.preview import blend_remarks, blend_table, decide, milestone_table, tokens_available
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, mark_done, place

STUDY = Schedule(
    seq_length=8192,
    global_batch_size=768,
    max_iterations=16_000,
    warmup_iterations=100,
    learning_rate=1e-4,
    min_learning_rate=1e-5,
)


def shown(renderable) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def run(tmp_path, small_steps):
    steps = [
        Step("a", small_steps, {}),
        Step("b", small_steps, {}, ("a",)),
        Step("c", small_steps, {}, ("a", "b")),
    ]
    return Run(name="test", runs=tmp_path, specs=place(steps, runs=tmp_path))


def test_the_learning_rate_at_80b_tokens_is_the_studys():
    text = shown(milestone_table(STUDY, STUDY.milestones([400, 12_800])))
    assert "1.87e-05" in text and "12,800" in text and "80,530,636,800" in text


def test_epochs_are_counted_at_every_milestone_with_the_tokens_that_are_there():
    blend = Blend("b", {"stem": 60, "science-mcq": 40})
    milestones = STUDY.milestones([400, 12_800])
    text = shown(blend_table(blend, milestones, available={"stem": 5e9, "science-mcq": 1e9}))
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    assert rows["stem"][-2:] == ["0.30", "9.66"]
    assert rows["science-mcq"][-2:] == ["1.01", "32.2"]
    assert shown(blend_table(blend, milestones, available=None)).count("?") == 6
    ((sentence, _),) = blend_remarks(blend, milestones, available=None)
    assert "once the sources are prepared" in sentence


def test_a_source_that_is_repeated_for_more_than_four_epochs_is_warned_of_with_the_milestone():
    blend = Blend("b", {"stem": 60, "science-mcq": 40})
    milestones = STUDY.milestones([3_200, 6_400, 12_800])
    at_most_four = {"stem": 0.6 * 20.2e9, "science-mcq": 0.4 * 20.2e9}  # 3.99 times by 80B
    assert blend_remarks(blend, milestones, available=at_most_four) == []
    ((sentence, _),) = blend_remarks(blend, milestones, available={**at_most_four, "stem": 0.6 * 10e9})
    assert "Repeated for more than 4 epochs: stem (by 40B)." in sentence and "arXiv:2305.16264" in sentence
    rows = shown(blend_table(blend, milestones, available={**at_most_four, "stem": 0.6 * 10e9}))
    assert "stem !" in rows and "science-mcq !" not in rows


def test_the_studys_chosen_blend_still_wears_out_science_by_80b():
    shares = {"science-mcq": 3, "science-rqa": 2, "stem": 95}
    ((sentence, _),) = blend_remarks(
        Blend("b", shares), STUDY.milestones([400, 3_200, 6_400, 9_600, 12_800]),
        available={"science-mcq": 497_000_000, "science-rqa": 278_000_000, "stem": 20_000_000_000},
    )  # fmt: skip
    assert "science-mcq (by 80B)" in sentence and "science-rqa (by 60B)" in sentence and "stem" not in sentence


def test_shares_say_where_they_come_from_and_sizes_whether_they_are_guessed():
    blend = Blend.of("b", ("stem", 60, PUBLISHED), ("exercism", 30, reconstructed("a guess")), ("sft-code", 10, "mine"))
    (last,) = STUDY.milestones([400])
    sizes = {"stem": 20_000_000_000, "exercism": 120_000_000, "sft-code": 7_000_000_000}
    lines = shown(blend_table(blend, [last], available=sizes)).splitlines()
    assert [line.split()[-4:-1] for line in lines[2:]] == [
        ["60", "publ.", "20B"], ["30", "recon.", "~120M"], ["10", "own", "7B"],
    ]  # fmt: skip
    assert any(sentence.startswith("~") for sentence, _ in blend_remarks(blend, [last], available=sizes))
    counted = {**sizes, "exercism": 119_876_543}
    assert "~" not in shown(blend_table(blend, [last], available=counted))


def test_a_step_without_upstream_runs_and_the_others_wait_for_it(run):
    assert decide(run, "a") == ("run", "not done yet")
    assert decide(run, "b") == ("wait", "for a")
    assert decide(run, "c") == ("wait", "for a and 1 more")


def test_a_finished_step_is_skipped_and_what_it_held_up_runs(run):
    run.specs["a"].save()
    mark_done(run.specs["a"].folder, seconds=1.0)
    assert decide(run, "a") == ("skip", "done")
    assert decide(run, "b") == ("run", "not done yet")


def test_a_step_that_was_cut_or_failed_resumes(run):
    folder = run.specs["a"].save().parent
    (folder / "log.txt").write_text("started\n")
    assert decide(run, "a") == ("resume", "was cut")
    (folder / "_FAILED").write_text(json.dumps({"error": "x", "refused": False}))
    assert decide(run, "a") == ("resume", "failed before")


def test_a_step_done_with_other_settings_is_said_to_run_for_that(run):
    (run.runs / "a" / "0123456789ab").mkdir(parents=True)
    assert decide(run, "a") == ("run", "new settings")


@pytest.mark.parametrize("scale", ["debug", "middle"])
def test_tokens_of_a_made_world_are_counted_and_of_the_hubs_sources_the_catalogues(tmp_path, small_steps, scale):
    steps = [Step("world", small_steps, {}), Step("prepare", small_steps, {"sources": [{"name": "stem"}]})]
    specs = place(steps, runs=tmp_path)
    debug = Run(name="t", runs=tmp_path, specs=specs, facts=RunFacts(scale=scale))
    full = Run(name="t", runs=tmp_path, specs={"prepare": specs["prepare"]}, facts=RunFacts(scale="full"))
    assert tokens_available(debug) is None
    assert tokens_available(full) == {"stem": 20_000_000_000}
    full.specs["prepare"].config["sources"][0]["tokens"] = 3_000_000
    assert tokens_available(full) == {"stem": 3_000_000}
    folder = specs["prepare"].save().parent
    (folder / "sources.json").write_text(json.dumps({"stem": {"tokens": 7}}))
    mark_done(folder)
    assert tokens_available(debug) == {"stem": 7}
