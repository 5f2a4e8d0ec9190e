import numpy as np
import pytest

from nemo_distill.indexed import IndexedWriter


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [1_024, 131_072])
def test_the_files_equal_those_of_megatrons_own_builder(tmp_path, vocab_size):
    import torch
    from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

    rng = np.random.default_rng(0)
    documents = [rng.integers(0, vocab_size, size=length).tolist() for length in rng.integers(1, 200, size=300)]
    theirs = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=DType.optimal_dtype(vocab_size))
    for document in documents:
        theirs.add_item(torch.tensor(document))
        theirs.end_document()
    theirs.finalize(str(tmp_path / "theirs.idx"))

    with IndexedWriter(tmp_path / "ours", vocab_size=vocab_size) as ours:
        ours.add(documents[:7])
        ours.add([])
        ours.add(documents[7:])

    for ending in (".bin", ".idx"):
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
    assert (ours.documents, ours.tokens) == (300, sum(map(len, documents)))
    read = IndexedDataset(str(tmp_path / "ours"))
    assert read[42].tolist() == documents[42]


def test_nothing_is_left_of_files_whose_writing_failed(tmp_path):
    with pytest.raises(ZeroDivisionError), IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
        writer.add([[1, 2]])
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_nothing_carries_the_final_name_before_all_is_written(tmp_path):
    with IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
        writer.add([[1, 2]])
        assert all(path.name.endswith(".tmp") for path in tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.idx"]
