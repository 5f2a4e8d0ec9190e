"""Ways in which an evaluation goes wrong and says nothing, each reproduced with the real programs, and refused."""

import contextlib
import dataclasses
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from evaluator.harness.evaluation import CONFIG, check_ended_well, evaluating, run_config
from evaluator.harness.read import read_direct
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.harness.written import Scores
from evaluator.results.answers import ANSWERS_FILE, save_answers
from evaluator.serve.ports import free_ports
from evaluator.suites.catalogue import HARNESS, OFFLINE, STUDY
from evaluator.suites.datasets import question_ids
from tests.evaluator.endpoints import Reply, answering, replying, said

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bubblewrap")]

HUB = Path(__file__).parents[1] / "data" / "hub"
MATH = dataclasses.replace(OFFLINE, benchmarks=(OFFLINE.benchmarks[2],), parallelism=16).with_repeats(1)
AIME = dataclasses.replace(
    HARNESS, benchmarks=tuple(benchmark for benchmark in HARNESS.benchmarks if benchmark.title == "AIME 2025")
).with_repeats(3)
ANSWERS = {"665 + 238": "903", "524 - 111": "413", "312 books": "357", "120 + 77": "197", "900 - 350": "550"}


def right(body: dict) -> str:
    question = body["messages"][-1]["content"]
    return next((f"\\boxed{{{answer}}}" for part, answer in ANSWERS.items() if part in question), "no idea")


def aime_config(folder: Path, url: str, suite=AIME) -> dict:
    (benchmark,) = suite.benchmarks
    where = folder / benchmark.task
    where.mkdir(exist_ok=True)
    url = f"{url}/chat/completions"
    return run_config(suite, [benchmark], url=url, model_id="debug", folder=where, seed=0, judge=None)


def run(config: dict, **more) -> int:
    """nemo-evaluator's exit code."""
    (port,) = free_ports(1)
    with evaluating(config, adapter_port=port, datasets=HUB, named=["opencompass/AIME2025"], **more) as evaluation:
        return evaluation.wait()


def written(folder: Path) -> float:
    """The first score in an evaluation's results.yml."""
    tasks = yaml.safe_load((folder / "results.yml").read_text())["results"]["tasks"]
    (metric,) = itertools.islice(next(iter(tasks.values()))["metrics"].values(), 1)
    return next(iter(metric["scores"].values()))["value"]


def test_two_evaluations_that_share_an_adapter_port_are_not_both_believed(tmp_path):
    folders = [tmp_path / name for name in ("one", "other")]
    with contextlib.ExitStack() as together:
        (port,) = free_ports(1)
        evaluations, began = [], time.time()
        for number, folder in enumerate(folders):
            folder.mkdir()
            url = together.enter_context(answering(lambda body, number=number: f"\\boxed{{{number}}}"))
            url = f"{url}/chat/completions"
            config = run_config(
                MATH, MATH.benchmarks, url=url, model_id=f"model-{number}", folder=folder, seed=0, judge=None
            )
            evaluations.append(together.enter_context(evaluating(config, adapter_port=port)))
        while all(evaluation.poll() is None for evaluation in evaluations):
            time.sleep(0.1)
        for evaluation in evaluations:
            with contextlib.suppress(subprocess.TimeoutExpired):
                evaluation.wait(30)  # whose adapter went with the other's asks on for minutes
    believed = 0
    for number, folder in enumerate(folders):
        with contextlib.suppress(ValueError):
            read_direct(folder, MATH, model_id=f"model-{number}", started=began)
            believed += 1
            assert {json.loads(line)["response"] for line in (folder / "samples.jsonl").read_text().splitlines()} == {
                f"\\boxed{{{number}}}"
            }
    assert believed < 2


def test_an_evaluation_in_a_used_folder_scores_what_it_finds_and_is_refused(tmp_path):
    suite = prepare_suite(AIME, Means(datasets=HUB))
    (benchmark,) = suite.benchmarks
    began, ids = time.time(), question_ids(HUB, suite)
    with answering(right) as url:
        config = aime_config(tmp_path, url, suite)
        assert run(config) == 0
    where = tmp_path / benchmark.task
    (reading,) = read_direct(tmp_path, suite, model_id="debug", started=began, ids=ids)
    assert reading.result.summary.mean == written(where) == 1.0

    with pytest.raises(ValueError, match="holds an evaluation already; each needs a fresh folder"):
        run(config)
    (where / CONFIG).unlink()
    with answering(lambda body: "I do not know.") as url:
        assert run(aime_config(tmp_path, url, suite)) == 0
    assert written(where) == 1.0  # of the model that knew nothing
    with pytest.raises(ValueError, match=r"was used for \d evaluations"):
        read_direct(tmp_path, suite, model_id="debug", started=began, ids=ids)
    with pytest.raises(ValueError, match="from before this evaluation began"):
        read_direct(tmp_path, suite, model_id="debug", started=time.time() + 1, ids=ids)


