"""How NeMo-Run gets at Slurm's commands: on this machine, or through ssh on a host that sees the runs folder."""

import dataclasses
import shlex
from dataclasses import dataclass

import nemo_run

from nemo_distill.launch.slurm.commands import Tunnel, ssh


def opened(way: Tunnel | None) -> "LocalTunnel":
    """NeMo-Run's tunnel that goes that way; None: it stays here."""
    return SharedTunnel(job_dir="", **dataclasses.asdict(way)) if way else LocalTunnel(job_dir="")


@dataclass(kw_only=True)
class LocalTunnel(nemo_run.LocalTunnel):
    """NeMo-Run's, whose commands leave standard input alone: a terminal stops what reads it in the background."""

    def __post_init__(self):
        super().__post_init__()
        self.session.config.run.in_stream = False


@dataclass(kw_only=True)
class SharedTunnel(LocalTunnel):
    """Runs Slurm's commands on a host that is reached by ssh and sees the runs folder, so that nothing is copied."""

    host: str
    """Its name; what follows is as `Tunnel` has it."""
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    config: str | None = None

    @property
    def way(self) -> Tunnel:
        """How to get there."""
        return Tunnel(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Tunnel)})

    def run(self, command: str, hide: bool = True, warn: bool = False, **settings):
        return super().run(shlex.join([*ssh(self.way), command]), hide=hide, warn=warn, **settings)
