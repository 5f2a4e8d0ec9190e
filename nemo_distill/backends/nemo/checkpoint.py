"""NeMo's distributed checkpoints, read without building a model.

A step's `checkpoint/` is a NeMo 2.0 checkpoint (`weights/` in torch_dist format, `context/`) with our `shape.json`
beside it. Reading its weights needs neither NeMo nor a GPU: export takes seconds on any machine that holds them in
memory.
"""

from pathlib import Path

from torch import Tensor

from nemo_distill.errors import UserError


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Megatron's model tensors in the NeMo checkpoint `checkpoint`; optimizer state is left on disk.

    Megatron's Mamba layers are saved in parts (z, x, B, C, dt), so that they reshard over tensor parallel ranks; the
    parts are joined here.
    """
    import torch
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint import CheckpointException
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    weights = Path(checkpoint) / "weights"
    if not (weights / ".metadata").is_file():
        raise UserError(f"NeMo checkpoint {checkpoint}: weights/.metadata is missing.")
    reader = dcp.FileSystemReader(weights)
    metadata = reader.read_metadata()
    for file in {record.relative_path for record in metadata.storage_data.values()}:
        if not (weights / file).is_file():
            raise UserError(f"NeMo checkpoint {checkpoint}: weights/{file} is missing.")
    state = {
        name: torch.empty(record.size, dtype=record.properties.dtype)
        for name, record in metadata.state_dict_metadata.items()
        if isinstance(record, TensorStorageMetadata) and not name.startswith("optimizer")
    }
    try:
        dcp.load(state, storage_reader=reader, no_dist=True)
    except (CheckpointException, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"NeMo checkpoint {checkpoint}: weights are cut short or damaged.") from error
    state = {name.removeprefix("module."): t for name, t in state.items()}
    for name in [name for name in state if name.endswith((".weight.x", ".bias.x"))]:
        whole = name.removesuffix(".x")
        parts = ("z", "x", "B", "C", "dt") if f"{whole}.z" in state else ("x", "B", "C")
        state[whole] = torch.cat([state.pop(f"{whole}.{part}") for part in parts])
    return state


def context_tokenizer(checkpoint: Path) -> Path:
    """Folder of the tokenizer kept inside a NeMo checkpoint."""
    folders = sorted(path.parent for path in (Path(checkpoint) / "context").rglob("tokenizer.json"))
    if not folders:
        raise UserError(f"NeMo checkpoint {checkpoint}: context holds no tokenizer.json.")
    return folders[0]
