"""The catalogue: every data set that a blend may draw on, where it lies on the Hugging Face hub and how much it holds.

>>> from nemo_distill.config.sources import find
>>> source = find("science-mcq")
>>> source.where, source.field, source.tokens
('nvidia/Nemotron-Science-v1 / data/MCQ.jsonl', 'messages', 497000000)

Token counts are the study's, with the teacher's tokenizer, unless `tokens_from` says otherwise. Where a run reads a
source from, the hub or files at hand, is a matter of its scale (`nemo_distill.config.scale`); the names are the same at
every scale.
"""

from dataclasses import dataclass
from typing import Literal

from nemo_distill.errors import UserError, nearest

FIELDS = ("text", "messages")
"""What a row of a data set may hold."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set, or the part of one that is drawn on under one name."""

    name: str
    """What blends, files and reports call it."""
    dataset: str
    """Repository on the hub."""
    field: Literal["text", "messages"]
    """What a row holds: plain `text`, or chat `messages` with the assistant's `reasoning_content`."""
    tokens: int
    """Tokens available with the teacher's tokenizer, after the cap on samples."""
    tokens_from: str = "published"
    """Where that number comes from; what `prepare` counts takes its place."""
    subset: str | None = None
    """Configuration of the data set; None for its only one."""
    split: str | None = None
    """Split of the subset; None where `files` say what is read."""
    files: tuple[str, ...] = ()
    """Files within the repository; empty for all of the split."""
    samples: int | None = None
    """Rows taken at most; None for all of them."""

    def __post_init__(self):
        if not self.tokens > 0:
            raise UserError(f"source {self.name!r} holds {self.tokens} tokens: nothing can be drawn from it.")
        if self.field not in FIELDS:
            raise UserError(f"source {self.name!r} has the field {self.field!r}. {nearest(self.field, FIELDS)}")

    @property
    def where(self) -> str:
        """Repository, subset, split and files in one line."""
        return " / ".join(part for part in (self.dataset, self.subset, self.split, *self.files) if part)


_PRETRAINING_SFT = "nvidia/Nemotron-Pretraining-SFT-v1"
_MATH = "nvidia/Nemotron-Math-v2"
_COMPETITIVE = "nvidia/Nemotron-SFT-Competitive-Programming-v2"
_SCIENCE = "nvidia/Nemotron-Science-v1"
_INSTRUCTION = "nvidia/Nemotron-SFT-Instruction-Following-Chat-v2"
_M, _B = 10**6, 10**9

_CATALOGUE = (
    Source(
        name="sft-code",
        dataset=_PRETRAINING_SFT,
        subset="Nemotron-SFT-Code",
        split="train",
        field="text",
        samples=10 * _M,
        tokens=7 * _B,
    ),
    Source(
        name="sft-general",
        dataset=_PRETRAINING_SFT,
        subset="Nemotron-SFT-General",
        split="train",
        field="text",
        samples=10 * _M,
        tokens=16 * _B,
    ),
    Source(
        name="sft-math",
        dataset=_PRETRAINING_SFT,
        subset="Nemotron-SFT-MATH",
        split="train",
        field="text",
        samples=10 * _M,
        tokens=12 * _B,
    ),
    Source(name="math-v2-part00", dataset=_MATH, split="high_part00", field="messages", tokens=9 * _B),
    Source(name="math-v2-part01", dataset=_MATH, split="high_part01", field="messages", tokens=11 * _B),
    Source(
        name="competitive-python",
        dataset=_COMPETITIVE,
        files=("data/competitive_programming_python_00.jsonl",),
        field="messages",
        tokens=7 * _B,
    ),
    Source(
        name="competitive-cpp",
        dataset=_COMPETITIVE,
        files=("data/competitive_programming_cpp_00.jsonl",),
        field="messages",
        tokens=7 * _B,
    ),
    Source(
        name="exercism",
        dataset=_COMPETITIVE,
        files=("data/exercism.jsonl",),
        field="messages",
        tokens=120 * _M,
        tokens_from="estimated: 79,244 samples (data set card) of about 1,500 tokens, without reasoning",
    ),
    Source(
        name="text-to-sql",
        dataset=_COMPETITIVE,
        files=("data/text_to_sql.jsonl",),
        field="messages",
        tokens=190 * _M,
        tokens_from="estimated: 96,564 samples (data set card) of about 2,000 tokens, with reasoning",
    ),
    Source(
        name="stem",
        dataset="nvidia/Nemotron-Post-Training-Dataset-v1",
        subset="default",
        split="stem",
        field="messages",
        samples=5 * _M,  # about 60B tokens in full
        tokens=20 * _B,
    ),
    Source(name="science-mcq", dataset=_SCIENCE, files=("data/MCQ.jsonl",), field="messages", tokens=497 * _M),
    Source(name="science-rqa", dataset=_SCIENCE, files=("data/RQA.jsonl",), field="messages", tokens=278 * _M),
    Source(
        name="instruction-reasoning-on",
        dataset=_INSTRUCTION,
        files=("data/reasoning_on.jsonl",),
        field="messages",
        tokens=2 * _B,
    ),
    Source(
        name="instruction-reasoning-off",
        dataset=_INSTRUCTION,
        files=("data/reasoning_off.jsonl",),
        field="messages",
        tokens=1 * _B,
    ),
)

SOURCES = {source.name: source for source in _CATALOGUE}
"""Every source by its name."""
assert len(SOURCES) == len(_CATALOGUE)


def find(name: str) -> Source:
    """The source called `name`; raises `UserError` with the nearest name there is."""
    if name not in SOURCES:
        raise UserError(f"no source is called {name!r}. {nearest(name, SOURCES)}")
    return SOURCES[name]
