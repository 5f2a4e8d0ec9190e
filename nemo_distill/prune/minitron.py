"""Minitron pruning of a Nemotron-H, by ModelOpt's `mcore_minitron` (arXiv:2407.14679).

Activations over calibration tokens rank channels, heads and layers; then either the sizes are given (`export_config`)
or a grid search under a parameter target scores its ten largest candidates with a function of ours and keeps the best.
The ten largest that are FP8-aligned (`nemo_distill.prune.fp8_shapes`) can be scored as well, and one of them kept.
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

from nemo_distill import families
from nemo_distill.config.settings import BF16, CHIP_FRIENDLY, MAX_DEPTH, MAX_WIDTH, PRUNABLE, SKIP
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.candidates import layers_of
from nemo_distill.plan.limits import check_attention, check_pruning
from nemo_distill.plan.targets import bounds_of
from nemo_distill.prune.fp8_shapes import Alignment, resized
from nemo_distill.prune.logits import batches, hidden_states
from nemo_distill.prune.search import MODE, read_state, register

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """How to prune."""

    export_config: dict[str, int] | None = None
    """Sizes after pruning, by the names in `settings.PRUNABLE`; what is not named stays. Excludes targets."""
    parameters: float | None = None
    """Target of the search: at most this many parameters; up to 1.0 it is a fraction of the teacher's."""
    memory_mb: float | None = None
    """Target of the search: at most this many MiB to serve the student."""
    memory_seq_length: int = 4096
    """Tokens per sequence that `memory_mb` is of."""
    memory_batch_size: int = 1
    """Sequences at a time that `memory_mb` is of."""
    memory_precision: str = BF16
    """Precision of weights and cache that `memory_mb` is of."""
    candidates: int = 10
    """Number of candidates, the largest first, that are scored."""
    divisors: dict[str, int] = field(default_factory=dict)
    """Step of the search along an axis, e.g. `hidden_size_divisor`; ModelOpt's defaults where not given."""
    max_width: float = MAX_WIDTH
    """Largest share of the choices of a width, from 0 to 1, that the search goes down."""
    max_depth: float = MAX_DEPTH
    """Largest share of the choices of the number of layers, from 0 to 1, that the search goes down."""
    skip: tuple[str, ...] = SKIP
    """Sizes that the search leaves as the teacher's."""
    chip_friendly: str = "ignore"
    """`report`: the best FP8-aligned candidate is found and scored too; `require`: it becomes the student."""
    chip_multiple: int = 16
    """`Alignment.multiple`."""
    tensor_parallel: int = 1
    """`Alignment.tensor_parallel`."""

    def __post_init__(self):
        if self.chip_friendly not in CHIP_FRIENDLY:
            raise UserError(f"chip_friendly cannot be {self.chip_friendly!r}; choose from {', '.join(CHIP_FRIENDLY)}.")
        targets = (self.parameters, self.memory_mb)
        if (self.export_config is None) == (targets == (None, None)):
            raise UserError("pruning needs either export_config or a target, parameters or memory_mb.")
        for name in self.export_config or ():
            if name not in PRUNABLE:
                raise UserError(f"{name!r} cannot be pruned; choose from {', '.join(PRUNABLE)}.")
        for target in targets:
            if target is not None and target <= 0:
                raise UserError(f"the target of a search must be positive, not {target}.")

    @property
    def alignment(self) -> Alignment:
        """What makes a shape FP8-aligned."""
        return Alignment(multiple=self.chip_multiple, tensor_parallel=self.tensor_parallel)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the pruning chose, and what it chose from."""

    shape: Shape
    """The student's."""
    candidates: list[dict]
    """Scored candidates, best first; empty for an `export_config`. Of each: its sizes, `parameters`, `memory_mb` where
    that is bounded, `score`, `chosen`,
    `chip_friendly` (FP8-aligned), `misfits` (why not) and `largest` (of all under the target, so ModelOpt's own)."""
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
    say: Callable[[int, int, str], None] = lambda done, total, unit: None,
) -> Result:
    """Prune Megatron's `module`, of `shape`, in place.

    `calibration` holds token ids, (sequences, tokens). `score` rates a candidate, higher is better. `state_file` keeps
    activations and scores, so that a search that was cut goes on where it stopped. `say` is told how much of what is
    done: sequences ranked, candidates scored.
    """
    check_attention(shape)
    check_pruning(shape, request)
    device = next(module.parameters()).device

    def calibrate(m) -> None:
        done = 0
        for batch in batches(calibration):
            say(done, len(calibration), "sequences")
            hidden_states(m, batch.to(device))  # what ranks is looked at before the output layer
            done += len(batch)

    config: dict[str, Any] = {"forward_loop": calibrate}
    bounds = bounds_of(request, shape)
    if _loadable(state_file):
        logger.info("going on with the search kept in %s", state_file)
    if request.export_config is not None:
        constraints: dict[str, Any] = {"export_config": dict(request.export_config)}
    else:
        # To ModelOpt 0.43 every search is one for parameters.
        constraints = {"params": shape.parameters() if bounds.parameters is None else bounds.parameters}
        config |= {
            "score_func": score,
            "top_k": request.candidates,
            "max_width_pruning": request.max_width,
            "max_depth_pruning": request.max_depth,
            "hparams_to_skip": list(request.skip),
            "scores_path": str(state_file),
            "shape": shape,
            "bounds": bounds,
            "say": say,
            "alignment": None if request.chip_friendly == "ignore" else request.alignment,
            "aligned_only": request.chip_friendly == "require",
        }
    register()
    mode = [(MODE, get_mcore_minitron_config(**request.divisors))]
    _, state = mtp.prune(module, mode=mode, constraints=constraints, dummy_input=None, config=config)
    ranked = list(state["sorted_layers"] or range(1, shape.num_layers + 1))
    kept = sorted(ranked[: module.config.num_layers])
    pattern = "".join(shape.pattern[number - 1] for number in kept)
    if "*" not in pattern:
        raise UserError(no_attention_left(len(kept), shape, ranked, request))
    pruned = shape.pruned(pattern=pattern, config=module.config)
    found = state["top_k_candidates_per_constraint"].get(constraints.get("params"), [])
    largest = found[: request.candidates]
    sizes = {name: getattr(module.config, name) for name in PRUNABLE}

    def served(sizes: dict[str, int]) -> dict[str, float]:
        one = resized(shape, sizes, ranked)
        return {} if bounds.memory_mb is None else {"memory_mb": round(bounds.serving.mb(one, layers_of(one)), 3)}

    candidates = [
        {
            **c.ss_config,
            "parameters": int(c.params),
            **served(c.ss_config),
            "score": c.score,
            "chosen": c.ss_config.items() <= sizes.items(),
            "chip_friendly": not (misfits := request.alignment.misfits(resized(shape, c.ss_config, ranked))),
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


def no_attention_left(layers: int, teacher: Shape, ranked_layers: list[int], request: Request) -> str:
    """The sentence for a student that keeps none of the teacher's attention layers."""
    choices = families.of(teacher).choices(teacher, request.divisors)["num_layers"]
    first = next(place for place, number in enumerate(ranked_layers, 1) if teacher.pattern[number - 1] == "*")
    near = min(choice for choice in choices if choice >= first)
    return (
        f"with prune.export_config num_layers={layers} every attention layer is dropped, all of which rank below "
        f"{first - 1} others, and transformers generates nothing without one; the nearest that keeps one is {near}."
    )


def _loadable(state_file: Path) -> bool:
    """Whether a search can go on from `state_file`; one that a kill cut short is removed."""
    if not state_file.exists():
        return False
    try:
        read_state(state_file)
    except (RuntimeError, EOFError, OSError):
        logger.warning("%s was cut short; the search starts anew", state_file)
        state_file.unlink()
        return False
    return True
