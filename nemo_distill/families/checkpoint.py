"""Hugging Face checkpoints on disk, read and written without building a model.

shape, state = read_hf(folder, files=verify_checkpoint(folder))       # evaluator.serve.checkpoint
write_hf(folder, shape, state, dtype="bfloat16", tokenizer=folder)
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill import families
from nemo_distill.data.models import CONFIG, model_config, model_folder
from nemo_distill.data.vocabulary import check_vocabulary
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Size in bytes of a shard of weights at most, as on the hub."""
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


def fetched(name: str) -> Path:
    """The folder of the checkpoint `name`, a folder or a model of the hub, which can be a teacher.

    Raises `UserError` for one that cannot, before a byte of its weights is fetched.
    """
    small = model_folder(name, weights=False)
    shape = shape_in(model_config(str(small)), name)
    check_vocabulary(small, shape.vocab_size, name)
    return model_folder(name)


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


def write_hf(
    folder: Path,
    shape: Shape,
    state: "Mapping[str, Tensor]",
    *,
    dtype: str,
    tokenizer: Path,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a Hugging Face checkpoint: config.json, weights in `dtype` and the files of `tokenizer`.

    Weights of more than `shard_bytes` are several files, and an index. Each is converted and written by itself, so that
    beside `state` no more than one is in memory.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    copy_tokenizer(tokenizer, folder)
    write_config(folder, families.of(shape).config_of(shape, dtype=dtype))

    def dtype_of(name: str) -> torch.dtype:
        # Mamba's decay and skip, a number per head, which rounding would change most
        return torch.float32 if name.endswith(("A_log", "mixer.D")) else getattr(torch, dtype)

    write_tensors(folder, state, dtype_of=dtype_of, shard_bytes=shard_bytes)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config` as the config.json of the checkpoint in `folder`."""
    (folder / CONFIG).write_text(json.dumps(config, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_tensors(
    folder: Path,
    state: "Mapping[str, Tensor]",
    *,
    dtype_of: "Callable[[str], torch.dtype] | None" = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the tensors of a checkpoint, beside its config.json, each as it is unless `dtype_of` its name is another.

    More than `shard_bytes` are several files, and an index.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    mode = (folder / CONFIG).stat().st_mode & 0o777  # what the umask leaves; safetensors gives its files to us alone
    dtypes = {name: dtype_of(name) if dtype_of else tensor.dtype for name, tensor in state.items()}
    planned = {name: torch.empty(t.shape, dtype=dtypes[name], device="meta") for name, t in state.items()}
    split = split_torch_state_dict_into_shards(planned, max_shard_size=shard_bytes)
    for file, names in split.filename_to_tensors.items():
        shard = {name: state[name].to(dtypes[name]).contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(mode)
        del shard  # before the next one is made
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files (and the generation defaults, if any) from one checkpoint folder to another."""
    if not (source / "tokenizer.json").is_file():
        raise UserError(f"checkpoint {source}: tokenizer.json is missing.")
    target.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
