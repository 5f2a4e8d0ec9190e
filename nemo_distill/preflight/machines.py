"""What each node of a job has, and whether that is what was asked for: image, mounts, versions, GPUs.

machine = look(surroundings, token=folder / "token", on_gpus=True)      # on the first rank of each node
mounts(surroundings, machines)                            # on rank 0, of all of them
"""

import hashlib
import json
import os
import platform
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.resolved import Parallelism
from nemo_distill.plan.gpus import get_gpu
from nemo_distill.preflight.results import Check
from nemo_distill.run.provenance import package_versions, plain_name

SEEN_SECONDS = 30.0
"""How long a file that another node has written may take to be seen."""
FREE_SHARE = 0.9
"""Share of a GPU's memory that is free where nobody else is on it."""
MEMORY_SHARE = 0.95
"""Share of what a kind of GPU has that CUDA reports at least."""
GIB = 2**30
NAMED = 5
"""Packages, or nodes, that a sentence names at most."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an executor puts a job into."""

    image: str = ""
    """Container image that was asked for; empty: none."""
    mounts: tuple[str, ...] = ()
    """What is mounted into it, as `/host/path:/container/path`."""
    prepares_elsewhere: bool = False
    """Whether sources are read on other nodes than those that train, which may see more of the network."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Surroundings":
        """What plain JSON data says."""
        return cls(**{**record, "mounts": tuple(record["mounts"])})

    def record(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self) | {"mounts": list(self.mounts)}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one node has."""

    host: str
    """Its name."""
    image: str = ""
    """Image that it says it runs; empty: none."""
    token: str = ""
    """What it has read in the runs folder; empty: nothing."""
    missing: tuple[str, ...] = ()
    """Folders of the container that were to be mounted and are not there."""
    python: str = ""
    """Version of Python."""
    packages: Mapping[str, str] | None = None
    """Versions of the packages, by plain name."""
    gpus: tuple[tuple[str, int, int], ...] = ()
    """Name of each GPU, and its free and whole memory in bytes."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Machine":
        """What plain JSON data says."""
        gpus = tuple((name, free, whole) for name, free, whole in record["gpus"])
        return cls(**{**record, "missing": tuple(record["missing"]), "gpus": gpus})

    @property
    def software(self) -> str:
        """What stands for Python and all packages."""
        said = json.dumps([self.python, dict(self.packages or {})], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def look(surroundings: Surroundings, *, token: Path, on_gpus: bool) -> Machine:
    """This node; `token` is the file in the runs folder that rank 0 has written. GPUs are looked at where asked for."""
    inside = [mount.split(":")[1] for mount in surroundings.mounts]
    return Machine(
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        image=os.environ.get("NEMO_DISTILL_IMAGE", ""),
        token=_read_soon(token),
        missing=tuple(folder for folder in inside if not Path(folder).exists()),
        python=platform.python_version(),
        packages={plain_name(name): version for name, version in package_versions().items()},
        gpus=_gpus() if on_gpus else (),
    )


def _gpus() -> tuple[tuple[str, int, int], ...]:
    import torch

    found = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return tuple((torch.cuda.get_device_name(one), *torch.cuda.mem_get_info(one)) for one in found)


def _read_soon(path: Path) -> str:
    """What stands in the file, which may take a while to be seen; empty: it is not."""
    until = time.monotonic() + SEEN_SECONDS
    while True:
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            if time.monotonic() > until:
                return ""
            time.sleep(0.2)


def image(surroundings: Surroundings, machines: Sequence[Machine]) -> Check:
    """Whether every node runs the image that was asked for."""
    if not surroundings.image:
        return Check.unchecked("image", "No container was asked for.")
    if others := [machine for machine in machines if machine.image != surroundings.image]:
        runs = f"runs {others[0].image}" if others[0].image else "runs in no container"
        return Check.failed("image", f"{others[0].host} {runs}, and {surroundings.image} was asked for.")
    return Check.ok("image", f"{surroundings.image} on {_nodes(machines)}.")


def mounts(surroundings: Surroundings, machines: Sequence[Machine], *, token: str, runs: str) -> Check:
    """Whether every node sees the runs folder, by the `token` that was written there, and what is mounted."""
    if blind := [machine.host for machine in machines if machine.token != token]:
        return Check.failed(
            "mounts", f"{_some(blind)} did not see within {SEEN_SECONDS:.0f} s what was written to {runs}: it has to "
            "be on a file system that all nodes share."
        )  # fmt: skip
    for machine in machines:
        if machine.missing:
            return Check.failed("mounts", f"{machine.host} has no {_some(machine.missing)}, which was to be mounted.")
    also = f" and {len(surroundings.mounts)} mounted folders" if surroundings.mounts else ""
    return Check.ok("mounts", f"The runs folder{also} on {_nodes(machines)}.")


def versions(lock: Mapping[str, str] | None, deciding: Sequence[str], machines: Sequence[Machine]) -> Check:
    """Whether what is installed is what the lock says, of the packages that decide what is computed, everywhere alike.

    `lock` has versions by plain name; None: there is no lock file beside the code.
    """
    first, *others = machines
    for machine in others:
        if machine.software != first.software:
            here, there = dict(first.packages or {}), dict(machine.packages or {})
            names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)] or ["Python"]
            return Check.failed("versions", f"{first.host} and {machine.host} differ in {_some(names)}.")
    if lock is None:
        return Check.unchecked("versions", "There is no requirements/lock.txt beside the code to compare with.")
    had = first.packages or {}
    # What follows a `+` is for whom it was built (torch's `+cpu`).
    other = {name: wanted for name, wanted in lock.items() if had.get(name, "none").partition("+")[0] != wanted}
    known = {plain_name(name) for name in deciding}
    if wrong := {name: wanted for name, wanted in other.items() if name in known}:
        said = ", ".join(f"{name} {had.get(name, 'missing')} (lock: {wanted})" for name, wanted in wrong.items())
        return Check.failed("versions", f"{said} on {_nodes(machines)}: make setup installs the lock.")
    rest = f"; {len(other)} that decide nothing are others or missing: {_some(list(other))}" if other else ""
    as_said = ", ".join(sorted(known & set(lock)))
    return Check.ok("versions", f"{as_said} as in the lock{rest}.", f"{len(lock)} packages")


def gpus(layout: Parallelism, machines: Sequence[Machine]) -> Check:
    """Whether every node has the GPUs of the layout, of their kind, and to itself."""
    if layout.gpu is None:
        return Check.unchecked("GPUs", "The layout asks for none.")
    kind = get_gpu(layout.gpu)
    for machine in machines:
        if len(machine.gpus) < layout.gpus_per_node:
            shown = len(machine.gpus)
            return Check.failed(
                "GPUs", f"{machine.host} shows {shown} GPUs, and layout.gpus_per_node={layout.gpus_per_node}."
            )  # fmt: skip
        for number, (name, free, whole) in enumerate(machine.gpus[: layout.gpus_per_node]):
            if not _words(kind.name) <= _words(name):
                return Check.failed("GPUs", f"GPU {number} of {machine.host} is a {name}, and layout.gpu={kind.name}.")
            if whole < MEMORY_SHARE * kind.memory_gib * GIB:
                return Check.failed(
                    "GPUs", f"GPU {number} of {machine.host} has {whole / GIB:.0f} GiB, and an {kind.name} "
                    f"{kind.memory_gib:.0f}: it is a part of one."
                )  # fmt: skip
            if free < FREE_SHARE * whole:
                return Check.failed(
                    "GPUs", f"GPU {number} of {machine.host} has {(whole - free) / GIB:.0f} GiB in use: somebody else "
                    "is on it."
                )  # fmt: skip
    count = sum(len(machine.gpus[: layout.gpus_per_node]) for machine in machines)
    return Check.ok("GPUs", f"All are {kind.name}s, free, on {_nodes(machines)}.", f"{count} GPUs")


def _words(name: str) -> set[str]:
    """The words of a GPU's name, so that an H20 is no H200."""
    return set(re.split(r"[^A-Za-z0-9]+", name))


def _nodes(machines: Sequence[Machine]) -> str:
    hosts = [machine.host for machine in machines]
    return _some(hosts) if len(hosts) <= 2 else f"{len(hosts)} nodes"


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
