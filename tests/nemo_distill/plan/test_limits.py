"""Settings that cannot work with the teacher, and the nearest that do."""

import dataclasses
import itertools
import re

import pytest

from nemo_distill import families
from nemo_distill.config.blend import Blend
from nemo_distill.config.overrides import override
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import DEBUG, get_scale
from nemo_distill.config.settings import PRUNABLE, Distill, Evaluate, Prune, Settings
from nemo_distill.errors import UserError
from nemo_distill.make_teacher import SHAPE
from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.nemotron_h.shape import NANO_9B_V2
from nemo_distill.outcome.suites import Load, ask
from nemo_distill.plan.limits import check
from nemo_distill.plan.targets import pruning_in_words, smallest
from nemo_distill.prune.fp8_shapes import Alignment, check_alignable

TEACHERS = {"debug": SHAPE, "full": NANO_9B_V2}
SETTINGS = {"prune": Prune(), "distill": Distill(), "evaluate": Evaluate(), "seed": 1}


def recipe(words: str, scale: str) -> Recipe:
    chosen = override(SETTINGS, words.split())
    return Recipe.of("test", Settings(blend=Blend("test", {"stem": 100}), **chosen), get_scale(scale))


def refusal(words: str, scale: str = "debug", teacher=None) -> str:
    """What is said of the settings; empty where they can work."""
    try:
        asked = recipe(words, scale)
        load = Load("AIME", 30, 30, 1, asked.evaluate.max_new_tokens or 48, 0.0, 0.0)
        check(asked, teacher or TEACHERS[scale], [load], context=None)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("scale", "words", "sentence"),
    [
        ("debug", "seed=-1", "seed=-1 is none that numpy takes: 0 to 4294967295; the nearest is seed=0"),
        ("debug", "seed=4294967296", "the nearest is seed=4294967295"),
        ("debug", "evaluate.max_new_tokens=1000", "evaluate.max_new_tokens=1000 leaves no room for a question in a"),
        ("debug", "evaluate.max_new_tokens=213", "=213 leaves no room for a question in a context of 256 tokens"),
        ("debug", "prune.export_config={'mamba_num_heads':3}", "mamba_num_heads=3: ModelOpt takes multiples of 2 up"),
        ("debug", "prune.export_config={'num_attention_heads':3}", "num_attention_heads=3: ModelOpt takes multiples"),
        ("debug", "prune.export_config={'num_layers':0}", "num_layers=0: ModelOpt takes multiples of 1 up to the"),
        ("debug", "prune.export_config={'num_layers':2}", "num_layers=2 has no room for one layer of each kind"),
        ("debug", "prune.export_config={'hidden_size':256}", "hidden_size=256: ModelOpt takes multiples of 16 up to"),
        ("debug", "prune.export_config={'hidden_size':100}", "the nearest is 96"),
        ("debug", "prune.export_config={}", "prune.export_config={} names no size"),
        (
            "debug",
            "prune.export_config={'hidden_size':128}",
            "has the teacher's own sizes, so that the student would be",
        ),
        (
            "debug",
            "prune.parameters=0.0001",
            "prune.parameters=0.0001 asks for at most 108 parameters, and no candidate",
        ),
        ("debug", "prune.parameters=7", "prune.parameters=7 asks for at most 7 parameters"),
        (
            "debug",
            "prune.parameters=2e6",
            "is no less than the teacher's 1,083,016 parameters: nothing would be pruned",
        ),
        ("debug", "prune.parameters=1", "prune.parameters=1 is no less than the teacher's"),
        ("debug", "distill.seq_length=512", "distill.seq_length=512 is longer than the teacher's context"),
        (
            "debug",
            "distill.max_iterations=1000000000000",
            "is an order of 16,000,000,000,000 sequences, which is drawn",
        ),
        ("debug", "evaluate.repeats=1000000000", "asks every question so often that no evaluation ends; the most is"),
        ("debug", "prune.calibration_sequences=7", "leaves prune.score=next_token_loss no text: an eighth of them is"),
        (
            "debug",
            "prune.calibration_sequences=1000000",
            "more than the 140,991 that sft-general holds; the nearest is",
        ),
        (
            "debug",
            "distill.learning_rate=1e10",
            "weights are some hundredths: the nearest that trains is distill.",
        ),
        ("debug", "distill.learning_rate=1e-12", "is about how far each step of Adam moves every weight"),
        ("full", "prune.calibration_sequences=1000000000", "more than the 16,000,000,000 that sft-general holds; the"),
        ("full", "prune.export_config={'hidden_size':4300}", "hidden_size=4300: ModelOpt takes multiples of 256 up to"),
        ("full", "prune.export_config={'hidden_size':9999}", "the nearest is 4480"),
        ("full", "prune.export_config={'mamba_num_heads':123}", "multiples of 8 up to the teacher's 128; the nearest"),
        ("full", "prune.parameters=20e9", "prune.parameters=2e+10 is no less than the teacher's 8,888,227,328"),
        ("full", "prune.memory_mb=1000", "asks for at most 1,000 MB, and no candidate has fewer than 5,594 MB: the"),
        (
            "full",
            "prune.memory_mb=30000",
            "no less than the teacher's 17,086 MB (weights, cache and state of a sequence",
        ),
        ("full", "prune.parameters=1e9", "asks for at most 1,000,000,000 parameters, and no candidate has fewer than"),
    ],
)
def test_what_cannot_work_is_refused_with_the_nearest_that_does(scale, words, sentence):
    said = refusal(words, scale)
    assert sentence in said and said.endswith(".") and said.count("\n") == 0
    key, value = words.split("=", 1)
    if advised := re.findall(
        rf"{re.escape(key)}=(\{{.*?\}}|[\d.]+\d)", said.partition(";")[2] + said.partition(": ")[2]
    ):
        assert refusal(f"{key}={advised[-1]}".replace(" ", ""), scale) == ""
    elif near := re.search(r"the nearest (?:that has )?is (\d+)", said):
        name = next(iter(eval(value)))
        nearest = refusal(f"{key}={{'{name}':{near[1]}}}", scale)
        assert nearest == "" or "the teacher's own sizes" in nearest


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("prune.max_width=0", "=0 has to lie from 0.01 to 1, the share of the choices that the search may go"),
        ("prune.max_depth=1.5", "the nearest is prune.max_depth=1, and prune.skip leaves a size alone"),
        ("prune.max_width=nan", "prune.max_width=nan cannot be: it has to be a finite number"),
        ("prune.skip=hidden", "prune.skip cannot have 'hidden'. Did you mean 'hidden_size'"),
        ("prune.divisors={'hidden_size':0}", "prune.divisors hidden_size=0 has to be above 0; the nearest is"),
        ("prune.divisors={'heads':2}", "prune.divisors cannot have 'heads'. "),
        ("prune.divisors={'hidden_size':129}", "is above the teacher's 128, so that there is nothing smaller"),
        ("prune.memory_batch_size=8", "prune.memory_batch_size says what prune.memory_mb is of, and there is none"),
        ("prune.memory_mb=3 prune.memory_precision=int4", "prune.memory_precision cannot be 'int4'. Known: 'bf16', "),
        ("prune.memory_mb=3 prune.export_config={'hidden_size':96}", "prune.memory_mb is of a search, and prune.exp"),
        ("prune.calibration=sft-genral", "prune.calibration=sft-genral is no source. Did you mean 'sft-gen"),
    ],
)
def test_settings_of_the_search_that_stand_for_nothing_are_refused(words, sentence):
    assert sentence in refusal(words)


