"""Lets Megatron and NeMo run on a machine without CUDA, through the code that runs on a cluster.

Megatron is written for CUDA: it allocates on `torch.cuda.current_device()`, keeps CUDA RNG states and builds on Triton
and Transformer Engine. Here a CPU reading is put under each of these calls, so that the trainer, the pruning and the
checkpoint code that run in the tests are the ones that run on a cluster.
"""

import contextlib
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nemo_distill.compat.changes import Change, find, source_of, wrap
from nemo_distill.compat.device import on_gpu

_CPU = torch.device("cpu")
_RANDOM = "megatron.core.tensor_parallel.random"
_MASKS = "megatron.core.transformer.utils:get_default_causal_mask"
_FIX_DEVICE = "nemo.lightning.io.pl:_fix_tensors_device"
_NOT_UPSTREAM = "none: CPU training is nobody's aim upstream (Megatron-LM pull requests 3853, 5313, 5317 were closed)"


class _CpuRngTracker:
    """Megatron's `CudaRNGStatesTracker` over torch's CPU generator."""

    use_cudagraphable_rng = False

    def __init__(self):
        self.states_ = {}

    def is_initialized(self):
        return True

    def reset(self):
        self.states_ = {}

    def get_states(self):
        return dict(self.states_)

    def set_states(self, states):
        self.states_ = dict(states)

    def add(self, name, seed):
        self.states_[name] = torch.Generator().manual_seed(seed).get_state()

    @contextlib.contextmanager
    def fork(self, name="model-parallel-rng"):
        if name not in self.states_:
            yield
            return
        outside = torch.get_rng_state()
        torch.set_rng_state(self.states_[name])
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(outside)


def _is_cuda(device) -> bool:
    if isinstance(device, str):
        return device.startswith("cuda")
    return isinstance(device, torch.device) and device.type == "cuda"


