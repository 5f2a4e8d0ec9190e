"""Lays the state of a distributed optimizer into the machine's memory once, and of it what this rank saves.

Megatron-core's form that other ranks, in other numbers, can go on from holds every parameter's state whole. It makes
that on every rank, in memory that it fills with zeros first, by way of four copies in the machine's memory; the ranks
then share out who writes what, and each copies its share once more. Here a rank's memory is only set aside at first.
When it is known what each rank writes, the buckets are gathered where the optimizer is, on the GPU, and of each a rank
takes what it writes. What is not written is never touched, and so never there.

Loading goes the same way back: the ranks share out who reads what, and of what another has read a rank takes what its
part of the optimizer holds.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from nemo_distill.compat.changes import Change, find, source_of, wrap

_OPTIMIZER = "megatron.core.optimizer.distrib_optimizer:DistributedOptimizer"
_GATHER = "get_parameter_state_dp_zero"
_PARALLEL = "megatron.core.dist_checkpointing.strategies.fully_parallel:FullyParallelSaveStrategyWrapper"
_SHARE = "apply_saving_parallelization"
_WRITER = "megatron.core.dist_checkpointing.strategies.filesystem_async:FileSystemWriterAsync"
_WRITE = "prepare_write_data"
_EXCHANGE = "megatron.core.dist_checkpointing.exchange_utils"
_BROADCAST = "exchange_loaded_tensors_broadcast"
STATE = ("param", "exp_avg", "exp_avg_sq")
"""What an optimizer keeps of a parameter, as Megatron calls it."""
STATES = "optimizer.state."
"""What the names of an optimizer's tensors begin with in a checkpoint."""

_set_aside: dict[Any, dict[tuple[int, Any], dict[str, torch.Tensor]]] = {}
"""By optimizer, and by number and type of its buffer, the memory for the states of all its parameters, end to end,
that nothing has been laid into yet."""

_to_load: dict[Any, dict[tuple[int, Any], dict[str, torch.Tensor]]] = {}
"""The same, of what is being loaded."""


def memory(size: int) -> torch.Tensor:
    """Room for `size` numbers, of which none is there before it is written to."""
    return torch.empty(size, dtype=torch.float32)


def _set_memory_aside(
    original, optimizer, use_gloo_comm: bool = True, empty_data: bool = False, return_on_all_ranks: bool = False
) -> dict[Any, Any] | None:
    if use_gloo_comm or not return_on_all_ranks:
        return original(optimizer, use_gloo_comm, empty_data, return_on_all_ranks)
    state: dict[Any, Any] = {"buckets_coalesced": True}
    own = {}
    for number, (buffer, ranges) in enumerate(zip(optimizer.buffers, optimizer.gbuf_ranges, strict=True)):
        ((kind, _),) = ranges.items()
        own[number, kind] = {key: memory(buffer.numel_unpadded) for key in STATE}
        state[number] = {kind: {**own[number, kind], "numel_unpadded": buffer.numel_unpadded}}
    if empty_data:
        _to_load[optimizer] = own
    else:
        _set_aside[optimizer] = own
    return state


def _gather_what_is_written(original, strategy, sharded_state_dict: Any) -> None:
    """Lay what this rank writes into the memory that was set aside, once the ranks have shared that out."""
    original(strategy, sharded_state_dict)
    try:
        for optimizer, buffers in _set_aside.items():
            written = _written(sharded_state_dict, buffers)
            for (number, kind), states in buffers.items():
                _gather(optimizer, number, kind, states, {key: written[states[key].data_ptr()] for key in STATE})
    finally:
        _set_aside.clear()


