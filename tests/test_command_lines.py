"""Command lines made of the settings' types and of the command's grammar end as they should."""

import collections

import pytest

from benchmarks import command_lines
from benchmarks.command_lines import Outcome, judge, run, workplace
from benchmarks.command_lines_made import Line, all_lines, sample
from benchmarks.command_lines_oracles import ORACLES

LINES = 800
MISLEADING = 0.01
"""Share of all lines that may be refused in a sentence which does not help."""


@pytest.fixture
def place(tmp_path):
    with workplace(tmp_path) as folder:
        yield folder


def test_no_traceback_no_hang_nothing_written_and_nothing_taken_that_cannot_work(place):
    lines = sample(all_lines(), LINES)
    assert len(lines) >= LINES and {line.kind.partition(":")[0] for line in lines} >= {
        "setting", "executor", "pair", "name", "option", "command", "case", "help",
    }  # fmt: skip
    found = collections.defaultdict(list)
    for line in lines:
        if fault := judge(line, run(line)):
            found[fault[0]].append(f"{line}: {fault[1]}")
    misleading = found.pop("misleading", [])
    assert not found, "\n".join(f"{fault}: {one}" for fault, some in found.items() for one in some)
    assert len(misleading) <= MISLEADING * len(lines), "\n".join(misleading)


def test_what_ends_otherwise_is_called_so(place, monkeypatch):
    """Each way to end wrongly is seen where there is one: the set above is not quiet because nobody looks."""
    line = Line(kind="setting", words=("recipes/distill_v1v3.py", "--dryrun", "scale=debug"))
    good = run(line)
    assert good.code == 0 and good.taken and judge(line, good) is None
    refused = Outcome(code=2, out="", error="nemo-run: no.\n")
    assert judge(line, Outcome(code=None, out="", error="", hung=True))[0] == "hang"
    assert judge(line, Outcome(code=None, out="", error="", raised="Traceback ...\nValueError: x"))[0] == "traceback"
    assert judge(line, Outcome(code=1, out="", error="x"))[0] == "traceback"
    assert judge(line, Outcome(code=0, out="", error="", wrote=("runs/x.json",)))[0] == "wrote"
    fed = Line(kind="setting", words=(*line.words, "seed=-1"), feeds=("seed=-1",))
    assert judge(fed, refused)[0] == "misleading"
    assert judge(fed, Outcome(code=2, out="", error="nemo-run: seed=-1 cannot be: say seed=-2.\n"), lambda _: Outcome(
        code=2, out="", error="nemo-run: seed=-2 cannot be: say seed=-2.\n"))[0] == "misleading"  # fmt: skip
    own = Line(kind="setting: its own value", words=line.words, code=0)
    assert judge(own, refused)[0] == "refused, can work"
    monkeypatch.setattr(command_lines, "cannot_work", lambda taken: "who: why")
    assert judge(line, good) == ("taken, cannot work", "who: why")
    assert len(ORACLES) > 10
