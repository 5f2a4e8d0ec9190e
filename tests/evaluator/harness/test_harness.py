"""The study's harness packages themselves, against a served checkpoint, on small data sets in the hub's format."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluator.harness.read import read_direct, read_launcher
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.harness.run import run_suite
from evaluator.recount import main as recount
from evaluator.results.answers import ANSWERS_FILE, load_answers
from evaluator.results.scores import TaskResult
from evaluator.suites.catalogue import HARNESS, OFFLINE
from evaluator.suites.datasets import count_questions, question_ids
from evaluator.text import fixed
from nemo_distill.config import benchmarks as config
from nemo_distill.outcome.benchmarks import benchmark_of, entry_of
from tests.evaluator.conftest import TEACHER
from tests.evaluator.endpoints import answering

HUB = Path(__file__).parents[1] / "data" / "hub"


def same(body: dict) -> str:
    """Judges as simple-evals asks a judge to: Yes where both expressions are the same text."""
    question = body["messages"][-1]["content"].rpartition("YOUR TASK")[2]
    one, other = (question.partition(f"Expression {n}: ")[2].partition("\n")[0].strip() for n in (1, 2))
    return "Yes" if one == other else "No"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, bubblewrap):
    """The suite's result for the debug world's teacher, and its folder, in whose name there is a space."""
    folder = tmp_path_factory.mktemp("harness") / "folder with space"
    folder.mkdir()
    suite = HARNESS.with_repeats(4).with_max_new_tokens(48)
    with answering(same, model="judge") as judge, pytest.MonkeyPatch.context() as environment:
        environment.setenv("JUDGE_URL", judge)
        environment.setenv("JUDGE_MODEL_ID", "judge")
        environment.setenv("JUDGE_API_KEY", "none")
        result = run_suite(TEACHER, suite=suite, folder=folder, label="debug", seed=7, means=Means(datasets=HUB))
    return result, folder


@pytest.mark.slow
def test_the_harnesses_give_a_table_of_question_by_repeat_and_what_was_answered(evaluated):
    result, folder = evaluated
    assert {task.task: task.table.shape for task in result.tasks} == {
        "gpqa_diamond": (4, 4),
        "aime_2025_nemo": (5, 4),
        "AA_math_test_500": (4, 4),
        "lm-evaluation-harness.ifeval": (3, 1),
    }
    # The debug world's teacher can add and subtract, whoever asks.
    scores = {task.task: task.summary.mean for task in result.tasks}
    assert scores["aime_2025_nemo"] >= 0.4
    assert scores["AA_math_test_500"] >= 0.25
    questions = {(question.task, question.question): question for question in load_answers(folder / ANSWERS_FILE)}
    assert len(questions) == 4 + 5 + 4 + 3
    first = questions["aime_2025_nemo", "opencompass/AIME2025/0"]
    assert first.prompt.endswith("What is 665 + 238?") and first.reference == "903"
    assert all("</think>" not in answer.text for question in questions.values() for answer in question.answers)
    for answer in first.answers:
        assert answer.score == float("\\boxed{903}" in answer.text)


@pytest.mark.slow
def test_the_standard_error_over_repeats_is_not_simple_evals_but_over_questions(evaluated):
    result, folder = evaluated
    (aime,) = (task for task in result.tasks if task.task == "aime_2025_nemo")
    written = yaml.safe_load((folder / "nemo_evaluator" / "aime_2025_nemo" / "results.yml").read_text())
    score = written["results"]["tasks"]["aime_2025_nemo"]["metrics"]["score"]["scores"]["micro_avg_of_4"]
    assert aime.summary.mean == pytest.approx(score["value"])
    by_question = aime.table.mean(axis=1)
    assert aime.summary.stderr == pytest.approx(by_question.std(ddof=1) / len(by_question) ** 0.5)
    # It cuts the answers into repeats in the order in which they came in, which is no order of questions.
    assert aime.summary.stderr != pytest.approx(score["stats"]["stderr"], rel=0.01)


@pytest.mark.slow
def test_every_number_comes_out_again_of_the_answers_that_were_kept(evaluated, tmp_path, capsys):
    result, folder = evaluated
    kept: dict[str, dict] = {}
    for question in load_answers(folder / ANSWERS_FILE):
        kept.setdefault(question.task, {})[question.question] = tuple(answer.score for answer in question.answers)
    assert {task.task: dict(zip(task.questions, task.scores, strict=True)) for task in result.tasks} == kept
    result.save(tmp_path)
    assert recount([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    for line, task in zip(lines, result.tasks, strict=False):
        by_question = np.array(list(kept[task.task].values())).mean(axis=1)
        error = by_question.std(ddof=1) / len(by_question) ** 0.5
        assert line.split()[:3] == [task.task, fixed(100 * by_question.mean(), 2), fixed(100 * error, 2)]


@pytest.mark.slow
def test_the_launchers_layout_holds_the_same_and_is_read_alike(evaluated, tmp_path):
    result, folder = evaluated
    suite = HARNESS.with_repeats(4).with_questions(count_questions(HUB, HARNESS))
    for number, benchmark in enumerate(suite.benchmarks):
        job = tmp_path / f"{benchmark.task}.{number}"
        shutil.copytree(folder / "nemo_evaluator" / benchmark.task, job / "artifacts")
        (job / "logs").mkdir()
        (job / "logs" / "stage.exit").write_text("2026-01-01T13:00:00Z 0\n")
    ids = question_ids(HUB, suite)
    readings = read_launcher(tmp_path, suite, model_id="debug", started=0, ids=ids)
    assert tuple(reading.result for reading in readings) == result.tasks


DECLARED = (
    config.Benchmark(
        task="aime_2025_nemo",
        title="My AIME",
        questions=5,
        repeats=4,
        repeats_key="n_samples",
        metric="score",
        score="micro_avg_of_{n}",
        scale="unit",
    ),
    config.Benchmark(
        task="lm-evaluation-harness.ifeval",
        title="My IFEval",
        questions=3,
        metric="prompt_level_strict_acc",
        score="prompt_level_strict_acc",
        scale="unit",
    ),
)
"""Tasks of the suite, as a recipe would declare them."""


@pytest.mark.slow
def test_a_task_that_a_recipe_declares_is_read_as_one_of_the_suites(evaluated, tmp_path, caplog):
    result, folder = evaluated

    def read(**changes) -> list[TaskResult]:
        declared = (dataclasses.replace(DECLARED[0], **changes), DECLARED[1])
        asked = HARNESS.with_benchmarks(benchmark_of(entry_of(one, OFFLINE)) for one in declared)
        assert [len(group) for group in asked.evaluations] == [1, 1]
        readings = read_direct(tmp_path, asked, model_id="debug", started=0)
        return [reading.result for reading in readings]

    for benchmark in DECLARED:
        shutil.copytree(folder / "nemo_evaluator" / benchmark.task, tmp_path / benchmark.task)
    of_the_suite = {task.task: task.scores for task in result.tasks}
    assert {task.task: task.scores for task in read()} == {one.task: of_the_suite[one.task] for one in DECLARED}
    with pytest.raises(ValueError, match="made 20 requests, 20 of them answered; its questions x repeats are 24"):
        read(questions=6)
    with pytest.raises(ValueError, match=r"_score_micr: .* Did you mean 'score/micro_avg_of_4'\?"):
        read(score="micr")
    with pytest.raises(ValueError, match="no task 'aime' for My AIME; it has .'aime_2025_nemo'"):
        read(result="aime")
    assert not caplog.records
    shutil.rmtree(tmp_path / "aime_2025_nemo" / "aime_2025_nemo" / "cache")
    aime = read()[0]
    assert "My AIME: its answers are not read, so that its score alone is known: the evaluation left no" in caplog.text
    assert not aime.has_answers and aime.summary.mean == np.mean(of_the_suite["aime_2025_nemo"])


def test_a_data_set_that_is_not_there_is_named_with_how_to_fetch_it(tmp_path, monkeypatch):
    for name in ("JUDGE_URL", "JUDGE_MODEL_ID", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(ValueError, match=r"'Idavidrein/gpqa' is not in .*hf download --repo-type dataset Idavid"):
        prepare_suite(HARNESS, Means(datasets=tmp_path))


def test_without_a_folder_of_data_sets_and_without_the_hub_there_are_no_questions(monkeypatch):
    for name in ("JUDGE_URL", "JUDGE_MODEL_ID", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="'harness' needs evaluate.datasets: a sandbox has no way to the hub"):
        prepare_suite(HARNESS, Means())


def test_questions_are_counted_from_the_files_of_the_data_sets():
    assert count_questions(HUB, HARNESS) == {
        "gpqa_diamond": 4,
        "aime_2025_nemo": 5,
        "AA_math_test_500": 4,
        "lm-evaluation-harness.ifeval": 3,
    }


def test_without_a_judge_nothing_is_started(monkeypatch):
    monkeypatch.delenv("JUDGE_URL", raising=False)
    monkeypatch.setenv("JUDGE_MODEL_ID", "judge")
    monkeypatch.setenv("JUDGE_API_KEY", "none")
    with pytest.raises(ValueError, match="MATH-500 is judged by a model: set JUDGE_URL to say which"):
        prepare_suite(HARNESS, Means(datasets=HUB))
