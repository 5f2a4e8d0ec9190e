import dataclasses
import json
from pathlib import Path

import pytest

from evaluator.suites import catalogue
from evaluator.suites.suite import _READING, Benchmark, Dataset, Suite, identity_of
from nemo_distill.config.resolved import Evaluation
from nemo_distill.errors import UserError
from nemo_distill.outcome.suites import ask

PROTOCOLS = {"offline": "cf8877bee4da", "harness": "4a61a6e3145b"}
"""Protocols that stand in evaluations, each question asked as often as the suite says; the study's is in the
fingerprints of `tests/test_old_runs.py`. One changes where scores do, with a version that is raised."""
OF_0_1 = {"offline": "8ef2444e8fbc", "harness": "015e4a83236f"}
"""Protocols that version 0.1 wrote, when what was cut while thinking still counted as an answer."""
DATASETS = {"harness": str(Path(__file__).parents[2] / "evaluator" / "data" / "hub")}
"""Folder of the data sets of each suite that asks some."""


def asked(suite: str):
    """What is asked where nothing but the suite is said, and where its data sets are."""
    return ask(Evaluation(suite=suite, repeats=None, datasets=DATASETS.get(suite)))


@dataclasses.dataclass(frozen=True)
class LaterBenchmark(Benchmark):
    shots: int = 0
    """Examples before the question: a field that no evaluation knew when protocols were first made."""


@dataclasses.dataclass(frozen=True)
class LaterDataset(Dataset):
    revision: str = "main"


@dataclasses.dataclass(frozen=True)
class LaterSuite(Suite):
    system_prompt: str = ""


