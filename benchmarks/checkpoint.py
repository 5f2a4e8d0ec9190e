"""How fast a checkpoint is saved and loaded: a distributed optimizer's over gloo ranks of one machine, on the CPU.

    python benchmarks/checkpoint.py /dev/shm/saved          # two ranks, 125M parameters, 2.0 GB
    python benchmarks/checkpoint.py /dev/shm/saved --plain  # without the changes that make it faster

The ranks write and read as a training does: by NeMo's own checkpoint handler, in the format that other ranks, in other
numbers, can go on from. Prints one line of JSON of the first rank: seconds of each stage, bytes, and GB/s of all ranks.
"""

import argparse
import contextlib
import cProfile
import hashlib
import json
import os
import pstats
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "pattern": "M-M*-M-", "hidden_size": 1024, "ffn_hidden_size": 4096, "mamba_num_heads": 32, "mamba_head_dim": 64,
    "mamba_state_dim": 128, "mamba_num_groups": 8, "num_attention_heads": 8, "num_query_groups": 2, "kv_channels": 128,
    "vocab_size": 32_768,
}  # fmt: skip
BUCKET = 20_000_000
"""Parameters of a bucket of gradients."""
METADATA = {
    "singleton_local_shards": False, "chained_optim_avoid_prefix": True,
    "distrib_optim_sharding_type": "fully_reshardable", "distrib_optim_fully_reshardable_mem_efficient": False,
}  # fmt: skip
"""What NeMo's strategy says of a checkpoint's format."""


class Trained:
    """A model and its distributed optimizer, one step from random gradients, on this rank."""

    def __init__(self, sizes: dict[str, Any], *, bucket: int, seed: int, tensor_parallel: int):
        import torch
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
        from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

        from nemo_distill.backends.nemo.model import config
        from nemo_distill.nemotron_h.model import Runtime
        from nemo_distill.nemotron_h.shape import Shape

        torch.manual_seed(seed)
        made = config(Shape(**sizes), Runtime(seq_length=64))
        made.tensor_model_parallel_size = tensor_parallel
        module = made.configure_model(tokenizer=None)
        split = DistributedDataParallelConfig(
            use_distributed_optimizer=True, overlap_grad_reduce=True, bucket_size=bucket
        )
        self.model = DistributedDataParallel(module.config, split, module)
        settings = OptimizerConfig(optimizer="adam", lr=1e-3, clip_grad=0.0, use_distributed_optimizer=True)
        self.optimizer = get_megatron_optimizer(settings, [self.model])
        draw = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            parameter.main_grad.copy_(torch.randn(parameter.shape, generator=draw))
        self.optimizer.step()
        for one in self.optimizer.chained_optimizers:  # PyTorch's Adam counts its steps in a tensor; the GPU's does not
            take, of = one._set_main_param_and_optimizer_states, one._get_main_param_and_optimizer_states
            one._set_main_param_and_optimizer_states = lambda parameter, tensors, take=take, of=of: take(
                parameter, {"step": of(parameter)["step"], **tensors}
            )

    def state(self, *, loading: bool = False) -> dict[str, Any]:
        """What NeMo's strategy saves and loads."""
        model = self.model.sharded_state_dict(prefix="module.")
        optimizer = self.optimizer.sharded_state_dict(model, is_loading=loading, metadata=METADATA)
        return {"state_dict" if loading else "sharded_state_dict": model, "optimizer": [optimizer]}

    def own(self) -> dict[str, str]:
        """Digests of this rank's part of the optimizer's state."""
        found = {}
        for one in self.optimizer.chained_optimizers:
            for number, parameter in enumerate(one.model_param_group_index_map):
                for name, tensor in one._get_main_param_and_optimizer_states(parameter).items():
                    if hasattr(tensor, "numpy"):
                        found[f"{number}.{name}"] = hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        return found


def handler() -> Any:
    """NeMo's checkpoint handler, set as `nemo_distill.backends.nemo.trainer` sets it."""
    from nemo.lightning.io.pl import MegatronCheckpointIO

    return MegatronCheckpointIO(parallel_save=True, parallel_load=True)


@contextlib.contextmanager
def on_ranks(ranks: int, store: Path) -> Iterator[int]:
    """Become so many ranks, of which only the first goes on behind this. Raises `ChildProcessError` where one fails."""
    import torch

    rank, others = 0, list[int]()
    while not rank and len(others) < ranks - 1:
        others.append(os.fork())
        rank = 0 if others[-1] else len(others)
    torch.set_num_threads(1)
    world = torch.distributed
    try:
        world.init_process_group("gloo", store=world.FileStore(str(store), ranks), rank=rank, world_size=ranks)
        yield rank
        world.barrier()
        world.destroy_process_group()
    except BaseException:
        if not rank:
            raise
        traceback.print_exc()
        os._exit(1)
    if rank:
        os._exit(0)
    for other in others:
        if os.waitpid(other, 0)[1]:
            raise ChildProcessError("another rank has failed")


