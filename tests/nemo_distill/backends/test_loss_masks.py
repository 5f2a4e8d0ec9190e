"""The loss mask of every sequence of a blend, through Megatron's own indices, against tokens that say it themselves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data.indexed import IndexedWriter
from nemo_distill.train.course import Course

pytestmark = pytest.mark.slow
TEACHER = Path(resolve_package_paths("package:debug/teacher"))
COURSE = Course(
    max_iterations=60, global_batch_size=4, micro_batch_size=2, seq_length=32, learning_rate=1e-3,
    min_learning_rate=1e-4, warmup_iterations=0, weight_decay=0.0, clip_grad=1.0, seed=5, precision="32",
)  # fmt: skip


def source(prefix: Path, *, marked: bool) -> str:
    """Documents of random tokens and lengths, of which the odd ones are marked; many are longer than a sequence."""
    rng = np.random.default_rng(len(prefix.name))
    with IndexedWriter(prefix, vocab_size=1024, loss=marked) as writer:
        for _ in range(120):
            ids = rng.integers(10, 1000, rng.integers(1, 90)).astype(np.int32)
            writer.add(ids, np.array([len(ids)]), loss=ids % 2 if marked else None)
        writer.finish()
    assert Path(f"{prefix}.loss").exists() == marked
    return str(prefix)


@pytest.fixture(scope="module")
def prefixes(tmp_path_factory) -> list[str]:
    from nemo_distill import backends

    backends.prepared()
    folder = tmp_path_factory.mktemp("tokens")
    return [source(folder / "chats", marked=True), source(folder / "texts", marked=False)]


def test_a_sequence_has_its_loss_where_its_tokens_are_marked_however_it_is_packed_and_shuffled(prefixes, tmp_path):
    from nemo.collections.common.tokenizers import AutoTokenizer

    from nemo_distill.backends.nemo.indices import build, one_process
    from nemo_distill.backends.nemo.trainer import data_module

    data = data_module(
        COURSE, ["70.0", prefixes[0], "30.0", prefixes[1]], tokenizer=AutoTokenizer(str(TEACHER)), index_folder=tmp_path
    )
    with one_process():
        build(data, COURSE)
        sequences = [data._train_ds[index] for index in range(COURSE.max_iterations * COURSE.global_batch_size)]
    seen = {0: 0, 1: 0}
    for sequence in sequences:
        labels, mask = sequence["labels"], sequence["loss_mask"]
        assert (mask == (labels % 2 if sequence["dataset_id"] == 0 else 1)).all()
        assert (sequence["tokens"][1:] == labels[:-1]).all()
        seen[int(sequence["dataset_id"])] += 1
    assert min(seen.values()) > 50
    assert 0.4 < float(np.mean([s["loss_mask"].mean() for s in sequences if s["dataset_id"] == 0])) < 0.6


def test_a_blend_without_marks_is_megatrons_own_and_keeps_its_indices(prefixes):
    from megatron.core.datasets.gpt_dataset import GPTDataset

    from nemo_distill.backends.nemo.loss_masks import MarkedDataset, dataset_class

    assert dataset_class(["100.0", prefixes[1]]) is GPTDataset
    assert dataset_class(["50.0", prefixes[1], "50.0", prefixes[0]]) is MarkedDataset


def test_a_sequence_tells_where_its_documents_begin_and_is_otherwise_the_same_by_the_same_indices(prefixes, tmp_path):
    """Each token says its document and its place in it; documents are cut where a sequence ends, and begin anew."""
    from nemo.collections.common.tokenizers import AutoTokenizer
    from torch.utils.data import default_collate

    from nemo_distill.backends.nemo.indices import build, one_process
    from nemo_distill.backends.nemo.trainer import data_module
    from nemo_distill.nemotron_h.documents import Documents

    with IndexedWriter(tmp_path / "placed", vocab_size=60_000) as writer:
        for number, length in enumerate(np.random.default_rng(0).integers(1, 90, 300).tolist()):
            writer.add(100 * number + np.arange(length), np.array([length]))
        writer.finish()
    tokenizer, count = AutoTokenizer(str(TEACHER)), COURSE.max_iterations * COURSE.global_batch_size

    def sequences(blend: list[str], folder: Path, *, documents: bool) -> list[dict]:
        data = data_module(COURSE, blend, tokenizer=tokenizer, index_folder=folder, documents=documents)
        with one_process():
            build(data, COURSE)
            return [data._train_ds[index] for index in range(count)]

    for blend, folder in ((["100.0", str(tmp_path / "placed")], "one"), (["70.0", *prefixes[:1]], "marked")):
        plain = sequences(blend, tmp_path / folder, documents=False)
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / folder).iterdir()}
        told = sequences(blend, tmp_path / folder, documents=True)
        assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / folder).iterdir()}
        for before, after in zip(plain, told, strict=True):
            assert all((after[name] == before[name]).all() for name in before)
            if folder == "one":
                count_of_starts = int(after["cu_seqlens_argmin"]) - 1
                begins = (after["tokens"] % 100 == 0).numpy()
                begins[0] = True
                assert after["cu_seqlens"][:count_of_starts].tolist() == np.flatnonzero(begins).tolist()
                assert after["cu_seqlens"][count_of_starts:].tolist() == [32] + [-1] * (33 - count_of_starts)
        batch = default_collate(told[:3])
        numbers = Documents.in_batch(batch).numbers
        assert [len(row.unique()) for row in numbers] == (batch["cu_seqlens_argmin"].flatten() - 1).tolist()


def test_a_micro_batch_without_a_marked_token_has_no_loss_and_not_no_number():
    import torch

    from nemo_distill.backends.nemo.distillation import _LossReduction, _MaskedSum

    reduction = object.__new__(_LossReduction)
    reduction._tp_size = reduction._cp_size = 1
    reduction.criterion = SimpleNamespace(per_token=False)
    assert reduction._masked_token_loss(_MaskedSum(torch.tensor(0.0)), torch.zeros(4)) == 0
    assert reduction._masked_token_loss(_MaskedSum(torch.tensor(6.0)), torch.tensor([1.0, 0, 1, 1])) == 2
