"""What is wrong or missing in NeMo, Megatron-core and ModelOpt on every device, until upstream mends it."""

import importlib.util
import os
import pickle
import queue
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.utils.cpp_extension

from nemo_distill.compat.changes import Change, find, never, source_of, wrap

_LLAMA_TOKENIZER = "transformers.models.llama.tokenization_llama_fast"
_OPTIMIZER = "megatron.core.optimizer.distrib_optimizer:DistributedOptimizer"
_STATE = "sharded_param_state_fully_reshardable"
_STACK = "megatron.core.ssm.mamba_block"
_NAMED_PRODUCT = tuple(
    f"megatron.core.dist_checkpointing.{name}" for name in ("exchange_utils", "mapping", "validation")
)
_COMPILES = ("nccl_allocator.py", "inference/unified_memory.py")
_WRITER = "megatron.core.dist_checkpointing.strategies.filesystem_async"
_RESULTS = "_get_write_results_queue"
_NVFP4 = "modelopt.torch.quantization.qtensor.nvfp4_tensor"


def _has_transformer_engine() -> bool:
    return importlib.util.find_spec("transformer_engine") is not None


def _provide_final_norm() -> None:
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    find(_STACK).TENorm = WrappedTorchNorm


def _track_tokenizer() -> None:
    from nemo.collections.common.tokenizers import AutoTokenizer
    from nemo.lightning.io.artifact import DirOrStringArtifact, FileArtifact
    from nemo.lightning.io.mixin import track_io

    track_io(
        AutoTokenizer,
        artifacts=[
            FileArtifact("vocab_file", required=False),
            FileArtifact("merges_file", required=False),
            DirOrStringArtifact("pretrained_model_name", required=False),
        ],
    )


def _norms_that_can_be_pruned() -> Any:
    """ModelOpt's registry of modules, with those that its plugins register."""
    find("modelopt.torch.nas.plugins.megatron")
    return find("modelopt.torch.nas.registry:DMRegistry")


def _register_torch_norm() -> None:
    from modelopt.torch.nas.modules import _DynamicLayerNorm

    @_norms_that_can_be_pruned().register({torch.nn.RMSNorm: "nn.RMSNorm"})
    class _DynamicRMSNorm(_DynamicLayerNorm):
        def _setup(self, *, num_features):
            self._register_hparam("num_features", num_features)
            self._register_dynamic_attribute("weight", self._cut_to_active_features)
            self._register_dynamic_attribute("normalized_shape", self._get_normalized_shape)


def _mode_registries() -> list:
    return [
        find("modelopt.torch.nas.conversion:NASModeRegistry"),
        find("modelopt.torch.prune.pruning:PruneModeRegistry"),
    ]


def _register_mode(mode: type) -> None:
    for registry in _mode_registries():
        if mode().name not in registry:
            registry.register_mode(mode)


def _sources_that_compile() -> str:
    """Of the modules that Megatron compiles an allocator in, the one when it is imported; read without importing."""
    spec = importlib.util.find_spec("megatron")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folder, "core", *part.split("/")) for folder in folders for part in _COMPILES]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def _refuse_to_compile(*args, **kwargs):
    raise RuntimeError("Megatron's allocators are not compiled: nothing here uses them")


def _name_product() -> None:
    numpy.product = numpy.prod  # type: ignore[attr-defined]


def _count_no_padding(original, optimizer, *args, **kwargs):
    """The state of each parameter, found at positions that count no padding, as the states are laid."""
    positions = [buffer.param_index_map for buffer in optimizer.buffers]
    for buffer, padded in zip(optimizer.buffers, positions, strict=True):
        padding = [0]  # before each bucket
        for (start, end), bucket in zip(buffer.bucket_indices, buffer.buckets, strict=True):
            padding.append(padding[-1] + end - start - bucket.numel_unpadded)
        buffer.param_index_map = {
            parameter: (start - padding[bucket], end - padding[bucket], bucket)
            for parameter, (start, end, bucket) in padded.items()
        }
    try:
        return original(optimizer, *args, **kwargs)
    finally:
        for buffer, padded in zip(optimizer.buffers, positions, strict=True):
            buffer.param_index_map = padded


