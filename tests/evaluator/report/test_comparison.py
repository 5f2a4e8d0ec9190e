"""Several runs side by side: what the command says of answers whose chances are known, and what it refuses."""

import csv
import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.made_up_runs import answers, make_run
from evaluator.report.run import write_report
from evaluator.results.run import Row
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.suites.catalogue import OFFLINE, get_suite
from evaluator.verdicts.contrasts import EXPLORED, OPEN, SUSPECT, WORSE, family
from evaluator.verdicts.judge import judge, judge_alone
from nemo_distill import cli
from nemo_distill.outcome.gather import gather
from nemo_distill.run.manifest import find

SKILLS = (-1.0, 0.0, 1.0, 1.0)
MATH, CODE = OFFLINE.benchmarks[2], OFFLINE.benchmarks[4]
STEM = {"stem": 100}


def made(runs, name: str, **changes):
    """A made-up run of the offline suite."""
    return make_run(runs, name, **{"suite": get_suite("offline"), "skills": SKILLS, "shares": STEM} | changes)


def judged(*runs):
    """What is concluded of them."""
    return judge({run.name: gather(run.specs["report"]) for run in runs})


def verdicts(contrasts, at: str) -> dict[str, str]:
    """By column, of the contrasts at a milestone."""
    return {contrast.column: contrast.verdict for contrast in contrasts if contrast.at == at}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The folder of three runs: b codes better than a, c is as good as a, on another blend."""
    runs = tmp_path_factory.mktemp("runs")
    made(runs, "a")
    made(runs, "b", strengths={CODE.task: 4.0})
    made(runs, "c", shares={"stem": 40, "code": 60})
    return runs


@pytest.fixture(scope="module")
def written(three):
    """What the command prints of the three, and the folder that it writes."""
    done = subprocess.run(
        [sys.executable, "-m", "nemo_distill.cli", "report", "a", "b", "c", "--runs", str(three)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, three / "comparisons" / "a-vs-b-vs-c"


def test_a_blend_is_better_where_its_chances_are_and_no_verdict_is_given_where_they_are_equal(three):
    judgement = judged(*(find(name, runs=three) for name in "abc"))
    last = judgement.title(judgement.last_common)
    between = {("a", "b"): {}, ("a", "c"): {}}
    for pair, found in between.items():
        found |= verdicts([c for c in judgement.between if (c.one, c.other) == pair], last)
    assert (between["a", "b"][CODE.title], between["a", "b"][MATH.title]) == (WORSE, OPEN)
    assert between["a", "c"].pop("Average") == OPEN and set(between["a", "c"].values()) == {EXPLORED}
    code = next(standing for standing in judgement.standings(last) if standing.column == CODE.title)
    assert code.leader == "b" and {contrast.other for contrast in code.above} == {"a", "c"}


def test_checkpoints_that_are_alike_get_a_verdict_in_at_most_one_family_of_twenty():
    drawn = np.random.default_rng(5)
    columns = [(benchmark.task, benchmark.title) for benchmark in OFFLINE.benchmarks]

    def checkpoint() -> Row:
        tasks = (
            TaskResult(benchmark.task, ("",) * benchmark.questions, answers(benchmark, 0.5, drawn), 1.0, 0.0)
            for benchmark in OFFLINE.benchmarks
        )
        return Row("milestone", CheckpointResult("x", "offline", 0, 1.0, (), tuple(tasks)), tokens=1)

    families = [family(columns, [(("x", "y", "z"), checkpoint(), checkpoint())]) for _ in range(300)]
    wrong = sum(any(contrast.verdict != OPEN for contrast in one) for one in families)
    assert 0 < wrong <= 25  # 15 at the level, and 2.6 standard deviations above


def test_a_stopping_point_before_the_schedule_ends_is_confounded(three):
    stop, _ = judge_alone("a", gather(find("a", runs=three).specs["report"]), margin=0.1)
    assert stop.shown and not stop.last and stop.row.title == "20B"
    assert stop.confounded and "Confounded: its learning rate is" in stop.text


def test_a_score_that_falls_to_nothing_is_suspected_and_nothing_is_concluded_from_it(tmp_path):
    whole, broken = made(tmp_path, "whole"), made(tmp_path, "broken", broken=(2, MATH.task))
    judgement = judged(whole, broken)
    at = judgement.reports["broken"].milestones[2].title
    found = verdicts(judgement.between, at)
    assert found[MATH.title] == found["Average"] == SUSPECT
    assert found[CODE.title] == EXPLORED
    assert any(flag.title == f"{MATH.title} of broken at {at} may be a failed evaluation." for flag in judgement.flags)
    assert all(stop.row.title != at for stop in judgement.stopping if stop.run == "broken")


def test_a_benchmark_that_ends_below_an_earlier_milestone_is_pointed_out(tmp_path):
    judgement = judged(made(tmp_path, "steady"), made(tmp_path, "falling", skills=(0.0, 2.5, 1.0, -0.5)))
    titles = {flag.title for flag in judgement.flags if "degrades" in flag.title or "unstable" in flag.title}
    assert titles == {f"{benchmark.title} degrades in falling." for benchmark in OFFLINE.benchmarks}


def test_a_benchmark_that_falls_and_comes_back_is_called_unstable(tmp_path):
    judgement = judged(made(tmp_path, "steady"), made(tmp_path, "swinging", skills=(0.0, 2.0, -0.5, 2.0)))
    found = [flag for flag in judgement.flags if "swinging" in flag.title]
    assert len(found) == len(OFFLINE.benchmarks)
    assert all(
        "is unstable in swinging" in flag.title and "its end is not clearly lower" in flag.text for flag in found
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repeats": 1}, "was asked 4 and 1 times a question, and single shots and averages of several never meet"),
        ({"seed": 7}, "their answers were drawn with two seeds, 1234 and 7"),
        ({"protocol": "ba9876543210"}, "questions, prompts, sampling or scoring changed between them"),
        ({"iterations": (401, 801, 3201, 6401)}, "no other run has a milestone of as many tokens"),
    ],
    ids=["repeats", "seed", "protocol", "milestones"],
)
def test_runs_that_were_not_asked_alike_are_refused_in_a_sentence_and_nothing_is_written(
    tmp_path, capsys, changes, sentence
):
    made(tmp_path, "a")
    made(tmp_path, "other", **changes)
    assert cli.main(["report", "a", "other", "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not (tmp_path / "comparisons").exists()


def test_runs_with_another_teacher_are_refused_and_one_evaluated_again_is_the_same(three):
    first, other = (gather(find(name, runs=three).specs["report"]) for name in "ab")
    pruned, milestone = other.row("pruned"), other.milestones[0]

    def with_teacher(result):
        rows = (dataclasses.replace(other.row("teacher"), result=result), pruned, milestone)
        return dataclasses.replace(other, rows=rows)

    with pytest.raises(ValueError, match="their teachers score differently in"):
        judge({"a": first, "b": with_teacher(pruned.result)})
    turned = [
        dataclasses.replace(task, scores=tuple(row[::-1] for row in task.scores))
        for task in first.row("teacher").result.tasks
    ]
    again = dataclasses.replace(first.row("teacher").result, tasks=tuple(turned))
    assert judge({"a": first, "b": with_teacher(again)}).between


def test_a_run_named_twice_is_refused(three, capsys):
    assert cli.main(["report", "a", "a", "--runs", str(three)]) == 2
    assert "'a' is named twice" in capsys.readouterr().err


def test_the_command_writes_its_files_and_says_in_the_terminal_who_is_better(written):
    printed, folder = written
    assert sorted(path.name for path in folder.iterdir()) == [
        "blends.csv", "learning_curves.png", "questions.csv", "report.html", "report.md", "scores.csv", "stopping.csv",
        "verdicts.csv",
    ]  # fmt: skip
    assert printed.startswith("Take blend_b; ")
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    table = {line[0]: line[2:] for line in lines if line[0].startswith("blend_")}
    assert next(iter(table)) == "blend_b" and table["blend_b"][0] == "highest"
    assert all(re.fullmatch(r"−[\d.]+ ± [\d.]+", table[f"blend_{name}"][0]) for name in "ac")
    assert all(table[f"blend_{name}"][1] == "lower" for name in "ac")
    assert str(folder / "report.html") in printed.replace("\n", "")


def test_every_difference_of_the_table_stands_in_verdicts_csv_with_its_p_value(written, three):
    judgement = judged(*(find(name, runs=three) for name in "abc"))
    with open(written[1] / "verdicts.csv", newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["family"] == "between blends"]
    assert [line["verdict_answers"] for line in lines] == [contrast.in_answers for contrast in judgement.between]
    for line, contrast in zip(lines, judgement.between, strict=True):
        assert float(line["difference"]) == pytest.approx(contrast.difference.mean, abs=1e-6)
        assert float(line["p_answers"]) == pytest.approx(contrast.p_value, rel=1e-2)
        seed = contrast.another_seed
        if seed is None:
            assert contrast.at != judgement.title(judgement.last_common)
            assert line["stderr_seed"] == line["p_seed"] == line["verdict_seed"] == ""
        else:
            assert line["verdict_seed"] == contrast.verdict
            assert float(line["p_seed"]) == pytest.approx(seed.p_value, rel=1e-2)
            assert float(line["stderr_seed"]) == pytest.approx(seed.stderr, abs=1e-6)


def test_every_milestone_stands_in_stopping_csv_with_what_stopping_there_loses(written, three):
    judgement = judged(*(find(name, runs=three) for name in "abc"))
    with open(written[1] / "stopping.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["milestone"] for line in lines] == [
        one.row.title for stop in judgement.stopping for one in stop.candidates
    ]
    marked = {line["blend"]: line["milestone"] for line in lines if line["stop"] == "yes"}
    assert list(marked.values()) == [stop.row.title for stop in judgement.stopping]
    for line in lines:
        assert float(line["lost_at_most"]) >= float(line["lost"]) and float(line["margin"]) == 0.01


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The folder of a comparison in which a blend was trained under two seeds, and what the command printed."""
    runs = tmp_path_factory.mktemp("twins")
    made(runs, "a")
    made(runs, "a_again", blend="a", seed=7, skills=SKILLS[:3])
    made(runs, "b", strengths={CODE.task: 4.0})
    return runs


