"""What ranks pruned candidates."""

from pathlib import Path

import pytest
import torch

from nemo_distill.errors import UserError
from nemo_distill.prune.scores import BATCH_SIZE, Material, find_score

TOKENS = torch.randint(0, 11, (2 * BATCH_SIZE + 3, 7), generator=torch.Generator().manual_seed(0))


class Bigrams(torch.nn.Module):
    """Logits of the next token by the token before it, called as Megatron's models are."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(11, 11, generator=torch.Generator().manual_seed(1)))

    def forward(self, tokens, positions, mask):
        assert positions.shape == tokens.shape and mask is None
        return self.table[tokens]


def score(name: str) -> float:
    return find_score(name)(Material(held_out=TOKENS, tokenizer=Path("nowhere"), mmlu_fraction=1.0))(Bigrams())


def test_next_token_loss_is_the_mean_over_all_tokens_whatever_the_batches():
    logits = Bigrams().table[TOKENS[:, :-1]].double()
    chosen = torch.log_softmax(logits, dim=-1).gather(-1, TOKENS[:, 1:, None])
    assert score("next_token_loss") == pytest.approx(chosen.mean().item(), rel=1e-6)


def test_a_score_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match="no prune.score 'next_token_los'. Did you mean 'next_token_loss'"):
        find_score("next_token_los")