class _HandedOver:
    """A queue for one thing, which a process puts in and the one that it was forked from, or itself, takes out.

    It is a file in memory: a pipe would hold 64 KiB, and whoever takes it out waits for the other's end first.
    """

    def __init__(self):
        self._file = os.fdopen(os.memfd_create("results"), "w+b")

    def put(self, thing: Any) -> None:
        """Hand the thing over."""
        pickle.dump(thing, self._file)
        self._file.flush()

    def get_nowait(self) -> Any:
        """What was handed over. Raises `queue.Empty` where nothing was."""
        self._file.seek(0)
        try:
            return pickle.load(self._file)  # of this process or a fork of it: nobody else can open the file
        except EOFError:
            raise queue.Empty from None
        finally:
            self._file.seek(0)
            self._file.truncate()


def _hand_over(original) -> _HandedOver:
    return _HandedOver()


def _none_without_a_gpu(original) -> bool:
    return torch.cuda.is_available() and original()


ALLOCATORS = Change(
    name="allocators",
    changes="torch.utils.cpp_extension.load_inline",
    why="Megatron compiles an allocator of managed memory when it is imported, and goes on without it after a "
    "RuntimeError. Nothing here uses it; compiling keeps the first process of a machine waiting, one that is killed "
    "meanwhile leaves a lock that all later ones wait at, and where there is a CUDA build of torch, nvcc and no GPU it "
    "ends in an IndexError that Megatron does not expect.",
    upstream="none: megatron/core/inference/unified_memory.py",
    versions="megatron-core 0.15.3",
    when="always",
    applies=lambda: "load_inline" in _sources_that_compile(),
    mended=lambda: bool(_sources_that_compile()),
    make=lambda: setattr(torch.utils.cpp_extension, "load_inline", _refuse_to_compile),
)
FINAL_NORM = Change(
    name="final-norm",
    changes=f"{_STACK}.TENorm",
    why="Megatron's Mamba stack takes its final norm from Transformer Engine, whatever its spec says.",
    upstream="none: MambaStack of megatron-core",
    versions="megatron-core 0.15.3",
    when="no Transformer Engine",
    applies=lambda: not _has_transformer_engine() and "TENorm(" in source_of(f"{_STACK}:MambaStack"),
    mended=lambda: _has_transformer_engine() or bool(source_of(f"{_STACK}:MambaStack")),
    make=_provide_final_norm,
)
TOKENIZER_IN_CHECKPOINTS = Change(
    name="tokenizer-in-checkpoints",
    changes="nemo.lightning.io: AutoTokenizer is registered with track_io",
    why="NeMo registers it inside a block that imports transformers' tokenization_llama_fast; transformers 5 has no "
    "such module, the registration is skipped in silence and checkpoints lose their tokenizer.",
    upstream="none: NeMo 2.7.3 is the last with the llm collection",
    versions="nemo_toolkit 2.7.3 with transformers 5",
    when="always",
    applies=lambda: (
        importlib.util.find_spec(_LLAMA_TOKENIZER) is None and find("nemo.lightning.io.mixin:track_io") is not None
    ),
    mended=lambda: importlib.util.find_spec(_LLAMA_TOKENIZER) is not None,
    make=_track_tokenizer,
)
PRUNED_NORM = Change(
    name="pruned-norm",
    changes="modelopt.torch.nas.registry.DMRegistry: torch.nn.RMSNorm is registered",
    why="The local spec has PyTorch's RMS norm; ModelOpt prunes apex's and Transformer Engine's only.",
    upstream="none: modelopt/torch/nas/plugins/megatron.py",
    versions="nvidia-modelopt 0.43",
    when="always",
    applies=lambda: (
        hasattr(find("modelopt.torch.nas.modules:_DynamicLayerNorm"), "_cut_to_active_features")
        and torch.nn.RMSNorm not in _norms_that_can_be_pruned()
    ),
    mended=lambda: torch.nn.RMSNorm in (_norms_that_can_be_pruned() or ()),
    make=_register_torch_norm,
)
OPTIMIZER_STATE = Change(
    name="optimizer-state",
    changes=f"{_OPTIMIZER.replace(':', '.')}.{_STATE}",
    why="Where gradients lie in several buckets, Megatron-core lays their states end to end without the padding behind "
    "each bucket, and cuts them apart at positions that count it: of a parameter behind the first bucket it saves what "
    "lies beside its state, and of the last ones zeros, with a warning that the range `exceeds unpadded buffer`.",
    upstream="https://github.com/NVIDIA/Megatron-LM/pull/5077",
    versions="megatron-core 0.15.3; in no release up to 0.19.2 is it mended",
    when="always",
    applies=lambda: " unpadded buffer by " in source_of(f"{_OPTIMIZER}.{_STATE}"),
    mended=lambda: bool(source_of(f"{_OPTIMIZER}.{_STATE}")),
    make=lambda: wrap(find(_OPTIMIZER), _STATE, _count_no_padding),
)
NUMPY_PRODUCT = Change(
    name="numpy-product",
    changes="numpy.product",
    why="Saving and loading over several ranks calls `numpy.product`, a name that numpy 2 has not: it is `numpy.prod`. "
    "The locks have numpy 1.26; an image may bring another.",
    upstream="none: megatron.core.dist_checkpointing of megatron-core, which asks for numpy below 2",
    versions="megatron-core 0.15.3 with numpy 2",
    when="always",
    applies=lambda: (
        not hasattr(numpy, "product") and any(".product(" in source_of(module) for module in _NAMED_PRODUCT)
    ),
    mended=lambda: hasattr(numpy, "product") or all(source_of(module) for module in _NAMED_PRODUCT),
    make=_name_product,
)
SAVE_RESULTS = Change(
    name="save-results",
    changes=f"{_WRITER}.{_RESULTS}",
    why="What a save has written is put into a queue that Megatron-core starts a Python for, which imports torch: 2 s "
    "and 200 MB in every process that saves. It is put there by that process or, where saves overlap with the "
    "training, by a fork of it: a file in memory will do.",
    upstream="none: FileSystemWriterAsync of megatron-core",
    versions="megatron-core 0.15.3",
    when="always",
    applies=lambda: "Manager().Queue()" in source_of(f"{_WRITER}:{_RESULTS}"),
    mended=never,
    make=lambda: wrap(find(_WRITER), _RESULTS, _hand_over),
)
PRUNING_MODE = Change(
    name="pruning-mode",
    changes="modelopt: a mode of ours is registered with NASModeRegistry and PruneModeRegistry",
    why="ModelOpt's search lists its candidates in half an hour; ours in a second, and FP8-aligned ones as well.",
    upstream="none: ModelOpt's own way to add a mode (0.46 has a candidate_filter)",
    versions="nvidia-modelopt 0.43",
    when="on request",
    applies=lambda: all(hasattr(registry, "register_mode") for registry in _mode_registries()),
    mended=never,
    make=_register_mode,
)
FP4_PACKING = Change(
    name="fp4-packing",
    changes=f"{_NVFP4}.fp4_compatible",
    why="ModelOpt packs weights as NVFP4 in PyTorch, and asks the GPU what it is before: where there is none, or torch "
    "was built without CUDA, that raises.",
    upstream="none: NVFP4QTensor.quantize of ModelOpt",
    versions="nvidia-modelopt 0.43",
    when="on request",
    applies=lambda: "get_device_capability(0)" in source_of(f"{_NVFP4}:fp4_compatible"),
    mended=lambda: bool(source_of(f"{_NVFP4}:NVFP4QTensor.quantize")),
    make=lambda: wrap(find(_NVFP4), "fp4_compatible", _none_without_a_gpu),
)
CHANGES = (
    ALLOCATORS,
    *(FINAL_NORM, TOKENIZER_IN_CHECKPOINTS, PRUNED_NORM, OPTIMIZER_STATE, NUMPY_PRODUCT, SAVE_RESULTS),
    *(PRUNING_MODE, FP4_PACKING),
)
