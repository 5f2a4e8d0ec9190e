"""What ranks pruned candidates."""

from pathlib import Path

import pytest
import torch

from nemo_distill.errors import UserError
from nemo_distill.prune import logits
from nemo_distill.prune.logits import BATCH_SIZE, last
from nemo_distill.prune.scores import Material, find_score

TOKENS = torch.randint(0, 11, (2 * BATCH_SIZE + 3, 7), generator=torch.Generator().manual_seed(0))


class Unembedding(torch.nn.Module):
    """Megatron's output layer: logits, and no bias."""

    def __init__(self, table: torch.nn.Parameter):
        super().__init__()
        self.table = table

    def forward(self, hidden):
        return hidden @ self.table, None


class Bigrams(torch.nn.Module):
    """Logits of the next token by the token before it, called as Megatron's models are."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(11, 11, generator=torch.Generator().manual_seed(1)))
        self.output_layer = Unembedding(self.table)

    def forward(self, tokens, positions, mask):
        assert positions.shape == tokens.shape and mask is None
        hidden = torch.nn.functional.one_hot(tokens, 11).float().transpose(0, 1)
        return self.output_layer(hidden)[0].transpose(0, 1)


def score(name: str) -> float:
    return find_score(name)(Material(held_out=TOKENS, tokenizer=Path("nowhere"), mmlu_fraction=1.0))(Bigrams())


def test_what_follows_sequences_of_any_lengths_is_found_in_their_order_however_they_are_put_together(monkeypatch):
    sequences = [row[: 1 + place % 7].tolist() for place, row in enumerate(TOKENS)]
    expected = Bigrams().table[[sequence[-1] for sequence in sequences]]
    for at_once in (1, 13, 10_000):
        monkeypatch.setattr(logits, "BATCH_TOKENS", at_once)
        torch.testing.assert_close(last(Bigrams(), sequences), expected)


def test_next_token_loss_is_the_mean_over_all_tokens_whatever_the_batches():
    logits = Bigrams().table[TOKENS[:, :-1]].double()
    chosen = torch.log_softmax(logits, dim=-1).gather(-1, TOKENS[:, 1:, None])
    assert score("next_token_loss") == pytest.approx(chosen.mean().item(), rel=1e-6)


def test_a_score_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UserError, match="no prune.score 'next_token_los'. Did you mean 'next_token_loss'"):
        find_score("next_token_los")
