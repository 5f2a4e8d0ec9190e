"""Megatron's data set, with the loss on the tokens that were marked when they were made (`data.answers`).

    data_module(...): llm.PreTrainingDataModule(..., dataset_cls=dataset_class(blend))

A mark is a byte for each token of `PREFIX.bin`, in `PREFIX.loss`. It is read at the places at which a sequence's tokens
are, so that it is packed, cut and shuffled as they are; of a source without such a file every token counts.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset

from nemo_distill.backends.nemo.documents import with_documents


def dataset_class(blend: list[str], *, documents: bool = False) -> type[GPTDataset]:
    """The class for Megatron's weighted blend: its own where no source has marks, so that indices keep their names.

    With `documents`, sequences say where these begin.
    """
    marked = any(Path(f"{prefix}.loss").exists() for prefix in blend[1::2])
    chosen = MarkedDataset if marked else GPTDataset
    return with_documents(chosen) if documents else chosen


class MarkedDataset(GPTDataset):
    """Sequences of one source, whose loss mask is 0 on the tokens that are not marked."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        file = Path(f"{self.dataset_path}.loss")
        self._marks = None
        if file.exists():
            self._marks = copy.copy(self)  # the same order of documents, over marks in the place of tokens
            self._marks.dataset = _Marks(self.dataset.index, file)

    def __getitem__(self, idx: int | None) -> dict[str, torch.Tensor]:
        sample = super().__getitem__(idx)
        if self._marks is not None and idx is not None:
            marks, _ = self._marks._query_document_sample_shuffle_indices(idx)
            # Not in place: Megatron hands out a mask that it keeps.
            sample["loss_mask"] = sample["loss_mask"] * torch.from_numpy(marks[1:] == 1)
        return sample


class _Marks:
    """Marks of the documents of an indexed data set, read as it reads their tokens."""

    def __init__(self, index: Any, file: Path):
        self._index = index
        self._bytes = np.memmap(file, np.uint8, mode="r")

    def get(self, idx: int, offset: int = 0, length: int | None = None) -> np.ndarray:
        """Marks of document `idx` from `offset` on."""
        start = int(self._index.sequence_pointers[idx]) // self._index.dtype_size + offset
        rest = int(self._index.sequence_lengths[idx]) - offset
        return self._bytes[start : start + (rest if length is None else length)]
