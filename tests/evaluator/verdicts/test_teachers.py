"""Runs whose teacher was evaluated more than once, and scores that are equal, of made-up pages."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.made_up_answers import PRUNED, STUDY, TEACHER, MadeUpPage
from evaluator.report.advice import needed_text
from evaluator.verdicts.contrasts import check_comparable
from evaluator.verdicts.judge import judge


def runs(page: MadeUpPage, teachers: list) -> dict:
    """Runs of one milestone, each with its own evaluation of its teacher."""
    student = page.answers(page.model(STUDY["80B"]))
    return {
        f"r{number}": page.report(f"r{number}", page.answers(teacher), student, {"80B": student})
        for number, teacher in enumerate(teachers)
    }


def test_five_evaluations_of_one_teacher_are_hardly_ever_refused_and_another_teacher_is_with_a_way_on():
    refused = 0
    for number in range(15):
        page = MadeUpPage(np.random.default_rng(number))
        teacher = page.model(TEACHER)
        try:
            check_comparable(runs(page, [teacher] * 5))
        except ValueError:
            refused += 1
    assert refused <= 1
    worse = page.model(TEACHER | {"MMLU": TEACHER["MMLU"] - 3})
    with pytest.raises(ValueError, match="their teachers score differently in MMLU .*; evaluate both again in one"):
        check_comparable(runs(page, [teacher, teacher, worse]))


def test_equal_scores_lead_together_and_need_no_questions():
    page = MadeUpPage(np.random.default_rng(1))
    base, gpqa = STUDY["80B"], 2
    reports = runs(page, [page.model(TEACHER)] * 2)
    low = page.answers(page.model(base | {"GPQA Diamond": 45}))
    reports["r2"] = page.report(
        "r2", reports["r0"].row("teacher").result.tasks, page.answers(page.model(PRUNED)), {"80B": low}
    )
    # As many right answers of other questions: fractions whose sum is off 0 by the last digit.
    task = reports["r0"].milestones[0].result.tasks[gpqa]
    turned = replace(task)
    vars(turned)["table"] = task.table[::-1].copy()
    result = reports["r1"].milestones[0].result
    tasks = tuple(turned if one is task else one for one in result.tasks)
    row = replace(reports["r1"].milestones[0], result=replace(result, tasks=tasks))
    reports["r1"] = replace(reports["r1"], rows=(*reports["r1"].rows[:2], row))
    judgement = judge(reports)
    standing = next(one for one in judgement.standings("80B") if one.column == "GPQA Diamond")
    assert standing.leaders == ["r0", "r1"] and [one.other for one in standing.equal] == ["r1"]
    tie = next(
        one for one in judgement.between if one.column == "GPQA Diamond" and {one.one, one.other} == {"r0", "r1"}
    )
    assert tie.is_tie and tie.needed is None and needed_text(tie) == ""
