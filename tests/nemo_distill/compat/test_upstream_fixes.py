"""What is mended in Megatron, against what it would do."""

import multiprocessing
import queue

import numpy
import pytest
import torch

from nemo_distill.compat import changes, upstream_fixes
from nemo_distill.compat.changes import changes_made, find
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape

SHAPE = Shape(
    pattern="M-M*-M-", hidden_size=64, ffn_hidden_size=96, mamba_num_heads=6, mamba_head_dim=16, mamba_state_dim=16,
    mamba_num_groups=2, num_attention_heads=4, num_query_groups=2, kv_channels=16, vocab_size=640,
)  # fmt: skip


@pytest.mark.slow
def test_a_parameter_s_own_optimizer_state_is_saved_where_gradients_lie_in_several_buckets(backend, tokenizer_folder):
    runtime = Runtime()
    with backend.session(runtime) as session:
        from megatron.core.dist_checkpointing.mapping import apply_factories
        from megatron.core.dist_checkpointing.strategies.fully_parallel import FullyParallelSaveStrategyWrapper
        from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
        from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

        module = backend.build(session, SHAPE, tokenizer=tokenizer_folder, runtime=runtime)
        split = DistributedDataParallelConfig(
            use_distributed_optimizer=True, overlap_grad_reduce=True, bucket_size=5_000
        )
        parallel = DistributedDataParallel(module.config, split, module)
        config = OptimizerConfig(optimizer="adam", lr=1e-3, clip_grad=0.0, use_distributed_optimizer=True)
        optimizer = get_megatron_optimizer(config, [parallel])
        draw = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            parameter.main_grad.copy_(torch.randn(parameter.shape, generator=draw))
        optimizer.step()
        (buffer,) = parallel.buffers
        assert len(buffer.buckets) > 5 and buffer.numel > buffer.numel_unpadded, "with padding between them"
        saved = optimizer.sharded_state_dict(
            parallel.sharded_state_dict(prefix=""), metadata={"distrib_optim_sharding_type": "fully_reshardable"}
        )["param_state"]
        written = {number: dict(state) for number, state in saved.items()}
        apply_factories(written)
        FullyParallelSaveStrategyWrapper(TorchDistSaveShardedStrategy("torch_dist", 1)).apply_saving_parallelization(
            written
        )
        assert len(saved) == len(buffer.param_index_map)
        for state, parameter in zip(saved.values(), buffer.param_index_map, strict=True):
            assert torch.equal(state["param"].data.view_as(parameter), parameter)
            torch.testing.assert_close(state["exp_avg"].data.view_as(parameter), 0.1 * parameter.main_grad)


def as_of_5077(self, model_sharded_state_dict, is_loading=False, metadata=None):
    """What upstream may have in the method's place: it takes nothing from beside a parameter's state."""
    return {}


@pytest.mark.slow
def test_the_state_of_the_optimizer_is_corrected_only_while_upstream_takes_it_from_beside(backend, monkeypatch):
    change = upstream_fixes.OPTIMIZER_STATE
    optimizer = find("megatron.core.optimizer.distrib_optimizer:DistributedOptimizer")
    name = "sharded_param_state_fully_reshardable"
    assert change.name in changes_made() and change.applies() and change.mended()
    monkeypatch.setattr(optimizer, name, as_of_5077)  # upstream mended it
    assert not change.applies() and change.mended()
    monkeypatch.delattr(optimizer, name)  # upstream calls it something else
    assert not change.applies() and not change.mended()
    with pytest.raises(UserError, match="'optimizer-state' to megatron.core.optimizer.distrib_optimizer.Distributed"):
        change.check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*product.*:DeprecationWarning")
def test_shards_are_counted_where_numpy_has_no_product(backend, monkeypatch):
    from megatron.core.dist_checkpointing.exchange_utils import _shard_size
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    change = upstream_fixes.NUMPY_PRODUCT
    shard = ShardedTensor.from_rank_offsets("weight", torch.zeros(3, 4), (0, 0, 2))
    assert not change.applies() and change.mended(), "numpy 1.26 has it"
    monkeypatch.delattr(numpy, "product")  # as numpy 2 does
    with pytest.raises(AttributeError, match="product"):
        _shard_size(shard)
    assert change.applies()
    monkeypatch.setattr(changes, "_made", {})
    assert change.apply() and _shard_size(shard) == 3 * 4 * 4


@pytest.mark.slow
def test_what_a_save_has_written_goes_from_a_fork_to_its_parent_and_through_no_other_process(backend):
    assert upstream_fixes.SAVE_RESULTS.name in changes_made()
    results = find("megatron.core.dist_checkpointing.strategies.filesystem_async:_get_write_results_queue")()
    results.put({0: []})
    assert results.get_nowait() == {0: []} and not multiprocessing.active_children()
    large = {0: ["x" * 1000] * 1000}  # more than a pipe holds
    saver = multiprocessing.get_context("fork").Process(target=results.put, args=(large,))
    saver.start()
    saver.join()
    assert results.get_nowait() == large
    with pytest.raises(queue.Empty):
        results.get_nowait()
