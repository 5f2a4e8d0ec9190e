"""What a run will write, and whether there is room for it."""

from types import SimpleNamespace

from nemo_distill.plan import disk
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.figures import STUDY

SEGMENTS = ("2.5B", "20B")


def remark(tmp_path, done=()):
    segments = dict.fromkeys(SEGMENTS, 1)
    estimate = Estimate(job=STUDY, student_from="as pruned", segments=segments, loads=(), done=frozenset(done))
    return disk.disk_remark(estimate, tokens=38_000_000_000, runs=tmp_path / "not" / "yet")


def test_checkpoints_are_most_of_it():
    sizes = disk.sizes_of(STUDY, segments=SEGMENTS, tokens=0)
    assert sizes["distill-2.5B"] == 14 * STUDY.student.parameters() == 7 * sizes["export-2.5B"]
    assert sum(sizes[f"distill-{label}"] for label in SEGMENTS) > sum(sizes.values()) / 2


def test_what_does_not_fit_is_said_in_red(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 600e9)
    sentence, style = remark(tmp_path)
    assert "422 GB in the end (checkpoints 196, tokens 152), 520 still to come" in sentence and not style
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 500e9)
    assert remark(tmp_path)[1] == "bold red"
    sentence, style = remark(tmp_path, done=("import-teacher", "prepare", "prune", "distill-2.5B", "distill-20B"))
    assert " 42 still to come" in sentence and not style  # three exports, and no checkpoint that is replaced


def test_a_folder_that_is_not_there_yet_is_looked_for_above(tmp_path, monkeypatch):
    assert disk.free_bytes(tmp_path / "not" / "yet") > 0
    asked = []
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=7))
    assert disk.free_bytes(tmp_path / "not" / "yet") == 7 and asked == [tmp_path]


def test_its_steps_are_those_of_the_run():
    from nemo_distill.config.recipe import Recipe
    from nemo_distill.config.scale import FULL
    from nemo_distill.experiment import steps_of
    from recipes.distill_v1v3 import SETTINGS

    recipe = Recipe.of("run", SETTINGS, FULL)
    names = {step.name for step in steps_of(recipe)[0]}
    segments = [milestone.label for milestone in recipe.milestones]
    assert set(disk.sizes_of(STUDY, segments=segments, tokens=0)) <= names
