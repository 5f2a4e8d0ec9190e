"""Checks that a Hugging Face checkpoint is whole, from file names, sizes and headers, without loading a weight.

    verify_checkpoint(Path("hf"))          # nothing, or ValueError: 'hf/model.safetensors' is cut short: ...

A safetensors file says in its header how long it is, so one that was cut is told apart from a whole one in a
millisecond; an index of shards says which tensors each shard holds.
"""

import json
from pathlib import Path

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def verify_checkpoint(folder: Path) -> None:
    """Raise ValueError naming the first file of the checkpoint in `folder` that is missing, cut short or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint folder '{folder}'.")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        _read_json(folder / name)
    if not (folder / INDEX).exists():
        _tensors(folder / SINGLE)
        return
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"'{folder / INDEX}' has no weight_map.")
    for shard in sorted(set(weight_map.values())):
        held = _tensors(folder / shard)
        missing = sorted(name for name, where in weight_map.items() if where == shard and name not in held)
        if missing:
            raise ValueError(f"'{folder / shard}' lacks the tensor {missing[0]} that '{INDEX}' says it holds.")


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(_existing(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is cut short or damaged: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' is damaged: it holds no JSON object.")
    return content


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"the checkpoint lacks the file '{path}'.")
    return path


def _tensors(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file: 8 bytes of header length, the header in JSON, then the data."""
    size = _existing(path).stat().st_size
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 + header_bytes:
            raise ValueError(f"'{path}' is cut short: {size} bytes do not hold its header.")
        try:
            header = json.loads(file.read(header_bytes))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' is damaged: its header is not JSON ({error}).") from None
    header.pop("__metadata__", None)
    expected = 8 + header_bytes + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != expected:
        kind = "is cut short" if size < expected else "is damaged"
        raise ValueError(f"'{path}' {kind}: it has {size:,} bytes, its header says {expected:,}.")
    return set(header)
