"""Megatron's data set, with the places at which documents begin in each sequence.

    data_module(...): llm.PreTrainingDataModule(..., dataset_cls=with_documents(GPTDataset))

They are the document index's, whatever the tokens are: chats end in no end-of-document token, a template may write one
behind every turn, and a document that is too long is cut. A sequence tells them as NeMo tells those of packed sequences
(`cu_seqlens`, padded with -1 to one length, and `cu_seqlens_argmin`), so that its data step takes them along, counts on
the CPU; `nemo_distill.nemotron_h.documents` reads them.
"""

import copy
import functools
from typing import Any

import numpy as np
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset


@functools.cache
def with_documents(dataset: type[GPTDataset]) -> type[GPTDataset]:
    """`dataset`, by the same name, for indices are files called by it, and sequences are the same."""
    return type(dataset.__name__, (_WithDocuments, dataset), {"__doc__": dataset.__doc__})


class _WithDocuments(GPTDataset):
    """Sequences of one source that say where documents begin."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._beginnings = copy.copy(self)  # the same order of documents, over marks in the place of tokens
        self._beginnings.dataset = _Beginnings(self.dataset.index)
        self._beginnings._pad_token_id = 0

    def __getitem__(self, idx: int | None) -> dict[str, torch.Tensor]:
        sample = super().__getitem__(idx)
        marks, _ = self._beginnings._query_document_sample_shuffle_indices(idx or 0)  # None fills up a batch
        length = len(sample["tokens"])
        starts = np.flatnonzero(marks[:length])
        bounds = np.full(length + 2, -1, np.int32)
        bounds[: len(starts)], bounds[0], bounds[len(starts)] = starts, 0, length
        sample["cu_seqlens"] = torch.from_numpy(bounds)
        sample["cu_seqlens_argmin"] = torch.tensor([len(starts) + 1])
        return sample


class _Beginnings:
    """Marks of the tokens that parts of documents begin with, read as an indexed data set reads tokens."""

    def __init__(self, index: Any):
        self._index = index

    def get(self, idx: int, offset: int = 0, length: int | None = None) -> np.ndarray:
        """1 and zeros, for document `idx` from `offset` on."""
        marks = np.zeros(int(self._index.sequence_lengths[idx]) - offset if length is None else length, np.uint8)
        marks[:1] = 1
        return marks
