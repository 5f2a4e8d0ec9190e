"""Lets NeMo, Megatron and ModelOpt run Nemotron-H on the machine at hand.

    >>> from nemo_distill.nemotron_h import backend
    >>> backend.prepare()                                      # before megatron or nemo are imported
    >>> from nemo.collections import llm                       # doctest: +SKIP

Megatron is written for CUDA: it allocates on `torch.cuda.current_device()`, keeps CUDA RNG states and builds on Triton
and Transformer Engine. Where CUDA is there, `prepare` only fills in what is not installed. Where it is not, it puts a
CPU reading under each of these calls, so that the trainer, the pruning and the checkpoint code that run in the tests
are the ones that run on a cluster. What was replaced is returned.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
import types
from importlib.machinery import ModuleSpec

import torch
import torch.utils.cpp_extension
from torch.overrides import TorchFunctionMode

_replaced: list[str] = []
_CPU = torch.device("cpu")


def on_gpu() -> bool:
    """Whether training runs on CUDA here."""
    return torch.cuda.is_available()


@functools.cache
def prepare() -> tuple[str, ...]:
    """Make Megatron, NeMo and ModelOpt importable and runnable here; returns what was replaced, for the log.

    Call it once per process before `megatron` or `nemo` is imported. Calling it again changes nothing.
    """
    if importlib.util.find_spec("mamba_ssm") is None:
        _provide_mamba_ssm()
    if not on_gpu():
        # One process: it meets itself at whatever port is free when it listens. Lightning would choose one seconds
        # before, and an evaluation that runs beside may have taken it by then.
        os.environ.setdefault("MASTER_PORT", "0")
        _read_cuda_as_cpu()
        _patch_megatron()
    if importlib.util.find_spec("transformer_engine") is None:
        _provide_final_norm()
    _track_tokenizer()
    _register_torch_norm()
    _save_each_parameter_s_own_state()
    if not on_gpu():
        _patch_nemo()
    return tuple(_replaced)


def release_local_memory() -> None:
    """Give back GPU memory that CUDA keeps for the stacks of kernels which are not run any more.

    In its first iteration Triton tries several variants of each kernel of the Mamba scan, some of which spill 12 KiB
    per thread. CUDA reserves that for every thread the GPU could run at once, 3 GiB on an H100, and keeps it; a lower
    limit makes it let go, and is raised again by whatever kernel needs more.
    """
    if not on_gpu():
        return
    driver, stack_size = ctypes.CDLL("libcuda.so.1"), 0  # CU_LIMIT_STACK_SIZE
    torch.cuda.synchronize()
    code = driver.cuCtxSetLimit(stack_size, ctypes.c_size_t(1024))  # CUDA's default, in bytes per thread
    assert code == 0, f"cuCtxSetLimit: {code}"


def wrap(owner, name: str, ours) -> None:
    """Let `owner.name` call `ours`, with what was there in front of its arguments; a second time changes nothing."""
    theirs = getattr(owner, name)
    if getattr(theirs, "ours", None) is ours:
        return

    @functools.wraps(theirs)
    def wrapped(*args, **kwargs):
        return ours(theirs, *args, **kwargs)

    wrapped.ours = ours
    _replace(owner, name, wrapped)


def _replace(owner, name: str, value) -> None:
    setattr(owner, name, value)
    _replaced.append(f"{getattr(owner, '__name__', owner)}.{name}")


def _provide_mamba_ssm() -> None:
    """Put our torch operations where Megatron imports mamba-ssm's Triton kernels from."""
    from nemo_distill.compat import mamba_ssm as scan

    def module(name: str, **members) -> None:
        made = types.ModuleType(name)
        made.__spec__ = ModuleSpec(name, None, is_package=True)
        made.__path__ = []
        vars(made).update(members)
        sys.modules[name] = made
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, made)

    module("mamba_ssm", __version__="2.2.5")  # Megatron checks for a version it knows
    module("mamba_ssm.ops")
    module("mamba_ssm.ops.triton")
    module("mamba_ssm.ops.triton.layernorm_gated", RMSNorm=scan.GatedRMSNorm, rmsnorm_fn=scan.gated_rms_norm)
    module(
        "mamba_ssm.ops.triton.ssd_combined",
        mamba_chunk_scan_combined=scan.chunk_scan,
        mamba_split_conv1d_scan_combined=None,
    )
    module("mamba_ssm.ops.triton.selective_state_update", selective_state_update=None)
    _replaced.append("mamba_ssm (torch operations)")


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


def _read_cuda_as_cpu() -> None:
    cuda = torch.cuda
    for name in ("synchronize", "empty_cache", "manual_seed", "set_device", "set_rng_state"):
        _replace(cuda, name, lambda *a, **k: None)  # one each: torch.compile keeps its rules by function
    _replace(cuda, "current_device", lambda: _CPU)
    _replace(cuda, "get_rng_state", lambda *a, **k: torch.get_rng_state())
    _replace(cuda, "Stream", _Nothing)
    _replace(cuda, "Event", _Nothing)
    _replace(cuda, "stream", lambda *a: contextlib.nullcontext())
    _replace(cuda, "current_stream", lambda *a: _Nothing())

    wrap(torch.distributed, "all_gather_into_tensor", _all_gather_scalars_too)
    _replace(torch.utils.cpp_extension, "load_inline", _no_cuda_build)
    cuda_is_cpu.__enter__()
    _replaced.append("torch function mode cuda -> cpu")


