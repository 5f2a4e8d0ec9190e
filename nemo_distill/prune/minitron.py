"""Minitron pruning of a Nemotron-H, by ModelOpt's `mcore_minitron` (arXiv:2407.14679).

Activations over calibration tokens rank channels, heads and layers; then either the sizes are given (`export_config`)
or a grid search under a parameter target scores its ten largest candidates with a function of ours and keeps the best.
The ten largest that run whole in FP8 (`nemo_distill.prune.fp8_shapes`) are scored beside them, and may be what is kept.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modelopt.torch.prune as mtp
import torch
from modelopt.torch.prune.plugins.mcore_minitron import get_mcore_minitron_config
from torch import Tensor

from nemo_distill.config.settings import CHIP_FRIENDLY, PRUNABLE
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.prune.fp8_shapes import ChipFilter, resized
from nemo_distill.prune.search import MODE, register

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """How to prune."""

    export_config: dict[str, int] | None = None
    """Sizes after pruning, by the names in `settings.PRUNABLE`; what is not named stays. Excludes `parameters`."""
    parameters: float | None = None
    """Target of the search: at most this many parameters; up to 1.0 it is a fraction of the teacher's."""
    skip: tuple[str, ...] = ("num_attention_heads",)
    """What the search leaves alone; the study skips the attention heads."""
    max_width_pruning: float = 0.40
    """Largest part of the choices of a width that the search may go down (ModelOpt's and the study's default)."""
    max_depth_pruning: float = 0.20
    candidates: int = 10
    """How many candidates, the largest first, are scored."""
    divisors: dict[str, int] = field(default_factory=dict)
    """Step of the search along an axis, e.g. `hidden_size_divisor`; ModelOpt's defaults where not given."""
    chip_friendly: str = "ignore"
    """`report`: the best candidate that the chip likes is found and scored too; `require`: it becomes the student."""
    chip_multiple: int = 16
    tensor_parallel: int = 1
    """With `chip_multiple`, what the chip likes (`chip_shapes.ChipFilter`)."""

    def __post_init__(self):
        if self.chip_friendly not in CHIP_FRIENDLY:
            raise UserError(f"chip_friendly cannot be {self.chip_friendly!r}; choose from {', '.join(CHIP_FRIENDLY)}.")
        if (self.export_config is None) == (self.parameters is None):
            raise UserError("pruning needs either export_config or parameters, one of the two.")
        for name in (*(self.export_config or ()), *self.skip):
            if name not in PRUNABLE:
                raise UserError(f"{name!r} cannot be pruned; choose from {', '.join(PRUNABLE)}.")
        if self.parameters is not None and self.parameters <= 0:
            raise UserError(f"the parameter target must be positive, not {self.parameters}.")

    @property
    def chip_filter(self) -> ChipFilter:
        """What the chip likes."""
        return ChipFilter(multiple=self.chip_multiple, tensor_parallel=self.tensor_parallel)

    def parameter_target(self, shape: Shape) -> float:
        """The target as a number of parameters of a model of `shape`."""
        assert self.parameters is not None
        return self.parameters * shape.parameters() if self.parameters <= 1 else self.parameters


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the pruning chose, and what it chose from."""

    shape: Shape
    """The student's."""
    candidates: list[dict]
    """The scored candidates, best first; empty for an `export_config`. Of each: its sizes, `parameters`, `score`,
    `chosen`, `chip_friendly`, `misfits` (why not) and `largest` (of all under the target, and so ModelOpt's own)."""
    layer_scores: dict[int, float]
    """Importance of each layer of the teacher, numbered from 1: 1 - cosine of its input and output, higher is kept."""
    dropped_layers: list[int]
    """Numbers, from 1, of the teacher's layers that are gone."""


