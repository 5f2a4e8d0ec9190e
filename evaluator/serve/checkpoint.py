"""Reads what a Hugging Face checkpoint holds, from file names, sizes and headers, without loading a weight.

    files = verify_checkpoint(Path("hf"))      # or ValueError: 'hf/model.safetensors' is cut short: ...
    files["lm_head.weight"]                    # hf/model-00002-of-00002.safetensors

A safetensors file says in its header how long it is, so one that was cut is told apart from a whole one in a
millisecond; an index of shards says which tensors each shard holds. Weights in FP8 are told by their type, and are
taken where they may be quantised, each with its scales. Whoever reads a checkpoint takes its files from here, so that
all are of one mind about it.
"""

import json
from pathlib import Path

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_POINTER = b"version https://git-lfs"
"""What a file begins with that Git LFS has put in the place of a large one."""
_HEADER = 100_000_000
"""Bytes of a header at most, as the safetensors library has it."""
_PLAIN = ("F32", "BF16", "F16", "F64")
"""Types of tensors that are weights as they are; others are quantised and need scales."""
FP8 = "F8_E4M3"
"""Type of weights in FP8."""
WEIGHT, SCALES = ".weight", (".weight_scale", ".input_scale")
"""Ends of the names of a matrix in FP8 and of its two scales: what its weights are multiplied by, and its inputs."""


def verify_checkpoint(folder: Path, *, quantised: bool = False) -> dict[str, Path]:
    """The file of every tensor of the checkpoint in `folder`, whose weights may be in FP8 if it may be `quantised`.

    Raises ValueError naming the first file that is missing, cut short or damaged, or is no whole checkpoint's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint folder '{folder}'.")
    config, *_ = [_read_json(folder / name) for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    files, types = _found(folder)
    odd = sorted(name for name, dtype in types.items() if dtype not in _PLAIN)
    if odd and not quantised:
        raise ValueError(
            f"'{files[odd[0]]}' holds {odd[0]} as {types[odd[0]]}: its weights are quantised and are not read here; "
            "take the checkpoint that was quantised, in bf16 or float32."
        )
    if odd:
        _check_quantised(folder, config, files, types, odd)
    return files


def _check_quantised(folder: Path, config: dict, files: dict[str, Path], types: dict[str, str], odd: list[str]) -> None:
    """Raise ValueError unless each of the tensors `odd` is a matrix in FP8 with its scales, and the config says so."""
    for name in odd:
        stem = name.removesuffix(WEIGHT)
        if types[name] != FP8 or stem == name:
            raise ValueError(
                f"'{files[name]}' holds {name} as {types[name]}, and of quantised weights those in FP8 alone are "
                "computed with here."
            )
        for scale in SCALES:
            if types.get(stem + scale) != "F32":
                raise ValueError(
                    f"'{files[name]}' holds {name} in FP8 without {stem.rpartition('.')[2]}{scale} in float32 beside "
                    "it: what it stands for is not known."
                )
    said = config.get("quantization_config")
    algorithm = said.get("quant_algo") if isinstance(said, dict) else None
    if algorithm != "FP8":
        raise ValueError(
            f"'{folder / 'config.json'}' has quantization_config.quant_algo={algorithm}, and {odd[0]} is in FP8: a "
            "server that goes by it would read scaled weights as they are."
        )


def _found(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The file and the type of every tensor."""
    if not (folder / INDEX).exists():
        types = _tensors(_single(folder))
        return dict.fromkeys(types, folder / SINGLE), types
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise ValueError(f"'{folder / INDEX}' has no weight_map, which says what file each tensor is in.")
    types = {}
    for shard in sorted(set(weight_map.values())):
        if not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise ValueError(f"'{folder / INDEX}' names {shard!r}, and its shards are .safetensors files beside it.")
        held = _tensors(folder / shard)
        missing = sorted(name for name, where in weight_map.items() if where == shard and name not in held)
        if missing:
            raise ValueError(f"'{folder / shard}' lacks the tensor {missing[0]} that '{INDEX}' says it holds.")
        types |= {name: dtype for name, dtype in held.items() if weight_map.get(name) == shard}
    return {name: folder / shard for name, shard in weight_map.items()}, types


def _single(folder: Path) -> Path:
    """The file of a checkpoint that has no index; ValueError says what is there in its place."""
    if (folder / SINGLE).is_file():
        return folder / SINGLE
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    if shards:
        raise ValueError(
            f"'{folder}' has {len(shards)} shards ({shards[0]}, ...) and no {INDEX}, which says what each holds: fetch "
            "that file as well."
        )
    pickled = sorted(path.name for ending in ("bin", "pt", "pth") for path in folder.glob(f"*.{ending}"))
    if pickled:
        raise ValueError(
            f"'{folder}' has its weights in {pickled[0]}, a pickle, which can run code and is not read: save it as "
            "safetensors (`save_pretrained`)."
        )
    raise ValueError(f"the checkpoint lacks the file '{folder / SINGLE}'.")


def _read_json(path: Path) -> dict:
    data = _existing(path).read_bytes()
    try:
        content = json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_pointer(path, data)
        raise ValueError(f"'{path}' is cut short or damaged: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' is damaged: it holds no JSON object.")
    return content


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"the checkpoint lacks the file '{path}'.")
    return path


def _refuse_pointer(path: Path, begin: bytes) -> None:
    if begin.startswith(_POINTER):
        raise ValueError(f"'{path}' is a pointer of Git LFS, not the file itself: run `git lfs pull` in its folder.")


def _tensors(path: Path) -> dict[str, str]:
    """Type of each tensor in a safetensors file: 8 bytes of header length, the header in JSON, then the data."""
    size = _existing(path).stat().st_size
    with open(path, "rb") as file:
        begin = file.read(len(_POINTER))
        _refuse_pointer(path, begin)
        header_bytes = int.from_bytes(begin[:8], "little")
        if header_bytes > _HEADER:
            raise ValueError(f"'{path}' is damaged: its header would have {header_bytes:,} bytes.")
        if size < 8 + header_bytes:
            raise ValueError(f"'{path}' is cut short: {size} bytes do not hold its header.")
        file.seek(8)
        try:
            header = json.loads(file.read(header_bytes))
            header.pop("__metadata__", None)
            expected = 8 + header_bytes + max((entry["data_offsets"][1] for entry in header.values()), default=0)
            types = {name: entry["dtype"] for name, entry in header.items()}
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' is damaged: its header is not JSON ({error}).") from None
        except (AttributeError, KeyError, TypeError, IndexError, RecursionError):
            raise ValueError(f"'{path}' is damaged: its header is not that of a safetensors file.") from None
    if size != expected:
        kind = "is cut short" if size < expected else "is damaged"
        raise ValueError(f"'{path}' {kind}: it has {size:,} bytes, its header says {expected:,}.")
    return types
