"""Files of a checkpoint or an index that would run code when they are read: refused, and what is whole is read."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import checkpoint as dcp

from nemo_distill.compat import readers
from nemo_distill.compat.changes import find
from nemo_distill.errors import UserError
from tests.damage_for_tests import Runs


class Asks:
    """A pickle of it calls something of a library that a list of packages would let pass."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return np.savetxt, (self.path, [1])


@pytest.fixture
def ran(tmp_path):
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def weights(tmp_path) -> Path:
    """A distributed checkpoint."""
    state = {"w": torch.arange(6.0).view(2, 3), "kept": io.BytesIO()}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "checkpoint/weights"), no_dist=True)
    return tmp_path / "checkpoint"


def test_a_checkpoints_metadata_is_read_and_nothing_that_it_names_is_called(weights, ran, tmp_path):
    from nemo_distill.backends.nemo.checkpoint import read_weights

    assert torch.equal(read_weights(weights)["w"], torch.arange(6.0).view(2, 3))
    path = weights / "weights/.metadata"
    whole = path.read_bytes()
    for planted in (
        pickle.dumps(Runs(f"touch {ran}")),
        pickle.dumps(Runs(f"touch {ran}"), protocol=0),
        pickle.dumps({"x": Asks(ran)}),
        pickle.dumps(torch.hub.load),
        b"ctorch\nserialization.os.system\n(S'touch " + str(ran).encode() + b"'\ntR.",
        pickle.dumps(eval),
    ):
        path.write_bytes(planted)
        with pytest.raises(UserError, match="which no checkpoint of nemo-distill does: it is not read"):
            read_weights(weights)
    for damaged in (b"", whole[:50], b"\x80\x04garbage", pickle.dumps(3)):
        path.write_bytes(damaged)
        with pytest.raises((UserError, AttributeError)):
            read_weights(weights)


def test_a_checkpoints_metadata_names_files_beside_it_alone(weights, tmp_path):
    from nemo_distill.backends.nemo.checkpoint import read_weights

    path = weights / "weights/.metadata"
    metadata = pickle.loads(path.read_bytes())
    for record in metadata.storage_data.values():
        record.relative_path = f"../../{record.relative_path}"
    path.write_bytes(pickle.dumps(metadata))
    for file in (weights / "weights").glob("*.distcp"):
        file.rename(tmp_path / file.name)
    with pytest.raises(UserError, match=r"names \.\./\.\./__0_0.distcp, which is not beside it"):
        read_weights(weights)


def test_what_a_checkpoint_keeps_beside_tensors_is_plain(ran):
    def kept(value) -> io.BytesIO:
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        return file

    plain = {"step": 3, "rates": [0.1], "state": torch.ones(2)}
    assert readers.bytes_loaded(kept(plain), weights_only=False)["step"] == 3
    assert isinstance(readers.bytes_loaded(kept(io.BytesIO(b"x"))), io.BytesIO)
    for planted in (Runs(f"touch {ran}"), {"x": Asks(ran)}):
        with pytest.raises(UserError, match="it is not read"):
            readers.bytes_loaded(kept(planted), weights_only=False)


def test_an_index_is_integers_and_a_pickle_in_its_place_is_refused(tmp_path, ran, backend):
    numpy = find("megatron.core.datasets.gpt_dataset").numpy
    path = tmp_path / "index.npy"
    np.save(path, np.arange(5, dtype=np.int32))
    assert numpy.load(path, allow_pickle=True, mmap_mode="r").tolist() == [0, 1, 2, 3, 4]
    objects = np.empty(1, object)
    objects[0] = Runs(f"touch {ran}")
    contents = {
        "plain": pickle.dumps(Runs(f"touch {ran}")), "objects": _saved(objects), "real": _saved(np.ones(3)),
        "cut": _saved(np.arange(9))[:140], "empty": b"",
    }  # fmt: skip
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no index of integers.* Remove its folder to build it anew"):
            numpy.load(path, allow_pickle=True, mmap_mode="r")
    assert find("megatron.core.datasets.blended_dataset").numpy.load is numpy.load and numpy.int16 is np.int16


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def named(module: str, name: str) -> dict:
    return {"type": "pyref", "module": module, "name": name}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch.hub", "load"),
        ("nemo.lightning.io.mixin", "pickle"),
        ("nemo_distill.nemotron_h.specs", "__builtins__"),
        ("nemo_distill.nemotron_h.model", "importlib.import_module"),
        ("subprocess", "run"),
        (["os"], "system"),
        ("torch", None),
    ],
)
def test_a_context_names_what_contexts_are_made_of_and_nothing_else(tmp_path, backend, module, name):
    from nemo import lightning as nl

    folder = tmp_path / "context"
    folder.mkdir()
    config = {"type": named("fiddle._src.config", "Config"), "items": [], "metadata": named(module, name), "paths": []}
    said = {"root": {"type": "ref", "key": "x"}, "objects": {"x": config}, "refcounts": {}, "version": "0.0.1"}
    (folder / "io.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="a file of a checkpoint names"):
        nl.io.load_context(folder)


def test_a_context_asks_for_no_code_beside_a_tokenizer_and_pickles_of_its_own_are_of_its_names(ran, backend):
    for value in (True, "yes", {"type": "leaf", "value": 1}, {"type": "ref", "key": "x"}):
        with pytest.raises(UserError, match="trust_remote_code"):
            readers.context_read(json.dumps({"items": [[".trust_remote_code", value]]}))
    assert readers.context_read('{"items": [[".trust_remote_code", {"type": "leaf", "value": false}]]}')
    load = find("nemo.lightning.io.mixin:_safe_pickle_load")
    assert load(io.BytesIO(pickle.dumps([torch.bfloat16]))) == [torch.bfloat16]
    for planted in (Runs(f"touch {ran}"), Asks(ran)):
        with pytest.raises(UserError, match="it is not read"):
            load(io.BytesIO(pickle.dumps(planted)))


def test_the_state_of_a_search_is_read_and_nothing_that_it_names_is_called(tmp_path, ran, backend):
    from modelopt.torch.prune.plugins.mcore_minitron import CandidateSubnet

    from nemo_distill.prune.search import read_state

    path = tmp_path / "search.pt"
    state = {"layer_scores": {1: torch.ones(1)}, "found": {3.0: [CandidateSubnet({"num_layers": 4}, 5.0, None)]}}
    torch.save(state, path)
    assert read_state(path)["found"][3.0][0] == CandidateSubnet({"num_layers": 4}, 5.0, None)
    for planted in ({"x": Runs(f"touch {ran}")}, {"x": Asks(ran)}):
        torch.save(planted, path)
        with pytest.raises(UserError, match="holds what no search keeps, and is not read: remove it"):
            read_state(path)
    path.write_bytes(pickle.dumps(Runs(f"touch {ran}")))
    with pytest.raises((UserError, RuntimeError)):
        read_state(path)
