"""Candidates counted at once, against each one counted by itself and against ModelOpt's figures."""

import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest

from nemo_distill import families
from nemo_distill.make_teacher import SHAPE
from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape
from nemo_distill.plan.candidates import Bounds, Candidates, Serving, cut, layers_of

STEPS = {"hidden_size_divisor": 32, "ffn_hidden_size_divisor": 64, "mamba_head_dim_divisor": 8, "num_layers_divisor": 1}
RANKED = [1, 8, 3, 6, 5, 2, 4, 7]


def axes_of(shape: Shape, divisors: dict, *, skip=("num_attention_heads",), max_depth=0.5) -> dict[str, list[int]]:
    return cut(families.of(shape).choices(shape, divisors), max_width=0.4, max_depth=max_depth, skip=skip)


@pytest.mark.parametrize(
    ("shape", "batch_size", "seq_length", "precision", "theirs"),
    [
        (NANO_9B_V2, 1, 4096, "bf16", 17086.3466796875),
        (NANO_7B_PRUNED, 1, 4096, "bf16", 13468.784545898438),
        (NANO_7B_PRUNED, 32, 131072, "bf16", 80734.12243652344),
        (NANO_7B_PRUNED, 8, 8192, "float32", 29667.463623046875),
        (PUBLISHED["nvidia/Nemotron-H-47B-Base-8K"], 4, 8192, "bf16", 91348.90185546875),
    ],
)
def test_the_memory_to_serve_a_model_is_that_of_modelopt_0_46(shape, batch_size, seq_length, precision, theirs):
    """Of its `mcore_memory_footprint_mb`, release 0.46.0rc2, which cannot be imported beside Megatron-Core 0.15."""
    serving = Serving(batch_size=batch_size, seq_length=seq_length, precision=precision)
    assert serving.mb(shape, layers_of(shape)) == pytest.approx(theirs, rel=1e-12)


def test_the_list_of_the_study_s_teacher_is_modelopt_0_46_s_of_all_17_472_candidates_within_two_bounds():
    """Sizes, parameters and order, by their digest, as release 0.46.0rc2 lists them at the same ranking of layers."""
    found = Candidates(NANO_9B_V2, axes_of(NANO_9B_V2, {}, max_depth=0.2))
    layers = found.kept(sorted(range(1, 57), key=lambda number: number * 23 % 57))
    bounds = Bounds(parameters=7.0e9, memory_mb=13_500, serving=Serving(seq_length=8192, batch_size=16))
    order, measured = found.order(bounds, layers), bounds.measured(found, layers)
    assert (found.count, len(order)) == (17_472, 10_851)
    listed = [[found.sizes(place), int(measured["parameters"][place])] for place in order]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    assert digest == "8cde86388868b4670d7034bef80ee7f571e0d8750ff332183579dc211350c86c"
    assert sum(round(measured["memory_mb"][place] * 2**20) for place in order) == 131_661_159_536_272


def test_in_fp8_weights_and_cache_are_halved_and_the_state_is_not():
    halved, whole = (Serving(seq_length=8192, precision=name).mb(SHAPE, layers_of(SHAPE)) for name in ("fp8", "bf16"))
    state = 3 * (256 * 16 + 3 * (256 + 2 * 2 * 16)) * 2 / 2**20
    assert halved - state == pytest.approx((whole - state) / 2)


@pytest.mark.parametrize("skip", [("num_attention_heads",), ("num_layers",), ("hidden_size", "mamba_head_dim")])
def test_every_candidate_has_what_it_has_by_itself_and_they_are_listed_as_one_by_one(skip):
    axes = axes_of(SHAPE, STEPS, skip=skip)
    serving = Serving(seq_length=512, batch_size=16)
    found = Candidates(SHAPE, axes)
    layers = found.kept(RANKED)
    everything = Bounds(parameters=0, memory_mb=0, serving=serving).measured(found, layers)
    listed = []
    for place, combination in enumerate(itertools.product(*axes.values())):
        sizes = dict(zip(axes, combination, strict=True))
        assert found.sizes(place) == sizes
        kept = sorted(RANKED[: sizes.get("num_layers", 8)])
        widths = {name: value for name, value in sizes.items() if name != "num_layers"}
        one = dataclasses.replace(SHAPE, pattern="".join(SHAPE.pattern[number - 1] for number in kept), **widths)
        listed.append((place, one.parameters(), serving.mb(one, layers_of(one))))
    assert len(listed) == found.count > 10
    assert [parameters for _, parameters, _ in listed] == everything["parameters"].tolist()
    assert [memory for _, _, memory in listed] == everything["memory_mb"].tolist()
    middle = {"parameters": np.median(everything["parameters"]), "memory_mb": np.median(everything["memory_mb"])}
    for bounds, by in (
        (Bounds(**middle, serving=serving), 1),
        (Bounds(memory_mb=middle["memory_mb"], serving=serving), 2),
        (Bounds(parameters=middle["parameters"]), 1),
    ):
        within = [one for one in listed if all(one[1 + (name == "memory_mb")] <= v for name, v in bounds.most.items())]
        ordered = [place for place, *_ in sorted(within, key=lambda one: one[by], reverse=True)]
        assert found.order(bounds, layers).tolist() == ordered and 0 < len(ordered) < found.count


def test_of_parameters_alone_counts_are_rounded_as_modelopt_0_43_rounds_them():
    """At 7B to 512: a candidate of 200 parameters more is within, and comes in the order of the grid."""
    found = Candidates(NANO_9B_V2, {"mamba_num_heads": [120, 128], "hidden_size": [4352, 4480]})
    layers = found.kept(range(1, 57))
    counts = Bounds(parameters=0).measured(found, layers)["parameters"]
    rounded = counts.astype(np.float32)
    place = int(np.flatnonzero(rounded.astype(np.float64) < counts)[0])
    assert place in found.order(Bounds(parameters=float(rounded[place])), layers)
    assert place not in found.order(Bounds(parameters=float(rounded[place]), memory_mb=1e9), layers)


def test_before_layers_are_ranked_a_candidate_has_from_least_to_most_of_every_set_of_layers():
    shape = dataclasses.replace(SHAPE, pattern="M-M*-")
    bounds = Bounds(parameters=0, memory_mb=0, serving=Serving(seq_length=4096, batch_size=8))
    found = Candidates(shape, axes_of(shape, STEPS))
    least, most = found.range_of(bounds)
    for name in bounds.most:
        every = [bounds.measured(found, found.kept(order))[name] for order in itertools.permutations(range(1, 6))]
        assert (np.min(every, axis=0) == least[name]).all() and (np.max(every, axis=0) == most[name]).all()
        assert (least[name] < most[name]).any()
