"""The sizes of everything: `full`, the study's; `debug`, the small world a laptop runs in minutes; `middle`, one GPU's.

A scale is data: which teacher, where the sources are read, and a value for every setting that a recipe leaves open.
No step asks which scale it is in.

>>> from nemo_distill.config.scale import get_scale
>>> get_scale("full").distill.max_iterations
16000
"""

import dataclasses
from dataclasses import dataclass, field

from nemo_distill.config.resolved import (
    Distillation,
    Evaluation,
    Parallelism,
    Preparation,
    Pruning,
    Quantization,
    ServingBench,
)
from nemo_distill.config.sources import SOURCES
from nemo_distill.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A value for everything that a recipe may leave open."""

    name: str
    """What `scale=` calls it."""
    teacher: str
    """Hugging Face checkpoint: a hub id, a folder, or `package:PATH` inside this package."""
    world: dict | None
    """Config of the step that makes the corpora (`steps.debug_world`); None: the hub has them."""
    precision: str
    """`32` or `bf16-mixed`."""
    layer_spec: str
    """`local` or `transformer_engine` (`nemotron_h.model.Runtime`)."""
    max_document_tokens: int
    """Longer documents are cut there."""
    calibration_source: str
    """The source whose text ranks the activations for pruning; the same for every blend."""
    calibration_seq_length: int
    """Tokens per calibration sequence."""
    mmlu_fraction: float
    """Part of MMLU that scores pruning candidates where `prune.score` is `mmlu`."""
    prepare: Preparation
    """How sources become tokens."""
    prune: Pruning
    """How the teacher becomes the student."""
    divisors: dict[str, int] = field(default_factory=dict)
    """Step of the pruning search along an axis (`pruning.Request`); ModelOpt's where not given."""
    distill: Distillation
    """How the student learns from the teacher."""
    weight_decay: float
    """Of Adam, in distillation."""
    clip_grad: float
    """Norm to which gradients are clipped."""
    save_interval: int
    """Iterations between the checkpoints within a segment that a cut segment resumes from."""
    evaluate: Evaluation
    """How every milestone is judged."""
    quantize: Quantization = Quantization()
    """What students are exported in besides their own precision."""
    serve_bench: ServingBench = ServingBench()
    """What is measured of checkpoints that are served."""
    layout: Parallelism
    """What the distillation is spread over."""
    teacher_made_by: str = ""
    """Command that makes the teacher, where it is not published."""
    student_share: float = 0.7875
    """Target of the search, as a share of the parameters, for another teacher than the scale's own: the study's, 7B of
    8.888B."""


FULL = Scale(
    name="full",
    teacher="nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    world=None,
    precision="bf16-mixed",
    layer_spec="transformer_engine",
    max_document_tokens=256_000,
    calibration_source="sft-general",
    calibration_seq_length=8192,
    mmlu_fraction=0.1,
    prepare=Preparation(reasoning="inline", max_malformed=0.01),
    prune=Pruning(
        parameters=7.0e9,
        score="mmlu",
        candidates=10,
        calibration_sequences=1024,
        chip_friendly="ignore",
        chip_multiple=16,
        tensor_parallel=8,
    ),
    distill=Distillation(
        milestones=(400, 800, 3_200, 6_400, 9_600, 12_800, 16_000),
        max_iterations=16_000,
        global_batch_size=768,
        micro_batch_size=4,
        seq_length=8192,
        learning_rate=1e-4,
        min_learning_rate=1e-5,
        warmup_iterations=100,
        fused_loss=True,
        fused_kernels=True,
        fp8="none",
        gradients="float32",
    ),
    weight_decay=0.1,
    clip_grad=1.0,
    save_interval=200,
    evaluate=Evaluation(suite="study", pruned="cheap"),
    layout=Parallelism(gpu="H100", nodes=96, gpus_per_node=8, tensor_parallel=8),
)
"""The study's shapes and sizes; the milestones are its 2.5B, 5B, 20B, 40B, 60B, 80B and 100B tokens."""

DEBUG = Scale(
    name="debug",
    teacher="package:debug/teacher",
    world={"seed": 1, "documents": dict.fromkeys(SOURCES, 4_000)},
    precision="32",
    layer_spec="local",
    max_document_tokens=256,
    calibration_source="sft-general",
    calibration_seq_length=256,
    mmlu_fraction=1.0,
    prepare=Preparation(reasoning="inline", max_malformed=0.01),
    prune=Pruning(
        parameters=0.75,
        score="next_token_loss",
        candidates=10,
        calibration_sequences=64,
        chip_friendly="ignore",
        chip_multiple=16,  # there is none: its Mamba layers have eight heads at most
        tensor_parallel=1,
    ),
    divisors={
        "hidden_size_divisor": 16,
        "ffn_hidden_size_divisor": 32,
        "mamba_head_dim_divisor": 4,
        "num_layers_divisor": 1,
    },
    distill=Distillation(
        milestones=(25, 75, 150),
        max_iterations=150,
        global_batch_size=16,
        micro_batch_size=16,
        seq_length=256,
        learning_rate=2e-3,
        min_learning_rate=1e-4,
        warmup_iterations=20,
        fused_loss=True,
        fused_kernels=True,
        fp8="none",
        gradients="float32",
    ),
    weight_decay=0.01,
    clip_grad=1.0,
    save_interval=50,
    evaluate=Evaluation(suite="offline"),
    quantize=Quantization(calibration_sequences=64),
    layout=Parallelism(),
)
"""A million parameters and 0.6M tokens: the whole run in minutes on two CPU cores."""

MIDDLE = dataclasses.replace(
    DEBUG,
    name="middle",
    teacher="teachers/middle",
    teacher_made_by="python -m nemo_distill.make_teacher --size middle",
    precision="bf16-mixed",
    layer_spec="transformer_engine",
    divisors={},
    distill=Distillation(
        milestones=(100, 200),
        max_iterations=200,
        global_batch_size=16,
        micro_batch_size=16,  # at this size launching kernels takes longer than running them
        seq_length=1024,
        learning_rate=3e-4,
        min_learning_rate=3e-5,
        warmup_iterations=20,
        fused_loss=True,
        fused_kernels=True,
        fp8="none",
        gradients="float32",
    ),
    weight_decay=0.1,
    layout=Parallelism(gpu="H100", nodes=1, gpus_per_node=1, tensor_parallel=1),
)
"""What one GPU distils in minutes: a teacher of 1B parameters with the study's layers and vocabulary, on the debug
world's text. `python -m nemo_distill.make_teacher --size middle` makes it."""

SCALES = {scale.name: scale for scale in (FULL, DEBUG, MIDDLE)}
"""Every scale by its name."""


def get_scale(name: str) -> Scale:
    """The scale called `name`; raises `UserError` with the nearest name there is."""
    if name not in SCALES:
        raise UserError(f"there is no scale '{name}'. {nearest(name, SCALES)}")
    return SCALES[name]
