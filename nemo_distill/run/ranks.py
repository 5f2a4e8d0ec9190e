"""The ranks of a step: the processes that torchrun starts for it, and how they agree.

    python -m nemo_distill.run.torchrun --nodes 2 --ranks-per-node 8 --endpoint HOST:PORT \\
        -- -m nemo_distill.step RUNS/distill-2.5B/FINGERPRINT/spec.json

Every rank runs the same step. Rank 0 alone holds the folder's lock and writes marks; what it decides, or reads off a
folder that another machine may see later than it does, the others are told through torchrun's own store. The first
rank to fail says why there, and all others stop. A step that torchrun did not start has one rank, and none of this
costs it anything: torch is imported only where there are several.

>>> from nemo_distill.run.ranks import Ranks
>>> Ranks(rank=3, size=16, local_size=8, tensor_parallel=8).data_parallel
2
"""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from nemo_distill.config.resolved import Parallelism
from nemo_distill.run.step import Spec

T = TypeVar("T")

TERMINATED = {"rank": None, "terminated": True}
"""What a rank reports that was told to end and has not failed."""
POLL_SECONDS = 0.2
STORE_SECONDS = 60.0
"""How long a rank tries, twice, to reach torchrun's store, which is there before any rank."""
MEETING_SECONDS = 600.0
"""How long rank 0 waits for the others to finish what it has finished itself."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Which rank this process is, of how many."""

    rank: int = 0
    """Of this process, over all machines."""
    size: int = 1
    """Ranks in all."""
    local_size: int = 1
    """Ranks on this machine; as many on every other."""
    tensor_parallel: int = 1
    """Ranks that share each layer of a copy of the model."""
    context_parallel: int = 1
    """Ranks, times as many, that share each sequence; all others share the batch."""
    step: str = ""
    """Name of the step that is agreed about, where these ranks have done another one before; else empty."""

    @staticmethod
    @functools.cache
    def here() -> "Ranks":
        """This process among those that torchrun started, as its environment says; the only one without torchrun."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return Ranks()
        return Ranks(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        )

    def laid_out(self, spec: Spec) -> tuple["Ranks", Parallelism]:
        """These ranks as they share copies of the model, and the layout that says so, which rank 0 has read."""
        said = self.agree("layout", lambda: dataclasses.asdict(spec.beside.layout))
        layout = Parallelism(**said)
        if self.size == 1:  # whatever it says
            return self, layout
        shared = dataclasses.replace(
            self, tensor_parallel=layout.tensor_parallel, context_parallel=layout.context_parallel
        )
        return shared, layout

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.size // self.local_size

    @property
    def data_parallel(self) -> int:
        """Copies of the model that share the batch."""
        return self.size // (self.tensor_parallel * self.context_parallel)

    def agree(self, about: str, decide: Callable[[], T]) -> T:
        """What `decide`, called on rank 0 alone, returns there: plain JSON data, on every rank.

        `about` names the question, each asked once in a step. The others wait, however long rank 0 takes.
        """
        if self.size == 1:
            return decide()
        if self.first:
            decision = decide()
            self._store.set(about, json.dumps(decision))
            return decision
        while not self._store.check([about]):
            time.sleep(POLL_SECONDS)
        return json.loads(self._store.get(about))

    def gather(self, about: str, mine: T) -> list[T]:
        """On rank 0 what each rank says `about` something, plain JSON data, in order of the ranks; empty elsewhere.

        Raises TimeoutError when one has not after `MEETING_SECONDS`.
        """
        if self.size == 1:
            return [mine]
        self._store.set(f"{about}/{self.rank}", json.dumps(mine))
        if not self.first:
            return []
        until, keys = time.monotonic() + MEETING_SECONDS, [f"{about}/{rank}" for rank in range(self.size)]
        while not self._store.check(keys):
            if time.monotonic() > until:
                silent = [rank for rank, key in enumerate(keys) if not self._store.check([key])]
                raise TimeoutError(f"rank {silent[0]} of {self.size} has not said its {about}.")
            time.sleep(POLL_SECONDS)
        return [json.loads(self._store.get(key)) for key in keys]

    def store(self, name: str):
        """A part of torchrun's store, for a process group of its own; of one rank, a store of this process."""
        from torch.distributed import HashStore, PrefixStore

        return HashStore() if self.size == 1 else PrefixStore(name, self._store)

    def finish(self) -> None:
        """Say that this rank is done with its work; rank 0 waits until all have said so.

        Raises TimeoutError when one has not after `MEETING_SECONDS`.
        """
        if self.size == 1:
            return
        finished = self._store.add("finished", 1)
        until = time.monotonic() + MEETING_SECONDS
        while self.first and finished < self.size:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.size - finished} of {self.size} ranks have not finished.")
            time.sleep(POLL_SECONDS)
            finished = self._store.add("finished", 0)

    def report(self, failure: dict) -> dict:
        """Tell all ranks of this one's `failure`, plain JSON data; returns the one that was reported first."""
        if self.size == 1:
            return failure
        try:
            return json.loads(self._store.compare_set("failure", "", json.dumps(failure)))
        except RuntimeError:  # torchrun has gone
            return failure

    def reported(self) -> dict | None:
        """The failure that was reported first, or None; that torchrun, which keeps the store, has gone is one too."""
        try:
            return json.loads(self._store.get("failure")) if self._store.check(["failure"]) else None
        except RuntimeError:
            return TERMINATED

    @functools.cached_property
    def _store(self):
        from torch.distributed import PrefixStore, rendezvous

        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=STORE_SECONDS)))
        return PrefixStore(f"nemo_distill/{self.step}" if self.step else "nemo_distill", store)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Nodes and processes of a step."""

    nodes: int = 1
    """Number of nodes."""
    per_node: int = 1
    """Processes of each node."""

    @classmethod
    def of(cls, spec: Spec, layout: Parallelism) -> "Processes":
        """Those of `layout` where the step takes many ranks, else one."""
        return cls(nodes=layout.nodes, per_node=layout.gpus_per_node) if spec.many_ranks else cls()

    @property
    def world(self) -> int:
        """Total number of processes."""
        return self.nodes * self.per_node

    def __str__(self) -> str:
        return f"{self.nodes} {'node' if self.nodes == 1 else 'nodes'} x {self.per_node}"


def keep_to_this_machine() -> None:
    """Have gloo and NCCL listen on the loopback, unless the environment says where: no other machine takes part."""
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")


def torchrun(
    step: list[str], *, nodes: int, ranks_per_node: int, endpoint: str | None = None, node: int | None = None
) -> list[str]:
    """Arguments of the Python that starts `step`, itself such arguments, over several ranks; one such command per node.

    `endpoint` (host:port, the port free) is where the nodes meet, an address of the first; one node needs none. `node`
    is which of them this is, from 0; Slurm tells where it is not given.
    """
    assert (endpoint is None) == (nodes == 1)
    return [
        *("-m", "nemo_distill.run.torchrun", "--nodes", str(nodes), "--ranks-per-node", str(ranks_per_node)),
        *(("--endpoint", endpoint) if endpoint else ()),
        *(("--node", str(node)) if node is not None else ()),
        "--",
        *step,
    ]