def measured(
    folder: Path,
    *,
    sizes: dict[str, Any] = SIZES,
    bucket: int = BUCKET,
    tensor_parallel: int = 1,
    profile: bool = False,
) -> dict[str, Any]:
    """Save, load into another optimizer, compare; seconds of the stages. On every rank of the default group."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    parallel_state.initialize_model_parallel(tensor_model_parallel_size=tensor_parallel)
    model_parallel_cuda_manual_seed(1)
    seconds: dict[str, float] = {}
    work_of_all: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        torch.distributed.barrier()
        began, worked = time.perf_counter(), _worked()
        with cProfile.Profile() if profile else contextlib.nullcontext() as profiler:
            made = work()
        if profiler and not torch.distributed.get_rank():
            print(f"== {stage}", file=sys.stderr)
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(14)
        both = torch.tensor(_worked() - worked)
        torch.distributed.all_reduce(both)
        seconds[stage], work_of_all[stage] = round(time.perf_counter() - began, 2), round(both.item(), 2)
        return made

    trained, files = Trained(sizes, bucket=bucket, seed=1, tensor_parallel=tensor_parallel), handler()
    start = _resident("VmRSS", anew=True)
    state = timed("state to save", trained.state)
    options = {"content_metadata": METADATA}
    timed("write", lambda: files.save_checkpoint(state, folder, storage_options=options))
    del state
    peak = _resident("VmHWM") - start
    before = trained.own()
    del trained
    other = Trained(sizes, bucket=bucket, seed=2, tensor_parallel=tensor_parallel)
    assert other.own() != before
    start = _resident("VmRSS", anew=True)
    state = timed("state to load", lambda: other.state(loading=True))
    loaded = timed("read", lambda: files.load_checkpoint(folder, sharded_state_dict=state))
    timed("take over", lambda: other.optimizer.load_state_dict(loaded["optimizer"][0]))
    peak_loading = _resident("VmHWM") - start
    assert other.own() == before, "each rank has its part of the optimizer's state again"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    saved = seconds["state to save"] + seconds["write"]
    return {
        "seconds": seconds, "cpu_seconds": work_of_all, "bytes": size,
        "saving_adds_bytes": peak, "loading_adds_bytes": peak_loading,
        "save_gb_per_s": round(size / 1e9 / saved, 3),
        "load_gb_per_s": round(size / 1e9 / (sum(seconds.values()) - saved), 3),
    }  # fmt: skip


def _worked() -> float:
    """CPU seconds of this process and of those that it has started and that are over."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _resident(what: str, *, anew: bool = False) -> int:
    """Bytes of this process's memory, now (VmRSS) or at most (VmHWM); with `anew` counts that from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def digests(folder: Path) -> dict[str, str]:
    """Digest of every tensor in the checkpoint in `folder`."""
    import torch
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    from nemo_distill.backends.nemo.checkpoint import _reader

    reader, metadata = _reader(folder)
    state = {
        name: torch.empty(record.size, dtype=record.properties.dtype)
        for name, record in metadata.state_dict_metadata.items()
        if isinstance(record, TensorStorageMetadata)
    }
    dcp.load(state, storage_reader=reader, no_dist=True)
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in sorted(state.items())}


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    said.add_argument("folder", type=Path, help="where the checkpoint is written and removed")
    said.add_argument("--ranks", type=int, default=2, help="at least 1; 2")
    said.add_argument("--plain", action="store_true", help="without the changes of nemo_distill.compat to saving")
    said.add_argument("--profile", action="store_true", help="what the first rank's stages consist of, to stderr")
    said.add_argument("--digest", action="store_true", help="also say a digest of all tensors on disk")
    options = said.parse_args()
    if options.ranks < 1:
        said.error(f"--ranks {options.ranks}: there is at least 1")

    from nemo_distill import backends
    from nemo_distill.compat import optimizer_state

    backends.prepared()
    if options.plain:
        optimizer_state.undo()

    with tempfile.TemporaryDirectory() as folder, on_ranks(options.ranks, Path(folder) / "store") as rank:
        found = measured(options.folder, profile=options.profile)
        if not rank:
            if options.digest:
                found["digest"] = hashlib.sha256(json.dumps(digests(options.folder)).encode()).hexdigest()
            shutil.rmtree(options.folder)
            print(json.dumps(found))


if __name__ == "__main__":
    main()
