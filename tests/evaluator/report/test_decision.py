"""What a page says first, of blends whose chances are known: a winner, a tie, nothing shown."""

import re

import numpy as np
import pytest
from rich.console import Console

from evaluator.report.advice import run_summary, summary
from evaluator.report.comparison import Comparison, write_comparison
from evaluator.report.decision import duels, matrix
from evaluator.report.files import BETWEEN, tables
from evaluator.report.matrix import MOST_BANDS
from evaluator.report.terminal import terminal_summary
from evaluator.verdicts.judge import judge, judge_alone
from evaluator.verdicts.needed import runs_needed
from tests.evaluator.verdicts.pages import report

LOW, HIGH = [0.3] * 5, [0.6] * 5
FLAT = [HIGH, HIGH]
TRUTHS = {
    "a winner": ({"a": [LOW, LOW], "b": FLAT, "c": [LOW, LOW]}, "Take b; stop at 1B."),
    "a tie": ({"a": [LOW, LOW], "b": FLAT, "c": FLAT}, "Take {leader} or {other}, not distinguishable; stop at 1B."),
    "nothing shown": (
        {"a": FLAT, "b": FLAT},
        "No blend is shown to be better than another: take {leader} or {other}; stop at 1B.",
    ),
}
"""By what is true: chances of each blend's two milestones, and the sentence."""


def compared(blends, *, seed: int = 0, questions: int = 400, **options) -> Comparison:
    """A comparison of runs with these chances at 1B and 2B."""
    drawn = np.random.default_rng(seed)
    runs: dict = {}
    for name, chances in blends.items():
        runs[name] = report(name, chances, drawn, base=next(iter(runs.values()), None))
    return Comparison(judge(runs, **options), dict.fromkeys(runs, "nemo-run report"))


