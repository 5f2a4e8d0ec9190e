"""Hints lead to what was meant, or are silent."""

import dataclasses

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.hints import ALIASES, hint_for
from nemo_distill.config.overrides import names
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Distill, Settings
from nemo_distill.errors import UserError, nearest
from nemo_distill.launch.slurm.executor import SlurmExecutor

BLEND = Blend("b", {"stem": 60, "sft-code": 40}, provenance={"stem": "a guess", "sft-code": "the rest"})
SETTINGS = Settings(blend=BLEND)
KNOWN = names({field.name: getattr(SETTINGS, field.name) for field in dataclasses.fields(Settings)})
EXECUTOR = names({"executor": SlurmExecutor()})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lr", "Did you mean 'distill.learning_rate'?"),
        ("distill.lr", "Did you mean 'distill.learning_rate'?"),
        ("learning_rate", "Did you mean 'distill.learning_rate'?"),
        ("distil.learning_rate", "Did you mean 'distill.learning_rate'?"),
        ("Distill.Learning-Rate", "Did you mean 'distill.learning_rate'?"),
        ("distill.learning_rat", "Did you mean 'distill.learning_rate'?"),
        ("distill.batch_size", "Did you mean 'distill.global_batch_size'?"),
        ("distill.teacher", "Did you mean 'teacher'?"),
        ("model", "Did you mean 'teacher'?"),
        ("tp", "Did you mean 'layout.tensor_parallel'?"),
        ("layout.gpus", "Did you mean 'layout.gpus_per_node'?"),
        ("wandb", "Did you mean 'track'?"),
        ("blend.share.stem", "Did you mean 'blend.shares.stem'?"),
        ("weights", "Did you mean 'blend.shares.SOURCE'?"),
        ("account", "Did you mean 'executor.account'?"),
        ("name", "--name names a run."),
        ("epochs", "How often a source repeats follows from its share and from distill.milestones: --dryrun shows it."),
    ],
)
def test_a_setting_that_there_is_not_leads_to_the_one_that_was_meant(key, hint):
    assert hint_for(key, KNOWN) == hint


def test_where_none_is_near_names_of_the_same_group_are_listed_and_none_of_another():
    for key, group in (("health.off", "health"), ("evaluate.limit", "evaluate"), ("distill.foo", "distill")):
        listed = hint_for(key, KNOWN).removeprefix("Known: ").removesuffix(".").split(", ")
        assert len(listed) > 5 and all(name.startswith(f"'{group}.") for name in listed)
    assert hint_for("foo", KNOWN).startswith("Settings begin with blend, distill, ")
    assert "provenance" not in " ".join(
        hint_for(key, KNOWN) for key in ("foo", "stem.foo", "blend.foo", "stem", "guess")
    )


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("executor.acount", "Did you mean 'executor.account'?"),
        ("executor.walltime", "Did you mean 'executor.time'?"),
        ("executor.image", "Did you mean 'executor.container_image'?"),
        ("executor.num_nodes", "Did you mean 'layout.nodes'?"),
        ("executor.tunel.host", "Did you mean 'executor.tunnel.host'?"),
        ("executor.qqq", ""),  # of forty, none is near
    ],
)
def test_of_the_executor_too(key, hint):
    assert hint_for(key, EXECUTOR) == hint


def test_what_aliases_stand_for_is_there():
    assert {name for name in ALIASES if name != "blend.shares"} <= {*KNOWN, *EXECUTOR, "executor.parallel_steps"}
    aliases = [alias for several in ALIASES.values() for alias in several]
    assert len(aliases) == len(set(aliases))


def test_what_only_looks_alike_is_not_meant():
    for word, options in (
        ("limit", ["suite"]),
        ("compare", ["card", "cancel"]),
        ("clean", ["cancel"]),
        ("on", ["none"]),
    ):
        assert nearest(word, options).startswith("Known: ")


def milestones(written: Distill, said: Distill, scale="full") -> list[int]:
    made = Recipe.of(
        "r", Settings(blend=BLEND, distill=said), get_scale(scale), written=Settings(blend=BLEND, distill=written)
    )
    return [milestone.iteration for milestone in made.milestones]


def test_a_milestone_may_be_called_as_the_tables_call_it():
    written = Distill(milestones={"full": (400, 12_750)})
    assert milestones(written, Distill(milestones=("2.5B", "80B"))) == [400, 12_750]  # the recipe's own 80B
    assert milestones(Distill(), Distill(milestones=("5B", "80B"))) == [800, 12_800]  # the scale's
    assert milestones(Distill(), Distill(milestones=("0.3M",)), "debug") == [75]
    exact = Distill(milestones=("0.4096M",))
    assert milestones(Distill(), exact, "debug") == [100]
    for label, scale in (("70B", "full"), ("80B", "debug")):
        with pytest.raises(UserError, match=f"{label} tokens .* the nearest is"):
            milestones(Distill(), Distill(milestones=(label,)), scale)


def test_a_schedule_that_ends_before_the_table_does_leaves_its_labels_out():
    said = Distill(milestones=("2.5B",), max_iterations=500)
    assert milestones(Distill(), said) == [400]