def _written(
    sharded_state_dict: Any, buffers: dict[tuple[int, Any], dict[str, torch.Tensor]]
) -> dict[int, list[tuple[int, int]]]:
    """By address of the memory, the (start, end) of what this rank writes of it.

    Each tensor there gets a storage of its own size, which Megatron copies it for otherwise.
    """
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, is_main_replica

    found: dict[int, list[tuple[int, int]]] = {
        tensor.data_ptr(): [] for states in buffers.values() for tensor in states.values()
    }
    for sharded in nested_values(sharded_state_dict):
        if not isinstance(sharded, ShardedTensor) or not is_main_replica(sharded.replica_id):
            continue
        tensor = sharded.data
        ranges = None if tensor is None else found.get(tensor.untyped_storage().data_ptr())
        if ranges is None or not tensor.numel():
            continue
        start = tensor.storage_offset()
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        ranges.append((start, start + reach + 1))
        if tensor.is_contiguous():
            sharded.data = torch.from_numpy(tensor.numpy())
    return found


@torch.no_grad()
def _gather(
    optimizer: Any, number: int, kind: Any, states: dict[str, torch.Tensor], written: dict[str, list[tuple[int, int]]]
) -> None:
    """Gather the buckets of a buffer on all ranks that have parts of them; take those ranges that are `written`."""
    group, device, offset = optimizer.data_parallel_group, torch.cuda.current_device(), 0
    for bucket, part in zip(optimizer.buffers[number].buckets, optimizer.gbuf_ranges[number][kind], strict=True):
        size = bucket.grad_data.numel()
        own = [
            (found["gbuf_local"], optimizer._get_main_param_and_optimizer_states(parameter))
            for parameter, found in part["param_map"].items()
        ]
        whole = torch.empty(size, dtype=torch.float32, device=device)
        share = torch.zeros(size // group.size(), dtype=torch.float32, device=device)
        for key in STATE:
            for place, tensors in own:
                share[place.start : place.end].copy_(tensors[key].detach().view(-1))
            torch.distributed.all_gather_into_tensor(whole, share, group=group)
            for start, end in _within(written[key], offset, offset + bucket.numel_unpadded):
                states[key][start:end].copy_(whole[start - offset : end - offset])
        offset += bucket.numel_unpadded


def _exchange_what_is_held(original, loaded, unloaded, distribution, group) -> dict[Any, torch.Tensor]:
    """All tensors, those of an optimizer's state in the memory that was set aside for them: what this rank has read,
    and of what others have read what this rank holds. The rest of these is not there."""
    held = _held()
    ours = {shard: rank for shard, rank in distribution.main_rank_for_shard.items() if shard[0].startswith(STATES)}
    if not held or not ours:
        return original(loaded, unloaded, distribution, group)
    theirs = {shard: rank for shard, rank in distribution.main_rank_for_shard.items() if shard not in ours}
    found = original(loaded, unloaded, distribution._replace(main_rank_for_shard=theirs), group)
    device, own_rank = torch.cuda.current_device(), torch.distributed.get_rank(group=group)
    for shard, rank in ours.items():
        if len(distribution.all_ranks_for_shard[shard]) == 1:
            continue
        tensor = loaded[shard] if rank == own_rank else unloaded[shard].data
        if rank == own_rank:
            sent = tensor.to(device).view(-1)
        else:
            sent = torch.empty(tensor.numel(), dtype=tensor.dtype, device=device)
        torch.distributed.broadcast(sent, src=torch.distributed.get_global_rank(group, rank), group=group)
        if rank != own_rank:
            start, into = tensor.storage_offset(), tensor.view(-1)
            ranges = held[tensor.untyped_storage().data_ptr()]
            for first, last in _within(ranges, start, start + tensor.numel()):
                into[first - start : last - start].copy_(sent[first - start : last - start])
            found[shard] = tensor
    return found


def _held() -> dict[int, list[tuple[int, int]]]:
    """By address of the memory, the (start, end) of what this rank's part of the optimizer holds of it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for optimizer, buffers in _to_load.items():
        group = optimizer.data_parallel_group
        for (number, kind), states in buffers.items():
            ranges, offset = [], 0
            for bucket, part in zip(
                optimizer.buffers[number].buckets, optimizer.gbuf_ranges[number][kind], strict=True
            ):
                before = offset + group.rank() * (bucket.grad_data.numel() // group.size())
                places = [place["gbuf_local"] for place in part["param_map"].values()]
                ranges += [(before + place.start, before + place.end) for place in places]
                offset += bucket.numel_unpadded
            found.update((tensor.data_ptr(), ranges) for tensor in states.values())
    return found


def _merge_in_place(original, optimizer, model_sharded_state_dict, is_loading=False, metadata=None) -> Any:
    """The optimizer's state, whose tensors that are stored in parts are, once loaded, where their parts are."""
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

    state = original(optimizer, model_sharded_state_dict, is_loading, metadata)
    if is_loading:
        for one in nested_values(state):
            if isinstance(one, ShardedTensorFactory):
                one.merge_fn = _in_place(one.merge_fn, one.data)
    return state


def _in_place(merge: Callable, whole: torch.Tensor) -> Callable:
    """`merge`, or `whole` where the parts are it, end to end."""

    def merged(parts: Any) -> torch.Tensor:
        at = whole.data_ptr()
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, torch.Tensor) or part.data_ptr() != at or not part.is_contiguous():
                return merge(parts)
            at += part.nbytes
        return whole if at == whole.data_ptr() + whole.nbytes else merge(parts)

    return merged


