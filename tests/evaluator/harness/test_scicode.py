"""SciCode's own package, on two small problems, in the sandbox: what it executes, what it counts, what is believed."""

import dataclasses
import re
import shutil
from pathlib import Path

import h5py
import pytest
import yaml

from evaluator.harness.evaluation import evaluating, run_config
from evaluator.harness.read import read_direct
from evaluator.harness.requirements import Means, prepare_suite
from evaluator.serve.ports import free_ports
from evaluator.suites.catalogue import HARNESS_CODE
from evaluator.suites.datasets import check_datasets, count_problems, count_questions
from tests.evaluator.endpoints import answering

HUB = Path(__file__).parents[1] / "data" / "hub"
SCICODE = dataclasses.replace(
    HARNESS_CODE, benchmarks=tuple(benchmark for benchmark in HARNESS_CODE.benchmarks if benchmark.title == "SciCode")
)
TARGETS = {
    "1.1": [8.0, [2.0, 5.0]],
    "1.2": [16.0],
    "76.1": [3],
    "76.2": ["cba"],
    "76.4": [3],
}
"""What each sub-step's tests compare with."""
RIGHT = {
    # Imports are cut out of an answer, so it asks for the module another way.
    "def double": """def double(x):
    try:
        __import__("socket").create_connection(("127.0.0.1", {outside}), 2)
    except OSError:
        return 2 * x
    return "the sandbox leaks"
""",
    "def quadruple": "def quadruple(x):\n    return double(double(x))\n",
    "def count": "def count(text):\n    return len(text)\n",
    "def turned": "def turned(text):\n    return text[::-1]\n",
    "def longest": "def longest(texts):\n    return max(map(count, texts))\n",
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    """SciCode's data set, with the file that is fetched by hand."""
    folder = tmp_path_factory.mktemp("datasets")
    shutil.copytree(HUB / "SciCode1", folder / "SciCode1")
    with h5py.File(folder / "SciCode1" / "SciCode" / "test_data.h5", "w") as file:
        for step, values in TARGETS.items():
            for number, value in enumerate(values, start=1):
                file[f"{step}/test{number}/var1"] = value
    return folder


@pytest.fixture(scope="module")
def suite(datasets):
    """SciCode alone, asked twice."""
    return prepare_suite(SCICODE.with_repeats(2), Means(datasets=datasets, execute_generated_code=True))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, datasets, suite, bubblewrap) -> Path:
    """What the harness left of an evaluation whose answers are right but for one, in the sandbox."""
    folder = tmp_path_factory.mktemp("evaluated") / "folder with space"
    folder.mkdir()
    (benchmark,) = suite.benchmarks
    where = folder / benchmark.task
    where.mkdir()
    with answering(lambda body: "") as other:
        outside = re.search(r":(\d+)/", other)[1]

        def reply(body: dict) -> str:
            step = body["messages"][-1]["content"].partition("NEXT STEP - PROBLEM DESCRIPTION AND FUNCTION HEADER")[2]
            (code,) = (code for header, code in RIGHT.items() if header in step)
            if "turned" in code and body["seed"] == 1:
                code = code.replace("[::-1]", "")
            return f"```python\n{code.replace('{outside}', outside)}```"

        with answering(reply) as endpoint:
            url = f"{endpoint}/chat/completions"
            config = run_config(suite, [benchmark], url=url, model_id="debug", folder=where, seed=0, judge=None)
            (port,) = free_ports(1)
            named = benchmark.datasets
            with evaluating(config, adapter_port=port, datasets=datasets, named=named) as evaluation:
                code = evaluation.wait()
    assert code == 0, (where / "log.txt").read_text()[-3000:]
    return folder


def written(folder: Path) -> float:
    """The score in results.yml."""
    tasks = yaml.safe_load((folder / "scicode" / "results.yml").read_text())["results"]["tasks"]
    return tasks["scicode"]["metrics"]["steps_pass@1"]["scores"]["steps_pass@1"]["value"]


@pytest.mark.slow
def test_right_code_passes_wrong_code_fails_and_none_reaches_out_of_the_sandbox(evaluated, suite):
    (reading,) = read_direct(evaluated, suite, model_id="debug", started=0)
    assert reading.result.questions == ("1.1", "1.2", "76.1", "76.2", "76.4")
    assert reading.result.scores == ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 0.0), (1.0, 1.0))
    assert reading.result.clusters == ("1", "1", "76", "76", "76")
    assert "Double a number twice." in reading.questions[1].prompt
    assert "def quadruple" in reading.questions[1].answers[0].text


@pytest.mark.slow
def test_the_harness_counts_a_given_step_as_wrong_in_the_place_of_the_last_and_the_mean_is_over_those_asked(
    evaluated, suite
):
    (reading,) = read_direct(evaluated, suite, model_id="debug", started=0)
    assert written(evaluated) == pytest.approx((1 + 1 + 1 + 0.5 + 0) / 5)
    assert reading.result.summary.mean == pytest.approx((1 + 1 + 1 + 0.5 + 1) / 5)


@pytest.mark.slow
def test_all_repeats_of_a_later_step_build_on_the_last_repeats_code(evaluated, suite):
    (reading,) = read_direct(evaluated, suite, model_id="debug", started=0)
    assert [answer.score for answer in reading.questions[3].answers] == [1, 0]  # only the last one is wrong
    assert all(RIGHT["def turned"] not in answer.text for answer in reading.questions[4].answers)
    assert all("    return text\n" in answer.text for answer in reading.questions[4].answers)


@pytest.mark.slow
def test_a_score_that_the_programs_do_not_give_and_a_lost_program_are_refused(evaluated, suite, tmp_path):
    folder = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    outcome = folder / "scicode" / "logs" / "debug" / "without_background" / "1.1_0.txt"
    outcome.write_text("fail")
    with pytest.raises(ValueError, match=r"steps_pass@1 is 0\.7, its answers 0\.6"):
        read_direct(folder, suite, model_id="debug", started=0)
    outcome.unlink()
    with pytest.raises(ValueError, match=r"holds 0 files logs/\*/without_background/1\.1_0\.txt, not one"):
        read_direct(folder, suite, model_id="debug", started=0)


@pytest.mark.slow
def test_a_zero_is_refused_where_nothing_was_answered(evaluated, suite, tmp_path):
    folder = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    where = folder / "scicode"
    for program in where.glob("scicode_results/generated_code/debug/without_background/*.py"):
        program.write_text("import numpy as np\n\n\n")  # as the harness writes it for an empty answer
    for outcome in where.glob("logs/debug/without_background/*.txt"):
        outcome.write_text("fail")
    results = where / "results.yml"
    results.write_text(results.read_text().replace(f"value: {written(folder)}", "value: 0.0"))
    with pytest.raises(ValueError, match="SciCode is 0 and all its 10 answers are empty: it did not work"):
        read_direct(folder, suite, model_id="debug", started=0)


def test_sub_steps_and_their_problems_are_counted_from_the_data_set():
    assert count_questions(HUB, SCICODE) == {"scicode": 5}  # of six, one of which is given
    assert count_problems(HUB, SCICODE) == {"scicode": 2}


def test_the_file_that_the_hub_lacks_is_named_with_where_it_comes_from_and_where_it_belongs():
    with pytest.raises(
        ValueError, match=r"SciCode1/SciCode/test_data\.h5' is missing.* from https://drive\.\S+ and put"
    ):
        check_datasets(HUB, SCICODE)