def said(comparison: Comparison) -> list[str]:
    """Lines of a terminal of 80 columns."""
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(terminal_summary(comparison))
    return capture.get().splitlines()


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_first_sentence_of_terminal_and_page_is_what_is_true(truth, tmp_path):
    blends, expected = TRUTHS[truth]
    comparison = compared(blends, margin=0.04)
    judgement = comparison.judgement
    others = [name for name, chances in blends.items() if chances == FLAT and name != judgement.first.leader]
    sentence = expected.format(leader=judgement.first.leader, other=others[0] if others else "")
    assert summary(judgement).sentence == sentence
    printed = said(comparison)
    assert " ".join(" ".join(printed[:2]).split()).startswith(sentence)
    assert len(printed) <= 10 and max(map(len, printed)) <= 80
    write_comparison(comparison, tmp_path)
    (heading,) = re.findall(r"<h1>(.*?)</h1>", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert re.sub(r"<[^>]+>", "", heading) == sentence


def test_five_long_names_are_ten_lines_of_80_columns_in_which_they_are_told_apart():
    names = [f"distill_30pre_70post_v{number}_with_a_long_warmup_and_lr_5e-5_bis" for number in range(1, 6)]
    printed = said(compared(dict(zip(names, [FLAT, FLAT, FLAT, [LOW, HIGH], [LOW, LOW]]))))
    assert len(printed) <= 10 and max(map(len, printed)) <= 80
    assert sorted(line.split()[0] for line in printed if line.startswith("…")) == [f"…v{n}…" for n in range(1, 6)]
    assert not any(name in "".join(printed) for name in names) and "Take …v" in printed[0]


def test_of_one_milestone_and_of_scores_that_are_all_0_it_says_so():
    (alone, *_) = said(compared({"a": [HIGH], "b": [LOW]}))
    assert alone == "Take a; 1B is the only milestone."
    nothing = compared({"a": [[0.0] * 5] * 2, "b": [[0.0] * 5] * 2})
    assert said(nothing)[0] == summary(nothing.judgement).sentence == "Nothing to decide by: every score is 0."
    assert not any("stop" in line or "decide more" in line for line in said(nothing)[4:])


def test_the_table_has_the_highest_first_its_differences_and_the_rows_that_these_are_of():
    comparison = compared(TRUTHS["a winner"][0])
    scores, verdicts, _ = files = tables(comparison)
    shown = matrix(comparison, verdicts, scores)
    assert [line.name for line in shown.lines] == ["b", *list(comparison.finals)[1:], "Teacher", "Pruned student"]
    leader, *others = shown.compared
    assert all(entry.change is None and entry.highest for entry in leader.entries)
    for line in others:
        contrast = next(
            one for one in comparison.judgement.between
            if one.at == "2B" and {one.one, one.other} == {"b", line.name} and one.column == "Average"
        )  # fmt: skip
        entry = line.entries[0]
        assert entry.change.mean == pytest.approx(-abs(contrast.difference.mean)) and entry.look == "sure"
        # The band leaves zero out where the difference stands.
        assert entry.change.mean + entry.half < 0
        assert shown.axes[0].place(100 * (entry.change.mean + entry.half)) < shown.axes[0].place(0)
        assert line.rows == verdicts.rows(BETWEEN, "2B", contrast.one, contrast.other)
        first, last = map(int, line.rows.partition("#row=")[2].split("-"))
        rows = verdicts.text.splitlines()[first - 1 : last]
        assert len(rows) == 6 and all(row.startswith(f"{BETWEEN},2B,") for row in rows)
    won = {name: [duel and duel.better for duel in row] for name, row in duels(comparison).items()}
    assert won["b"] == [None, 5, 5] and {file.name for file in files} == {"scores.csv", "verdicts.csv", "stopping.csv"}


def test_equal_scores_are_all_the_highest():
    comparison = compared({"a": FLAT, "b": FLAT})
    twin = comparison.reports["a"]
    same = Comparison(judge({"a": twin, "b": twin}), {"a": "", "b": ""})
    scores, verdicts, _ = tables(same)
    lines = matrix(same, verdicts, scores).compared
    assert all(entry.highest for line in lines for entry in line.entries)
    assert [line.said.partition(";")[0] for line in lines] == ["highest, equal"] * 2
    text = dict(summary(same.judgement).points)
    assert "too small to ask more about" in text["What would decide more"]


def test_so_many_runs_as_are_named_find_the_difference_four_times_in_five():
    judgement = compared({"a": [LOW, [0.57] * 5], "b": FLAT}, seed=3).judgement
    contrast = judgement.first.level[0] if judgement.first.level else judgement.first.above_in_answers[0]
    found = runs_needed(contrast, judgement.scatters, pairs=1)
    # Of the difference seen less, and more, one standard error, at 5 % and 80 %: 1.96 + 0.84 standard errors.
    size, error = abs(contrast.difference.mean), contrast.difference.stderr
    for runs, effect in ((found.fewest, size + error), (found.most, max(0.005, size - error))):
        power = [((error**2 + 2 * 0.005**2) / count) ** 0.5 * 2.8016 <= effect for count in (runs - 1, runs)]
        assert power == [runs == 2 and power[0], True]


def test_a_line_far_away_squeezes_no_other():
    blends = {"a": [LOW, [0.02] * 5], "b": FLAT, "c": [LOW, [0.57] * 5]}
    comparison = compared(blends)
    scores, verdicts, _ = tables(comparison)
    shown = matrix(comparison, verdicts, scores)
    far = next(line for line in shown.lines if line.name == "a").entries[0]
    assert shown.axes[0].is_below(far) and shown.axes[0].place(100 * far.change.mean) == 0
    assert shown.axes[0].low == pytest.approx(-100 * MOST_BANDS * max(
        line.entries[0].half for line in shown.compared
    ), rel=0.2)  # fmt: skip


def test_of_one_run_it_says_where_to_stop_and_where_every_score_is_0_that_nothing_is_known():
    drawn = np.random.default_rng(1)
    for chances, start in (
        ([HIGH, HIGH], "Stop at 1B: less than 4 points is lost by it; "),
        ([[0.0] * 5] * 2, "Nothing to decide by: every score is 0."),
    ):
        one = report("a", chances, drawn)
        stop, _ = judge_alone("a", one, margin=0.04)
        assert run_summary(one, stop).sentence.startswith(start)