class _CudaIsCpu(TorchFunctionMode):
    """Reads device 'cuda' as 'cpu' in every torch call, the way `torch.set_default_device` reads none as another."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs:
            if _is_cuda(kwargs.get("device")):
                kwargs = {**kwargs, "device": _CPU}
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
        if func is torch.Tensor.to and len(args) > 1 and _is_cuda(args[1]):
            args = (args[0], _CPU, *args[2:])
        elif func is torch.Tensor.cuda or func is torch.Tensor.pin_memory:
            return args[0]
        elif func is torch.Tensor.type and len(args) == 1 and not kwargs:
            # Megatron sorts gradients by the name "torch.cuda.FloatTensor" and would skip a CPU tensor's
            name = func(args[0])
            return name.replace("torch.", "torch.cuda.", 1) if args[0].device.type == "cpu" else name
        return func(*args, **kwargs)


class _Nothing:
    """A CUDA stream or event where there is nothing to wait for."""

    def __init__(self, *args, **kwargs):
        pass

    def _no_op(self, *args, **kwargs):
        pass

    wait_stream = wait_event = synchronize = record = wait = _no_op

    def query(self):
        return True

    def elapsed_time(self, other):
        return 0.0


cuda_is_cpu = _CudaIsCpu()


def _read_cuda_calls_as_cpu() -> None:
    cuda = torch.cuda
    replacements: dict[str, Any] = {
        # one function each: torch.compile keeps its rules by function
        **{
            name: (lambda *a, **k: None)
            for name in ("synchronize", "empty_cache", "manual_seed", "set_device", "set_rng_state")
        },
        "current_device": lambda: _CPU,
        "get_rng_state": lambda *a, **k: torch.get_rng_state(),
        "Stream": _Nothing,
        "Event": _Nothing,
        "stream": lambda *a: contextlib.nullcontext(),
        "current_stream": lambda *a: _Nothing(),
    }
    for name, value in replacements.items():
        setattr(cuda, name, value)


def _gather_scalars(original, output, tensor, *args, **kwargs):
    return original(output, tensor.view(1) if tensor.dim() == 0 else tensor, *args, **kwargs)


def _track_cpu_states() -> None:
    random = find(_RANDOM)
    random._CUDA_RNG_STATE_TRACKER = _CpuRngTracker()
    random._CUDA_RNG_STATE_TRACKER_INITIALIZED = True
    random._get_cuda_rng_state = lambda *a, **k: torch.get_rng_state()
    random._set_cuda_rng_state = lambda *a, **k: None  # the CPU's is set with it


def _make_masks_on_cpu() -> None:
    def causal_mask(size):
        return torch.ones(size, size).triu(1).bool()

    for module in ("megatron.core.fusions.fused_softmax", "megatron.core.transformer.utils"):
        find(module).get_default_causal_mask = causal_mask


def _leave_devices() -> None:
    find("nemo.lightning.io.pl")._fix_tensors_device = lambda checkpoint: checkpoint


CUDA_CALLS = Change(
    name="cuda-calls",
    changes="torch.cuda: synchronize, empty_cache, manual_seed, set_device, set_rng_state, get_rng_state, "
    "current_device, Stream, Event, stream, current_stream",
    why="Megatron calls them unconditionally, and without a GPU they raise.",
    upstream=_NOT_UPSTREAM,
    versions="torch 2.13, megatron-core 0.15.3",
    when="no GPU",
    applies=lambda: not on_gpu(),
    mended=on_gpu,
    make=_read_cuda_calls_as_cpu,
)
CUDA_DEVICES = Change(
    name="cuda-devices",
    changes="a torch function mode for the whole process: device `cuda` is `cpu`, and `Tensor.type()` of a CPU tensor "
    "says `torch.cuda.FloatTensor`",
    why='Megatron allocates with `device="cuda"`, and sorts gradients by the name of their type.',
    upstream=_NOT_UPSTREAM,
    versions="torch 2.13, megatron-core 0.15.3",
    when="no GPU",
    applies=lambda: not on_gpu(),
    mended=on_gpu,
    make=cuda_is_cpu.__enter__,
)
GATHERED_SCALARS = Change(
    name="gathered-scalars",
    changes="torch.distributed.all_gather_into_tensor",
    why="Gloo refuses tensors without a dimension, which NCCL gathers.",
    upstream="none: PyTorch's Gloo",
    versions="torch 2.13",
    when="no GPU",
    applies=lambda: not on_gpu() and find("torch.distributed:all_gather_into_tensor") is not None,
    mended=on_gpu,
    make=lambda: wrap(torch.distributed, "all_gather_into_tensor", _gather_scalars),
)
RANDOM_STATES = Change(
    name="random-states",
    changes=f"{_RANDOM}: _CUDA_RNG_STATE_TRACKER, _CUDA_RNG_STATE_TRACKER_INITIALIZED, _get_cuda_rng_state, "
    "_set_cuda_rng_state",
    why="Megatron's tracker keeps the states of CUDA's generator; here those of the CPU's are kept in the same places.",
    upstream=_NOT_UPSTREAM,
    versions="megatron-core 0.15.3",
    when="no GPU",
    applies=lambda: all(
        hasattr(find(_RANDOM), name)
        for name in ("_CUDA_RNG_STATE_TRACKER", "_CUDA_RNG_STATE_TRACKER_INITIALIZED", "_get_cuda_rng_state")
    ),
    mended=on_gpu,
    make=_track_cpu_states,
)
CAUSAL_MASKS = Change(
    name="causal-masks",
    changes="get_default_causal_mask in megatron.core.transformer.utils and megatron.core.fusions.fused_softmax",
    why="They ask for the device `cuda` by name.",
    upstream=_NOT_UPSTREAM,
    versions="megatron-core 0.15.3",
    when="no GPU",
    applies=lambda: 'device="cuda"' in source_of(_MASKS),
    mended=lambda: on_gpu() or bool(source_of(_MASKS)),
    make=_make_masks_on_cpu,
)
CHECKPOINT_DEVICES = Change(
    name="checkpoint-devices",
    changes="nemo.lightning.io.pl._fix_tensors_device",
    why="It asserts that CUDA is initialised.",
    upstream="none: NeMo 2.7.3 is the last with the llm collection",
    versions="nemo_toolkit 2.7.3",
    when="no GPU",
    applies=lambda: "torch.cuda.is_initialized()" in source_of(_FIX_DEVICE),
    mended=lambda: on_gpu() or bool(source_of(_FIX_DEVICE)),
    make=_leave_devices,
)
BEFORE_IMPORT = (CUDA_CALLS, CUDA_DEVICES, GATHERED_SCALARS)
"""What has to be in place before Megatron is imported."""
CHANGES = (*BEFORE_IMPORT, RANDOM_STATES, CAUSAL_MASKS, CHECKPOINT_DEVICES)
