"""A recipe leaves nothing open, and says which settings its scale's models cannot have."""

import dataclasses

import pytest

from nemo_distill.cli import main
from nemo_distill.config.blend import Blend
from nemo_distill.config.held_out import MOST_TOKENS, measuring, time_taken
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import SCALES, get_scale
from nemo_distill.config.settings import Distill, Prepare, Prune, Settings
from nemo_distill.config.sources import Source
from nemo_distill.errors import UserError
from nemo_distill.experiment import steps_of

MAY_BE_NONE = {
    "tasks",
    "parameters",
    "memory_mb",
    "evaluate",
    "vllm",
    "export_config",
    "calibration",
    "tokens",
    "questions",
    "repeats",
    "max_new_tokens",
    "datasets",
    "gpu",
    "held_out_every",
}
"""Fields of a resolved part to which None means something."""


def recipe(scale: str, **settings) -> Recipe:
    return Recipe.of("test", Settings(blend=Blend("test", {"stem": 100}), **settings), get_scale(scale))


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_is_left_open(scale):
    made = recipe(scale)
    for part in ("prepare", "prune", "distill", "evaluate", "quantize", "layout"):
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
    chosen = Distill(temperature=2.0, cross_entropy=0.1, intermediate_layers=(pair,))
    other = _distill_config(recipe("debug", distill=chosen))
    assert other["kd"]["temperature"] == 2.0 and other["intermediate_layers"] == [list(pair)]
    assert other["kd"]["cross_entropy"] == 0.1
    assert not {"cross_entropy", "per_token"} & set(study["kd"])
    assert _distill_config(recipe("debug", distill=Distill(loss_on="answers")))["kd"]["per_token"] is True


def test_activations_are_ranked_over_the_scales_source_or_the_one_that_is_named_or_all_of_a_blends_own(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"text": "A word."}\n')
    mine = Source(name="mine", path=str(tmp_path / "mine.jsonl"), field="text")

    def calibration(*shares, **chosen) -> dict:
        blend = Blend.of("test", *((source, share, "own") for source, share in shares))
        made = Recipe.of("test", Settings(blend=blend, prune=Prune(**chosen)), get_scale("full"))
        return next(step.config for step in steps_of(made)[0] if step.name == "prune")["calibration"]

    assert calibration(("stem", 100))["source"]["name"] == "sft-general"
    assert calibration(("stem", 100), calibration="stem")["source"]["name"] == "stem"
    assert calibration((mine, 60), ("stem", 40), calibration="mine")["source"]["path"] == str(tmp_path / "mine.jsonl")
    both = calibration((mine, 60), ("stem", 40))
    assert [source["name"] for source in both["sources"]] == ["mine", "stem"] and "source" not in both
    assert both == calibration((mine, 10), ("stem", 90)), "another share, and the same student"
    assert calibration((mine, 100))["source"]["name"] == "mine"


def test_what_the_pruning_search_goes_over_enters_a_config_only_where_it_is_not_the_study_s():
    def request(**chosen) -> dict:
        made = recipe("debug", prune=Prune(**chosen))
        return next(step.config for step in steps_of(made)[0] if step.name == "prune")["request"]

    study = request()
    assert not {"max_width", "max_depth", "skip"} & set(study) and study["divisors"] == get_scale("debug").divisors
    assert request(max_width=0.4, max_depth=0.2, skip=("num_attention_heads",)) == study
    other = request(max_width=0.5, max_depth=0.3, skip=(), divisors={"hidden_size": 32})
    assert (other["max_width"], other["max_depth"], other["skip"]) == (0.5, 0.3, [])
    assert other["divisors"] == get_scale("debug").divisors | {"hidden_size_divisor": 32}


def test_how_questions_are_looked_for_enters_a_config_only_where_it_is_said_otherwise():
    def config(**chosen) -> dict:
        made = recipe("debug", prepare=Prepare(**chosen))
        return next(step.config for step in steps_of(made)[0] if step.name == "contamination")

    assert not {"words", "boilerplate"} & set(config()) and config(ngram=13, boilerplate=0.01) == config()
    assert config(ngram=8, boilerplate=0.05) == config() | {"words": 8, "boilerplate": 0.05}
    with pytest.raises(UserError, match=r"prepare.ngram=8 and .* evaluate.suite=study brings none: say prepare.quest"):
        steps_of(recipe("full", prepare=Prepare(ngram=8)))


