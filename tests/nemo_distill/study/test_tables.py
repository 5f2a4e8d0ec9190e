"""The study's own tables against the published log, and what may be compared with what."""

import dataclasses
import re
from pathlib import Path

import pytest
import scipy.stats
import yaml

from evaluator.report.charts import panel_svg
from evaluator.report.panels import Panel
from evaluator.text import fixed
from nemo_distill.config.schedule import format_tokens
from nemo_distill.study.claims import ABSENT, AGREES, CHECKS, DISAGREES, OPEN, check_claim
from nemo_distill.study.findings import findings, pairs
from nemo_distill.study.report import PublishedReport, panels
from nemo_distill.study.tables import FILE, Checkpoint, Score, common_benchmark, load_study

LOG = Path(__file__).parent / "data" / "ablations.txt"
HEADINGS = {
    "Baseline: Pre-SFT-v1 Only": "pre_sft_v1",
    "Baseline: Pure Post-Training Data": "pt_v1v2",
    "30% Pretraining / 70% Post-Training: v1v2": "30pre_70post_v1v2",
    "30% Pretraining / 70% Post-Training: v3": "30pre_70post_v3",
}


@pytest.fixture(scope="module")
def study():
    return load_study()


def logged() -> dict[str, dict[str, list[float]]]:
    """Blend, row and scores of the published log."""
    tables: dict[str, dict[str, list[float]]] = {}
    for line in LOG.read_text(encoding="utf-8").splitlines():
        name = next((name for heading, name in HEADINGS.items() if line.startswith(heading)), None)
        if name:
            tables[name] = {}
        elif match := re.match(r"([\d.]+B)(.*)", line):
            tables[list(tables)[-1]][match[1]] = [float(cell) for cell in re.findall(r"\d+\.\d", match[2])]
    return tables


def changed(study, blend: str, row: str, column: str, points: float):
    """The study with one score that differs."""

    def new_row(old: Checkpoint) -> Checkpoint:
        if old.title != row:
            return old
        scores = (dataclasses.replace(s, points=points) if s.benchmark.title == column else s for s in old.scores)
        return dataclasses.replace(old, scores=tuple(scores))

    blends = tuple(
        dataclasses.replace(old, rows=tuple(map(new_row, old.rows))) if old.name == blend else old
        for old in study.blends
    )
    return dataclasses.replace(study, blends=blends)


def titles(study, parts=None) -> str:
    return "\n".join(finding.title for finding in findings(study, parts or {}))


def test_the_tables_are_those_of_the_published_log(study):
    read = {
        blend.name: {row.title: [score.points for score in row.scores] for row in blend.rows}
        for blend in study.blends
        if blend.source == "ablations"
    }
    assert read == logged()
    assert sum(map(len, read.values())) == 19


def test_the_chosen_blend_and_the_reference_models_are_those_of_the_main_table(study):
    chosen = study.blend("30pre_70post_v1v3")
    assert [row.title for row in chosen.rows] == ["2.5B", "20B", "40B", "60B", "80B"]
    assert [score.points for score in chosen.last.scores] == [72.2, 73.0, 56.9, 62.6, 72.6, 95.8, 66.2, 21.3]
    assert [score.points for score in study.reference("teacher").scores][:2] == [74.7, 74.9]
    assert [score.points for score in study.reference("pruned").scores][-2:] == [41.8, 0.1]


def test_the_row_that_was_not_evaluated_is_there_without_scores(study):
    rows = study.blend("30pre_70post_v1v2").rows
    assert [(row.title, len(row.scores)) for row in rows][:3] == [("2.5B", 8), ("5B", 0), ("20B", 8)]
    assert study.blend("30pre_70post_v1v2").checkpoint("5B") is None