def prune(
    module,
    shape: Shape,
    request: Request,
    *,
    calibration: Tensor,
    score: Callable[[torch.nn.Module], float],
    state_file: Path,
    batch_size: int = 8,
) -> Result:
    """Prune Megatron's `module`, of `shape`, in place.

    `calibration` holds token ids, (sequences, tokens). `score` rates a candidate, higher is better. `state_file` keeps
    activations and scores, so that a search that was cut goes on where it stopped.
    """
    device = next(module.parameters()).device
    before = shape.parameters()

    def calibrate(m) -> None:
        for batch in calibration.split(batch_size):
            m(batch.to(device), positions(batch).to(device), None)

    config: dict[str, Any] = {"forward_loop": calibrate}
    if _loadable(state_file):
        logger.info("going on with the search kept in %s", state_file)
    if request.export_config is not None:
        _check_choice(request.export_config, shape)
        constraints: dict[str, Any] = {"export_config": dict(request.export_config)}
    else:
        constraints = {"params": request.parameter_target(shape)}
        config |= {
            "score_func": score,
            "top_k": request.candidates,
            "hparams_to_skip": list(request.skip),
            "max_width_pruning": request.max_width_pruning,
            "max_depth_pruning": request.max_depth_pruning,
            "scores_path": str(state_file),
            "shape": shape,
            "chip_filter": None if request.chip_friendly == "ignore" else request.chip_filter,
            "chip_required": request.chip_friendly == "require",
        }
    register()
    mode = [(MODE, get_mcore_minitron_config(**request.divisors))]
    try:
        _, state = mtp.prune(module, mode=mode, constraints=constraints, dummy_input=None, config=config)
    except AssertionError as error:
        if "No subnets found" in str(error):
            raise UserError(
                f"no candidate has at most {constraints['params'] / 1e6:.3f}M parameters; the teacher has "
                f"{before / 1e6:.3f}M. The search removes at most {request.max_width_pruning:.0%} of a width's choices "
                f"and {request.max_depth_pruning:.0%} of the layers: raise prune.parameters, or name the sizes with "
                "prune.export_config."
            ) from error
        raise
    ranked = list(state["sorted_layers"] or range(1, shape.num_layers + 1))
    kept = sorted(ranked[: module.config.num_layers])
    pattern = "".join(shape.pattern[number - 1] for number in kept)
    pruned = shape.pruned(pattern=pattern, config=module.config)
    searches = state["top_k_candidates_per_constraint"]
    largest = searches.get(constraints.get("params"), [])
    found = [*largest, *(c for other in searches.values() for c in other if c not in largest)]
    sizes = {name: getattr(module.config, name) for name in PRUNABLE}
    candidates = [
        {
            **c.ss_config,
            "parameters": int(c.params),
            "score": c.score,
            "chosen": c.ss_config.items() <= sizes.items(),
            "chip_friendly": not (misfits := request.chip_filter.misfits(resized(shape, c.ss_config, ranked))),
            "misfits": misfits,
            "largest": c in largest,
        }
        for c in sorted(found, key=lambda c: c.score, reverse=True)
    ]
    return Result(
        shape=pruned,
        candidates=candidates,
        layer_scores={number: float(value) for number, value in state["layer_scores"].items()},
        dropped_layers=sorted(set(range(1, shape.num_layers + 1)) - set(kept)),
    )


def next_token_loss(tokens: Tensor, *, batch_size: int = 8) -> Callable[[torch.nn.Module], float]:
    """A score: minus the mean cross-entropy, in nats, of predicting `tokens` (sequences, tokens)."""

    def score(module) -> float:
        total, count = 0.0, 0
        device = next(module.parameters()).device
        with torch.no_grad():
            for batch in tokens.split(batch_size):
                logits = module(batch.to(device), positions(batch).to(device), None)[:, :-1].float()
                targets = batch[:, 1:].to(logits.device)
                total += torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), targets.flatten(), reduction="sum"
                ).item()
                count += targets.numel()
        return -total / count

    return score


def mmlu(tokenizer_folder: Path, *, fraction: float) -> Callable[[torch.nn.Module], float]:
    """The study's score: MMLU, 0-1, over `fraction` of its questions (needs the data set `cais/mmlu`)."""
    from modelopt.torch.utils.plugins.megatron_mmlu import megatron_mmlu
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    return lambda module: megatron_mmlu(module, tokenizer, percentage=fraction)


def positions(tokens: Tensor) -> Tensor:
    """Position ids of a batch (sequences, tokens); Nemotron-H has no position embedding, Megatron wants them given."""
    return torch.arange(tokens.shape[1]).expand_as(tokens)


def _check_choice(sizes: dict[str, int], shape: Shape) -> None:
    full = shape.to_megatron()
    for name, value in sizes.items():
        if not isinstance(value, int) or not 0 < value <= full[name]:
            raise UserError(f"export_config {name}={value!r}: the teacher has {full[name]}; choose 1 to {full[name]}.")


def _loadable(state_file: Path) -> bool:
    """Whether a search can go on from `state_file`; one that a kill cut short is removed."""
    if not state_file.exists():
        return False
    try:
        torch.load(state_file, weights_only=False)
    except (RuntimeError, EOFError, OSError):
        logger.warning("%s was cut short; the search starts anew", state_file)
        state_file.unlink()
        return False
    return True
