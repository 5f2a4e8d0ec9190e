"""Which GPUs there are, and that each is one step's: nvidia-smi is a script here that says what the real one prints."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.errors import UserError
from nemo_distill.launch.local import cards
from nemo_distill.launch.local.cards import Card, Deck, found

A, B, C = (f"GPU-{letter * 8}-1111-2222-3333-444444444444" for letter in "abc")
MIG = "MIG-11111111-2222-3333-4444-555555555555"
LISTED = f"""\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: {A})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {B})
GPU 2: NVIDIA H100 80GB HBM3 (UUID: {C})
"""
SPLIT = LISTED + f"  MIG 1g.10gb     Device  0: (UUID: {MIG})\n  MIG 1g.10gb     Device  1: (UUID: {MIG[:-1]}6)\n"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Have nvidia-smi list these GPUs, with so many MiB of each in use."""
    monkeypatch.setattr(cards.glob, "glob", lambda pattern: [])

    def says(listed: str, used: dict[str, int] | None = None) -> None:
        lines = "".join(f"{uuid}, {mib}, 81559\n" for uuid, mib in (used or {}).items())
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncase $1 in -L) printf '%s' '{listed}';; *) printf '%s' '{lines}';; esac\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return says


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_DISTILL_GPU_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def names(said: str | None, visible: str | None = None) -> list[str]:
    return [card.name for card in found(said, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})]


def keys(said: str | None, visible: str | None = None) -> list[str]:
    return [card.key for card in found(said, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})]


def test_all_gpus_are_there_to_give_or_those_that_are_named(smi):
    smi(LISTED)
    assert names(None) == ["0", "1", "2"] and keys(None) == [A, B, C]
    assert names("2") == ["0", "1"] and names("0,2") == ["0", "2"] and names("1,") == ["1"] and names("0") == []
    assert names(B) == ["1"]


def test_a_variable_of_cudas_is_kept_to_and_its_names_are_kept(smi):
    smi(LISTED)
    assert names(None, "2,0") == ["2", "0"] and keys(None, "2,0") == [C, A]
    assert names(None, f"GPU-bbbb,{C}") == ["GPU-bbbb", C] and keys(None, f"GPU-bbbb,{C}") == [B, C]
    assert names(None, "1,-1,2") == ["1"] and names(None, "0,7,1") == ["0"] and names(None, "") == []
    assert names("1", "2,0") == ["2"] and names("0,", "2,0") == ["0"]


def test_of_a_gpu_that_is_split_its_parts_are_there(smi):
    smi(SPLIT)
    assert names(None) == ["0", "1", MIG, f"{MIG[:-1]}6"]
    assert names(None, MIG) == [MIG]


@pytest.mark.parametrize(
    ("said", "visible", "sentence"),
    [
        ("4", None, "executor.gpus=4, and there are 3 here (0, 1, 2)."),
        ("9" * 30, None, f"executor.gpus={'9' * 30} is more than one machine has; the most is 1,024."),
        ("2", "1", "executor.gpus=2, and there are 1 here (1)."),
        ("0,5", None, "executor.gpus=0,5: there is no GPU '5' here."),
        ("0,1", "1", "executor.gpus=0,1: there is no GPU '0' here."),
        ("1,1", None, "executor.gpus=1,1 names a GPU twice."),
    ],
)
def test_gpus_that_are_not_there_are_refused(smi, said, visible, sentence):
    smi(LISTED)
    with pytest.raises(UserError) as error:
        names(said, visible)
    assert sentence in str(error.value)


def test_on_a_machine_without_gpus_they_are_made_up_where_a_number_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(cards.glob, "glob", lambda pattern: [])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(None) == [] == names(None, "0,1")
    assert names("2") == ["0", "1"] and names("7,9") == ["7", "9"] and names("1", f"{MIG},3") == [MIG]


def test_a_gpu_is_one_commands_whatever_it_is_called_until_that_gives_it_back_or_ends(locks):
    ours, theirs = (Deck([Card(name=name, key=A), Card(name=f"{name}b", key=B)]) for name in ("0", A))
    assert [card.name for card in ours.take(1)] == ["0"] and ours.free == 1
    assert theirs.take(2) is None and theirs.busy == {A: f"process {os.getpid()} has it"} and theirs.free == 2
    (other,) = theirs.take(1)
    assert other.name == f"{A}b" and ours.take(1) is None
    ours.close()
    assert ours.take(2) is None and [card.key for card in ours.take(1)] == [A]
    theirs.give_back([other])
    assert len(ours.take(1)) == 1 and oct(locks.stat().st_mode)[-3:] == "700"
    code = "from nemo_distill.launch.local.cards import Card, Deck; import os; Deck([Card(name='9', key='9')]).take(1)"
    subprocess.run([sys.executable, "-c", f"{code}; os.kill(os.getpid(), 9)"], check=False)
    assert Deck([Card(name="9", key="9")]).take(1)


def test_a_gpu_is_not_free_while_anything_lives_that_was_started_with_it():
    card = Card(name="0", key=A)
    dead = Deck([card])
    left = subprocess.Popen(["sleep", "60"], env=os.environ | dead.variables(dead.take(1)))
    dead.close()  # as the kernel does for a command that was killed
    deck = Deck([card])
    with contextlib.ExitStack() as stack:
        stack.callback(left.kill)
        assert deck.take(1) is None and "still ending" in deck.busy["0"]
    left.wait()
    assert deck.take(1) == (card,)


def test_a_gpu_with_something_of_anothers_in_its_memory_is_left_alone(smi):
    smi(LISTED, {A: 39_000, B: 600, C: 4_000})
    deck = Deck(found(None, {}))
    assert [card.name for card in deck.take(2)] == ["1", "2"] and deck.busy == {
        "0": "38.1 GiB of its memory are in use"
    }
    assert deck.variables(deck.cards[1:])["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_locks_in_a_folder_of_somebody_elses_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("NEMO_DISTILL_GPU_LOCKS")
    monkeypatch.setattr(cards, "Path", lambda *parts: tmp_path / "open")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UserError, match="is another's, or open to others: remove it"):
        cards.folder_of_locks()
    (tmp_path / "open").rmdir()
    (tmp_path / "open").symlink_to(Path.home())
    with pytest.raises(UserError, match="another's"):
        cards.folder_of_locks()