def test_every_table_and_every_claim_names_a_source_that_is_described(study, tmp_path):
    record = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    for table in (*record["blends"].values(), *record["references"].values(), *record["protocols"].values()):
        assert table["source"] in record["sources"]
    record["blends"]["pt_v1v2"]["source"] = "hearsay"
    (tmp_path / "published.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    with pytest.raises(ValueError, match="the source 'hearsay'"):
        load_study(tmp_path / "published.yaml")


@pytest.mark.parametrize("scores", [[70.0] * 7, [70.0] * 7 + [101.0]])
def test_a_row_with_a_score_too_few_or_past_100_is_refused(tmp_path, scores):
    record = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    record["blends"]["pt_v1v2"]["scores"]["5B"] = scores
    (tmp_path / "published.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    with pytest.raises(ValueError, match="5B of 'Post-training data only"):
        load_study(tmp_path / "published.yaml")


def test_the_published_tokens_of_a_row_are_those_of_its_iterations(study):
    course = study.schedule.course
    assert course.tokens_per_iteration == 6_291_456
    for title, iteration in study.schedule.milestones.items():
        assert study.schedule.tokens(title) == course.tokens(iteration)
        assert format_tokens(course.tokens(iteration)) == title
    assert course.learning_rate_after(12_800) == pytest.approx(1.87e-5, abs=5e-8)
    assert study.schedule.tokens("19B") == 19e9  # published without its iteration


@pytest.mark.parametrize("column", ["AIME 2025", "SciCode"])
def test_single_shot_and_averaged_scores_cannot_be_compared(study, column):
    mine = study.blend("30pre_70post_v1v3").last.score(column)
    for other in (study.blend("30pre_70post_v3").last.score(column), study.blend("pt_v1v2").last.score(column)):
        with pytest.raises(
            ValueError, match=f"{column} as average of .* and {column} as single shot are two protocols"
        ):
            mine.minus(other)
        with pytest.raises(ValueError, match="two protocols"):
            common_benchmark([mine, other])
    assert mine.minus(study.reference("teacher").score(column)).points < 0
    with pytest.raises(ValueError, match="two protocols"):
        study.reference("teacher").score(column).minus(study.blend("30pre_70post_v3").last.score(column))


def test_two_benchmarks_cannot_be_compared(study):
    row = study.blend("pt_v1v2").last
    with pytest.raises(ValueError, match="MMLU as single shot and MMLU Pro as single shot"):
        row.score("MMLU").minus(row.score("MMLU Pro"))


def drawn(study) -> dict[str, Panel]:
    return {panel.title: panel for group in panels(study) for panel in group}


def test_no_panel_joins_two_protocols_and_every_score_is_in_one(study):
    found = drawn(study)
    assert len(found) == 10
    for column in ("AIME 2025", "SciCode"):
        single = found[f"{column}, single shot"]
        averaged = next(panel for title, panel in found.items() if title.startswith(f"{column}, average"))
        assert [curve.label for curve in averaged.curves] == ["30pre_70post_v1v3"]
        assert "30pre_70post_v1v3" not in {curve.label for curve in single.curves} and len(single.curves) == 4
        assert single.lines == () and "no teacher" in single.foot
        assert "teacher" in {line.label for line in averaged.lines}
    points = sum(len(curve.means) for panel in found.values() for curve in panel.curves)
    assert points == 8 * sum(len(blend.evaluated) for blend in study.blends)


def test_the_axis_fits_the_curves_and_a_reference_far_off_them_is_named_at_its_margin(study):
    for panel in drawn(study).values():
        low, high = panel.limits
        means = [mean for curve in panel.curves for mean in curve.means]
        assert all(low < mean < high for mean in (*means, *(line.mean for line in panel.inner)))
        assert all(not low < line.mean < high for line in panel.outer)
        spread = max(max(means) - min(means), 2 * panel.error, 1)
        assert high - low < 2 * spread
        svg = panel_svg(panel)
        for line in panel.outer:
            assert f"{'↑' if line.mean > high else '↓'} {line.label} {fixed(line.mean)}" in svg
    assert "pruned student" in {line.label for line in drawn(study)["IFEval"].inner}
    assert "pruned student" in {line.label for line in drawn(study)["MMLU Pro"].outer}


def test_a_blend_is_compared_with_another_only_after_the_same_tokens_and_in_one_protocol(study):
    found = pairs(study)
    assert len(found) == 25 and {pair.tokens for pair in found} == {"80B", "60B", "40B", "20B", "5B", "2.5B"}
    chosen = next(pair for pair in found if pair.tokens == "80B" and pair.other == "30pre_70post_v1v2")
    assert chosen.one == "30pre_70post_v1v3"
    assert [difference is None for difference in chosen.differences] == [False] * 4 + [True, False, False, True]
    assert [round(difference.points, 1) for difference in chosen.differences if difference] == [
        -1.2, 0.3, 2.2, 0.8, 0.5, 8.4,
    ]  # fmt: skip


def test_the_standard_error_of_a_score_is_scipys_for_its_answers_or_its_questions(study):
    score = study.blend("30pre_70post_v1v3").last.score("AIME 2025")
    share = score.points / 100
    assert score.stderr.most == pytest.approx(100 * scipy.stats.binom(30, share).std() / 30)
    assert score.stderr.least == pytest.approx(100 * scipy.stats.binom(30 * 32, share).std() / (30 * 32))
    assert 8 < score.stderr.most < 8.3


def test_a_difference_is_clear_open_or_error_by_the_two_bounds_of_its_standard_error(study):
    column = next(c for c in study.columns if c.title == "LCB v6")

    def verdict(points: float) -> str:
        return Score(points, column).minus(Score(60.0, column)).verdict

    assert [verdict(points) for points in (60.0, 63.2, 63.4, 66.0, 66.6, 53.4)] == [
        "error", "error", "open", "open", "clear", "clear",
    ]  # fmt: skip


def test_the_claims_are_judged_by_the_numbers(study):
    verdicts = {checked.claim.says: checked for checked in (check_claim(claim, study) for claim in study.claims)}
    assert len(verdicts) == len(study.claims)

    def of(words: str):
        return next(checked for says, checked in verdicts.items() if words in says)

    assert of("RQA").verdict == DISAGREES and "5.79 epochs" in of("RQA").found
    assert of("MCQ").verdict == AGREES
    assert of("0.13").verdict == AGREES
    assert of("1.87e-5").verdict == AGREES
    assert of("H100-hours").verdict == DISAGREES and "7,680" in of("H100-hours").found
    assert of("SciCode is 1.6").verdict == ABSENT
    assert of("AIME degrades").verdict == DISAGREES and "from 70.7 to 71.9" in of("AIME degrades").found
    assert of("highest MMLU").verdict == DISAGREES
    assert of("best MMLU of the 30/70").verdict == AGREES
    assert of("about 56 to 59").found.endswith("53.8 at 40B")
    assert of("still unstable").verdict == OPEN
    assert of("better AIME and LCB").verdict == OPEN
    assert of("IFEval degrades").verdict == AGREES
    assert of("60 to 80B").verdict == DISAGREES
    assert {claim.check for claim in study.claims} == set(CHECKS)


def test_scores_said_to_be_of_one_answer_per_question_are_checked_to_be_possible(study):
    claim = next(claim for claim in study.claims if claim.check == "possible_scores")
    assert "0 of 18 AIME 2025 scores" in check_claim(claim, study).found
    for blend, row in [(b, r) for b in study.blends if b not in study.comparable for r in b.evaluated]:
        right = round(row.score("AIME 2025").points * 30 / 100)
        study = changed(study, blend.name, row.title, "AIME 2025", round(100 * right / 30, 1))
    assert check_claim(claim, study).verdict == AGREES


def test_claims_turn_with_the_numbers(study):
    def verdict(words: str, other) -> str:
        return check_claim(next(claim for claim in other.claims if words in claim.says), other).verdict

    assert verdict("SciCode is 1.6", changed(study, "30pre_70post_v1v2", "100B", "SciCode", 1.6)) == AGREES
    assert verdict("IFEval degrades", changed(study, "pt_v1v2", "20B", "IFEval", 50.0)) == OPEN
    assert verdict("IFEval degrades", changed(study, "pt_v1v2", "20B", "IFEval", 52.0)) == DISAGREES
    assert verdict("still unstable", changed(study, "30pre_70post_v3", "80B", "GPQA Diamond", 40.0)) == AGREES
    assert verdict("highest MMLU", changed(study, "pre_sft_v1", "56B", "MMLU", 80.0)) == AGREES


def test_a_fall_beyond_sampling_error_is_a_finding_and_goes_when_the_number_does(study):
    fall = next(finding for finding in findings(study, {}) if finding.title == "IFEval degrades in pt_v1v2.")
    assert "From 51.7 at 2.5B to 41.9 at 20B: 9.8 points" in fall.text
    assert "At 20B and 40B it is no clearly better than before distillation (41.8)" in fall.text
    steady = changed(changed(study, "pt_v1v2", "20B", "IFEval", 50.0), "pt_v1v2", "40B", "IFEval", 50.0)
    assert "IFEval degrades" not in titles(steady)
    assert "MMLU degrades in pt_v1v2" in titles(steady)


def test_the_findings_name_what_is_not_shown(study):
    text = "\n".join(f"{finding.title} {finding.text}" for finding in findings(study, {}))
    assert "Of 174 differences" in text
    assert re.search(
        r"show no clear difference between any two blends\..*GPQA Diamond \(198 questions, at most 3\.0 ± 5\.0", text
    )
    assert re.search(r"30 questions, at most 7\.6 ± 12\.7", text)
    assert "30pre_70post_v3 at 80B, iteration 12,800 of 16,000, learning rate 1.87e-5" in text
    assert "The iterations of pre_sft_v1 are not published." in text
    assert re.search(r"may be sampling error.*GPQA Diamond 2\.4 ± 1\.8 to 5\.0", text)
    assert "30pre_70post_v1v3 cannot be compared with the other blends" in text
    assert "Not evaluated: 5B of 30pre_70post_v1v2" in text
    assert "MMLU 2.5 ± 0.5 below, MMLU Pro 1.9 ± 0.6 below; the others" in text
    assert "more than 4 epochs" not in text  # no composition is known here


def test_a_source_that_repeats_is_a_finding_once_the_composition_is_known(study):
    report = PublishedReport.of(study)
    science = next(part for part in report.parts["30pre_70post_v1v3"] if part.source == "science-mcq")
    assert science.epochs == pytest.approx(0.03 * 12_800 * 6_291_456 / 0.497e9)
    repeated = next(finding for finding in report.findings if "more than 4 epochs" in finding.title)
    assert "30pre_70post_v1v3 at 80B: science-mcq 4.86 epochs (published)" in repeated.text
    assert "stem" not in repeated.text
