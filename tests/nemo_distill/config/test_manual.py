"""`--help` of a recipe: every setting with its meaning, type and value."""

import dataclasses
import re

import pytest

from nemo_distill.config import overrides
from nemo_distill.config.blend import Blend
from nemo_distill.config.manual import groups, of_executor
from nemo_distill.config.scale import SCALES
from nemo_distill.config.settings import Distill, Settings
from nemo_distill.launch.local.executor import LocalExecutor
from nemo_distill.launch.slurm.executor import SlurmExecutor

BLEND = Blend.of("b", ("stem", 60, "mine"), ("sft-code", 40, "mine"))


def entries(*own) -> dict:
    found = [*groups(*own), of_executor("local", LocalExecutor), of_executor("slurm", SlurmExecutor)]
    return {entry.key: entry for group in found for entry in group.entries}


def test_every_setting_that_the_command_takes_is_there_with_what_it_means_and_takes():
    settings = Settings(blend=BLEND)
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Settings)}
    known = {key for key in overrides.names(fields) if not key.startswith("blend.")}
    found = entries()
    assert known <= set(found) and "blend.shares.SOURCE" in found
    for key, entry in found.items():
        assert entry.kind, key
        assert entry.meaning.endswith(".") and "(`nemo_distill" not in entry.meaning, f"{key}: {entry.meaning!r}"


def test_a_value_is_the_scales_and_one_that_the_recipe_sets_is_the_recipes():
    found = entries()
    rates = {scale.name: f"{scale.name}: {scale.distill.learning_rate:g}" for scale in SCALES.values()}
    assert found["distill.learning_rate"].default == "; ".join(rates.values())
    assert found["seed"].default == "1234" and found["health.spikes"].default == "3"
    assert found["distill.milestones"].default.startswith("full: 400,800,3200")
    assert found["prune.chip_multiple"].default == "16"
    own = entries(Settings(blend=BLEND, seed=7, distill=Distill(learning_rate=5e-5)))
    assert own["distill.learning_rate"].default == "5e-05 in this recipe" and own["seed"].default == "7"
    assert own["blend.shares.SOURCE"].default == "stem 60, sft-code 40"


@pytest.mark.parametrize("width", [40, 80])
def test_help_is_within_the_terminal_and_one_group_can_be_asked_for(nemo_run, workplace, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = nemo_run("recipes/small.py", "--help")
    assert code == 0 and "--dryrun" in out and "Learning rate at the end of the warm-up." in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= width
    code, layout, _ = nemo_run("recipes/small.py", "--help", "layout")
    keys = re.findall(r"^  ([a-z.A-Z_]+)=", layout, flags=re.MULTILINE)
    assert code == 0 and keys and all(key.startswith("layout.") for key in keys) and layout in out
    text = " ".join(out.split())
    assert "executor.parallel_steps=whole number [2]" in text and "How the student learns from the teacher." in text
