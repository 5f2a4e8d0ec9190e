import dataclasses

import pytest

from nemo_distill.config.schedule import Schedule, find_schedule, format_tokens, parse_tokens
from nemo_distill.errors import UserError

STUDY = Schedule(
    seq_length=8192,
    global_batch_size=768,
    max_iterations=16_000,
    warmup_iterations=100,
    learning_rate=1e-4,
    min_learning_rate=1e-5,
)


def test_the_studys_milestones_have_its_names():
    milestones = STUDY.milestones([400, 800, 3_200, 6_400, 9_600, 12_800, 16_000])
    assert [milestone.label for milestone in milestones] == ["2.5B", "5B", "20B", "40B", "60B", "80B", "100B"]
    assert STUDY.tokens_per_iteration == 6_291_456
    assert milestones[0].tokens == 400 * 6_291_456


def test_the_learning_rate_at_80b_is_the_studys():
    assert STUDY.learning_rate_after(12_800) == pytest.approx(1.87e-5, abs=0.005e-5)
    assert STUDY.learning_rate_after(16_000) == pytest.approx(1e-5)
    assert STUDY.learning_rate_after(100) == pytest.approx(1e-4)


def test_the_schedule_of_a_course_that_names_none_is_the_cosine():
    course = dataclasses.asdict(STUDY)
    del course["schedule"]
    assert Schedule.of(course) == STUDY
    assert find_schedule("cosine")(STUDY, 12_800) == STUDY.learning_rate_after(12_800)


@pytest.mark.slow
@pytest.mark.parametrize(("max_iterations", "warmup"), [(300, 20), (50, 0), (16_000, 100)])
def test_the_learning_rate_is_nemos_at_every_iteration(max_iterations, warmup):
    import torch

    from nemo_distill.compat import registry

    registry.prepare()
    from nemo.lightning.pytorch.optim.lr_scheduler import CosineAnnealingScheduler

    schedule = Schedule(
        seq_length=256,
        global_batch_size=8,
        max_iterations=max_iterations,
        warmup_iterations=warmup,
        learning_rate=2e-3,
        min_learning_rate=1e-4,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    made = CosineAnnealingScheduler(max_steps=max_iterations, warmup_steps=warmup, constant_steps=0, min_lr=1e-4)
    theirs = made.scheduler(None, optimizer)["lr_scheduler"]["scheduler"]
    for iteration in range(max_iterations + 3):
        assert schedule.learning_rate_after(iteration) == theirs.get_last_lr()[0], iteration
        optimizer.step()
        theirs.step()


def test_tokens_and_iterations_turn_into_each_other():
    assert STUDY.iteration(STUDY.tokens(12_800)) == 12_800
    debug = Schedule(
        seq_length=250,
        global_batch_size=8,
        max_iterations=300,
        warmup_iterations=20,
        learning_rate=1.0,
        min_learning_rate=0.1,
    )
    assert debug.iteration("0.4M") == 200


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (6_291_457, "no whole number of iterations of 6,291,456 tokens; the nearest is 6,291,456, iteration 1."),
        ("1K", "the nearest is 6,291,456, iteration 1."),
        ("200B", "past the schedule's 16,000 iterations; the nearest is 100,663,296,000, iteration 16,000."),
        ("80 billion", "no number of tokens"),
    ],
)
def test_tokens_that_end_at_no_iteration_are_refused_with_the_nearest(tokens, complaint):
    with pytest.raises(UserError) as refusal:
        STUDY.iteration(tokens)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("iterations", "complaint"),
    [
        ([400, 20_000], "milestone 20,000 lies past the schedule; its last iteration is 16,000"),
        ([800, 400], "milestone 400 does not come after 800"),
        ([400, 400], "milestone 400 does not come after 400"),
        ([0], "milestone 0"),
        ([400.5], "milestone 400.5 is no iteration"),
        ([], "at least one"),
    ],
)
def test_milestones_that_cannot_be_are_refused(iterations, complaint):
    with pytest.raises(UserError) as refusal:
        STUDY.milestones(iterations)
    assert complaint in str(refusal.value)


def test_milestones_close_together_still_have_labels_of_their_own():
    labels = [milestone.label for milestone in STUDY.milestones([12_800, 12_801, 12_900])]
    assert len(set(labels)) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"warmup_iterations": 16_000}, "warmup_iterations is 16000"),
        ({"warmup_iterations": -1}, "warmup_iterations is -1"),
        ({"min_learning_rate": 2e-4}, "min_learning_rate is 0.0002"),
        ({"seq_length": 0}, "seq_length is 0"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"schedule": "cosin"}, "no distill.schedule 'cosin'. Did you mean 'cosine'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(changes, complaint):
    with pytest.raises(UserError) as refusal:
        dataclasses.replace(STUDY, **changes)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "tokens"), [("2.5B", 2_500_000_000), ("0.4m", 400_000), ("800K", 800_000), ("1_000", 1000), (12, 12)]
)
def test_tokens_are_read_as_people_write_them(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "ten", "-1B", "1.5", "0", "2.5G", True, float("nan")])
def test_what_is_no_number_of_tokens_is_refused(text):
    with pytest.raises(UserError, match="tokens"):
        parse_tokens(text)


@pytest.mark.parametrize("tokens", [999, 12_000, 409_600, 1_000_000, 2_516_582_400, 100_663_296_000])
def test_what_is_written_can_be_read_and_is_never_more_than_there_was(tokens):
    assert 0.9 * tokens < parse_tokens(format_tokens(tokens)) <= tokens


def test_milestones_may_be_tokens_that_an_iteration_ends_at():
    schedule = Schedule(
        seq_length=256, global_batch_size=16, max_iterations=150, warmup_iterations=20,
        learning_rate=2e-3, min_learning_rate=1e-4,
    )  # fmt: skip
    assert schedule.milestones(["102,400", "0.3072M", 150]) == schedule.milestones([25, 75, 150])
    with pytest.raises(UserError, match="no whole number of iterations of 4,096 tokens"):
        schedule.milestones(["0.3M"])
