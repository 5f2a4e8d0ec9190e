"""Hugging Face checkpoints on disk, read and written without building a model."""

import json
import shutil
from pathlib import Path

from torch import Tensor

from nemo_distill.errors import UserError
from nemo_distill.nemotron_h import mapping
from nemo_distill.nemotron_h.shape import Shape

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def read_hf(folder: Path) -> tuple[Shape, dict[str, Tensor]]:
    """Shape and tensors of the Hugging Face checkpoint in `folder` (one safetensors file or indexed shards).

    Raises ValueError naming the file that is missing, cut short or does not fit the config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    shape = Shape.from_hf_config(_read_json(folder / "config.json"))
    index = folder / "model.safetensors.index.json"
    files = sorted(set(_read_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    state: dict[str, Tensor] = {}
    for name in files:
        if not (folder / name).is_file():
            raise UserError(f"checkpoint {folder}: {name} is missing.")
        try:
            state |= load_file(folder / name)
        except SafetensorError as error:
            raise UserError(f"checkpoint {folder}: {name} is cut short or damaged ({error}).") from error
    mapping.check_hf(state, shape, f"checkpoint {folder}")
    return shape, state


def write_hf(folder: Path, shape: Shape, state: dict[str, Tensor], *, dtype: str, tokenizer: Path) -> None:
    """Write a Hugging Face checkpoint: config.json, model.safetensors in `dtype` and the files of `tokenizer`."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept_fp32 = ("A_log", "mixer.D")  # Mamba's decay and skip stay in float32, as upstream publishes them
    tensors = {
        name: t.to(torch.float32 if name.endswith(kept_fp32) else getattr(torch, dtype)).contiguous()
        for name, t in state.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    copy_tokenizer(tokenizer, folder)
    (folder / "config.json").write_text(json.dumps(shape.to_hf_config(dtype=dtype), indent=1) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files (and the generation defaults, if any) from one checkpoint folder to another."""
    if not (source / "tokenizer.json").is_file():
        raise UserError(f"checkpoint {source}: tokenizer.json is missing.")
    target.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"checkpoint {path.parent}: {path.name} is missing.")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"checkpoint {path.parent}: {path.name} is cut short or no JSON ({error}).") from error