def test_an_adapters_cache_makes_one_answer_of_all_repeats_so_there_is_none(tmp_path):
    suite = prepare_suite(AIME, Means(datasets=HUB))
    asked = []

    def reply(body: dict) -> str:
        asked.append(body)
        return f"\\boxed{{{len(asked)}}}"

    with answering(reply) as url:
        config = aime_config(tmp_path, url, suite)
        interceptors = config["target"]["api_endpoint"]["adapter_config"]["interceptors"]
        names = [interceptor["name"] for interceptor in interceptors]
        assert "caching" not in names
        # A harness that sends no seed asks every repeat of a question alike.
        cache = {"cache_dir": str(tmp_path / "cache"), "reuse_cached_responses": True, "save_responses": True}
        interceptors.insert(0, {"name": "payload_modifier", "config": {"params_to_remove": ["seed"]}})
        interceptors.insert(1, {"name": "caching", "config": cache})
        config["config"]["params"]["parallelism"] = 1
        assert run(config) == 0
    assert len(asked) == 5  # of 15
    assert all(benchmark.repeats_key or benchmark.repeats == 1 for benchmark in STUDY.benchmarks)
    assert "use_caching: false" in (Path(__file__).parents[3] / "nemo_evaluator.yaml").read_text()


def test_a_harness_is_asked_again_what_passed_and_is_given_nothing_for_what_was_cut_or_could_not_be_asked(tmp_path):
    suite = dataclasses.replace(prepare_suite(AIME, Means(datasets=HUB)), max_unasked=0.2)
    began, ids, asked = time.time(), question_ids(HUB, suite), []

    def reply(body: dict) -> Reply:
        asked.append(body)
        question, answer = body["messages"][-1]["content"], right(body)
        if len(asked) == 1:
            return Reply(b"loading", 503)
        if "665 + 238" in question:
            return Reply(said(f"it may be {answer}. But wait", "length"))
        if "524 - 111" in question:
            return Reply(json.dumps(said(f"so</think>{answer} \ud83d")).encode())
        if "312 books" in question:
            return Reply(b"maximum context length is 40 tokens", 400)
        return Reply(said(answer))  # without any reasoning, and it ended by itself

    with replying(reply) as url:
        assert run(aime_config(tmp_path, url, suite)) == 0
    (reading,) = read_direct(tmp_path, suite, model_id="debug", started=began, ids=ids)
    scores = [sum(row) for row in reading.result.scores]
    assert (scores, len(asked)) == ([0, 3, 0, 3, 3], 16)
    assert (reading.result.cut_share, reading.result.unasked_share, reading.result.empty_share) == (0.2, 0.2, 0.4)
    save_answers(tmp_path, reading.questions)
    assert "\N{REPLACEMENT CHARACTER}" in (tmp_path / ANSWERS_FILE).read_text(encoding="utf-8")


def test_a_refusal_ends_a_harness_with_the_question_and_what_was_said(tmp_path):
    suite = prepare_suite(AIME, Means(datasets=HUB))
    with replying(lambda body: Reply(b"no key", 401)) as url:
        config = aime_config(tmp_path, url, suite)
        (port,) = free_ports(1)
        with evaluating(config, adapter_port=port, datasets=HUB, named=["opencompass/AIME2025"]) as evaluation:
            evaluation.wait()
            with pytest.raises(
                RuntimeError, match=r"aime_2025_nemo ended: the question '\.\.\..*' is refused: 401 no key$"
            ):
                check_ended_well(evaluation)


def test_the_launcher_s_export_leaves_errors_out_so_that_results_are_read_from_their_file(tmp_path):
    score = {"value": 62.5, "stats": {"stderr": 4.21}}
    metrics = {"pass@1": {"scores": {"average_score": score}}}
    results = {"results": {"tasks": {"ifeval": {"metrics": metrics}}}}
    (tmp_path / "results.yml").write_text(yaml.safe_dump(results))
    exported = (
        "import json, pathlib, sys; from nemo_evaluator_launcher.exporters.utils import extract_accuracy_metrics; "
        "print(json.dumps(extract_accuracy_metrics(pathlib.Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", exported, str(tmp_path)], capture_output=True, text=True, check=True)
    values = json.loads(done.stdout.splitlines()[-1])
    assert 62.5 in values.values() and 4.21 not in values.values()
    found = Scores(tmp_path / "results.yml", results["results"]["tasks"]).of(ifeval())
    assert (found.share, found.stderr_share) == (0.625, pytest.approx(0.0421))


def ifeval():
    return next(benchmark for benchmark in STUDY.benchmarks if benchmark.title == "IFEval")
