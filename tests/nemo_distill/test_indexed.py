import numpy as np
import pytest

from nemo_distill.indexed import MARK, IndexedWriter, lengths_of


def arrays(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([token for document in documents for token in document], int), np.array(
        list(map(len, documents)), int
    )


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
        for part in (documents[:7], [], documents[7:]):
            ours.add(*arrays(part))
        ours.finish()

    for ending in (".bin", ".idx"):
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
    assert (ours.documents, ours.tokens) == (300, sum(map(len, documents)))
    read = IndexedDataset(str(tmp_path / "ours"))
    assert read[42].tolist() == documents[42]


def test_nothing_carries_the_final_name_before_all_is_written(tmp_path):
    with IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
        writer.add(*arrays([[1, 2]]))
        assert all(path.name.endswith(".tmp") for path in tmp_path.iterdir())
        writer.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.idx"]


def test_writing_goes_on_from_the_last_checkpoint_whatever_was_added_after_it(tmp_path):
    with pytest.raises(ZeroDivisionError), IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
        writer.add(*arrays([[1, 2], [3]]))
        writer.checkpoint({"row": 2})
        writer.add(*arrays([[7, 7, 7]]))
        raise ZeroDivisionError
    assert not list(tmp_path.glob("x.*"))
    with open(tmp_path / ".x.bin.tmp", "ab") as file:
        file.write(b"written by the system before the power went")
    with IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
        assert (writer.state, writer.documents, writer.tokens) == ({"row": 2}, 2, 3)
        writer.add(*arrays([[4, 5]]))
        writer.finish()
    with IndexedWriter(tmp_path / "uncut", vocab_size=10) as writer:
        writer.add(*arrays([[1, 2], [3], [4, 5]]))
        writer.finish()
    for ending in ("bin", "idx"):
        assert (tmp_path / f"x.{ending}").read_bytes() == (tmp_path / f"uncut.{ending}").read_bytes()


def test_a_checkpoint_whose_files_are_gone_or_short_is_not_gone_on_from(tmp_path):
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        with IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
            writer.add(*arrays([[1, 2]]))
            writer.checkpoint({"row": 1})
        damage(tmp_path / ".x.bin.tmp")
        with IndexedWriter(tmp_path / "x", vocab_size=10) as writer:
            assert (writer.state, writer.documents) == (None, 0)


def test_documents_left_out_at_the_end_leave_no_trace(tmp_path):
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 1000, size=length).tolist() for length in rng.integers(1, 50, size=500)]
    marks = np.zeros(500, MARK)
    marks["bin"] = rng.integers(0, 2, size=500)
    marks["cut"] = rng.integers(0, 2, size=500)
    with IndexedWriter(tmp_path / "some", vocab_size=1000) as some:
        some.add(*arrays(documents), marks)
        kept, cut = some.finish(keep=lambda marks: marks["bin"] == 1)
    chosen = [document for document, mark in zip(documents, marks) if mark["bin"]]
    with IndexedWriter(tmp_path / "alone", vocab_size=1000) as alone:
        alone.add(*arrays(chosen))
        alone.finish()
    assert (kept, cut) == (len(chosen), sum(mark["cut"] for mark in marks if mark["bin"]))
    assert (some.documents, some.tokens) == (len(chosen), sum(map(len, chosen)))
    for ending in ("bin", "idx"):
        assert (tmp_path / f"some.{ending}").read_bytes() == (tmp_path / f"alone.{ending}").read_bytes()
    assert np.concatenate(list(lengths_of(tmp_path / "some"))).tolist() == list(map(len, chosen))
