"""The faults of `benchmarks/planted_faults.py` still fit the code and the tests, and the tool judges as it says."""

import pytest

from benchmarks.planted_faults import Fault, judged, load, stale

CODE = "def sign(number):\n    return 1 if number > 0 else -1\n"
TESTS = """
import pytest
from nemo_distill.signs import sign

def test_above():
    assert sign(3) == 1

@pytest.mark.skip(reason="no GPU")
def test_below():
    assert sign(-3) == -1

def test_failing():
    assert sign(0) == 0
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of a checkout: one module, and three tests of it."""
    copy = tmp_path / "copy"
    for folder, name, text in (("nemo_distill", "signs.py", CODE), ("tests", "test_signs.py", TESTS)):
        (copy / folder).mkdir(parents=True)
        (copy / folder / name).write_text(text)
    return copy


def fault(name: str, *, old: str = "> 0", new: str = "< 0", test: str = "above") -> Fault:
    return Fault(name=name, area="sign", breaks="Signs are wrong.", old=old, new=new, tests=(test,))


def test_every_fault_has_one_place_in_the_code_and_its_tests_one_file():
    assert stale(load()) == {}


def test_the_faults_are_many_and_have_names_of_their_own():
    faults = load()
    assert len({one.name for one in faults}) == len(faults) >= 20
    assert {"lock", "mark", "resume", "requeue", "verdict"} <= {one.area for one in faults}
    assert all(one.old != one.new and one.tests for one in faults)


def test_what_no_longer_fits_is_named(tree):
    faults = [fault("fits"), fault("gone", old=">= 0"), fault("untested", test="beneath")]
    assert stale(faults, tree) == {
        "gone": "its old text stands 0 times in the code, not once",
        "untested": "tests named 'beneath' are in 0 files, not in one",
    }


def test_a_fault_is_caught_or_survives_and_is_not_judged_by_tests_that_show_nothing(tree, capsys):
    faults = [
        fault("turned"),
        fault("unseen", new=">= 0"),
        fault("skipped", test="below"),
        fault("failing", test="failing"),
        fault("broken", new="> >"),
    ]
    verdicts = {one.name: (verdict, why) for one, verdict, why, _ in judged(faults, tree, [])}
    assert verdicts["turned"] == ("caught", "test_above")
    assert verdicts["unseen"] == ("SURVIVED", "above")
    assert verdicts["skipped"] == ("NOT RUN", "skipped: no GPU")
    assert verdicts["failing"] == ("NOT RUN", "fails without the fault: test_failing")
    assert verdicts["broken"][0] == "NOT RUN"
    assert (tree / "nemo_distill" / "signs.py").read_text() == CODE
