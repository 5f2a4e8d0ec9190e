"""The cost model against what was measured."""

import dataclasses
from pathlib import Path

import pytest

from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.plan.calibration import Evidence, evidence, fit, held_out_errors, validation
from nemo_distill.plan.cost import CALIBRATED
from nemo_distill.plan.figures import BENCH, FIGURES, OURS_IN_FP8, STUDY, TWO_COPIES, TWO_GPUS
from nemo_distill.plan.gpus import GPUS, H100, H200

OTHER = PUBLISHED["nvidia/NVIDIA-Nemotron-Nano-12B-v2"]
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "preview.md"


def test_fitting_again_gives_the_rates_that_are_written_down():
    assert dataclasses.asdict(fit()) == pytest.approx(dataclasses.asdict(CALIBRATED), rel=2e-3)


def test_each_rate_is_fitted_to_one_figure_and_is_a_fraction():
    assert sorted(figure.fits for figure in FIGURES if figure.fits) == sorted(dataclasses.asdict(CALIBRATED))
    assert all(0 < rate < 1 for rate in dataclasses.asdict(CALIBRATED).values())


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if not figure.fits], ids=lambda figure: figure.what)
def test_a_figure_that_nothing_was_fitted_to_comes_out_near(figure):
    bound = {"ms": 0.03, "GiB": 0.02, "GPU-hours": 0.16}[figure.unit]
    if figure.what.startswith("two H200"):
        bound = 0.025 if figure.unit == "GiB" else 0.09 if "of it" in figure.what else 0.05
    assert abs(figure.error()) < bound


def test_the_error_that_the_preview_states_is_no_smaller_than_any_held_out_one():
    for figure in FIGURES:
        if not figure.fits and figure.job.gpu == H200:
            times, memory = held_out_errors(figure.job if figure.job.gpus > 1 else OURS_IN_FP8)
            assert abs(figure.error()) <= (memory if figure.unit == "GiB" else times)
    assert held_out_errors(STUDY) == (None, None), "it ran with the study's code"
    assert held_out_errors(dataclasses.replace(OURS_IN_FP8, teacher=OTHER)) == (None, None)


def test_the_guide_shows_the_validation_as_it_comes_out():
    assert validation() in GUIDE.read_text(encoding="utf-8")


def test_what_ran_is_measured_its_kind_otherwise_set_is_modelled_and_all_else_never_ran():
    def of(job, **changes) -> Evidence:
        return evidence(dataclasses.replace(job, **changes))

    assert {evidence(figure.job) for figure in FIGURES if figure.job != STUDY} == {Evidence.MEASURED}
    assert of(TWO_GPUS, fp8="both") == of(OURS_IN_FP8, micro_batch_size=2) == of(BENCH, gpu=H100) == Evidence.MODELLED
    assert of(OURS_IN_FP8, teacher=OTHER) == of(TWO_COPIES, gpus_per_node=8) == Evidence.MODELLED
    never = [
        evidence(STUDY),
        of(TWO_COPIES, nodes=2),
        of(TWO_GPUS, gpus_per_node=4),  # tensor and data parallel at once
        of(TWO_GPUS, gpu=H100),
        of(TWO_GPUS, gpus_per_node=4, tensor_parallel=4),
        of(TWO_GPUS, tensor_parallel=1, context_parallel=2),
        of(TWO_GPUS, gpus_per_node=1, nodes=2),
        *(of(OURS_IN_FP8, gpu=gpu) for gpu in GPUS.values() if gpu not in (H100, H200)),
    ]
    assert set(never) == {Evidence.NEVER_RUN}
