"""NeMo's distributed checkpoints, read without building a model.

A step's `checkpoint/` is a NeMo 2.0 checkpoint (`weights/` in torch_dist format, `context/`) with our `shape.json`
beside it. Reading its weights needs neither NeMo nor a GPU: export takes seconds on any machine that holds them in
memory.
"""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from nemo_distill.compat.readers import CHECKPOINT_BYTES, CHECKPOINT_METADATA
from nemo_distill.errors import UserError

WEIGHTS = "weights"
OPTIMIZER = "optimizer"
"""What the names of the optimizer's tensors begin with."""


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Megatron's model tensors in the NeMo checkpoint `checkpoint`; optimizer state is left on disk.

    Megatron's Mamba layers are saved in parts (z, x, B, C, dt), so that they reshard over tensor parallel ranks; the
    parts are joined here.
    """
    import torch

    state = _model_tensors(checkpoint)
    state = {name.removeprefix("module."): t for name, t in state.items()}
    for name in [name for name in state if name.endswith((".weight.x", ".bias.x"))]:
        whole = name.removesuffix(".x")
        parts = ("z", "x", "B", "C", "dt") if f"{whole}.z" in state else ("x", "B", "C")
        state[whole] = torch.cat([state.pop(f"{whole}.{part}") for part in parts])
    return state


def optimizer_size(checkpoint: Path) -> int:
    """Bytes of the optimizer's tensors in the NeMo checkpoint `checkpoint`."""
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    _, metadata = _reader(checkpoint)
    return sum(
        record.size.numel() * record.properties.dtype.itemsize
        for name, record in metadata.state_dict_metadata.items()
        if isinstance(record, TensorStorageMetadata) and name.startswith(OPTIMIZER)
    )


def without_optimizer(checkpoint: Path, folder: Path) -> None:
    """Write the model's tensors of `checkpoint`, and all that lies beside its weights, into `folder`, to disk."""
    from torch.distributed import checkpoint as dcp

    state = _model_tensors(checkpoint)
    shutil.copytree(checkpoint, folder, ignore=lambda where, _: [WEIGHTS] if Path(where) == Path(checkpoint) else [])
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder / WEIGHTS, sync_files=True), no_dist=True)
    for name in ("common.pt", "metadata.json"):  # which Megatron looks for
        shutil.copyfile(checkpoint / WEIGHTS / name, folder / WEIGHTS / name)


def _model_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """The model's tensors, by the names that they have in the checkpoint, in the machine's memory."""
    import torch
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint import CheckpointException
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader, metadata = _reader(checkpoint)
    state = {
        name: torch.empty(record.size, dtype=record.properties.dtype)
        for name, record in metadata.state_dict_metadata.items()
        if isinstance(record, TensorStorageMetadata) and not name.startswith(OPTIMIZER)
    }
    try:
        dcp.load(state, storage_reader=reader, no_dist=True)
    except (CheckpointException, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"NeMo checkpoint {checkpoint}: weights are cut short or damaged.") from error
    return state


def _reader(checkpoint: Path) -> tuple[Any, Any]:
    """(reader, metadata) of the checkpoint's tensors. Raises `UserError` where a file of them is missing."""
    from torch.distributed import checkpoint as dcp

    weights = Path(checkpoint) / WEIGHTS
    if not (weights / ".metadata").is_file():
        raise UserError(f"NeMo checkpoint {checkpoint}: weights/.metadata is missing.")
    CHECKPOINT_METADATA.apply()
    CHECKPOINT_BYTES.apply()
    reader = dcp.FileSystemReader(weights)
    metadata = reader.read_metadata()
    for file in {record.relative_path for record in metadata.storage_data.values()}:
        if Path(file).name != file:
            raise UserError(f"NeMo checkpoint {checkpoint}: weights/.metadata names {file}, which is not beside it.")
        if not (weights / file).is_file():
            raise UserError(f"NeMo checkpoint {checkpoint}: weights/{file} is missing.")
    return reader, metadata


def context_tokenizer(checkpoint: Path) -> Path:
    """Folder of the tokenizer kept inside a NeMo checkpoint."""
    folders = sorted(path.parent for path in (Path(checkpoint) / "context").rglob("tokenizer.json"))
    if not folders:
        raise UserError(f"NeMo checkpoint {checkpoint}: context holds no tokenizer.json.")
    return folders[0]