def test_an_aligned_student_that_no_search_can_find_is_refused_and_one_that_it_can_is_not():
    studys = Alignment(multiple=16, tensor_parallel=8)
    check_alignable(NANO_9B_V2, recipe("", "full").prune, studys)
    with pytest.raises(UserError, match=r"no candidate has all matrices in multiples of 4096 .* hidden size 4,480 is"):
        check_alignable(NANO_9B_V2, recipe("", "full").prune, Alignment(multiple=4096, tensor_parallel=8))
    with pytest.raises(UserError, match="prune.chip_friendly=require: no candidate has all matrices in multiples of 1"):
        check_alignable(SHAPE, recipe("", "debug").prune, Alignment(multiple=16, tensor_parallel=1))


def test_limits_of_the_search_say_what_it_reaches_and_what_it_cannot():
    assert "and no candidate has fewer than" in refusal("prune.parameters=0.3")
    assert refusal("prune.parameters=0.3 prune.max_width=0.8 prune.max_depth=0.5") == ""
    said = refusal("prune.parameters=0.75 prune.skip=hidden_size,num_layers,ffn_hidden_size")
    assert "and nothing of hidden_size, num_layers, ffn_hidden_size (prune.skip); the nearest is" in said
    everything = ",".join(PRUNABLE)
    assert "leaves the search nothing but the teacher" in refusal(f"prune.skip={everything}")
    assert "is of a search, and prune.export_config names the sizes: say one" in refusal(
        "prune.max_width=0.5 prune.export_config={'hidden_size':96}"
    )
    assert refusal("prune.divisors={'hidden_size':32} prune.export_config={'hidden_size':112}") != ""
    assert refusal("prune.export_config={'hidden_size':112}") == ""


