"""torchrun, with a store that listens on one address and unpickles nothing.

    python -m nemo_distill.run.torchrun --nodes 2 --ranks-per-node 8 --endpoint 10.1.0.7:14711 -- STEP

starts the ranks of one node, each as `python STEP`; one such command runs on each node. torchrun's own meeting of nodes
(`c10d`) keeps a pickle in a store without a key, which listens on every interface: whoever reaches the port has his
code run. Here the place of a node among the others is known beforehand, so nothing has to be agreed, and the store is
bound to the address that the ranks need: the loopback on one node, the endpoint's on several, where it still asks
nobody who he is. What the step imports for seconds is imported once for all ranks, where they can be forked from a
process that has it (`nemo_distill.run.forkserver`).
"""

import argparse
import os
import socket
import sys

from torch.distributed import TCPStore, run
from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

from nemo_distill.run import forkserver
from nemo_distill.run.ranks import keep_to_this_machine

NAME = "bound"
"""What torchrun calls this meeting."""
LOOPBACK = "127.0.0.1"
SECONDS = 600
"""How long nodes wait for the one that keeps the store."""


class Bound(StaticTCPRendezvous):
    """Nodes of known places, whose store is bound to `master_addr` alone."""

    def get_backend(self) -> str:
        """As torchrun was told."""
        return NAME

    def next_rendezvous(self) -> RendezvousInfo:
        """Where this node's ranks meet the others."""
        if not self._store:
            listens = None
            if self.rank == 0:
                family, _, _, _, address = socket.getaddrinfo(self.master_addr, self.master_port)[0]
                listener = socket.create_server(address, family=family, backlog=2048)
                self.master_port = listener.getsockname()[1]
                listens = listener.detach()
            self._store = TCPStore(
                self.master_addr,
                self.master_port,
                self.world_size,
                is_master=self.rank == 0,
                timeout=self.timeout,
                wait_for_workers=False,
                master_listen_fd=listens,
            )
        return super().next_rendezvous()


def _bound(parameters: RendezvousParameters) -> Bound:
    host, _, port = parameters.endpoint.rpartition(":")
    return Bound(
        master_addr=host,
        master_port=int(port),
        rank=parameters.get_as_int("rank", 0) or 0,
        world_size=parameters.max_nodes,
        run_id=parameters.run_id,
        timeout=SECONDS,
    )


def main(arguments: list[str]) -> None:
    """Start the ranks of this node, and end with them, as torchrun does."""
    own, step = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    parser = argparse.ArgumentParser(usage=f"python -m {__spec__.name} [OPTION ...] -- STEP")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--ranks-per-node", type=int, default=1)
    parser.add_argument("--endpoint", metavar="HOST:PORT", default=f"{LOOPBACK}:0", help="address of the first node")
    parser.add_argument("--node", type=int, help="place of this node, from 0; of Slurm's where not given")
    asked = parser.parse_args(own)
    node = asked.node if asked.node is not None else int(os.environ.get("SLURM_NODEID", 0))
    if asked.nodes == 1:
        node = 0
        keep_to_this_machine()
    if NAME not in rendezvous_handler_registry._registry:
        rendezvous_handler_registry.register(NAME, _bound)
    if asked.ranks_per_node > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, before ranks can be forked
    with forkserver.serving_ranks(step, asked.ranks_per_node) as variables:
        os.environ.update(variables)
        run.main(
            [
                *("--nnodes", str(asked.nodes), "--nproc-per-node", str(asked.ranks_per_node)),
                *("--rdzv-backend", NAME, "--rdzv-endpoint", asked.endpoint, "--rdzv-conf", f"rank={node}"),
                *step,
            ]
        )


if __name__ == "__main__":
    main(sys.argv[1:])
