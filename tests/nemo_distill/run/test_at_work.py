"""When a process may go on with the next step, and when that has a process of its own."""

import dataclasses
import json

import pytest

from nemo_distill.config.resolved import Parallelism
from nemo_distill.run.at_work import AtWork, here
from nemo_distill.run.facts import Beside
from nemo_distill.run.locks import held
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import LOCK_FILE, Step, is_done, mark_done, place


@pytest.fixture
def steps(tmp_path, small_steps):
    """`one`, which this process is at, and `two`, which follows it and another that is done."""
    made = [Step(name, small_steps, {}) for name in ("one", "other")]
    specs = place([*made, Step("two", small_steps, {}, ("one", "other"))], runs=tmp_path)
    for spec in specs.values():
        spec.save()
    mark_done(specs["other"].folder)
    return specs


def may_go_on(steps, *, fits: bool = True) -> bool:
    path = steps["two"].folder / "spec.json"
    with AtWork(steps["one"], Ranks(), following=[path]) as work:
        return work.may_go_on(lambda after: fits and after.name == "two")


def test_a_process_goes_on_with_a_step_that_waits_for_nothing_else_and_marks_its_own_first(steps):
    path = steps["two"].folder / "spec.json"
    with AtWork(steps["one"], Ranks(), following=[path]) as work:
        work.lock()
        work.record(provenance={"pid": 1})
        work.begin()
        assert here() is work and work.may_go_on(lambda after: True)
        assert not is_done(steps["one"].folder)
        spec, _ = work.go_on()
        assert is_done(steps["one"].folder) and spec.name == work.spec.name == "two"
        assert not work.may_go_on(lambda after: True)  # none is left
    assert here() is None and not is_done(steps["two"].folder)
    record = json.loads((steps["two"].folder / "spec.json").read_text())
    assert record["continues"] == "one" and record["provenance"] == {"pid": 1}


def test_a_process_does_not_go_on_with_what_does_not_fit_or_waits_or_is_done_or_is_another_s(steps):
    two, other = steps["two"], steps["other"]
    assert may_go_on(steps) and may_go_on(steps)  # it holds nothing that it has not begun
    assert not may_go_on(steps, fits=False)
    with held(two.folder / LOCK_FILE, waiting=lambda: None):
        assert not may_go_on(steps)
    alone = Parallelism(keep_process=False)
    two.save(dataclasses.replace(Beside(), layout=alone))
    assert not may_go_on(steps)
    two.save()
    (other.folder / "_SUCCESS").unlink()
    assert not may_go_on(steps)
    mark_done(other.folder)
    mark_done(two.folder)
    assert not may_go_on(steps)
    (two.folder / "_SUCCESS").unlink()
    (two.folder / "spec.json").write_text("{")
    assert not may_go_on(steps)
