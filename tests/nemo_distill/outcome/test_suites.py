import dataclasses
import json

import pytest

from evaluator.suites import catalogue
from evaluator.suites.suite import _READING, Benchmark, Dataset, Suite, identity_of
from nemo_distill.config.resolved import Evaluation
from nemo_distill.errors import UserError
from nemo_distill.outcome.suites import ask

PROTOCOLS = {"offline": "cf8877bee4da", "harness": "4dd5e05a3dcc"}
"""Protocols that stand in evaluations, each question asked as often as the suite says; the study's is in the
fingerprints of `tests/test_old_runs.py`. One changes where scores do, with a version that is raised."""
OF_0_1 = {"offline": "8ef2444e8fbc", "harness": "015e4a83236f"}
"""Protocols that version 0.1 wrote, when what was cut while thinking still counted as an answer."""


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


@pytest.mark.parametrize("suite", PROTOCOLS)
def test_a_suite_has_the_protocol_that_it_had(suite):
    assert ask(Evaluation(suite=suite, repeats=None)).protocol == PROTOCOLS[suite]


@pytest.mark.parametrize("suite", OF_0_1)
def test_what_was_scored_by_other_rules_is_not_compared(suite):
    assert ask(Evaluation(suite=suite, repeats=None)).protocol != OF_0_1[suite]


@pytest.mark.parametrize("suite", PROTOCOLS)
def test_a_field_that_is_added_changes_no_protocol(suite, monkeypatch):
    monkeypatch.setitem(catalogue._SUITES, suite, later(catalogue.get_suite(suite)))
    assert ask(Evaluation(suite=suite, repeats=None)).protocol == PROTOCOLS[suite]


@pytest.mark.parametrize("used", [{"shots": 5}, {"revision": "v2"}, {"system_prompt": "/think"}])
def test_a_field_that_is_used_changes_the_protocol(used, monkeypatch):
    monkeypatch.setitem(catalogue._SUITES, "harness", later(catalogue.get_suite("harness"), **used))
    assert ask(Evaluation(suite="harness", repeats=None)).protocol != PROTOCOLS["harness"]


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
