"""What version 0.1 has trained is not trained again: its finished runs are skipped, reported, compared and resumed.

Its evaluations run again: what was cut while thinking is no answer since. Their reports stay and read as they were.
"""

import inspect
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.contamination.scan import search_source
from nemo_distill.contamination.search import Index
from nemo_distill.data import source_cards
from nemo_distill.data.files import HubFile, Located
from nemo_distill.data.prepared import read_sources
from nemo_distill.data.source_folder import place
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.run.step import Spec
from nemo_distill.steps import contamination, prepare
from tests import old_runs
from tests.nemo_distill import segments

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests/data/fingerprints_of_0_1.json").read_text())
SEGMENT = "distill-0.61M/228579d1551d"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


def nemo_run(*words: str) -> str:
    """What the command prints; it has to end well."""
    command = [sys.executable, "-W", "ignore", "-m", "nemo_distill.cli", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", GOLDEN)
def test_every_step_of_every_recipe_has_its_fingerprint(name, monkeypatch):
    """That of 0.1, but for evaluations and reports: theirs are of the protocol that `CHANGELOG.md` says is new."""
    monkeypatch.delenv("JUDGE_MODEL_ID", raising=False)  # it is part of what the study's suite is asked
    from nemo_distill.cli import load_recipe
    from nemo_distill.config.recipe import Recipe
    from nemo_distill.config.scale import get_scale
    from nemo_distill.experiment import steps_of
    from nemo_distill.run.step import place

    stem, _, scale = name.rpartition("-")
    parameters = inspect.signature(load_recipe(ROOT / "recipes" / f"{stem}.py")).parameters
    recipe = Recipe.of(name, parameters["settings"].default, get_scale(scale))
    specs = place(steps_of(recipe)[0], runs=Path("runs"))
    assert {step: spec.fingerprint for step, spec in specs.items()} == GOLDEN[name]


def _described(content: str) -> HubFile:
    """A file of which nothing but the content is known."""
    return HubFile("org/name", "a" * 40, "a.jsonl", 0, content, streaming=False)


def test_a_source_that_was_tokenised_is_found_in_its_folder(runs):
    for folder in runs.glob("prepare/*"):
        spec = Spec.load(folder / "spec.json")
        tokenizer = Tokenizer(resolve_package_paths(spec.config["tokenizer"]))
        for source in spec.config["sources"]:
            name = source["name"]
            card = source_cards.read(Path(read_sources(folder)[name]["prefix"]).parent)
            located = Located([_described(file["content"]) for file in card["inputs"]])
            assert place(spec, source, located, tokenizer, version=prepare.VERSION).done, name


def test_a_source_that_was_searched_for_questions_is_found_in_its_folder(runs):
    for folder in runs.glob("contamination/*"):
        spec = Spec.load(folder / "spec.json")
        for source in spec.config["sources"]:
            found = search_source(spec, source, Located([]), Index({}), version=contamination.VERSION, say=print)
            assert found[0].documents == 4_000  # of no file: they were read when it was made


@pytest.mark.parametrize("recipe", ["distill_v1v3", "distill_v3"])
def test_the_same_command_evaluates_a_finished_run_again_and_trains_nothing_again(runs, recipe):
    output = nemo_run(f"recipes/{recipe}.py", "--executor", "local", "--dryrun", f"runs={runs}")
    steps = {words[0]: words[1] for words in map(str.split, output.splitlines()) if len(words) > 2}
    does = {step: steps[step] for step in GOLDEN[f"{recipe}-debug"]}
    evaluated = {step for step in does if step.startswith("evaluate-")}
    assert {step for step, word in does.items() if word == "skip"} == set(does) - evaluated - {"report"}
    assert {does[step] for step in evaluated} == {"run"}


def test_finished_runs_are_reported_and_compared(runs):
    assert "0.61M" in nemo_run("report", "distill_v1v3-debug", "--runs", str(runs))
    assert "done" in nemo_run("status", "distill_v1v3-debug", "--runs", str(runs))
    compared = nemo_run("report", "distill_v1v3-debug", "distill_v3-debug", "--runs", str(runs))
    assert "30pre_70post_v1v3" in compared and "30pre_70post_v3" in compared
    assert (runs / "comparisons/distill_v1v3-debug-vs-distill_v3-debug/report.html").stat().st_size > 10_000
    assert "model-index" in Path(nemo_run("card", "distill_v1v3-debug", "--runs", str(runs)).strip()).read_text()


@pytest.mark.slow
def test_a_segment_goes_on_from_a_checkpoint_of_the_old_version_to_the_losses_of_the_uncut_run(runs, tmp_path):
    copied = tmp_path / "runs"
    shutil.copytree(runs, copied)
    folder = copied / SEGMENT
    uncut = old_runs.losses(folder)
    for path in folder.iterdir():
        if path.name != "spec.json":
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    command = [sys.executable, "-m", "nemo_distill.step", str(folder / "spec.json")]
    step = subprocess.Popen(command, env=segments.ENVIRONMENT | segments.forks())
    deadline = time.monotonic() + 900
    while step.poll() is None and len(again := old_runs.losses(folder)) < 25 and time.monotonic() < deadline:
        time.sleep(0.2)
    step.kill()
    step.wait()
    assert len(again) >= 25
    old_runs.assert_same_losses(again, uncut[: len(again)])
