"""Room is made in real finished runs, of version 0.1, and what stays is read as before."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from nemo_distill import backends
from nemo_distill.cli import main
from nemo_distill.errors import UserError
from nemo_distill.launch.launch import check
from nemo_distill.run.at_work import locked
from nemo_distill.run.manifest import find
from nemo_distill.run.step import OPTIMIZER, damage, read_mark
from nemo_distill.upkeep import clean
from nemo_distill.upkeep.clean import look
from tests import old_runs

RUN = "distill_v1v3-debug"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


@pytest.fixture
def runs(packed, tmp_path) -> Path:
    shutil.copytree(packed, tmp_path / "runs", symlinks=True)
    (tmp_path / "runs" / "distill_v3-debug.json").unlink()  # whose folders no run refers to then
    return tmp_path / "runs"


def passed(runs: Path) -> Path:
    """The milestone before the last, which is whole."""
    return find(RUN, runs=runs).specs["distill-0.3M"].folder


def optimizers(runs: Path) -> list[Path]:
    return [item.folder for item in look(runs, ["optimizer"]).removable]


def item_of(runs: Path, folder: Path) -> clean.Removable:
    return next(item for item in look(runs, ["optimizer"]).removable if item.folder == folder)


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_optimizer_of_a_milestone_trained_past_goes_and_its_weights_stay_to_the_bit(runs):
    folder = passed(runs)
    last = find(RUN, runs=runs).specs["distill-0.61M"].folder
    assert folder in optimizers(runs) and last not in optimizers(runs)
    backend, checkpoint = backends.of(folder / "checkpoint"), folder / "checkpoint"
    before, size = backend.read(checkpoint), sum(p.stat().st_size for p in checkpoint.rglob("*") if p.is_file())
    item = item_of(runs, folder)
    item.remove()
    assert_same_weights(backend.read(checkpoint), before)
    left = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    assert left == pytest.approx(size - item.size, rel=0.1) and left < 0.4 * size
    assert damage(folder) is None and read_mark(folder)["removed"][OPTIMIZER]["bytes"] == item.size
    assert folder not in optimizers(runs)
    assert {path.name for path in folder.iterdir()} & {"checkpoint.smaller", "checkpoint.old"} == set()


def test_who_would_go_on_from_there_is_told_what_is_missing_and_what_it_takes(runs):
    run = find(RUN, runs=runs)
    item_of(runs, passed(runs)).remove()
    check(run)  # nothing is left to be done
    (run.specs["distill-0.61M"].folder / "_SUCCESS").unlink()
    with pytest.raises(UserError, match=r"optimizer's state of distill-0.3M was removed .* train that segment again, "):
        check(run)


@pytest.mark.parametrize("step", ["remark", "without", "first rename", "second rename"])
def test_a_removal_that_was_killed_leaves_the_step_done_and_the_next_one_ends_it(runs, step, monkeypatch):
    folder, backend = passed(runs), backends.get()
    before = backend.read(folder / "checkpoint")

    def dies(*_args, **_kwargs):
        raise KeyboardInterrupt

    replaced = []

    def replace(source, target):
        if Path(source).name.startswith("checkpoint"):
            if len(replaced) == (0 if step == "first rename" else 1):
                dies()
            replaced.append(source)
        return os.rename(source, target)

    with monkeypatch.context() as patch:
        if step == "remark":
            patch.setattr(clean.backends, "of", dies)
        elif step == "without":
            patch.setattr(backend, "without_optimizer", dies)
        else:
            patch.setattr(clean.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            clean.remove_optimizer(folder)
    assert damage(folder) is None and folder in optimizers(runs)
    item_of(runs, folder).remove()
    assert_same_weights(backend.read(folder / "checkpoint"), before)
    assert damage(folder) is None and folder not in optimizers(runs)


def test_folders_that_no_run_refers_to_go_and_all_others_stay(runs):
    run, found = find(RUN, runs=runs), look(runs, ["unreferenced"])
    gone = {item.folder for item in found.removable}
    assert gone and not gone & {spec.folder for spec in run.specs.values()}
    assert {folder.parent.name for folder in gone} >= {"report", "prepare", "distill-0.61M"}
    for item in found.removable:
        item.remove()
    assert not any(folder.exists() for folder in gone) and not (runs / ".removed").exists()
    check(run)
    assert look(runs, ["unreferenced"]).removable == ()


def test_what_is_at_work_damaged_or_another_s_stays_and_is_said(runs, monkeypatch):
    folder = passed(runs)
    with locked(folder):
        assert dict(look(runs, ["optimizer"]).kept)[folder] == "a process works on it"
    run = find(RUN, runs=runs)
    (run.specs["report"].folder / "_SUCCESS").unlink()
    with locked(run.specs["report"].folder):
        assert dict(look(runs, ["optimizer"]).kept)[folder] == f"{RUN} is running"
    with monkeypatch.context() as patch:
        patch.setattr(clean.os, "getuid", lambda: 4321)
        found = look(runs)
        assert found.removable == () and dict(found.kept)[folder] == f"belongs to user {folder.stat().st_uid}"
    (runs / "damaged.json").write_text("{")
    found = look(runs, ["unreferenced"])
    assert found.removable == () and [path.name for path, _ in found.kept] == ["damaged.json"]


def test_the_command_shows_what_would_go_and_removes_it_when_told(runs, capsys):
    files = sorted(runs.rglob("*"))
    assert main(["clean", "--runs", str(runs), "--rule", "unreferenced"]) == 0
    assert sorted(runs.rglob("*")) == files
    assert "nothing is removed without --delete" in capsys.readouterr().out
    assert main(["clean", "--runs", str(runs), "--rule", "unreferenced", "--delete"]) == 0
    assert "removed report/" in capsys.readouterr().out
    assert main(["clean", "--runs", str(runs), "--rule", "optimiser"]) == 2
    assert "Did you mean 'optimizer'?" in capsys.readouterr().err
    assert main(["clean", "--runs", str(runs / "none")]) == 2