def _all_gather_scalars_too(theirs, output, tensor, *args, **kwargs):
    """Gloo refuses tensors without a dimension."""
    return theirs(output, tensor.view(1) if tensor.dim() == 0 else tensor, *args, **kwargs)


def _no_cuda_build(*args, **kwargs):
    """Megatron compiles an allocator when it is imported, and goes on without it after a RuntimeError; where a CUDA
    build of torch finds nvcc and no GPU, the attempt would end in an IndexError that it does not expect."""
    raise RuntimeError("there is no GPU to compile for")


cuda_is_cpu = _CudaIsCpu()


def _patch_megatron() -> None:
    import megatron.core.fusions.fused_softmax as fused_softmax
    import megatron.core.tensor_parallel.random as random
    import megatron.core.transformer.utils as transformer_utils

    _replace(random, "_CUDA_RNG_STATE_TRACKER", _CpuRngTracker())
    _replace(random, "_CUDA_RNG_STATE_TRACKER_INITIALIZED", True)
    _replace(random, "_get_cuda_rng_state", lambda *a, **k: torch.get_rng_state())
    _replace(random, "_set_cuda_rng_state", lambda *a, **k: None)  # the CPU's is set with it

    def causal_mask(size):
        return torch.ones(size, size).triu(1).bool()

    _replace(fused_softmax, "get_default_causal_mask", causal_mask)
    _replace(transformer_utils, "get_default_causal_mask", causal_mask)


def _provide_final_norm() -> None:
    """Megatron's Mamba stack takes its final norm from Transformer Engine, whatever its spec says."""
    import megatron.core.ssm.mamba_block as mamba_block
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    _replace(mamba_block, "TENorm", WrappedTorchNorm)


def _track_tokenizer() -> None:
    """Let NeMo keep its AutoTokenizer in a checkpoint's context.

    NeMo registers it inside a block that imports `transformers.models.llama.tokenization_llama_fast`; transformers 5
    has no such module, the registration is skipped in silence and the checkpoint loses its tokenizer.
    """
    from nemo.collections.common.tokenizers import AutoTokenizer
    from nemo.lightning.io.artifact import DirOrStringArtifact, FileArtifact
    from nemo.lightning.io.mixin import track_io

    if importlib.util.find_spec("transformers.models.llama.tokenization_llama_fast") is not None:
        return
    track_io(
        AutoTokenizer,
        artifacts=[
            FileArtifact("vocab_file", required=False),
            FileArtifact("merges_file", required=False),
            DirOrStringArtifact("pretrained_model_name", required=False),
        ],
    )
    _replaced.append("nemo.lightning.io track_io(AutoTokenizer)")


def _register_torch_norm() -> None:
    """Teach ModelOpt's registry `torch.nn.RMSNorm`, which `specs.local` uses; it knows only apex's and TE's norms."""
    import modelopt.torch.nas.plugins.megatron  # noqa: F401  (registers the others)
    from modelopt.torch.nas.modules import _DynamicLayerNorm
    from modelopt.torch.nas.registry import DMRegistry

    if torch.nn.RMSNorm in DMRegistry:
        return

    @DMRegistry.register({torch.nn.RMSNorm: "nn.RMSNorm"})
    class _DynamicRMSNorm(_DynamicLayerNorm):
        def _setup(self, *, num_features):
            self._register_hparam("num_features", num_features)
            self._register_dynamic_attribute("weight", self._cut_to_active_features)
            self._register_dynamic_attribute("normalized_shape", self._get_normalized_shape)

    _replaced.append("modelopt DMRegistry += torch.nn.RMSNorm")


def _save_each_parameter_s_own_state() -> None:
    """Save of every parameter its own optimizer state, where gradients lie in several buckets.

    Megatron-core 0.15.3 lays the states of the buckets end to end without the padding behind each, and cuts them apart
    at positions that count it: of a parameter behind the first bucket it saves what lies beside its state, and of the
    last ones zeros, with a warning that the range "exceeds unpadded buffer". (fixed upstream by pull request 5077)
    """
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    wrap(DistributedOptimizer, "sharded_param_state_fully_reshardable", _positions_without_padding)


def _positions_without_padding(theirs, optimizer, *args, **kwargs):
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
        return theirs(optimizer, *args, **kwargs)
    finally:
        for buffer, padded in zip(optimizer.buffers, positions, strict=True):
            buffer.param_index_map = padded


def _patch_nemo() -> None:
    import nemo.lightning.io.pl as checkpoint_io

    _replace(checkpoint_io, "_fix_tensors_device", lambda checkpoint: checkpoint)  # asserts that CUDA is initialised
