"""A schedule of the registry reaches the optimizer: every iteration is trained with the rate that previews state."""

import dataclasses
import math

import pytest
import torch

from nemo_distill.backends.nemo.rates import CourseRates
from nemo_distill.config import schedule as schedules
from nemo_distill.config.schedule import Schedule
from nemo_distill.train.course import Course

LENGTH = 40
COURSE = dataclasses.replace(
    Course.of_indices(max_iterations=LENGTH, global_batch_size=8, seq_length=256, seed=1),
    learning_rate=2e-3,
    min_learning_rate=1e-4,
    warmup_iterations=5,
    schedule="root",
)


@pytest.fixture(autouse=True)
def root(monkeypatch):
    """A schedule that only these tests have, other at every iteration."""

    def rate(schedule: Schedule, iteration: int) -> float:
        return max(schedule.learning_rate / math.sqrt(iteration + 1), schedule.min_learning_rate)

    monkeypatch.setitem(schedules.SCHEDULES, "root", rate)


def optimizer(*, own: float | None = None) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]}]
    if own is not None:
        groups.append({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": own})
    return torch.optim.SGD(groups, lr=COURSE.learning_rate)


def trained(given: torch.optim.Optimizer, rates, iterations: int) -> list[float]:
    """The rates that so many iterations were trained with."""
    used = []
    for _ in range(iterations):
        used.append(given.param_groups[0]["lr"])
        given.step()
        rates.step()
    return used


def expected() -> list[float]:
    schedule = Schedule.of(dataclasses.asdict(COURSE))
    return [schedule.learning_rate_after(iteration) for iteration in range(LENGTH)]


def test_every_iteration_is_trained_with_the_rate_of_the_registry():
    given = optimizer()
    assert trained(given, CourseRates(given, Schedule.of(COURSE.config())), LENGTH) == expected()
    assert len(set(expected())) == LENGTH


def test_a_segment_goes_on_at_the_rate_where_the_one_before_it_ended():
    schedule = Schedule.of(COURSE.config())
    first = optimizer()
    before = CourseRates(first, schedule)
    used = trained(first, before, 13)
    state = before.state_dict()
    assert "schedule" not in state
    second = optimizer()
    after = CourseRates(second, schedule)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(state)
    assert used + trained(second, after, LENGTH - 13) == expected()


def test_a_group_with_a_rate_of_its_own_keeps_its_proportion():
    given = optimizer(own=1e-3)
    trained(given, CourseRates(given, Schedule.of(COURSE.config())), 7)
    one, half = (group["lr"] for group in given.param_groups)
    assert half == pytest.approx(one / 2)


def test_the_config_of_a_segment_names_a_schedule_that_is_not_the_study_s():
    assert COURSE.config()["schedule"] == "root"
    assert "schedule" not in dataclasses.replace(COURSE, schedule="cosine").config()


@pytest.mark.slow
def test_nemo_is_given_its_own_scheduler_for_a_cosine_and_the_registry_s_rates_for_others():
    from nemo_distill import backends

    backends.prepared()
    from nemo.lightning.pytorch.optim.lr_scheduler import CosineAnnealingScheduler

    from nemo_distill.backends.nemo.trainer import optimizer as optimizer_of

    assert type(optimizer_of(dataclasses.replace(COURSE, schedule="cosine")).lr_scheduler) is CosineAnnealingScheduler
    given = optimizer()
    made = optimizer_of(COURSE).lr_scheduler(None, given)
    assert made["optimizer"] is given and made["lr_scheduler"]["interval"] == "step"
    assert trained(given, made["lr_scheduler"]["scheduler"], LENGTH) == expected()
