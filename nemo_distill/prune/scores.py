"""What can rank the candidates of the pruning search: a name in `SCORES`, a function of a model each.

    score = SCORES["next_token_loss"](Material(held_out=tokens, tokenizer=folder, mmlu_fraction=0.1))
    score(module)                       # -1.87; higher is better

Adding a score is adding a function and its name here; `prune.score=NAME` takes it. No framework is imported before a
score is made, so that a preview can ask for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill.errors import UserError, nearest
from nemo_distill.prune.logits import last, predictions

if TYPE_CHECKING:
    import torch

MMLU, LETTERS = "cais/mmlu", "ABCD"
"""The data set's name on the hub, and what its choices are called."""
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
        losses, count = [], 0
        for logits, targets in predictions(module, material.held_out):  # a GPU is not waited for until the end
            losses.append(torch.nn.functional.cross_entropy(logits, targets, reduction="sum").double())
            count += len(targets)
        return -torch.stack(losses).sum().item() / count

    return score


def mmlu(material: Material) -> Score:
    """The study's score: MMLU, 0-1, over a fraction of its questions (needs the data set `cais/mmlu`).

    That of ModelOpt's `megatron_mmlu`, question by question: without examples, the answer is right where the first two
    tokens, of greatest probability each, begin with its letter, spaces aside. There each question is computed alone,
    and twice; here many are at once, and again only where the first token is a space.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(material.tokenizer)
    questions: list[Question] = []  # read once, for all candidates

    def score(module) -> float:
        questions.extend(() if questions else mmlu_questions(material.mmlu_fraction))
        answers = greedy(module, tokenizer, [question.prompt for question in questions])
        right = [answer.startswith(one.answer) for answer, one in zip(answers, questions, strict=True)]
        return sum(right) / len(right)

    return score


@dataclass(frozen=True)
class Question:
    """One of a benchmark whose answers are letters."""

    prompt: str
    """What is asked, up to the answer."""
    answer: str
    """Its letter."""


def mmlu_questions(fraction: float) -> list[Question]:
    """So large a part of each of MMLU's subjects, from its first question on, and one more, as ModelOpt takes them."""
    from datasets import get_dataset_config_names, load_dataset

    found = []
    for subject in sorted(set(get_dataset_config_names(MMLU)) - {"all", "auxiliary_train"}):
        rows = load_dataset(MMLU, subject, split="test")
        for number, row in enumerate(rows):
            if number > fraction * len(rows):
                break
            about = " ".join(row["subject"].split("_"))
            choices = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, row["choices"], strict=True))
            prompt = f"The following are multiple choice questions (with answers) about {about}.\n\n"
            found.append(Question(f"{prompt}{row['question']}{choices}\nAnswer:", LETTERS[row["answer"]]))
    return found


def greedy(module, tokenizer, prompts: Sequence[str]) -> list[str]:
    """What follows each prompt, without spaces around: a token of greatest probability, two where the first is none."""
    asked = [list(tokenizer(prompt).input_ids) for prompt in prompts]
    said = [[token] for token in last(module, asked).argmax(-1).tolist()]
    blank = [place for place, tokens in enumerate(said) if not tokenizer.decode(tokens).strip()]
    if blank:
        second = last(module, [asked[place] + said[place] for place in blank]).argmax(-1).tolist()
        for place, token in zip(blank, second, strict=True):
            said[place].append(token)
    return [tokenizer.decode(tokens).strip() for tokens in said]


SCORES: dict[str, Callable[[Material], Score]] = {
    "mmlu": mmlu,
    "next_token_loss": next_token_loss,
}
"""Every score by the name that `prune.score` takes."""


def find_score(name: str) -> Callable[[Material], Score]:
    """The score called `name`; raises `UserError` with the nearest name there is."""
    if name not in SCORES:
        raise UserError(f"there is no prune.score '{name}'. {nearest(name, SCORES)}")
    return SCORES[name]
