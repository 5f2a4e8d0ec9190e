"""The production path as far as it goes without a cluster: its command (test_suite.py dry-runs it), its layout."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evaluator.harness import launcher as production
from evaluator.harness.launcher import output_of, submit, wait_for
from evaluator.harness.read import read_launcher
from evaluator.harness.run import run_suite
from evaluator.stats.scores import summarize
from evaluator.suites.catalogue import STUDY

SITE = {"EVALUATOR_HOSTNAME": "login.cluster", "EVALUATOR_ACCOUNT": "an_account"}


def test_a_suite_of_the_launcher_needs_a_cluster(tmp_path, monkeypatch):
    for name in SITE:
        monkeypatch.delenv(name, raising=False)
    for name in ("JUDGE_URL", "JUDGE_MODEL_ID", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(ValueError, match="'study' is run on a cluster .* set EVALUATOR_HOSTNAME and EVALUATOR_ACCOUNT"):
        run_suite(tmp_path, suite=STUDY, folder=tmp_path, label="x", seed=0)


def test_a_launcher_that_fails_is_told_with_its_last_lines(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3:.*no such host"):
        submit(["sh", "-c", "echo no such host; exit 3"])
    assert submit(["sh", "-c", "echo 'Check: nemo-evaluator-launcher status 0123abcd4567cdef'"]) == "0123abcd4567cdef"


@pytest.fixture
def left(tmp_path) -> Path:
    """What an invocation leaves whose harnesses keep only the sums; most do inside their containers."""
    folder = tmp_path / "nemo_evaluator" / "20260101_120000-0123abcd"
    for number, benchmark in enumerate(STUDY.benchmarks):
        task, metric, score = benchmark.written
        job = folder / f"{benchmark.task}.{number}"
        (job / "artifacts").mkdir(parents=True)
        (job / "logs").mkdir()
        (job / "logs" / "stage.exit").write_text("2026-01-01T13:00:00Z 0\n")
        scores = {score: {"value": 0.5, "stats": {"stderr": 0.01}}}
        results = {"tasks": {task: {"metrics": {metric: {"scores": scores}}}}}
        record = {"target": {"api_endpoint": {"model_id": "80B"}}, "results": results}
        (job / "artifacts" / "results.yml").write_text(yaml.safe_dump(record))
        requests = benchmark.questions * benchmark.repeats
        counts = {"count": requests, "successful_count": requests, "avg_completion_tokens": 900.0}
        counts["finish_reason"] = {"stop": 3 * requests // 4, "length": requests - 3 * requests // 4}
        (job / "artifacts" / "eval_factory_metrics.json").write_text(json.dumps({"response_stats": counts}))
        if benchmark.harness == "nemo_skills":
            write_answers(job / "artifacts", benchmark)
    return folder


def write_answers(artifacts: Path, benchmark) -> None:
    """A file of answers per repeat; every other question is answered rightly in all of them."""
    names = ["output.jsonl"] if benchmark.repeats == 1 else [f"output-rs{n}.jsonl" for n in range(benchmark.repeats)]
    lines = [
        json.dumps(
            {"problem": f"question {place}", "generation": f"answer {place}", "symbolic_correct": place % 2 == 0}
        )
        for place in range(benchmark.questions)
    ]
    for name in names:
        (artifacts / name).write_text("\n".join(lines) + "\n")


def read(folder: Path, **more) -> list:
    """Read `left`, which has no answers of simple-evals: they lie in a database, see test_harness.py."""
    benchmarks = tuple(replace(b, harness="" if b.harness == "simple_evals" else b.harness) for b in STUDY.benchmarks)
    return read_launcher(folder, replace(STUDY, benchmarks=benchmarks), model_id="80B", started=0, **more)


def test_a_finished_invocation_is_read_in_the_suites_order(left, tmp_path):
    assert output_of(tmp_path, "0123abcd") == left
    results = [reading.result for reading in read(left)]
    assert [result.task for result in results] == [benchmark.task for benchmark in STUDY.benchmarks]
    assert {result.summary.mean for result in results} == {0.5}
    by_task = {result.task: result for result in results}
    assert by_task["ns_gpqa"].table.shape == (198, 8)  # the answers are there, so the error is that over questions
    assert by_task["ns_gpqa"].summary.stderr == pytest.approx(0.5 / 197**0.5)
    assert by_task["ns_ifeval"].scores == ()  # and where they are not, what the harness says
    assert (by_task["ns_ifeval"].summary.stderr, by_task["ns_ifeval"].summary.questions) == (0.01, 541)
    assert (by_task["ns_ifeval"].mean_tokens, by_task["ns_ifeval"].cut_share) == (900.0, pytest.approx(0.25, abs=0.01))


def test_an_error_over_runs_is_not_taken_for_one_over_questions(left):
    by_task = {reading.result.task: reading.result for reading in read(left)}
    assert by_task["ns_livecodebench"].scores == ()  # asked four times, and its 0.01 may be over those
    assert by_task["ns_livecodebench"].summary.stderr == pytest.approx((0.25 / 454) ** 0.5)
    edit(left / JOB, "stderr: 0.01", "count: 541")
    by_task = {reading.result.task: reading.result for reading in read(left)}
    assert by_task["ns_ifeval"].summary.stderr == pytest.approx((0.25 / 541) ** 0.5)  # none was reported


def scicode_steps(problem: int) -> list[str]:
    """18 problems of five sub-steps and 62 of four are 338."""
    return [f"{problem}.{step}" for step in range(1, 6 if problem <= 18 else 5)]


RIGHT = {*range(1, 6), *range(19, 55)}
"""Problems of SciCode that have half of all sub-steps."""


def write_scicode(artifacts: Path) -> None:
    """Files as NeMo-Skills leaves them, a line a problem; half of all sub-steps are right."""
    lines = []
    for problem in range(1, 81):
        steps = scicode_steps(problem)
        outcome = {"process_status": "completed" if problem in RIGHT else "error", "stdout": "", "stderr": ""}
        record = {"problem_id": str(problem), "problem_description_main": f"Simulate {problem}."}
        record |= {"generation": {step: f"def f_{step[-1]}(): ..." for step in steps}, "num_generated_tokens": 9}
        lines.append(json.dumps(record | {"eval_status": [outcome] * len(steps)}))
    for repeat in range(8):
        (artifacts / f"output-rs{repeat}.jsonl").write_text("\n".join(lines) + "\n")


def test_scicodes_questions_are_its_sub_steps_and_its_error_is_over_its_problems(left):
    job = left / "ns_scicode.7"
    reported = read(left)[7].result  # no sub-steps among the answers: the score alone, its error over 80 problems
    assert reported.scores == () and reported.summary.stderr == pytest.approx((0.25 / 80) ** 0.5)
    write_scicode(job / "artifacts")
    reading = read(left)[7]
    result = reading.result
    assert result.table.shape == (338, 8) and len(set(result.clusters)) == 80
    assert dict(zip(result.questions, result.clusters, strict=True))["31.2"] == "31"
    one = summarize(result.table, result.clusters)
    assert (result.summary.mean, result.summary.stderr) == (0.5, one.stderr)
    assert one.stderr > 2 * summarize(result.table).stderr  # as independent questions they would look twice as exact
    question = next(question for question in reading.questions if question.question == "31.2")
    assert (question.prompt, question.answers[0].text) == ("Simulate 31.", "def f_2(): ...")


def test_mmlu_is_read_from_the_files_of_its_subjects(left):
    folder = left / "lm-evaluation-harness.mmlu.0" / "artifacts" / "80B"
    folder.mkdir()
    for subject, number in (("astronomy", 6_042), ("high_school_biology", 8_000)):
        lines = [
            {
                "doc_id": n,
                "doc": {"question": f"{subject} {n}?", "choices": ["x", "y"]},
                "target": "B",
                "arguments": {"gen_args_0": {"arg_0": f"Five examples.\n\n{subject} {n}?\nAnswer:", "arg_1": {}}},
                "filtered_resps": ["B" if n % 2 else "A"],
                "exact_match": float(n % 2),
            }
            for n in range(number)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"samples_mmlu_str_{subject}_2026-01-01T12-00-00.123456.jsonl").write_text(text)
    reading = read(left)[0]
    assert reading.result.table.shape == (14_042, 1)
    assert reading.result.summary.stderr == pytest.approx(0.5 / 14_041**0.5)
    question = next(one for one in reading.questions if one.question == "high_school_biology/3")
    assert question.prompt == "high_school_biology 3?\nA. x\nB. y"
    assert (question.reference, question.answers[0].text, question.answers[0].score) == ("B", "B", 1.0)


def test_livecodebench_is_read_by_problem_where_each_has_its_grades(left):
    job = left / "ns_livecodebench.3"
    for repeat in range(4):
        lines = [
            {"task_id": f"abc{n}", "question_content": f"Sort {n}.", "generation": "...", "graded_list": [n % 2 == 0]}
            for n in range(454)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (job / "artifacts" / f"output-rs{repeat}.jsonl").write_text(text)
    reading = read(left)[3]
    assert reading.result.table.shape == (454, 4) and reading.result.clusters == ()
    assert reading.result.summary.stderr == pytest.approx(0.5 / 453**0.5)
    assert (reading.questions[0].question, reading.questions[0].prompt) == ("abc0", "Sort 0.")


def test_a_sub_step_without_its_outcome_is_refused(left):
    write_scicode(left / "ns_scicode.7" / "artifacts")
    file = left / "ns_scicode.7" / "artifacts" / "output-rs3.jsonl"
    first, *others = file.read_text().splitlines()
    record = json.loads(first)
    record["eval_status"].pop()
    file.write_text("\n".join([json.dumps(record), *others]) + "\n")
    with pytest.raises(ValueError, match="problem 1 of SciCode has 5 sub-steps and 4 outcomes"):
        read(left)


def test_metrics_are_found_by_the_names_that_nemo_skills_gives_them(left):
    edit(left / "ns_scicode.7", "pass_at_1_avg-of-8", "pass@1[avg-of-8]")
    edit(left / "ns_ifeval.6", "pass_at_1", "pass@1")
    assert [reading.result.summary.mean for reading in read(left)[6:]] == [0.5, 0.5]


JOB = "ns_ifeval.6"


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda job: (job / "logs" / "stage.exit").write_text("2026-01-01T13:00:00Z 137"), "ns_ifeval ended with 137"),
        (lambda job: (job / "logs" / "stage.exit").unlink(), "ns_ifeval has not ended"),
        (lambda job: (job / "artifacts" / "results.yml").unlink(), "left no results.yml"),
        (lambda job: (job / "artifacts" / "eval_factory_metrics.json").unlink(), "nothing shows that it asked"),
        (lambda job: edit(job, "model_id: 80B", "model_id: 60B"), "about the model '60B', not '80B'"),
        (lambda job: edit(job, "value: 0.5", "value: 0.0"), "IFEval is 0: of the suite 'study' that is a failed"),
        (lambda job: edit(job, "pass_at_1", "pass_at_1_avg-of-4"), "no score ifeval_pass_at_1_average_score"),
        (lambda job: job.rename(job.with_name("elsewhere")), "holds no folder of ns_ifeval"),
    ],
)
def test_what_is_not_to_be_believed_is_refused_with_the_reason(left, break_it, reason):
    break_it(left / JOB)
    with pytest.raises(ValueError, match=reason):
        read(left)


def edit(job: Path, old: str, new: str) -> None:
    file = job / "artifacts" / "results.yml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_where_an_executor_leaves_no_exit_code_the_launchers_state_counts(left):
    states = dict.fromkeys(range(len(STUDY.benchmarks)), "success")
    (left / JOB / "logs" / "stage.exit").unlink()
    assert len(read(left, states=states)) == 8
    with pytest.raises(ValueError, match="ns_ifeval is 'killed'"):
        read(left, states=states | {6: "killed"})


def test_a_table_with_a_question_too_few_is_refused(left):
    file = left / "ns_gpqa.2" / "artifacts" / "output-rs7.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(ValueError, match="ns_gpqa kept 1,583 answers to 198 questions, not 8 to each"):
        read(left)


INVOCATION = "0123456789abcdef"


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Two jobs in the records of the real launcher, which tells their state by the files that they leave."""
    records = tmp_path / "records" / "jobs.jsonl"
    records.parent.mkdir()
    monkeypatch.setenv("NEMO_EVALUATOR_EXEC_DB_FILE", str(records))
    logs = []
    with records.open("w") as file:
        for number in range(2):
            folder = tmp_path / f"job.{number}"
            (folder / "logs").mkdir(parents=True)
            logs.append(folder / "logs")
            job = {"invocation_id": INVOCATION, "job_id": f"{INVOCATION}.{number}", "timestamp": 0.0,
                   "executor": "local", "data": {"output_dir": str(folder)}, "config": {}}  # fmt: skip
            file.write(json.dumps(job) + "\n")
    return logs


def test_jobs_are_waited_for_until_each_has_ended_well_or_not(launched):
    first, second = launched
    (first / "stage.exit").write_text("2026-11-25T00:00:00Z 0")
    seen = []

    def progress(done, total):
        seen.append((done, total))
        if len(seen) == 2:  # the other fails while it is waited for
            (second / "stage.exit").write_text("2026-11-25T00:00:00Z 1")

    states = wait_for(INVOCATION, jobs=2, progress=progress, poll_seconds=0)
    assert states == {f"{INVOCATION}.0": "success", f"{INVOCATION}.1": "failed"}
    assert seen[0] == (1, 2) and seen[-1] == (2, 2)


def test_an_invocation_that_the_launcher_does_not_know_is_not_waited_for_for_ever(launched, monkeypatch):
    monkeypatch.setattr(production, "MOST_UNTOLD", 1)
    with pytest.raises(RuntimeError, match="the launcher cannot tell the state of the jobs of fedcba"):
        wait_for("fedcba9876543210", jobs=2, progress=lambda done, total: None, poll_seconds=0)
