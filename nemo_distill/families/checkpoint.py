"""Hugging Face checkpoints on disk, read and written without building a model.

shape, state = read_hf(folder, files=verify_checkpoint(folder))       # evaluator.serve.checkpoint
write_hf(folder, shape, state, dtype="bfloat16", tokenizer=folder)
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill import families
from nemo_distill.data.models import CONFIG, model_config
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def shape_in(config: Mapping[str, Any], what: str) -> Shape:
    """The shape that `config`, the config.json of `what`, describes. Raises `UserError` that names `what`."""
    family = families.family_of(config, what)
    try:
        return family.shape_of(config)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def read_hf(folder: Path, *, files: Mapping[str, Path]) -> "tuple[Shape, dict[str, Tensor]]":
    """Shape and tensors of the Hugging Face checkpoint in `folder`.

    `files` say where each tensor is. Raises `UserError` for tensors that do not fit the config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shape = shape_in(model_config(str(folder)), f"checkpoint {folder}")
    state: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        try:
            loaded = load_file(file)
        except SafetensorError as error:
            raise UserError(f"checkpoint {folder}: {file.name} is cut short or damaged ({error}).") from error
        state |= {name: tensor for name, tensor in loaded.items() if files.get(name) == file}
    families.of(shape).check_hf(state, shape, f"checkpoint {folder}")
    return shape, state


def write_hf(folder: Path, shape: Shape, state: "dict[str, Tensor]", *, dtype: str, tokenizer: Path) -> None:
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
    config = families.of(shape).config_of(shape, dtype=dtype)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files (and the generation defaults, if any) from one checkpoint folder to another."""
    if not (source / "tokenizer.json").is_file():
        raise UserError(f"checkpoint {source}: tokenizer.json is missing.")
    target.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
