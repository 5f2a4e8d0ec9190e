"""Shows when each step of a run would have which GPUs of one machine, as lines of text.

    for line, style in timeline(run, estimate, steps=run.specs, box=Box(gpus=8, others=2)): ...

It plans as the executor does (`nemo_distill.plan.box`), from the hours of the preview: what these rest on is said by
their marks. A step of which no hours are known is taken to need none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nemo_distill.plan.box import Order, Slot, box_of
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.tables import duration_in_words
from nemo_distill.run.manifest import Run

WIDTH = 80
NAME, GPUS, TIME = 18, 7, 11
"""Columns of a step's name, of its GPUs and of a time."""
LEAST_BAR = 10
FULL = "█"


@dataclass(frozen=True, kw_only=True)
class Box:
    """The machine that the steps run on."""

    gpus: int
    """Number of GPUs that it has to give; 0: it is planned for another, which has those of the layout."""
    others: int
    """How many steps without a GPU run at the same time."""


def hours_on_box(estimate: Estimate, taken: Mapping[str, int]) -> dict[str, float]:
    """Hours of each step that takes GPUs, as many as `taken` says, and of which it is known what they do."""
    found = {}
    for _, steps in estimate.parts:
        for name, gpu_hours in steps.items():
            if taken.get(name):
                found[name] = gpu_hours / taken[name]
    return found


def timeline(run: Run, estimate: Estimate, *, steps: Collection[str], box: Box) -> list[tuple[str, str]]:
    """Lines of 80 columns, and their styles, on those of the steps that are left; none where they take no GPU."""
    left = {name: spec for name, spec in run.specs.items() if name in steps and not spec.done}
    layout = run.facts.beside.layout
    gpus = box.gpus or layout.gpus_per_node
    needs = box_of(left, layout, gpus=gpus)
    taken = {name: need.gpus for name, need in needs.items()}
    if not any(taken.values()):
        return []
    hours = hours_on_box(estimate, taken)
    starting = {
        name: cost.besides / 3600 / taken[name] for name, cost in estimate.evaluations.items() if taken.get(name)
    }
    slots = [slot for slot in Order(needs, gpus=gpus, others=box.others).planned(hours, starting) if slot.gpus]
    end = max(slot.end for slot in slots)
    bar = max(LEAST_BAR, WIDTH - NAME - GPUS - 2 * TIME - 6)
    scale = f"{'0':<{bar - len(duration_in_words(end))}}{duration_in_words(end)}"
    count = f"{gpus} {'GPU' if gpus == 1 else 'GPUs'}"
    lines = [
        (f"Plan on {count} of {'this' if box.gpus else 'a'} machine: {duration_in_words(end)}", "bold"),
        (f"{'step':<{NAME}}  {'GPUs':<{GPUS}}{'begins':>{TIME}}{'takes':>{TIME}}    {scale}", "bold"),
    ]
    for slot in slots:
        mark = estimate.evidence(slot.name).value
        known = slot.name in hours
        cells = f"{_short(slot.name):<{NAME}}  {_places(slot.gpus):<{GPUS}}{duration_in_words(slot.begin):>{TIME}}"
        takes = duration_in_words(slot.end - slot.begin) if known else "?"
        lines.append((f"{cells}{takes:>{TIME}} {mark if known else ' '}  {_bar(slot, end, bar)}".rstrip(), ""))
    unknown = _kinds([name for name in taken if name not in hours])
    lines.append((f"Not counted, for nothing is known of their time on it: {', '.join(unknown)}.", "dim"))
    return lines


def _bar(slot: Slot, end: float, columns: int) -> str:
    """A bar from begin to end, a column at least where it takes any time."""
    if not end or slot.end <= slot.begin:
        return ""
    first = min(int(columns * slot.begin / end), columns - 1)
    last = max(first + 1, round(columns * slot.end / end))
    return " " * first + FULL * (last - first)


def _places(places: Sequence[int]) -> str:
    """
    >>> _places((0, 1, 2, 5)), _places((3,))
    ('0-2,5', '3')
    """
    parts: list[list[int]] = []
    for place in sorted(places):
        if parts and parts[-1][-1] == place - 1:
            parts[-1].append(place)
        else:
            parts.append([place])
    said = ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
    return said if len(said) <= GPUS else f"{said[: GPUS - 1]}…"


def _kinds(names: Sequence[str]) -> list[str]:
    """
    >>> _kinds(["prepare", "export-20B", "import-teacher", "export-40B"])
    ['prepare', 'export-*', 'import-teacher']
    """
    parts = [name.partition("-")[0] for name in names]
    return list(
        dict.fromkeys(f"{part}-*" if parts.count(part) > 1 else name for name, part in zip(names, parts, strict=True))
    )


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