def test_runs_that_differ_in_their_seed_only_stand_on_the_page_as_one_blend(twins, capsys):
    assert cli.main(["report", "a", "b", "a_again", "--runs", str(twins)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "as seeds are seen to move" in printed and "(1 degree of freedom)" in printed
    folder = twins / "comparisons" / "a-vs-b-vs-a_again"
    with open(folder / "verdicts.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {(line["one"], line["other"]) for line in lines if line["family"] == "between blends"} == {
        ("blend_a", "blend_b")
    }
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        assert {line["run"] for line in csv.DictReader(file)} == {"a (seed 1234)", "a_again (seed 7)", "blend_b"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "blend_a is the mean of a (seed 1234), a_again (seed 7)." in page and "a, mean of runs" in page
    assert "taken from blends trained more than once: Averages at 20B that differ by" in page
    assert '1 degree of freedom: <span class="whole">blend_a</span> 2 times' in page


def test_a_stated_scatter_of_training_goes_before_that_of_replicates_and_decides_the_verdict(twins, capsys):
    for points, verdict in (("0", "lower"), ("30", "lower, answers only")):
        assert cli.main(["report", "a", "b", "a_again", "--runs", str(twins), "--seed-sd", points]) == 0
        printed = capsys.readouterr().out
        assert f"at --seed-sd {points} (assumed)" in " ".join(printed.split())
        (line,) = (line for line in printed.splitlines() if line.startswith("blend_a "))
        assert re.split(r"\s{2,}", line.strip())[3] == verdict


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["a", "a_again"], "a and a_again are one blend, trained under several seeds: name a run of another blend"),
        (["a", "b", "--seed-sd", "-1"], "--seed-sd -1 is no number of points from 0 to 100"),
        (["a", "b", "--margin", "250"], "--margin 250 is no number of points from 0 to 100"),
    ],
)
def test_what_cannot_be_asked_of_a_comparison_is_refused_in_a_sentence(twins, capsys, options, sentence):
    assert cli.main(["report", *options, "--runs", str(twins)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_shares_of_cut_empty_and_unasked_answers_stand_beside_scores_in_page_and_csv(tmp_path):
    report = gather(made(tmp_path, "a").specs["report"])
    row = report.milestones[-1]
    first = dataclasses.replace(row.result.tasks[0], cut_share=0.034, empty_share=0.0002, unasked_share=0.01)
    result = dataclasses.replace(row.result, tasks=(first, *row.result.tasks[1:]))
    lossy = dataclasses.replace(report, rows=(*report.rows[:-1], dataclasses.replace(row, result=result)))
    write_report(lossy, tmp_path)
    for kind, times in (("html", 2), ("md", 1)):  # among the milestones beside each other, and among the scores
        assert (tmp_path / f"report.{kind}").read_text(encoding="utf-8").count(
            f"3.4% cut, {'&lt;' if kind == 'html' else '<'}0.1% empty, 1.0% not asked"
        ) == times
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        shares = [tuple(line[f"{what}_share"] for what in ("cut", "empty", "unasked")) for line in csv.DictReader(file)]
    assert shares.count(("0.034000", "0.000200", "0.010000")) == 1 and shares.count(("", "", "")) == len(report.rows)


def test_the_page_says_all_that_the_markdown_does_and_asks_nothing_of_the_network(written):
    page, markdown = ((written[1] / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    headings = re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    assert len(headings) >= 7 and all(f">{heading}</h2>" in page for heading in headings)
    assert all(f"blend_{name}" in text for name in "abc" for text in (page, markdown))
    assert not re.search(r"(?:src|href)=.https?:", page)


def test_a_run_whose_report_is_older_than_the_shares_provenance_is_compared(three):
    report = gather(find("a", runs=three).specs["report"])
    assert "provenance" not in find("a", runs=three).specs["report"].config
    assert [part.provenance for part in report.blend] == [""]
