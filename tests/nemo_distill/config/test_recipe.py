"""A recipe leaves nothing open, and says which settings its scale's models cannot have."""

import dataclasses

import pytest

from nemo_distill.cli import main
from nemo_distill.config.blend import Blend
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import SCALES, get_scale
from nemo_distill.config.settings import Distill, Prepare, Prune, Settings
from nemo_distill.errors import UserError
from nemo_distill.experiment import steps_of

MAY_BE_NONE = {
    "tasks",
    "parameters",
    "export_config",
    "tokens",
    "questions",
    "repeats",
    "max_new_tokens",
    "datasets",
    "gpu",
}
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


def test_what_the_loss_compares_can_be_set_and_enters_a_config_only_where_it_is_not_the_study_s():
    study = _distill_config(recipe("debug"))
    assert "temperature" not in study["kd"] and study["intermediate_layers"] == []
    pair = ("decoder.final_norm", "decoder.layers.3")
    other = _distill_config(recipe("debug", distill=Distill(temperature=2.0, intermediate_layers=(pair,))))
    assert other["kd"]["temperature"] == 2.0 and other["intermediate_layers"] == [list(pair)]


def _distill_config(made: Recipe) -> dict:
    steps, _ = steps_of(made)
    return next(step.config for step in steps if step.name.startswith("distill"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["distill.temperature=0"], "distill.temperature=0.0 has to lie from 0.1 to 100."),
        (["distill.temperature=nan"], "distill.temperature=nan has to lie from 0.1 to 100."),
        (["distill.temperature=2", "distill.fused_loss=false"], "say distill.fused_loss=true"),
        (["distill.intermediate_layers=(('final', 'final'),)"], "cannot have ('final', 'final')"),
        (
            ["distill.intermediate_layers=decoder.final_norm"],
            "intermediate_layers=decoder.final_norm cannot be",
        ),
        (["distill.intermediate_layers=(('decoder.final_norm', 'decoder.layers.99'),)"], "the teacher's last layer is"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_in_a_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["recipes/distill_v1v3.py", "--dryrun", *words])
    assert refused.value.code == 2 and sentence in capsys.readouterr().err
