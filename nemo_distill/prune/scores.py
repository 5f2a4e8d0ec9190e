"""What can rank the candidates of the pruning search: a name in `SCORES`, a function of a model each.

    score = SCORES["next_token_loss"](Material(held_out=tokens, tokenizer=folder, mmlu_fraction=0.1))
    score(module)                       # -1.87; higher is better

Adding a score is adding a function and its name here; `prune.score=NAME` takes it. No framework is imported before a
score is made, so that a preview can ask for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill.errors import UserError, nearest

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 8
"""Sequences that a model is given at once."""
Score = Callable[[Any], float]
"""Of a Megatron module; higher is better."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a score may be made of."""

    held_out: torch.Tensor
    """Token ids of calibration text that no activation was ranked over, (sequences, tokens)."""
    tokenizer: Path
    """Folder of the teacher's tokenizer."""
    mmlu_fraction: float
    """Share of MMLU's questions that are asked."""


def next_token_loss(material: Material) -> Score:
    """Minus the mean cross-entropy, in nats, of predicting the held-out text."""
    import torch

    def score(module) -> float:
        total, count = 0.0, 0
        for logits, targets in predictions(module, material.held_out):
            total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            count += len(targets)
        return -total / count

    return score


def mmlu(material: Material) -> Score:
    """The study's score: MMLU, 0-1, over a fraction of its questions (needs the data set `cais/mmlu`)."""
    from modelopt.torch.utils.plugins.megatron_mmlu import megatron_mmlu
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(material.tokenizer)
    return lambda module: megatron_mmlu(module, tokenizer, percentage=material.mmlu_fraction)


SCORES: dict[str, Callable[[Material], Score]] = {
    "mmlu": mmlu,
    "next_token_loss": next_token_loss,
}
"""Every score by the name that `prune.score` takes."""


def predictions(module, tokens: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Float32 logits and next tokens of all of `tokens` (sequences, tokens), some sequences at a time."""
    import torch

    device = next(module.parameters()).device
    with torch.no_grad():
        for batch in tokens.split(BATCH_SIZE):
            logits = module(batch.to(device), positions(batch).to(device), None)[:, :-1].float()
            yield logits.flatten(0, 1), batch[:, 1:].to(logits.device).flatten()


def find_score(name: str) -> Callable[[Material], Score]:
    """The score called `name`; raises `UserError` with the nearest name there is."""
    if name not in SCORES:
        raise UserError(f"there is no prune.score '{name}'. {nearest(name, SCORES)}")
    return SCORES[name]


def positions(tokens: torch.Tensor) -> torch.Tensor:
    """Position ids of a batch (sequences, tokens); Nemotron-H has no position embedding, Megatron wants them given."""
    import torch

    return torch.arange(tokens.shape[1]).expand_as(tokens)