def test_the_preview_says_what_is_searched_and_over_which_text_it_is_ranked():
    asked = recipe("prune.max_depth=0.5 prune.skip=() prune.calibration=stem", "debug")
    said, _ = pruning_in_words(asked, SHAPE)
    assert re.fullmatch(r"Pruning: a search among [\d,]+ candidates of num_layers 5 to 8, .*; ranked over stem", said)
    assert "num_attention_heads" not in said, "of two choices the limit leaves one"
    full, within = pruning_in_words(recipe("", "full"), NANO_9B_V2)
    assert full.startswith("Pruning: a search among 17,472 candidates of num_layers ")
    assert full.endswith("; num_attention_heads as the teacher's; ranked over sft-general")
    assert re.search(
        r"leaves: 15,890 to 16,385 to prune.parameters=7e\+09. The teacher has 8,888,227,328 param", within
    )
    bounded = recipe("prune.parameters=7e9 prune.memory_mb=14000 prune.memory_batch_size=8", "full")
    _, within = pruning_in_words(bounded, NANO_9B_V2)
    assert re.search(r" to prune.memory_mb=14000, .* to both; the tightest is prune.memory_mb=14000. The", within)
    assert "MB (weights, cache and state of 8 sequences of 4,096 tokens in bf16)" in within
    sizes = recipe("prune.export_config={'hidden_size':96}", "debug")
    assert pruning_in_words(sizes, SHAPE) == ["Pruning: to hidden_size 96, ranked over sft-general"]


def test_a_bound_on_memory_takes_the_place_of_the_scale_s_on_parameters_unless_both_are_said():
    assert recipe("prune.memory_mb=14000", "full").prune.parameters is None
    assert recipe("prune.memory_mb=14000 prune.parameters=7e9", "full").prune.parameters == 7e9
    assert recipe("", "full").prune.parameters == 7e9


@pytest.mark.parametrize("scale", TEACHERS)
def test_what_a_scale_says_itself_can_work(scale):
    assert refusal("", scale) == ""


def test_the_suite_of_a_scale_fits_the_context_of_its_teacher_and_not_of_one_with_less():
    full = recipe("", "full")
    asked = ask(full.evaluate)
    check(full, NANO_9B_V2, asked.loads, context=asked.context)
    small = PUBLISHED["nvidia/Nemotron-H-8B-Base-8K"]
    with pytest.raises(
        UserError, match=r"evaluate.suite=study has benchmarks .* of 8,192 tokens .*: .* \(8,192\)\. Take"
    ):
        check(full, small, asked.loads, context=asked.context)
    with pytest.raises(UserError, match=r"evaluate.suite=study, with 32,768 new tokens in .* of 8,192 tokens"):
        check(full, small, [load for load in asked.loads if not load.own_limit], context=asked.context)
    check(full, small, ask(recipe("evaluate.suite=offline", "full").evaluate).loads, context=None)


def test_the_smallest_student_is_the_smallest_of_all_that_the_search_can_list():
    """Against every candidate of a small grid, and every set of layers that may be left."""
    shape = dataclasses.replace(SHAPE, pattern="M-M*-")
    divisors = dict(DEBUG.divisors) | {"hidden_size_divisor": 32, "ffn_hidden_size_divisor": 128}
    choices = families.of(shape).choices(shape, divisors)
    layers, widths = choices.pop("num_layers"), {k: v for k, v in choices.items() if k != "num_attention_heads"}
    kept = {name: sorted(values)[int(0.6 * len(values)) :] for name, values in widths.items()}
    counts: dict[tuple[int, ...], list[int]] = {}
    for sizes in itertools.product(*kept.values()):
        narrow = dataclasses.replace(shape, **dict(zip(kept, sizes)))
        for left in layers[int(0.8 * len(layers)) :]:
            patterns = itertools.combinations(shape.pattern, left)
            found = [dataclasses.replace(narrow, pattern="".join(pattern)).parameters() for pattern in patterns]
            counts[(*sizes, left)] = found
    least = min(min(found) for found in counts.values())
    sure = min(max(found) for found in counts.values())
    asked = dataclasses.replace(DEBUG.prune, divisors=divisors)
    assert smallest(shape, asked) == (least, sure)
    wider = dataclasses.replace(asked, max_width=0.8, max_depth=0.5, skip=("hidden_size",))
    assert smallest(shape, wider) != (least, sure), "limits are the recipe's"


def test_a_teacher_without_attention_is_refused():
    teacher = dataclasses.replace(SHAPE, pattern="M-M-M-M-")
    assert "(M-M-M-M-) have no attention layer among them" in refusal("", teacher=teacher)


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_teacher_at_the_full_scale_is_pruned_to_the_studys_share(name):
    settings = Settings(blend=Blend("test", {"stem": 100}), teacher=name)
    chosen = Recipe.of("test", settings, get_scale("full"))
    own = name == get_scale("full").teacher
    assert chosen.prune.parameters == (7.0e9 if own else 0.7875)
    check(chosen, PUBLISHED[name], [], context=None)
