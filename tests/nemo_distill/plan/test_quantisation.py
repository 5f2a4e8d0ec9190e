"""What a recipe makes of `quantize.*`: its steps, its preview, and what is refused."""

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.overrides import override
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Layout, Quantize, Settings
from nemo_distill.errors import UserError
from nemo_distill.experiment import steps_of
from nemo_distill.make_teacher import SHAPE
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.outcome.suites import ask
from nemo_distill.plan.limits import check
from nemo_distill.plan.quantisation import bytes_of, quantising_in_words
from nemo_distill.run.gpus import needs
from nemo_distill.run.step import place


def recipe(words: str, scale: str = "debug") -> Recipe:
    chosen = override({"quantize": Quantize(), "layout": Layout()}, words.split())
    return Recipe.of("test", Settings(blend=Blend("test", {"stem": 100}), **chosen), get_scale(scale))


def steps(words: str) -> dict:
    return {step.name: step for step in steps_of(recipe(words))[0]}


def test_the_last_milestone_is_quantised_and_evaluated_beside_itself():
    plain, found = steps(""), steps("quantize.format=fp8")
    assert found.keys() - plain.keys() == {"quantize-0.61M", "evaluate-0.61M-fp8"}
    assert all(found[name] == step for name, step in plain.items() if name != "report"), "what was there stays"
    asked = found["evaluate-0.61M-fp8"]
    assert found["quantize-0.61M"].upstream == ("export-0.61M", "world") and asked.upstream == ("quantize-0.61M",)
    assert asked.config == plain["evaluate-0.61M"].config | {"label": "0.61M-fp8", "checkpoint": "quantize-0.61M"}
    text = found["quantize-0.61M"].config["calibration"]
    assert text["sources"] == [plain["prune"].config["calibration"]["source"]] and text["seq_length"] == 256
    last = found["report"].config["checkpoints"][-1]
    assert (last["step"], last["role"], last["iteration"]) == ("evaluate-0.61M-fp8", "quantised", 150)


def test_where_there_are_gpus_quantising_takes_one(tmp_path):
    asked = recipe("quantize.format=fp8")
    found = [place(steps_of(asked)[0], runs=tmp_path)["quantize-0.61M"]]
    assert [needs(found, asked.layout, there=there) for there in (8, 0)] == [
        {"quantize-0.61M": 1},
        {"quantize-0.61M": 0},
    ]


def test_all_milestones_can_be_quantised_and_an_export_alone_is_asked_nothing():
    found = steps("quantize.format=fp8 quantize.milestones=all")
    assert {"quantize-0.1M", "quantize-0.3M", "quantize-0.61M", "evaluate-0.1M-fp8"} <= found.keys()
    for words in ("quantize.format=nvfp4", "quantize.format=fp8 quantize.evaluate=false"):
        found = steps(words)
        assert "quantize-0.61M" in found and not any(name.endswith(("fp8", "nvfp4")) for name in found)
        assert found["report"] == steps("")["report"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("quantize.format=fp9", r"quantize.format cannot be 'fp9'. .*'fp8'"),
        ("quantize.format=fp8 quantize.recipe=bold", "quantize.recipe cannot be 'bold'"),
        ("quantize.format=fp8 quantize.calibration_sequences=0", "quantize.calibration_sequences=0 has to be above 0"),
        (
            "quantize.recipe=conservative",
            "quantize.recipe says how a student is quantised, and none is: say quantize.format",
        ),
        ("quantize.format=nvfp4 quantize.evaluate=true", "Hopper has no FP4, nor the server on a CPU"),
        (
            "quantize.format=fp8 quantize.calibration_sequences=100000",
            "of 256 tokens are more than the 140,991 that sft-general holds; the nearest is quantize.calib",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(words, sentence):
    with pytest.raises(UserError, match=sentence):
        asked = recipe(words)
        check(asked, SHAPE, ask(asked.evaluate).loads, context=None)


def test_the_preview_says_of_the_studys_student_what_is_padded_and_the_bytes_it_measured():
    said = " ".join(quantising_in_words(recipe("quantize.format=fp8", "full"), NANO_7B_PRUNED))
    assert "inputs ranged over 512 sequences of sft-general" in said
    assert "Mamba in_proj from 21,368 x 4,352 to 21,376 x 4,352." in said, "and no other matrix"
    assert "13.0 GiB of weights in bf16 become 7.8." in said
    assert quantising_in_words(recipe("", "full"), NANO_7B_PRUNED) == []
    # Model loading memory of the study's table, in GiB: the teacher and the student, in bf16 and in FP8.
    measured = {(NANO_9B_V2, "none"): 16.6, (NANO_9B_V2, "fp8"): 9.6, (NANO_7B_PRUNED, "none"): 13.1,
                (NANO_7B_PRUNED, "fp8"): 7.8}  # fmt: skip
    for (shape, format), gib in measured.items():
        assert bytes_of(shape, format) / 2**30 == pytest.approx(gib, abs=0.1)


def test_the_preview_says_where_what_is_asked_for_cannot_be_served():
    student = NANO_7B_PRUNED
    assert (
        "The A100 has no FP8" in quantising_in_words(recipe("quantize.format=fp8 layout.gpu=A100", "full"), student)[-1]
    )
    assert "Hopper (H100, H200) has no FP4" in quantising_in_words(recipe("quantize.format=nvfp4", "full"), student)[-1]
