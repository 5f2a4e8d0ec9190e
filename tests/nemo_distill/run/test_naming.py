"""A run's name stands for its settings: what was done is neither written over nor hidden by what is asked for next."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from nemo_distill.cli import load_recipe
from nemo_distill.config.overrides import override
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.experiment import steps_of
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run, find
from nemo_distill.run.naming import LONGEST, suffix
from nemo_distill.run.step import mark_done, place

ROOT = Path(__file__).resolve().parents[3]
SCORES = "".join(
    f"{label},{role},{tokens},{title},{title.lower()},{mean},0.01,0,40,4\n"
    for label, role, tokens, mean in (
        ("Teacher", "teacher", "", 0.9),
        ("Pruned", "pruned", 0, 0.2),
        ("0.61M", "milestone", 614400, 0.5),
    )
    for title in ("Knowledge", "Average")
)
SCORES = f"checkpoint,role,tokens,benchmark,key,mean,stderr,rerun_sd,questions,repeats\n{SCORES}"
RECIPE, BASE = "recipes/distill_v1v3.py", "distill_v1v3-debug"


@pytest.fixture
def nemo_run(workplace, nemo_run):
    """The command where the real recipe is, too."""
    (workplace / RECIPE).write_text((ROOT / RECIPE).read_text())
    return nemo_run


def finished(name: str, *words: str, versions: int = 0, done: int | None = None) -> Run:
    """A run of the recipe with `words`, of which the first `done` steps have their marks, as an earlier version left it
    that knew no names for settings; `versions` behind ours in what trains."""
    settings = inspect.signature(load_recipe(Path(RECIPE))).parameters["settings"].default
    settings = override({"settings": settings}, [f"settings.{word}" for word in words])["settings"]
    recipe = Recipe.of(name, settings, get_scale("debug"))
    steps = steps_of(recipe)[0]
    if versions:
        steps = [dataclasses.replace(step, config=step.config | {"older": versions}) for step in steps]
    specs = place(steps, runs=Path("runs"))
    for spec in list(specs.values())[:done]:
        spec.save()
        if spec.name == "prepare":
            listed = {source["name"]: {"tokens": 200_000} for source in spec.config["sources"]}
            (spec.folder / "sources.json").write_text(json.dumps(listed))
        if spec.name == "report":
            (spec.folder / "scores.csv").write_text(SCORES)
        mark_done(spec.folder, seconds=1.0, fingerprint=spec.fingerprint)
    run = Run(name=name, runs=Path("runs").resolve(), specs=specs, facts=RunFacts.of(recipe, executor="local"))
    run.save()
    record = json.loads(run.path.read_text())
    del record["changed"], record["recipe_name"]
    run.path.write_text(json.dumps(record | {"time": "2026-03-01T10:00:00+0000"}))
    return run


def name_of(nemo_run, *words: str) -> str:
    """What a preview calls the run."""
    code, out, err = nemo_run(RECIPE, "--dryrun", *words)
    assert code == 0, err
    return next(line.partition(":")[0] for line in out.splitlines() if " scale, executor " in line)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", BASE),
        ("seed=7", f"{BASE}-seed7"),
        ("distill.learning_rate=3e-4", f"{BASE}-lr3e-4"),
        ("seed=7 distill.learning_rate=3e-4", f"{BASE}-lr3e-4-seed7"),
        ("distill.learning_rate=0.0003 seed=7", f"{BASE}-lr3e-4-seed7"),
        ("seed=1234 distill.learning_rate=2e-3 distill.milestones=0.1024M,0.3072M,0.6144M", BASE),
        ("layout.gpus_per_node=1 health.spikes=5 track=none evaluate.max_unasked=0.1 executor.parallel_steps=1", BASE),
        ("blend.shares.stem=5 blend.shares.science-mcq=8", f"{BASE}-stem5-science-mcq8"),
        ("distill.milestones=25,75 evaluate.repeats=8", f"{BASE}-milestones25_75-repeats8"),
        ("prune.export_config={'num_layers':6}", f"{BASE}-student_num_layers6"),
        ("prune.divisors={'hidden_size':32}", f"{BASE}-divisors_hidden_size_divisor32"),
        ("prepare.tokens=300K prune.score=mmlu", f"{BASE}-tokens300000-score_mmlu"),
    ],
)
def test_a_runs_name_is_its_recipes_with_what_differs_from_it(nemo_run, words, name):
    assert name_of(nemo_run, *words.split()) == name


def test_a_long_suffix_is_cut_and_ends_in_a_digest_of_all():
    many = {f"distill.setting{number}": number for number in range(20)}
    cut, other = suffix(many), suffix({**many, "seed": 3})
    assert len(cut) <= LONGEST and len(other) <= LONGEST and cut != other
    assert cut.startswith("-setting0_0-setting1_1-")


def test_a_finished_run_is_as_it_was_after_until_and_after_other_settings(nemo_run, listing, workplace):
    run = finished(BASE)
    before = run.path.read_bytes(), listing(workplace / "runs")
    for until in ("prune", "distill-0.1M", "report"):
        code, out, err = nemo_run(RECIPE, "--until", until)
        assert code == 0 and "Nothing to do" in out, err
    assert name_of(nemo_run, "seed=2") == f"{BASE}-seed2"
    assert (run.path.read_bytes(), listing(workplace / "runs")) == before
    assert all(spec.done for spec in find(BASE, runs=Path("runs")).specs.values())


def test_what_is_done_until_a_step_belongs_to_a_run_of_all_steps(nemo_run):
    run = finished("other", done=3)
    run.path.unlink()
    code, out, _ = nemo_run(RECIPE, "--until", "prune")
    assert code == 0 and "all 3 steps" in out
    made = find(BASE, runs=Path("runs"))
    assert made.fingerprints == run.fingerprints
    assert made.facts.recipe_name == "distill_v1v3" and made.facts.changed == {}
    assert made.facts.beside.command == ("nemo-run", RECIPE, "--until", "prune")


def test_a_run_that_an_earlier_version_called_as_its_recipe_goes_on_and_no_other_takes_its_name(nemo_run):
    finished(BASE, "seed=7", done=4)
    assert name_of(nemo_run, "seed=7") == BASE
    assert name_of(nemo_run) == f"{BASE}-seed1234"
    assert f"{BASE} is a run of other settings, so this one is {BASE}-seed1234." in nemo_run(RECIPE, "--dryrun")[1]
    assert name_of(nemo_run, "seed=8") == f"{BASE}-seed8"


def test_an_edited_recipe_is_another_run(nemo_run, workplace):
    finished(BASE)
    recipe = workplace / RECIPE
    edited = recipe.read_text().replace("SETTINGS = Settings(", "SETTINGS = Settings(seed=5, ")
    recipe.write_text(edited)
    assert name_of(nemo_run) == f"{BASE}-seed5"
    assert name_of(nemo_run, "seed=1234") == f"{BASE}"
    finished(f"{BASE}-seed5", "distill.learning_rate=1e-3")
    assert name_of(nemo_run) == f"{BASE}-lr2e-3-seed5"


def test_what_another_version_did_is_kept_beside_what_this_one_does(nemo_run):
    old = finished(BASE, versions=1)
    new = finished("new")
    new.path.unlink()
    code, _, err = nemo_run(RECIPE, "--until", "distill-0.61M")
    assert code == 0, err
    kept = find(f"{BASE}-2026-03-01", runs=Path("runs"))
    assert kept.name == f"{BASE}-2026-03-01" and kept.fingerprints == old.fingerprints
    assert find(BASE, runs=Path("runs")).fingerprints == new.fingerprints
    assert find(None, runs=Path("runs")).name == BASE


def test_a_name_that_was_given_is_not_taken_from_a_run_of_other_settings(nemo_run, listing, workplace):
    finished("mine-debug")
    before = listing(workplace / "runs")
    assert name_of(nemo_run, "--name", "mine") == "mine-debug"
    for way in ("--dryrun", "--detach"):
        code, _, err = nemo_run(RECIPE, "--name", "mine", "seed=3", way)
        assert code == 2 and "--name mine-debug is a run of other settings (seed=1234 there and 3 here)" in err
    assert listing(workplace / "runs") == before
