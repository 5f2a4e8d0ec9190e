"""What quantising costs, told from paired answers."""

import dataclasses

import numpy as np
import pytest

from evaluator.report.card import Card, render
from evaluator.report.charts import HOLLOW
from evaluator.report.panels import difference
from evaluator.report.run import panels, write_report
from evaluator.results.run import Row
from evaluator.stats.paired import differences, paired_difference, sign_flip
from evaluator.verdicts.quantised import judge_quantised

SENTENCE = "Quantised to FP8: this and that."


def with_quantised(report, *, wrong: float):
    """The report with its last milestone in fewer bits, which gets that share of one benchmark's questions wrong."""
    last = report.milestones[-1]
    rng = np.random.default_rng(3)
    task = last.result.tasks[0]
    scores = tuple(tuple(0.0 for _ in row) if rng.random() < wrong else row for row in task.scores)
    label = f"{last.title}-fp8"
    result = dataclasses.replace(
        last.result, label=label, tasks=(dataclasses.replace(task, scores=scores), *last.result.tasks[1:])
    )
    row = Row("quantised", result, tokens=last.tokens, iteration=last.iteration)
    return dataclasses.replace(report, rows=(*report.rows, row), sentences={label: (SENTENCE,)})


def test_a_loss_is_told_by_benchmark_and_what_is_equal_is_not(report):
    (hurt,) = judge_quantised(with_quantised(report, wrong=0.9))
    (same,) = judge_quantised(with_quantised(report, wrong=0.0))
    title = report.columns[0][1]
    assert hurt.text.startswith("0.8M-fp8 is worse than 0.8M in Average (−") and f" and {title} (−" in hurt.text
    assert same.text == (
        "0.8M-fp8 shows no significant difference from 0.8M in any benchmark; on average +0.0 ± 0.0 points, p = 1."
    )
    assert judge_quantised(report) == ()


def test_its_differences_are_paired_and_a_family_of_their_own(report):
    whole = with_quantised(report, wrong=0.3)
    (one,) = judge_quantised(whole)
    mine, theirs = (row.result.tasks[0] for row in (one.quantised.row, one.quantised.of))
    raw = sign_flip(differences(mine.table, theirs.table, mine.clusters))
    first = next(contrast for contrast in one.contrasts if contrast.column == report.columns[0][1])
    assert first.difference == paired_difference(mine.table, theirs.table, mine.clusters)
    assert 0 < raw < first.p_value <= raw * (len(report.columns) + 1) < 0.05 and len(one.contrasts) == 6


def test_curves_have_it_as_a_point_at_its_milestone_whose_difference_is_paired(report):
    whole = with_quantised(report, wrong=0.5)
    (one,) = judge_quantised(whole)
    for panel, contrast in zip(panels(whole), one.contrasts, strict=True):
        trained, quantised = panel.curves
        assert (quantised.label, quantised.hollow, quantised.number) == ("distilled student, FP8", True, trained.number)
        assert quantised.tokens == trained.tokens[-1:]
        ((_, apart, error),) = difference(panel, trained.label).curves[0].points
        told = contrast.difference
        assert (apart, error) == pytest.approx((100 * told.mean, 100 * told.stderr), abs=1e-9)
    assert [len(panel.curves) for panel in panels(report)] == [1] * len(one.contrasts)


def test_report_and_card_show_it_beside_the_milestone_which_stays_the_last(report, tmp_path):
    whole = with_quantised(report, wrong=0.5)
    write_report(whole, tmp_path)
    text, page = ((tmp_path / name).read_text() for name in ("report.md", "report.html"))
    assert "At 0.8M tokens the student scores" in text and "| 0.8M-fp8 against 0.8M | −" in text
    for shown in (text, page):
        assert SENTENCE in shown and "0.8M-fp8 is worse than 0.8M" in shown
    assert 'id="quantised"' in page and "0.8M-fp8,quantised," in (tmp_path / "scores.csv").read_text()
    card = Card(name="x", report=whole, row=whole.milestones[-1], findings=(), why="It is.", command="nemo-run x")
    assert "| **This model** | 0.8M-fp8 | How |" in render(card) and SENTENCE in render(card)
    # In the legend, each panel, the differences of the first, and where the curves are compared.
    assert '<li data-label="distilled student, FP8">' in page and page.count(HOLLOW) == 4 + len(report.columns)
    earlier = dataclasses.replace(card, row=whole.milestones[0])
    assert "fp8" not in render(earlier), "which there is not in fewer bits"


def test_a_run_without_any_says_nothing_of_it(report, tmp_path):
    write_report(report, tmp_path)
    assert "uantised" not in (tmp_path / "report.md").read_text() + (tmp_path / "report.html").read_text()
