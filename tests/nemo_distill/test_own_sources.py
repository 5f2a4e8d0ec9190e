"""A recipe with sources of its own: what its steps are told, what it previews, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.overrides import override
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Settings
from nemo_distill.config.sources import Source
from nemo_distill.experiment import steps_of
from nemo_distill.run.step import place

RECIPE = '''"""Own data."""
from nemo_distill import Blend, Context, Settings, Source, entrypoint, run_experiment

BLEND = Blend.of(
    "mine",
    (Source(name="tickets", path="data/tickets", field="messages", tokens="0.3M"), 50, "a guess"),
    (Source(name="notes", path="data/notes.jsonl", samples=3), 20, "a guess"),
    ("stem", 30, "the rest"),
)


@entrypoint
def mine(ctx: Context, settings: Settings = Settings(blend=BLEND)) -> None:
    run_experiment(ctx, settings)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of somebody's own, with data and a recipe, in which commands are given."""
    (tmp_path / "data" / "tickets").mkdir(parents=True)
    chat = {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]}
    (tmp_path / "data" / "tickets" / "a.jsonl").write_text(json.dumps(chat) + "\n")
    (tmp_path / "data" / "notes.jsonl").write_text('{"text": "a note"}\n' * 5)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(*words: str) -> Settings:
    names: dict = {}
    exec(compile(RECIPE, "mine.py", "exec"), names)
    return override({"settings": Settings(blend=names["BLEND"])}, [f"settings.{word}" for word in words])["settings"]


def placed(*words: str):
    recipe = Recipe.of("mine", settings(*words), get_scale("debug"))
    return place(steps_of(recipe)[0], runs=Path("runs"))


def test_the_steps_are_told_where_they_lie_and_what_is_in_them(folder):
    specs = placed()
    notes, stem, tickets = specs["prepare"].config["sources"]
    assert stem == {"name": "stem", "field": "messages", "files": ["world:corpora/stem.jsonl"]}
    digest = tickets.pop("sha256")
    assert tickets == {
        "name": "tickets", "field": "messages", "path": str(folder / "data" / "tickets"), "reading": 2,
    }  # fmt: skip
    assert (notes["samples"], notes["path"]) == (3, str(folder / "data" / "notes.jsonl"))
    assert specs["contamination"].config["sources"] == [notes, stem, tickets | {"sha256": digest}]


def test_other_content_or_another_path_runs_what_reads_it_again_and_not_a_pruning_ranked_over_another(folder):
    from nemo_distill.data.declared import _found

    before, ranked_over_it = placed("prune.calibration=sft-general"), placed()
    assert before["prune"].fingerprint != ranked_over_it["prune"].fingerprint
    (folder / "data" / "tickets" / "b.jsonl").write_bytes((folder / "data" / "tickets" / "a.jsonl").read_bytes())
    _found.cache_clear()
    after = placed("prune.calibration=sft-general")
    assert ranked_over_it["prune"].fingerprint != placed()["prune"].fingerprint
    changed = {name.partition("-")[0] for name in before if before[name].fingerprint != after[name].fingerprint}
    assert {"prepare", "index", "distill", "contamination"} < changed and not {"prune", "import", "world"} & changed
    moved = placed("blend.sources.tickets.path=data/tickets/a.jsonl")
    assert moved["prepare"].config["sources"][2]["path"] == str(folder / "data/tickets/a.jsonl")
    assert moved["prepare"].fingerprint not in (before["prepare"].fingerprint, after["prepare"].fingerprint)


def test_the_debug_world_is_made_where_it_is_read_and_nowhere_else(folder):
    assert "world" in placed()
    notes = Blend.of("own", (Source(name="notes", path="data/notes.jsonl"), 100, "all"))
    recipe = Recipe.of("own", Settings(blend=notes), get_scale("debug"))
    steps = {step.name: step for step in steps_of(recipe)[0]}
    assert "world" not in steps and not [step for step in steps.values() if "world" in step.upstream]


def nemo_run(*words: str) -> tuple[int, str]:
    command = [sys.executable, "-W", "ignore", "-m", "nemo_distill.cli", "recipes/mine.py", "--dryrun", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_preview_says_what_is_known_of_them_and_what_cannot_be_is_refused_with_nothing_written(folder):
    code, said = nemo_run()
    assert code == 0, said
    assert "tickets 50 own ~0.3M" in said and "notes 20 own ?" in said
    assert "Epochs of notes, stem are known once prepare has counted the tokens." in said
    assert "same content" not in said
    (folder / "data" / "copy.jsonl").write_bytes((folder / "data" / "notes.jsonl").read_bytes())
    code, said = nemo_run("blend.sources.tickets.path=data/copy.jsonl", "blend.sources.tickets.field=text")
    assert code == 0 and "! notes and tickets are sources of the same content, which counts in each." in said
    code, said = nemo_run("blend.sources.tickets.path=data/tickest")
    assert code == 2 and "data has no 'tickest'. Did you mean 'tickets'?" in said
    assert not (folder / "runs").exists() and "Traceback" not in said
    (folder / "recipes" / "mine.py").write_text(RECIPE.replace('field="messages"', 'field="chat"'))
    code, said = nemo_run()
    assert code == 2 and "source 'tickets' has the field 'chat'" in said and "Traceback" not in said
