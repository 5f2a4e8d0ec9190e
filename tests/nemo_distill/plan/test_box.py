"""The order in which steps get a machine's GPUs, over random runs, and what the preview shows of it."""

import itertools
import random

import pytest

from nemo_distill.plan.box import Need, Order, Slot


def random_run(seed: int) -> tuple[dict[str, Need], dict[str, float], int, int]:
    """Up to a dozen steps that wait for each other in some way, their hours, and a machine that can run each."""
    chance = random.Random(seed)
    gpus, others = chance.randint(1, 8), chance.randint(1, 3)
    needs: dict[str, Need] = {}
    for number in range(chance.randint(1, 12)):
        upstream = tuple(name for name in needs if chance.random() < 0.25)
        count = chance.choice([0, 1, 1, chance.randint(0, gpus)])
        needs[f"s{number}"] = Need(gpus=count, more=count > 0 and chance.random() < 0.3, upstream=upstream)
    hours = {name: chance.choice([0.0, 1.0, chance.uniform(0.1, 9.0)]) for name in needs}
    return needs, hours, gpus, others


def overlap(one: Slot, other: Slot) -> bool:
    return one.begin < other.end and other.begin < one.end


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_in_any_run_everything_runs_once_after_what_it_waits_for_and_no_gpu_is_anybodys_twice(first):
    for seed in range(first, first + 100):
        needs, hours, gpus, others = random_run(seed)
        slots = {slot.name: slot for slot in Order(needs, gpus=gpus, others=others).planned(hours)}
        assert set(slots) == set(needs)
        for name, slot in slots.items():
            count = len(set(slot.gpus))
            assert len(slot.gpus) == count and set(slot.gpus) <= set(range(gpus))
            assert count >= needs[name].gpus if needs[name].more else count == needs[name].gpus
            assert (slot.end - slot.begin) * max(count, 1) == pytest.approx(hours[name] * max(needs[name].gpus, 1))
            assert all(slots[before].end <= slot.begin for before in needs[name].upstream)
        for one, other in itertools.combinations(slots.values(), 2):
            assert not (overlap(one, other) and set(one.gpus) & set(other.gpus)), seed
        for now in {slot.begin for slot in slots.values()}:
            running = [slot for slot in slots.values() if slot.begin <= now < slot.end]
            assert sum(len(slot.gpus) for slot in running) <= gpus
            assert sum(not slot.gpus for slot in running) <= others


def test_a_trunk_that_goes_one_by_one_is_as_soon_done_as_if_no_other_step_had_a_gpu_for_any_time():
    compared = later = 0
    for seed in range(2000):
        needs, hours, gpus, _ = random_run(seed)
        order = Order(needs, gpus=gpus, others=99)
        trunk = [name for name in needs if name in order.trunk]
        if not all(one in before(other, needs) for one, other in itertools.pairwise(trunk)):
            continue
        branches = {name for name, need in needs.items() if need.gpus and name not in trunk}
        slots = {slot.name: slot for slot in order.planned(hours)}
        for slot in order.planned(hours | dict.fromkeys(branches, 0.0)):
            if slot.name in order.trunk:
                assert slots[slot.name].begin == pytest.approx(slot.begin), (seed, slot.name)
                compared, later = compared + 1, later + (slot.begin > 0)
    assert compared > 300 and later > 50, (compared, later)


def before(name: str, needs: dict[str, Need]) -> set[str]:
    """All that the step waits for."""
    return set(needs[name].upstream).union(*(before(upstream, needs) for upstream in needs[name].upstream))


TRAINING = {
    "import": Need(gpus=1),
    "prune": Need(gpus=1, upstream=("import",)),
    "distill-1": Need(gpus=4, upstream=("prune",)),
    "distill-2": Need(gpus=4, upstream=("distill-1",)),
    "evaluate-teacher": Need(gpus=1, more=True),
    "export-1": Need(upstream=("distill-1",)),
    "evaluate-1": Need(gpus=1, more=True, upstream=("export-1",)),
    "export-2": Need(upstream=("distill-2",)),
    "evaluate-2": Need(gpus=1, more=True, upstream=("export-2",)),
}
HOURS = {"prune": 1.0, "distill-1": 2.0, "distill-2": 2.0} | {f"evaluate-{one}": 4.0 for one in ("teacher", "1", "2")}
SEGMENTS = {"distill-1": (1, 3, 4), "distill-2": (3, 5, 4)}


@pytest.mark.parametrize(
    ("gpus", "evaluations"),
    [
        # All four train: the evaluations follow, and none keeps the training from its GPUs.
        (4, {"teacher": (5, 7, 2), "1": (5, 7, 2), "2": (7, 8, 4)}),
        # The fifth evaluates meanwhile; what is last has the whole machine.
        (5, {"teacher": (0, 4, 1), "1": (4, 8, 1), "2": (5, 6, 4)}),
        (6, {"teacher": (0, 2, 2), "1": (3, 5, 2), "2": (5, 5 + 4 / 6, 6)}),
    ],
)
def test_evaluations_have_what_the_training_leaves_and_everything_afterwards(gpus, evaluations):
    slots = {slot.name: slot for slot in Order(TRAINING, gpus=gpus, others=2).planned(HOURS)}
    wanted = SEGMENTS | {f"evaluate-{label}": when for label, when in evaluations.items()}
    assert {name: (slots[name].begin, slots[name].end, len(slots[name].gpus)) for name in wanted} == wanted


def test_what_it_takes_to_start_is_as_long_on_more_gpus():
    starting = {f"evaluate-{label}": 1.0 for label in ("teacher", "1", "2")}
    slots = {slot.name: slot for slot in Order(TRAINING, gpus=5, others=2).planned(HOURS, starting)}
    assert (slots["evaluate-1"].end, slots["evaluate-2"].end - slots["evaluate-2"].begin) == (8, 1 + 3 / 4)


def test_a_narrow_step_does_not_overtake_a_wide_one_that_waits_for_its_gpus():
    needs = {name: Need(gpus=count) for name, count in (("long", 1), ("wide", 2), ("narrow", 1))}
    slots = {slot.name: slot for slot in Order(needs, gpus=2, others=1).planned({"long": 3, "wide": 1, "narrow": 9})}
    assert [slots[name].begin for name in ("long", "wide", "narrow")] == [0, 3, 4]
