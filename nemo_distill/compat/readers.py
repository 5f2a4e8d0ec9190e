"""What reads files of a checkpoint or an index, made to run nothing that a file names.

Anybody who may write the runs folder may have written them. Each change replaces a module that upstream's code reads
with by one that reads alike and looks at what it has read, so that nothing lies between the look and the use.
"""

import importlib
import io
import json
import pickle
import sys
import types
from typing import Any

from nemo_distill.compat.changes import Change, find, never, source_of
from nemo_distill.errors import UserError

_FILES = "torch.distributed.checkpoint.filesystem"
_PLANNER = "torch.distributed.checkpoint.default_planner"
_DATA_SETS = ("megatron.core.datasets.gpt_dataset", "megatron.core.datasets.blended_dataset")
_CONTEXT = "nemo.lightning.io.mixin"
_TYPES = {
    *("bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "uint8", "bool"),
}
METADATA = {
    "megatron.core.dist_checkpointing.strategies.torch": {"MCoreMetadata", "MCoreSavePlan"},
    "pathlib": {"Path", "PosixPath"},
    "torch": {"Size", *_TYPES},
    _FILES: {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
        *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.planner": {
        *("BytesIOWriteData", "SavePlan", "TensorWriteData", "WriteItem", "WriteItemType"),
    },
    "torch.serialization": {"_get_layout"},
}
"""What the `.metadata` of a distributed checkpoint is made of, by module."""
PLAIN = {
    "MCoreMetadata": ("torch.distributed.checkpoint.metadata", "Metadata"),
    "MCoreSavePlan": ("torch.distributed.checkpoint.planner", "SavePlan"),
}
"""What Megatron's classes add a field to that nobody reads who has no Megatron: importing it takes longer than to read
what they hold."""
CONTEXT = {
    "builtins": {"dict", "list", "tuple"},
    "fiddle._src.config": {"BuildableTraverserMetadata", "Config"},
    "megatron.core.distributed.distributed_data_parallel_config": {"DistributedDataParallelConfig"},
    "megatron.core.optimizer.optimizer_config": {"OptimizerConfig"},
    "megatron.core.transformer.enums": {
        "AttnBackend",
        *(f"AttnBackend.{name}" for name in ("auto", "flash", "fused", "local", "unfused")),
    },
    "nemo.collections.common.tokenizers.huggingface.auto_tokenizer": {"AutoTokenizer"},
    "nemo.collections.llm.gpt.model.ssm": {"MambaModel"},
    "nemo.lightning.io.pl": {"TrainerContext"},
    "nemo.lightning.pytorch.optim.lr_scheduler": {"CosineAnnealingScheduler"},
    "nemo.lightning.pytorch.optim.megatron": {"MegatronOptimizerModule"},
    "nemo.lightning.pytorch.plugins.mixed_precision": {"DtypeConfig", "MegatronMixedPrecision"},
    "nemo.lightning.pytorch.strategies.megatron_strategy": {"MegatronStrategy"},
    "nemo.lightning.pytorch.trainer": {"Trainer"},
    "nemo_distill.backends.nemo.model": {"NemotronHConfig"},
    "nemo_distill.backends.nemo.trainer": {"CourseScheduler"},
    "nemo_distill.nemotron_h.activation": {"squared_relu"},
    "nemo_distill.nemotron_h.model": {"NemotronHConfig"},
    "nemo_distill.nemotron_h.specs": {"local", "transformer_engine"},
    "torch": _TYPES,
}
"""What the `io.json` beside it names, and the pickles that it leaves to files of their own, by module."""
OWN_CODE = "trust_remote_code"
"""Argument by which a tokenizer would run the code that lies beside it."""


class Unpickler(pickle.Unpickler):
    """Unpickles what is made of `names`, by module, alone."""

    def __init__(self, file: Any, names: dict[str, set[str]]):
        super().__init__(file)
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        """What is called so. Raises `UserError` where that is not among the names."""
        if name not in self.names.get(module, ()):
            raise UserError(_refusal(f"{module}.{name}"))
        if name in PLAIN and module not in sys.modules:
            module, name = PLAIN[name]
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


class Stand(types.ModuleType):
    """A module in the place of another, with some of its names changed."""

    def __init__(self, module: types.ModuleType, **changed: Any):
        super().__init__(module.__name__)
        self.__dict__.update(changed)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def unpickled(file: Any) -> Any:
    """The `.metadata` in `file`. Raises `UserError` where it is made of anything else, or of nothing."""
    try:
        return Unpickler(file, METADATA).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"a checkpoint's weights/.metadata is damaged: {error}.") from None


def bytes_loaded(file: Any, *, weights_only: bool = True, **settings: Any) -> Any:
    """`torch.load` of what a checkpoint keeps that is no tensor: tensors and plain values alone."""
    import torch

    with torch.serialization.safe_globals([io.BytesIO]):  # which Megatron leaves empty for a layer without FP8
        try:
            return torch.load(file, weights_only=True, **settings)
        except pickle.UnpicklingError as error:
            raise UserError(_refusal(_named_in(error))) from None


