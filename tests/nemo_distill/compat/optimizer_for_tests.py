"""Saves a distributed optimizer's state by several ranks, our way and Megatron's, and goes on from each.

    python tests/nemo_distill/compat/optimizer_for_tests.py FOLDER RANKS TENSOR_PARALLEL

Prints a line of JSON: by way the digests of all tensors, and the sizes of the files. In a process of its own: ranks are
forked from it, and one that has computed has threads whose locks a fork would hold for ever.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks import checkpoint

SIZES = {
    "pattern": "M-*-", "hidden_size": 64, "ffn_hidden_size": 96, "mamba_num_heads": 6, "mamba_head_dim": 16,
    "mamba_state_dim": 16, "mamba_num_groups": 2, "num_attention_heads": 4, "num_query_groups": 2, "kv_channels": 16,
    "vocab_size": 128,
}  # fmt: skip


def main(folder: Path, ranks: int, tensor_parallel: int) -> None:
    from nemo_distill import backends
    from nemo_distill.compat import optimizer_state
    from nemo_distill.compat.changes import changes_made

    backends.prepared()
    assert optimizer_state.OPTIMIZER_MEMORY.name in changes_made()
    found = {}
    for way, before in (("own", lambda: None), ("theirs", optimizer_state.undo)):
        first = os.fork()
        if not first:
            before()
            with checkpoint.on_ranks(ranks, folder / f"{way}.store"):
                checkpoint.measured(folder / way, sizes=SIZES, bucket=5_000, tensor_parallel=tensor_parallel)
            os._exit(0)
        assert os.waitpid(first, 0)[1] == 0
        files = {path.name: path.stat().st_size for path in (folder / way).rglob("*.distcp")}
        found[way] = {"tensors": checkpoint.digests(folder / way), "files": files}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
