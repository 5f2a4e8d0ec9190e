"""Which scores are taken for failed evaluations, of made-up pages whose truth is known.

`benchmarks/calibration.py` counts the same over many more pages.
"""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.made_up_answers import PRUNED, STUDY, TEACHER, TITLES, Lost, MadeUpPage
from evaluator.verdicts.failures import failure_flags, find_failures
from evaluator.verdicts.judge import judge

ONE = {"80B": STUDY["80B"]}


class Page(MadeUpPage):
    """One page, drawn anew for every number."""

    def __init__(self, number: int) -> None:
        super().__init__(np.random.default_rng(number))
        self.references = [self.answers(self.model(scores)) for scores in (TEACHER, PRUNED)]

    def run(self, name: str, curve: dict, lost: dict | None = None):
        """Report of a run with these scores, and of what answers were lost at which milestone."""
        quirks = self.quirks()
        milestones = {
            label: self.answers(self.like(scores, quirks), (lost or {}).get(label)) for label, scores in curve.items()
        }
        return self.report(name, *self.references, milestones)


@pytest.mark.parametrize("title", TITLES)
def test_seven_lost_answers_in_ten_are_seen_wherever_they_were_lost_and_nothing_else_is_suspected(title):
    lost = Lost(title, 0.7)
    for number, at in enumerate(("2.5B", "40B", "80B")):
        page = Page(number)
        broken, sound = page.run("broken", STUDY, {at: lost}), page.run("sound", STUDY)
        assert set(find_failures({"broken": broken})["broken"]) == {(title, at)}
        both = find_failures({"broken": broken, "sound": sound})
        assert (set(both["broken"]), both["sound"]) == ({(title, at)}, {})
    only = page.run("only", ONE, {"80B": lost})
    assert set(find_failures({"only": only})["only"]) == {(title, "80B")}  # the teacher is all that is beside it
    assert set(find_failures({"only": only, "sound": page.run("sound", ONE)})["only"]) == {(title, "80B")}


def test_of_a_failed_first_milestone_nothing_is_concluded():
    page = Page(9)
    judgement = judge({"broken": page.run("broken", ONE, {"80B": Lost("GPQA Diamond", 0.9)}), "b": page.run("b", ONE)})
    assert {c.column for c in judgement.between if c.verdict == "suspected failure"} == {"GPQA Diamond", "Average"}
    (flag,) = (flag for flag in judgement.flags if "failed evaluation" in flag.title)
    assert flag.title == "GPQA Diamond of broken at 80B may be a failed evaluation."
    assert "questions that b at 80B is sure of, it answers" in flag.text


def test_sound_evaluations_are_not_suspected_of_good_and_of_bad_blends():
    no_code = {label: scores | {"LCB v6": 20, "SciCode": 5} for label, scores in STUDY.items()}
    late = {"1B": {title: 0.8 * PRUNED[title] + 0.2 * STUDY["80B"][title] for title in TITLES}} | STUDY
    for number in range(8):
        page = Page(number)
        for curves in ([STUDY, STUDY], [STUDY, no_code], [late], [ONE, {"80B": no_code["80B"]}]):
            reports = {f"r{index}": page.run(f"r{index}", curve) for index, curve in enumerate(curves)}
            assert not any(find_failures(reports).values())


@pytest.mark.parametrize("by", ["question", "block"])
def test_whole_questions_that_were_lost_are_seen_as_well(by):
    broken = Page(3).run("broken", STUDY, {"20B": Lost("LCB v6", 0.5, by)})
    assert set(find_failures({"broken": broken})["broken"]) == {("LCB v6", "20B")}


def test_one_repeat_that_was_lost_is_seen_whatever_the_score():
    page = Page(4)
    report = page.run("run", ONE)
    task = report.rows[-1].result.tasks[TITLES.index("GPQA Diamond")]
    task.table[:, 5] = 0
    ((found, suspicion),) = find_failures({"run": report})["run"].items()
    assert found == ("GPQA Diamond", "80B")
    assert suspicion.text.startswith("One of its 8 repeats scores 0.0, the others 5")


def test_empty_and_cut_answers_are_named_beside_what_they_may_have_cost():
    page = Page(5)
    report = page.run("run", STUDY, {"2.5B": Lost("AIME 2025", 0.7)})
    row = report.milestones[0]
    told = [replace(task, empty_share=0.68) if "aime" in task.task else task for task in row.result.tasks]
    for one, other in zip(told, row.result.tasks, strict=True):
        vars(one).update({key: value for key, value in vars(other).items() if key == "table"})
    first = replace(row, result=replace(row.result, tasks=tuple(told)))
    changed = replace(report, rows=(*report.rows[:2], first, *report.rows[3:]))
    (flag,) = failure_flags({"run": changed}, find_failures({"run": changed}))
    assert "; 68% of its answers are empty." in flag.text