def array_loaded(file: Any, mmap_mode: Any = None, **settings: Any) -> Any:
    """`numpy.load` of an index: integers, and never a pickle."""
    import numpy

    settings["allow_pickle"] = False
    try:
        found = numpy.load(file, mmap_mode=mmap_mode, **settings)
    except (ValueError, EOFError) as error:
        raise UserError(f"{file} is no index of integers: {error}. Remove its folder to build it anew.") from None
    if not isinstance(found, numpy.ndarray) or not numpy.issubdtype(found.dtype, numpy.integer):
        raise UserError(f"{file} is no index of integers. Remove its folder to build it anew.")
    return found


def context_read(text: str | bytes) -> Any:
    """The JSON of a checkpoint's context. Raises `UserError` where it names what no context of ours does."""
    said = json.loads(text)
    waiting = [said]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "module" in part and not _among(part["module"], part.get("name"), CONTEXT):
                raise UserError(_refusal(f"{part['module']}.{part.get('name')}"))
            waiting.extend(part.values())
        elif isinstance(part, list):
            if len(part) == 2 and str(part[0]).lstrip(".") == OWN_CODE and _value(part[1]):
                raise UserError(_refusal(OWN_CODE))
            waiting.extend(part)
    return said


def _among(module: Any, name: Any, names: dict[str, set[str]]) -> bool:
    return isinstance(module, str) and isinstance(name, str) and name in names.get(module, ())


def _value(leaf: Any) -> Any:
    return leaf.get("value", True) if isinstance(leaf, dict) else leaf


def _refusal(name: str) -> str:
    return (
        f"a file of a checkpoint names {name}, which no checkpoint of nemo-distill does: it is not read. "
        "Whoever may write its folder may have put that there; remove the step's folder to make it anew."
    )


def _named_in(error: Exception) -> str:
    """What weights_only has refused, as far as it says."""
    words = str(error).split("Unsupported global: GLOBAL ")
    return words[1].split(" ")[0] if len(words) > 1 else "what is neither a tensor nor a plain value"


def _unpickle_metadata() -> None:
    find(_FILES).pickle = Stand(pickle, load=unpickled)


def _load_bytes() -> None:
    planner = find(_PLANNER)
    planner.torch = Stand(planner.torch, load=bytes_loaded)


def _load_arrays() -> None:
    for name in _DATA_SETS:
        module = find(name)
        module.numpy = Stand(module.numpy, load=array_loaded)


def _read_contexts() -> None:
    mixin = find(_CONTEXT)
    mixin.json = Stand(json, loads=context_read, load=lambda file: context_read(file.read()))
    mixin._safe_pickle_load = lambda file: Unpickler(file, CONTEXT).load()


CHECKPOINT_METADATA = Change(
    name="checkpoint-metadata",
    changes=f"{_FILES}.pickle",
    why="torch unpickles weights/.metadata, and with it whatever was put there.",
    upstream="none: FileSystemReader.read_metadata of torch",
    versions="torch 2.13",
    when="always",
    applies=lambda: "pickle.load(metadata_file)" in source_of(f"{_FILES}:FileSystemReader.read_metadata"),
    mended=never,
    make=_unpickle_metadata,
)
CHECKPOINT_BYTES = Change(
    name="checkpoint-bytes",
    changes=f"{_PLANNER}.torch",
    why="torch unpickles what a checkpoint keeps that is no tensor.",
    upstream="none: DefaultLoadPlanner.load_bytes of torch",
    versions="torch 2.13",
    when="always",
    applies=lambda: "weights_only=False" in source_of(f"{_PLANNER}:DefaultLoadPlanner.load_bytes"),
    mended=lambda: bool(source_of(f"{_PLANNER}:DefaultLoadPlanner.load_bytes")),
    make=_load_bytes,
)
INDEX_ARRAYS = Change(
    name="index-arrays",
    changes=", ".join(f"{name}.numpy" for name in _DATA_SETS),
    why="Megatron reads the arrays of an index with allow_pickle=True, and so a pickle in their place.",
    upstream="none: GPTDataset and BlendedDataset of megatron-core",
    versions="megatron-core 0.15.3",
    when="always",
    applies=lambda: "allow_pickle=True" in source_of(f"{_DATA_SETS[0]}:GPTDataset"),
    mended=lambda: bool(source_of(f"{_DATA_SETS[0]}:GPTDataset")),
    make=_load_arrays,
)
CHECKPOINT_CONTEXTS = Change(
    name="checkpoint-contexts",
    changes=f"{_CONTEXT}: json, _safe_pickle_load",
    why="NeMo calls whatever context/io.json names, and unpickles whatever torch, NumPy or NeMo have.",
    upstream="none: NeMo 2.7.3 is the last with the llm collection",
    versions="nemo_toolkit 2.7.3",
    when="always",
    applies=lambda: "json.loads(f.read())" in source_of(f"{_CONTEXT}:load") and find(f"{_CONTEXT}:_safe_pickle_load"),
    mended=never,
    make=_read_contexts,
)
CHANGES = (CHECKPOINT_METADATA, CHECKPOINT_BYTES, INDEX_ARRAYS, CHECKPOINT_CONTEXTS)
