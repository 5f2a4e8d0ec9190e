"""In which order the steps of a run get the GPUs of one machine.

    order = Order(needs, gpus=8, others=2)
    order.next(done={"prune"}, running={}, free=8)      # {"distill-2.5B": 6, "evaluate-pruned": 2}
    order.planned({"distill-2.5B": 3.1, ...})           # when each begins and ends, on which GPUs

The trunk is every step with GPUs for which another one with GPUs waits: import, pruning and the training, one segment
after the other. Most often it decides when a run ends, so it goes first, and nothing stands in its way: as many GPUs as
the widest trunk step that is left takes are kept for the trunk. All other steps with GPUs, evaluations, share what is
over while the training goes on, and the whole machine afterwards: each gets as many as are over among those that can
begin, where it can use more. Without that, an evaluation of hours that begins on
one idle GPU would hold up a training that takes all of them.

What that costs: where the training takes every GPU, those that import and pruning leave idle stay so, since how long an
evaluation takes is not known well enough to begin one there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nemo_distill.config.resolved import Parallelism
from nemo_distill.run.gpus import needs as gpus_needed
from nemo_distill.run.gpus import uses_more
from nemo_distill.run.step import Spec


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a step takes and waits for."""

    gpus: int = 0
    """Number of GPUs, at least."""
    more: bool = False
    """Whether it is as much faster with more of them."""
    upstream: tuple[str, ...] = ()
    """Steps that have to be done before."""


def box_of(specs: Mapping[str, Spec], layout: Parallelism, *, gpus: int) -> dict[str, Need]:
    """What steps take on a machine with so many GPUs; those before them that are not among `specs` are done."""
    taken = gpus_needed(specs.values(), layout, there=gpus)
    return {
        name: Need(
            gpus=taken[name],
            more=taken[name] > 0 and uses_more(spec),
            upstream=tuple(up for up in spec.upstream if up in specs),
        )
        for name, spec in specs.items()
    }


@dataclass(frozen=True, kw_only=True)
class Slot:
    """When and where a step runs."""

    name: str
    """Name of the step."""
    begin: float
    """Hours from the start of the run."""
    end: float
    """Hours from the start of the run."""
    gpus: tuple[int, ...] = ()
    """Places of its GPUs among all of the machine."""


class Order:
    """Decides which steps begin; `needs` are in the order in which those go first between which nothing else decides.

    `gpus` are those of the machine, and `others` is how many steps without a GPU run at the same time.
    """

    def __init__(self, needs: Mapping[str, Need], *, gpus: int, others: int):
        assert all(need.gpus <= gpus for need in needs.values()), "a step takes more GPUs than there are"
        self.needs, self.gpus, self.others = dict(needs), gpus, others
        self.trunk = _trunk(self.needs)
        self._sorted = sorted(self.needs, key=lambda name: name not in self.trunk)  # stable

    def next(self, *, done: Collection[str], running: Mapping[str, int], free: int) -> dict[str, int]:
        """The steps that begin now, where so many GPUs are free, and how many each gets; `running` says it of those."""
        needs, begun = self.needs, {*done, *running}
        slots = self.others - sum(needs[name].gpus == 0 for name in running)
        kept = max((needs[name].gpus for name in self.trunk if name not in done), default=0)
        over = self.gpus - kept - sum(count for name, count in running.items() if name not in self.trunk)
        trunk_waits = branch_waits = False
        found: dict[str, int] = {}
        for name in self._sorted:
            need = needs[name]
            if name in begun or not all(before in done for before in need.upstream):
                continue
            if need.gpus == 0:
                if slots > 0:
                    slots -= 1
                    found[name] = 0
                continue
            if name in self.trunk:
                trunk_waits = trunk_waits or need.gpus > free
                if trunk_waits:  # the next would take what this one waits for
                    continue
            else:
                if need.gpus > self.gpus - kept:  # not while the trunk is not done: others may pass
                    continue
                branch_waits = branch_waits or need.gpus > min(free, over)
                if branch_waits:
                    continue
                over -= need.gpus
            free -= need.gpus
            found[name] = need.gpus
        faster = [name for name in found if needs[name].more and name not in self.trunk]
        spare = 0 if trunk_waits or branch_waits else min(free, over)
        for name in (faster * spare)[:spare]:
            found[name] += 1
        return found

    def planned(self, hours: Mapping[str, float], fixed: Mapping[str, float] | None = None) -> list[Slot]:
        """When each step runs, and where, if it takes so many `hours` on the GPUs that it needs at least; none where
        nothing is said of it. Those that are `fixed` of them are as long on more GPUs."""
        now, done, slots = 0.0, set[str](), list[Slot]()
        running: dict[str, Slot] = {}
        free = list(range(self.gpus))
        while len(done) < len(self.needs):
            counts = {name: len(slot.gpus) for name, slot in running.items()}
            for name, count in self.next(done=done, running=counts, free=len(free)).items():
                taken, free = tuple(free[:count]), free[count:]
                whole, least = hours.get(name, 0.0), (fixed or {}).get(name, 0.0)
                takes = least + (whole - least) * (self.needs[name].gpus / count if count else 1.0)
                running[name] = Slot(name=name, begin=now, end=now + takes, gpus=taken)
            assert running, f"no step can begin among {sorted({*self.needs} - done)}"
            now = min(slot.end for slot in running.values())
            for slot in [slot for slot in running.values() if slot.end <= now]:
                del running[slot.name]
                done.add(slot.name)
                slots.append(slot)
                free = sorted([*free, *slot.gpus])
        return sorted(slots, key=lambda slot: (slot.begin, slot.end))


def _trunk(needs: Mapping[str, Need]) -> frozenset[str]:
    """Steps with GPUs that another one with GPUs waits for, directly or not."""
    awaited: set[str] = set()
    for need in needs.values():
        waiting = list(need.upstream) if need.gpus else []
        while waiting:
            name = waiting.pop()
            if name in needs and name not in awaited:
                awaited.add(name)
                waiting += needs[name].upstream
    return frozenset(name for name in awaited if needs[name].gpus)
