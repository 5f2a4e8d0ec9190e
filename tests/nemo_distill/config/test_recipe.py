"""A recipe leaves nothing open, and says which settings its scale's models cannot have."""

import dataclasses

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import SCALES, get_scale
from nemo_distill.config.settings import Distill, Prepare, Prune, Settings
from nemo_distill.errors import UserError

MAY_BE_NONE = {"parameters", "export_config", "tokens", "questions", "repeats", "max_new_tokens", "datasets", "gpu"}
"""Fields of a resolved part to which None means something."""


def recipe(scale: str, **settings) -> Recipe:
    return Recipe.of("test", Settings(blend=Blend("test", {"stem": 100}), **settings), get_scale(scale))


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_is_left_open(scale):
    made = recipe(scale)
    for part in ("prepare", "prune", "distill", "evaluate", "layout"):
        left = {name for name, value in dataclasses.asdict(getattr(made, part)).items() if value is None}
        assert left <= MAY_BE_NONE
    assert (made.prune.parameters is None) != (made.prune.export_config is None)


def test_what_is_given_displaces_the_scales_value_and_its_alternative():
    made = recipe("debug", distill=Distill(learning_rate=0.5), prune=Prune(export_config={"num_layers": 8}))
    assert made.distill.learning_rate == 0.5
    assert made.distill.seq_length == get_scale("debug").distill.seq_length
    assert made.prune.parameters is None and made.prune.export_config == {"num_layers": 8}


def test_milestones_by_scale_are_left_open_at_the_others():
    settings = Distill(milestones={"full": (400,)})
    assert recipe("full", distill=settings).distill.milestones == (400,)
    assert recipe("debug", distill=settings).distill.milestones == get_scale("debug").distill.milestones


def test_a_budget_is_a_number_of_tokens():
    assert recipe("debug", prepare=Prepare(tokens="0.4M")).prepare.tokens == 400_000


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Distill(fp8="both"), "distill.fp8=both needs Transformer Engine's layers, .* 'local': say distill.fp8=none"),
        (Distill(gradients="bfloat16"), "distill.gradients=bfloat16 needs parameters in bf16"),
    ],
)
def test_what_the_scales_models_cannot_have_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        recipe("debug", distill=settings)