def _let_go(original, optimizer, state_dict: Any) -> None:
    """Take over what was loaded; the memory goes with the state that it was loaded into."""
    original(optimizer, state_dict)
    _to_load.pop(optimizer, None)


def _within(ranges: Iterable[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """The parts of `ranges` between `first` and `last`."""
    cut = ((max(start, first), min(end, last)) for start, end in ranges)
    return [(start, end) for start, end in cut if start < end]


def _refuse_what_was_not_laid(original, writer, plan: Any, planner: Any) -> None:
    assert not _set_aside, "a distributed optimizer's state is saved by ranks that share it out, and by no other way"
    original(writer, plan, planner)


REPLACEMENTS: dict[tuple[str, str], Callable] = {
    (_OPTIMIZER, _GATHER): _set_memory_aside,
    (_PARALLEL, _SHARE): _gather_what_is_written,
    (_WRITER, _WRITE): _refuse_what_was_not_laid,
    (_OPTIMIZER, "sharded_param_state_fully_reshardable"): _merge_in_place,
    (_OPTIMIZER, "load_parameter_state_from_fully_reshardable"): _let_go,
    (_EXCHANGE, _BROADCAST): _exchange_what_is_held,
}
"""By class and method, what is called in its place."""


def _lay_once() -> None:
    for (owner, name), replacement in REPLACEMENTS.items():
        wrap(find(owner), name, replacement)


def undo() -> None:
    """Let Megatron do it its own way again, in this process; for comparisons."""
    for owner, name in REPLACEMENTS:
        setattr(find(owner), name, getattr(find(owner), name).__wrapped__)


def _as_expected() -> bool:
    return (
        "torch.cat(recv_tensors)" in source_of(f"{_OPTIMIZER}.{_GATHER}")
        and "distribute_main_replicas" in source_of(f"{_PARALLEL}.{_SHARE}")
        and "_clone_if_needed" in source_of(f"{_WRITER}.{_WRITE}")
        and "local_ten.to(orig_device)" in source_of(f"{_EXCHANGE}:{_BROADCAST}")
    )


OPTIMIZER_MEMORY = Change(
    name="optimizer-memory",
    changes=", ".join(f"{owner.replace(':', '.')}.{name}" for owner, name in REPLACEMENTS),
    why="To save a distributed optimizer's state so that other ranks can go on from it, Megatron-core lays the whole "
    "of it into the machine's memory on every rank, by way of zeros and four copies, and each rank then copies what it "
    "writes. To load it, every rank fills as much with zeros, and copies into it all that the others have read.",
    upstream="none: DistributedOptimizer.get_parameter_state_dp_zero of megatron-core",
    versions="megatron-core 0.15.3",
    when="always",
    applies=_as_expected,
    mended=lambda: "torch.cat(recv_tensors)" not in (source_of(f"{_OPTIMIZER}.{_GATHER}") or "torch.cat(recv_tensors)"),
    make=_lay_once,
)
CHANGES = (OPTIMIZER_MEMORY,)
