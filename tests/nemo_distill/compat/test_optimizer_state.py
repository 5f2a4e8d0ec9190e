"""A distributed optimizer's checkpoint, written and read by several ranks, against Megatron's own way with it."""

import os
from pathlib import Path

import pytest
import torch

from benchmarks import checkpoint
from nemo_distill.compat import optimizer_state
from nemo_distill.compat.changes import changes_made

SIZES = {
    "pattern": "M-*-", "hidden_size": 64, "ffn_hidden_size": 96, "mamba_num_heads": 6, "mamba_head_dim": 16,
    "mamba_state_dim": 16, "mamba_num_groups": 2, "num_attention_heads": 4, "num_query_groups": 2, "kv_channels": 16,
    "vocab_size": 128,
}  # fmt: skip


def written(folder: Path, *, ranks: int, tensor_parallel: int, before=lambda: None) -> dict[str, str]:
    """Digests of all tensors that ranks, forked from this process, save and then go on from."""
    first = os.fork()
    if not first:
        before()
        with checkpoint.on_ranks(ranks, folder.with_suffix(".store")):
            checkpoint.measured(folder, sizes=SIZES, bucket=5_000, tensor_parallel=tensor_parallel)
        os._exit(0)
    assert os.waitpid(first, 0)[1] == 0
    return checkpoint.digests(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "tensor_parallel"), [(2, 1), (4, 2)], ids=["data", "data and tensor"])
def test_every_tensor_is_on_disk_as_megatron_itself_writes_it(backend, tmp_path, ranks, tensor_parallel):
    layout = {"ranks": ranks, "tensor_parallel": tensor_parallel}
    assert optimizer_state.OPTIMIZER_MEMORY.name in changes_made()
    own = written(tmp_path / "own", **layout)
    theirs = written(tmp_path / "theirs", **layout, before=optimizer_state.undo)
    assert own == theirs and sum(name.startswith("optimizer.state.exp_avg_sq") for name in own) > 10
    files = [{f.name: f.stat().st_size for f in (tmp_path / way).rglob("*.distcp")} for way in ("own", "theirs")]
    assert files[0] == files[1] and len(files[0]) == 2 * ranks, "each rank writes two"


def test_ranges_are_cut_at_the_ends_of_a_bucket():
    assert optimizer_state._within([(0, 4), (6, 9), (20, 30)], 3, 8) == [(3, 4), (6, 8)]


def test_memory_that_is_set_aside_is_there_only_when_it_is_written_to():
    def here() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = here()
    room = optimizer_state.memory(2**28)  # 1 GiB
    assert here() - before < 2**26
    room[: 2**20] = 1
    assert torch.equal(room[: 2**20], torch.ones(2**20)) and here() - before < 2**26
