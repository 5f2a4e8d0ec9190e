"""What digits depend on beside a step's config, where they are to be equal bit for bit (`distill.deterministic`).

    here = Conditions.of(layout, device="NVIDIA H200", versions={"torch": "2.11.0"})
    here.check(Conditions.read(folder), "distill-2.5B")          # refused where they are not those that it began under

A sum in floating point depends on its order, and the order on how many ranks share it, on the kind of GPU and on the
versions of what adds up. A segment keeps these in a file of its output, and whatever goes on from it compares them.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nemo_distill.config.resolved import Parallelism
from nemo_distill.errors import UserError
from nemo_distill.run.inside import text_of
from nemo_distill.run.progress import write_atomically

FILE = "deterministic.json"
LAYOUT = ("nodes", "gpus_per_node", "tensor_parallel", "context_parallel")
"""What of a layout decides the order of a sum, 1 where a file does not say; activation recomputation changes no
digit."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the order of sums depends on."""

    layout: Mapping[str, int]
    """`LAYOUT`, by name."""
    device: str = ""
    """The GPU's name, or `CPU` and its number of threads; empty where it is not known yet, as to a launch."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of what computes, by package; empty where they are not known yet."""
    kernels: Mapping[str, str] = field(default_factory=dict)
    """The variant of each kernel that has several, by the kernel's dotted name: to be read, never compared."""

    @classmethod
    def of(cls, layout: Parallelism, *, device: str = "", versions: Mapping[str, str] | None = None) -> "Conditions":
        """The conditions under `layout` on a `device`."""
        return cls(layout={name: getattr(layout, name) for name in LAYOUT}, device=device, versions=versions or {})

    @classmethod
    def read(cls, folder: Path) -> "Conditions | None":
        """Those that are kept in a step's folder; None: there are none. Raises `UserError` for a file that is none."""
        path = folder / FILE
        try:
            said = json.loads(text_of(path))
            if not isinstance(said.get("device", ""), str):
                raise TypeError("the device is no name")
            tables = {name: dict(said[name]) for name in ("layout", "versions", "kernels") if name in said}
            return cls(**said | tables)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} does not say under what a deterministic training began: {error}.") from None

    def write(self, folder: Path) -> None:
        """Keep them in a step's folder."""
        write_atomically(folder / FILE, json.dumps(dataclasses.asdict(self), indent=1))

    def check(self, begun: "Conditions", name: str) -> None:
        """Raise `UserError` where what `name` began under is not this, with what it was."""
        rule = "distill.deterministic=true goes on bit for bit under what it began with"
        spread = [{key: one.layout.get(key, 1) for key in LAYOUT} for one in (begun, self)]
        if spread[0] != spread[1]:
            was, here = (" ".join(f"layout.{key}={ranks}" for key, ranks in one.items()) for one in spread)
            raise UserError(f"{rule}: {name} began with {was}, and here is {here}. Say the former.")
        if self.device and begun.device and begun.device != self.device:
            raise UserError(f"{rule}: {name} began on {begun.device}, and here is {self.device}.")
        if self.versions and begun.versions and dict(begun.versions) != dict(self.versions):
            names = sorted(begun.versions.keys() | self.versions.keys())
            first = next(one for one in names if begun.versions.get(one) != self.versions.get(one))
            was, here = begun.versions.get(first, "none"), self.versions.get(first, "none")
            raise UserError(f"{rule}: {name} began with {first} {was}, and here is {here}.")

    def check_all(self, segments: Mapping[str, Path]) -> None:
        """Raise `UserError` where one of the `segments`, folders by step's name, began under others."""
        for name, folder in segments.items():
            if begun := Conditions.read(folder):
                self.check(begun, name)
