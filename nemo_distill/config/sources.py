"""Sources: the catalogue of those that the study draws on, and what a recipe says of one of its own.

>>> from nemo_distill.config.sources import Source, find
>>> source = find("science-mcq")
>>> source.where, source.field, source.tokens
('nvidia/Nemotron-Science-v1 / data/MCQ.jsonl', 'messages', 497000000)
>>> Source(name="tickets", path="data/tickets/*.jsonl.zst", field="messages").where
'data/tickets/*.jsonl.zst'

Token counts of the catalogue are the study's, with the teacher's tokenizer, unless `tokens_from` says otherwise. Where
a run reads one of its sources from, the hub or files at hand, is a matter of its scale (`nemo_distill.config.scale`);
the names are the same at every scale. A recipe's own source is read from where the recipe says, at any scale.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.arguments import check_arguments, check_count
from nemo_distill.config.schedule import parse_tokens
from nemo_distill.errors import UserError, nearest

FIELDS = ("text", "messages")
"""What a row of a data set may hold."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set, or the part of one that is drawn on under one name."""

    name: str
    """What blends, files and reports call it: letters, digits, - and _."""
    path: str | None = None
    """File, folder or pattern like `data/**/*.jsonl.zst` on this machine; this or `dataset`."""
    dataset: str | None = None
    """Repository on the hub, ORG/NAME."""
    field: str = "text"
    """What a row holds: plain `text`, or a chat, `messages`, in any schema of `nemo_distill.data.chats`. Where the
    column is not called so, `text:COLUMN` or `messages:COLUMN`."""
    tokens: int | str | None = None
    """Tokens available with the teacher's tokenizer, after the cap on samples, e.g. `12B`; None: not known before
    `prepare` has counted them."""
    tokens_from: str = "published"
    """Where that number comes from; what `prepare` counts takes its place."""
    subset: str | None = None
    """Configuration of the data set; None for its only one."""
    split: str | None = None
    """Split of the subset; None where `files` say what is read."""
    files: tuple[str, ...] = ()
    """Files within the data set or the folder, as patterns; empty for all of the split, or of the folder."""
    revision: str | None = None
    """Commit, tag or branch of the data set; None: the newest commit."""
    samples: int | None = None
    """Rows taken at most, the first ones; None for all of them."""

    def __new__(cls, **given: object) -> "Source":
        """Raises `UserError` for an argument that there is not, with the nearest, and where there is no name."""
        check_arguments(cls, "source", given, name="name")
        return super().__new__(cls)

    def __post_init__(self):
        self._check_texts()
        if not _NAME.fullmatch(self.name):
            near = re.sub(r"[^A-Za-z0-9_-]+", "-", self.name).strip("-_")[:100] or "mine"
            raise UserError(f"a source cannot be called {self.name!r}. Did you mean {near!r}?")
        if isinstance(self.files, str):
            object.__setattr__(self, "files", (self.files,))
        object.__setattr__(self, "files", tuple(self.files))
        if not all(isinstance(file, str) and file for file in self.files):
            raise UserError(f"source {self.name!r}: files={self.files!r} has to be file names or patterns.")
        if (self.path is None) == (self.dataset is None):
            both = "names both a path and a dataset" if self.path else "names neither a path nor a dataset"
            raise UserError(f"source {self.name!r} {both}: path= is on this machine, dataset= on the hub.")
        if self.dataset is not None and not _DATASET.fullmatch(self.dataset):
            hint = f"Did you mean path={self.dataset!r}?" if Path(self.dataset).exists() else "It is ORG/NAME."
            raise UserError(f"source {self.name!r}: dataset={self.dataset!r} is no name of a data set. {hint}")
        if self.revision is not None and self.path is not None:
            raise UserError(f"source {self.name!r}: revision={self.revision!r} is of a dataset, and it has a path.")
        if isinstance(self.tokens, str):
            object.__setattr__(self, "tokens", parse_tokens(self.tokens))
        for name in ("tokens", "samples"):
            self._check_count(name)
        kind, colon, column = self.field.partition(":")
        if kind not in FIELDS:
            hint = "" if colon else f" A column that is called so is 'text:{self.field}' or 'messages:{self.field}'."
            raise UserError(f"source {self.name!r} has the field {self.field!r}. {nearest(kind, FIELDS)}{hint}")
        if colon and not column:
            raise UserError(
                f"source {self.name!r} has the field {self.field!r}, which names no column behind the colon."
            )

    def _check_texts(self) -> None:
        if isinstance(self.path, Path):
            object.__setattr__(self, "path", str(self.path))
        for name in ("name", "field"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"a source has {name}={getattr(self, name)!r}, which has to be text.")
        for name in ("path", "dataset", "subset", "split", "revision"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise UserError(f"source {self.name!r}: {name}={value!r} has to be text.")

    def _check_count(self, name: str) -> None:
        value = getattr(self, name)
        if name == "tokens" and not isinstance(value, bool) and isinstance(value, int) and not value > 0:
            raise UserError(f"source {self.name!r} holds {value} tokens: nothing can be drawn from it.")
        check_count(self, f"source {self.name!r}", name)

    @property
    def kind(self) -> str:
        """What a row holds: a name in `FIELDS`."""
        return self.field.partition(":")[0]

    @property
    def column(self) -> str | None:
        """Column that holds it; None where it is called as the field is, or a chat in a known schema."""
        return self.field.partition(":")[2] or None

    @property
    def available(self) -> int | None:
        """`tokens` as a number."""
        return self.tokens if isinstance(self.tokens, int) else None

    @property
    def where(self) -> str:
        """Path or repository, subset, split and files in one line."""
        return " / ".join(part for part in (self.path, self.dataset, self.subset, self.split, *self.files) if part)


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