def later(suite: Suite, *, shots: int = 0, revision: str = "main", system_prompt: str = "") -> Suite:
    """The suite as a later version would have it, with a new field in each of its parts."""

    def fields(part) -> dict:
        return {one.name: getattr(part, one.name) for one in dataclasses.fields(part)}

    benchmarks = []
    for one in suite.benchmarks:
        dataset = LaterDataset(**fields(one.dataset), revision=revision) if one.dataset else None
        benchmarks.append(LaterBenchmark(**fields(one) | {"dataset": dataset}, shots=shots))
    return LaterSuite(**fields(suite) | {"benchmarks": tuple(benchmarks)}, system_prompt=system_prompt)


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    for name, value in {"JUDGE_URL": "http://host/v1", "JUDGE_MODEL_ID": "j", "JUDGE_API_KEY": "none"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("evaluator.harness.requirements.check_sandbox", lambda advice: None)  # nothing is evaluated


@pytest.mark.parametrize("suite", PROTOCOLS)
def test_a_suite_has_the_protocol_that_it_had(suite):
    assert asked(suite).protocol == PROTOCOLS[suite]


@pytest.mark.parametrize("suite", OF_0_1)
def test_what_was_scored_by_other_rules_is_not_compared(suite):
    assert asked(suite).protocol != OF_0_1[suite]


@pytest.mark.parametrize("suite", PROTOCOLS)
def test_a_field_that_is_added_changes_no_protocol(suite, monkeypatch):
    monkeypatch.setitem(catalogue._SUITES, suite, later(catalogue.get_suite(suite)))
    assert asked(suite).protocol == PROTOCOLS[suite]


@pytest.mark.parametrize("used", [{"shots": 5}, {"revision": "v2"}, {"system_prompt": "/think"}])
def test_a_field_that_is_used_changes_the_protocol(used, monkeypatch):
    monkeypatch.setitem(catalogue._SUITES, "harness", later(catalogue.get_suite("harness"), **used))
    assert asked("harness").protocol != PROTOCOLS["harness"]


@pytest.mark.parametrize("name", ["offline", "harness", "harness_code", "study"])
def test_every_field_of_a_suite_decides_its_identity(name):
    suite = catalogue.get_suite(name)
    (first, *others) = suite.benchmarks
    for one in dataclasses.fields(suite):
        if one.name in _READING[Suite]:
            continue
        assert identity_of(dataclasses.replace(suite, **{one.name: ("another",)})) != identity_of(suite), one.name
    for one in dataclasses.fields(first):
        if one.name in _READING[Benchmark]:
            continue
        changed = dataclasses.replace(first, **{one.name: "another"})
        assert identity_of(dataclasses.replace(suite, benchmarks=(changed, *others))) != identity_of(suite), one.name
    assert json.loads(json.dumps(identity_of(suite))) == identity_of(suite)


def test_a_suite_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(UserError, match="'ofline'; did you mean 'offline'"):
        ask(Evaluation(suite="ofline"))


SITE = {"hostname": "login", "account": "a", "partition": "p", "judge_url": "http://x/v1", "judge_model": "gpt-4o"}


def protocol(**site) -> str:
    return ask(Evaluation(suite="study"), SITE | site).protocol


def test_the_protocol_of_a_launchers_suite_holds_judge_image_engine_and_overrides_and_nothing_of_the_queue():
    one = protocol()
    assert protocol(partition="q", gres=None, walltime="12:00:00", parallelism=8, judge_url="http://y/v1") == one
    others = {
        protocol(judge_model="tiny-judge"),
        protocol(image="vllm/vllm-openai:v0.9.0"),
        protocol(engine_args="--kv-cache-dtype fp8"),
        protocol(overrides=["evaluation.nemo_evaluator_config.config.params.temperature=0"]),
        ask(Evaluation(suite="study_published"), SITE).protocol,
    }
    assert len(others) == 5 and one not in others


def test_what_a_site_says_that_decides_a_score_is_in_the_config_of_an_evaluation():
    from nemo_distill.config.scale import get_scale
    from nemo_distill.experiment import steps_of
    from tests.nemo_distill.test_experiment import recipe

    site = SITE | {"image": "x@sha256:1", "overrides": ["++execution.cpu_partition=cpu", "deployment.port=1"]}
    steps = {step.name: step.config for step in steps_of(recipe("full"), site)[0]}
    told = {"image": "x@sha256:1", "judge_model": "gpt-4o", "overrides": ["deployment.port=1"]}
    assert steps["evaluate-80B"]["launcher"] == told == steps["evaluate-teacher"]["launcher"]
    assert "tasks" not in steps["evaluate-80B"]
    assert steps["evaluate-pruned"]["tasks"] == ["lm-evaluation-harness.mmlu", "ns_ifeval"]
    assert "launcher" not in {step.name: step.config for step in steps_of(recipe())[0]}["evaluate-pruned"]
    assert get_scale("debug").evaluate.pruned == "all"


def test_images_that_may_move_are_named():
    (sentence,) = ask(Evaluation(suite="study"), SITE | {"images": {"nemo-skills": "x@sha256:1"}}).remarks
    assert "vllm/vllm-openai:v0.12.0, lm-evaluation-harness as the launcher tags it, simple-evals as" in sentence
    pinned = {name: "x@sha256:1" for name in ("nemo-skills", "simple-evals", "lm-evaluation-harness")}
    assert ask(Evaluation(suite="study"), SITE | {"image": "v@sha256:2", "images": pinned}).remarks == ()


def test_the_judge_of_the_environment_is_the_launchers_too(monkeypatch):
    said = {name: value for name, value in SITE.items() if not name.startswith("judge")}
    monkeypatch.setenv("JUDGE_MODEL_ID", "gpt-4o")
    assert ask(Evaluation(suite="study"), said).protocol == protocol()
    assert ask(Evaluation(suite="study"), said).unready == ""
    monkeypatch.delenv("JUDGE_MODEL_ID")
    assert "MATH-500 is judged by a model" in ask(Evaluation(suite="study"), said).unready
    assert "say executor.evaluation.hostname" in ask(Evaluation(suite="study")).unready


@pytest.mark.parametrize("suite", ["study", "offline"])
def test_what_a_site_cannot_say_is_refused_before_it_is_needed(suite):
    with pytest.raises(
        UserError, match="no setting 'executor.evaluation.gress'. Did you mean 'executor.evaluation.gres'"
    ):
        ask(Evaluation(suite=suite), SITE | {"gress": "gpu:8"})