def test_what_is_held_out_enters_prepares_config_alone_and_only_where_something_is():
    off, on, often = (
        recipe("debug", prepare=Prepare(held_out=share), distill=Distill(held_out_every=every, held_out_time=0.1))
        for share, every in ((0.0, None), (0.01, None), (0.01, 50))
    )
    configs = [{step.name: step.config for step in steps_of(made)[0]} for made in (recipe("debug"), off, on, often)]
    assert configs[0] == configs[1] and configs[2] == configs[3]
    assert {name for name in configs[0] if configs[0][name] != configs[2][name]} == {"prepare"}
    assert configs[2]["prepare"] == configs[0]["prepare"] | {"held_out": 0.01}
    assert (off.measuring, often.measuring.every) == (None, 50)


@pytest.mark.parametrize("time", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("every", [None, 0, 10, 100])
def test_measuring_takes_no_more_of_the_time_than_it_may(time, every):
    for iterations, milestones, batch, sources in (
        (12_800, 7, 6_291_456, 12),
        (200, 2, 262_144, 3),
        (400, 3, 16_384, 9),
    ):
        run = {
            "iterations": iterations, "milestones": milestones, "tokens_per_iteration": batch, "sources": sources,
        }  # fmt: skip
        plan = measuring(**run, time=time, every=every)
        assert time / 200 < time_taken(plan, **run) <= time or plan.tokens == MOST_TOKENS
        assert every is None or plan.every == every


def _distill_config(made: Recipe) -> dict:
    steps, _ = steps_of(made)
    return next(step.config for step in steps if step.name.startswith("distill"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["prepare.held_out=2"],
            "prepare.held_out=2 is a share of the documents, from 0 to 0.5: prepare.held_out=0.001",
        ),
        (["prepare.held_out=-0.1"], "is a share of the documents, from 0 to 0.5"),
        (
            ["distill.held_out_every=5"],
            "measures documents that are held out, and none are: say prepare.held_out=0.001",
        ),
        (["prepare.held_out=0.01", "distill.held_out_every=-1"], "distill.held_out_every=-1 is a number of iterations"),
        (["prepare.held_out=0.01", "distill.held_out_time=2"], "distill.held_out_time=2 is a share of the time"),
        (
            ["prepare.held_out=0.01", "distill.held_out_every=1"],
            "128 are the least: say distill.held_out_time=0.257, or measure less",
        ),
        (["distill.temperature=0"], "distill.temperature=0.0 has to lie from 0.1 to 100."),
        (["distill.temperature=nan"], "distill.temperature=nan cannot be: it has to be a finite number."),
        (["distill.temperature=2", "distill.fused_loss=false"], "say distill.fused_loss=true"),
        (["distill.cross_entropy=1.5"], "distill.cross_entropy=1.5 is no share: it lies between 0 and 1"),
        (["distill.cross_entropy=nan"], "distill.cross_entropy=nan cannot be: it has to be a finite number."),
        (["distill.cross_entropy=0.1", "distill.fused_loss=false"], "is a part of our own loss, and the framework's"),
        (["prepare.ngram=2"], "prepare.ngram=2 has to be 3 to 50 words"),
        (["distill.learning_rate=inf"], "distill.learning_rate=inf cannot be: it has to be a finite number"),
        (["distill.milestones={'dbg': (25,)}"], "are given for a scale 'dbg'. Did you mean 'debug'"),
        (["distill.global_batch_size=1600000000"], "the nearest is distill.global_batch_size=6666666"),
        (["evaluate.datasets=/nowhere"], "evaluate.datasets=/nowhere: there is no such folder."),
        (["scale=middle"], "python -m nemo_distill.make_teacher --size middle makes it, and teacher=FOLDER names"),
        (["prepare.tokens=1"], "and a sequence has 256: the nearest is prepare.tokens="),
        (["runs="], "runs= names no folder: runs=runs is the usual one"),
        (["runs=s3://bucket/runs"], "runs=s3://bucket/runs is an address, and runs are kept in a folder"),
        (["runs=/proc/runs"], "runs='/proc/runs' cannot be made: /proc holds no files that stay."),
        (["prune.calibration="], "prune.calibration= is no source. "),
        (["prepare.boilerplate=0"], "prepare.boilerplate=0 has to be above 0 and up to 1"),
        (["distill.intermediate_layers=(('final', 'final'),)"], "cannot have ('final', 'final')"),
        (
            ["distill.intermediate_layers=decoder.final_norm"],
            "intermediate_layers[0]=decoder.final_norm cannot be: it has to be a list",
        ),
        (["distill.intermediate_layers=(('decoder.final_norm', 'decoder.layers.99'),)"], "the teacher's last layer is"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(words, sentence, capsys):
    assert main(["recipes/distill_v1v3.py", "--dryrun", *words]) == 2
    assert sentence in capsys.readouterr().err
