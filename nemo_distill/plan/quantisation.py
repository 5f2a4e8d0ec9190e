"""What quantising makes of a student: which matrices become smaller, which are padded to be multiplied, and the bytes.

>>> from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
>>> f"{bytes_of(NANO_7B_PRUNED, 'none') / GIB:.1f} -> {bytes_of(NANO_7B_PRUNED, 'fp8') / GIB:.1f} GiB"
'13.0 -> 7.8 GiB'
>>> padded_in_words(NANO_7B_PRUNED, "fp8", "aggressive")
'Mamba in_proj from 21,368 x 4,352 to 21,376 x 4,352'
>>> padded_in_words(NANO_9B_V2, "fp8", "aggressive")
''

The study measured 13.1 and 7.8 GiB of the same model in vLLM. What is quantised is decided by ModelOpt's configs for
hybrids with Mamba layers; the study's, `aggressive`, is that of NVIDIA-Nemotron-Nano-9B-v2-FP8.
"""

from dataclasses import dataclass

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import Scale
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.cost import GIB
from nemo_distill.plan.flops import BF16
from nemo_distill.plan.gpus import get_gpu

KINDS = {"aggressive": "M-", "conservative": "-"}
"""Kinds of layers, by their letters in `Shape.pattern`, whose matrices a recipe of `settings.QUANTISE_RECIPES`
quantises. (modelopt.torch.quantization: MAMBA_MOE_FP8_AGGRESSIVE_CFG and its like)"""
MULTIPLE = 16
"""Number of which both sides of a matrix are a multiple to CUTLASS's FP8 kernel, and the inputs of one in NVFP4 that
share a scale. (vllm/_custom_ops.py, `cutlass_scaled_mm`)"""
RANGE_LENGTH = 512
"""Tokens, at most, of a sequence over which ranges of inputs are taken, as in ModelOpt's hf_ptq.py."""
BYTES = {"none": float(BF16), "fp8": 1.0, "nvfp4": 0.5 + 1 / MULTIPLE}
"""Bytes of a weight by format, scales of blocks included."""
TITLES = {"none": "bf16", "fp8": "FP8", "nvfp4": "NVFP4"}
"""What sentences call a format."""
KEPT = {
    "aggressive": "attention, convolution, norms, embedding and output layer",
    "conservative": "attention, all of Mamba, norms, embedding and output layer",
}
"""What stays as it is, in words."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix of every layer of a kind."""

    title: str
    """What sentences call it."""
    kind: str
    """The layer's letter in `Shape.pattern`."""
    rows: int
    """Outputs."""
    columns: int
    """Inputs."""

    def fits(self, format: str) -> bool:
        """Whether it can be in that format: one in NVFP4 has inputs in whole blocks, one in FP8 is padded."""
        return format != "nvfp4" or self.columns % MULTIPLE == 0

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns as the FP8 kernel takes it."""
        return _up(self.rows), _up(self.columns)


def matrices(shape: Shape, recipe: str) -> list[Matrix]:
    """The matrices that `recipe` quantises, of one layer of each kind there is."""
    h, inner, ffn = shape.hidden_size, shape.mamba_inner_size, shape.ffn_hidden_size
    found = [
        Matrix(title="Mamba in_proj", kind="M", rows=shape.mamba_in_proj_size, columns=h),
        Matrix(title="Mamba out_proj", kind="M", rows=h, columns=inner),
        Matrix(title="MLP up_proj", kind="-", rows=ffn, columns=h),
        Matrix(title="MLP down_proj", kind="-", rows=h, columns=ffn),
    ]
    return [one for one in found if one.kind in KINDS[recipe] and one.kind in shape.pattern]


def bytes_of(shape: Shape, format: str, recipe: str = "aggressive") -> float:
    """Bytes of the weights of a model of `shape` in that format."""
    small = sum(
        one.rows * one.columns * shape.pattern.count(one.kind) for one in matrices(shape, recipe) if one.fits(format)
    )
    return BF16 * (shape.parameters() - small) + BYTES[format] * small


def padded_in_words(shape: Shape, format: str, recipe: str) -> str:
    """Which matrices a server pads since the kernel takes multiples of 16; empty where all fit, or for NVFP4."""
    if format != "fp8":
        return ""
    odd = [one for one in matrices(shape, recipe) if one.padded != (one.rows, one.columns)]
    return _listed(
        [f"{one.title} from {one.rows:,} x {one.columns:,} to {one.padded[0]:,} x {one.padded[1]:,}" for one in odd]
    )


def in_words(shape: Shape, format: str, recipe: str) -> list[str]:
    """What the format makes of a student of `shape`, a sentence each."""
    before, after = (bytes_of(shape, one, recipe) / GIB for one in ("none", format))
    quantised = _listed([one.title for one in matrices(shape, recipe) if one.fits(format)]) or "nothing"
    size = "GiB" if before >= 0.1 else "MiB"
    before, after = (value * (1 if size == "GiB" else 1024) for value in (before, after))
    said = [
        f"Quantised to {TITLES[format]}: {quantised}. {KEPT[recipe].capitalize()} stay as they are. "
        f"{before:.1f} {size} of weights in bf16 become {after:.1f}."
    ]
    if padded := padded_in_words(shape, format, recipe):
        said.append(
            f"FP8 kernels take multiples of {MULTIPLE}, so that vLLM pads as it loads: {padded}. The checkpoint is "
            "not padded; releases of vLLM that do not pad multiply such a matrix by a slower kernel."
        )
    if unfit := [one for one in matrices(shape, recipe) if not one.fits(format)]:
        listed = _listed([f"{one.title} ({one.columns:,} inputs)" for one in unfit])
        said.append(f"A block of NVFP4 is {MULTIPLE} inputs: {listed} stays as it is.")
    if format == "nvfp4":
        said.append("Hopper (H100, H200) has no FP4: this checkpoint is for Blackwell, and is not evaluated here.")
    return said


def range_length(scale: Scale) -> int:
    """Tokens of a sequence over which ranges of inputs are taken."""
    return min(RANGE_LENGTH, scale.calibration_seq_length)


def quantising_in_words(recipe: Recipe, student: Shape | None) -> list[str]:
    """What a preview says of it; nothing where nothing is quantised."""
    asked = recipe.quantize
    if asked.format == "none":
        return []
    which = "every milestone" if asked.milestones == "all" else "the last milestone"
    over = " and ".join(source.name for source in recipe.calibration)
    head = f"Quantising: {which}, inputs ranged over {asked.calibration_sequences:,} sequences of {over}"
    said = in_words(student, asked.format, asked.recipe) if student else []
    if asked.format == "fp8" and recipe.layout.gpu and not get_gpu(recipe.layout.gpu).ability.has_fp8:
        said.append(f"The {recipe.layout.gpu} has no FP8: this checkpoint is served on Ada, Hopper or Blackwell.")
    return [head, *said]


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _up(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE
