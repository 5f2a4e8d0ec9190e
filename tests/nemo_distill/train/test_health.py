"""Each thing that ends a run early, made to happen: in the numbers of a run, and in small ones that really train."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import nemo_distill
from nemo_distill.config.settings import Health
from nemo_distill.errors import UserError
from nemo_distill.run.step import Spec, Step, place
from nemo_distill.train import health
from nemo_distill.train.health import Watch, vocabulary_mismatch
from tests.nemo_distill.segments import COURSE, ITERATIONS, ended, losses, placed, run, segment, start


def lines(*losses_: float, norms=None) -> list[dict]:
    norms = norms or [1.0] * len(losses_)
    return [
        {"iteration": n, "loss": loss, "learning_rate": 1e-4, "grad_norm": norm}
        for n, (loss, norm) in enumerate(zip(losses_, norms, strict=True), start=1)
    ]


def verdicts(watch: Watch, said: list[dict]) -> dict[int, str]:
    return {line["iteration"]: reason for line in said if (reason := watch.look(line))}


def falling(count: int) -> list[float]:
    return [2 / (1 + 0.01 * n) for n in range(count)]


def test_a_run_that_learns_is_left_alone():
    noise = np.random.default_rng(0).lognormal(0, 0.4, 400)
    assert verdicts(Watch(Health()), lines(*falling(400), norms=list(noise))) == {}


@pytest.mark.parametrize("what", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_ends_it_at_once(what, value):
    said = lines(*falling(3))
    said[2][what] = value
    (found,) = verdicts(Watch(Health()), said).items()
    assert found[0] == 3 and f"is {value} at iteration 3" in found[1]


def test_a_loss_above_its_start_ends_it_once_the_grace_is_over():
    rising = [2 + 0.01 * n for n in range(60)]
    assert min(verdicts(Watch(Health(grace_iterations=40)), lines(*rising))) == 40
    assert verdicts(Watch(Health(grace_iterations=40, loss_above_start=2)), lines(*rising)) == {}
    spike = falling(60)
    spike[45] = 50.0  # one bad batch is no rise
    assert verdicts(Watch(Health(grace_iterations=40)), lines(*spike)) == {}


def test_gradients_that_spike_again_and_again_end_it_and_a_single_one_does_not():
    norms = [1.0] * 60
    norms[20] = 1e6
    assert verdicts(Watch(Health()), lines(*falling(60), norms=norms)) == {}
    norms[30] = norms[40] = 11.0
    found = verdicts(Watch(Health()), lines(*falling(60), norms=norms))
    assert list(found) == [41] and "10 times its running median 3 times within 50" in found[41]
    assert verdicts(Watch(Health(spike=20)), lines(*falling(60), norms=norms)) == {}


def test_a_run_that_goes_on_is_judged_by_what_was_before():
    said = lines(*falling(30), *[2.5] * 30)
    watch = Watch(Health(grace_iterations=40), said[:45])
    assert min(verdicts(watch, said[45:])) == 46 and watch.start == [line["loss"] for line in said[:5]]


def test_the_history_goes_back_to_the_first_segment(tmp_path):
    before: dict = {}
    for index in range(3):
        spec = Spec(f"distill-{index}", "nemo_distill.steps.distill", {}, tmp_path / str(index), dict(before), "0" * 12)
        spec.save()
        text = "".join(
            json.dumps(line | {"iteration": 20 * index + line["iteration"]}) + "\n" for line in lines(*falling(20))
        )
        (spec.folder / "losses.jsonl").write_text(text)
        before = {spec.name: spec.folder}
    found = health.history_of(spec, until=50, window=10)
    assert [line["iteration"] for line in found] == [1, 2, 3, 4, 5, *range(41, 51)]


@pytest.mark.parametrize(("sizes", "said"), [
    ({"student": 900}, "a vocabulary of 1,000 and the student one of 900"),
    ({"tokenizer": 1001}, "gives 1,001 ids and the teacher has an embedding of 1,000"),
    ({}, "'late' holds the token 1,000 and the teacher's vocabulary ends at 999"),
])  # fmt: skip
def test_vocabularies_that_do_not_match_are_named(tmp_path, sizes, said):
    tokens = np.zeros(health.BLOCKS * health.BLOCK * 2, np.uint16)
    tokens[-1] = 1000
    tokens.tofile(tmp_path / "late.bin")
    sources = {"late": {"prefix": str(tmp_path / "late"), "tokenizer": {"vocab_size": 1000}}}
    found = vocabulary_mismatch(**{"teacher": 1000, "student": 1000, "tokenizer": 1000, **sizes}, sources=sources)
    assert said in found


def test_a_limit_has_to_be_above_0():
    with pytest.raises(UserError, match="health.spike=0 has to be above 0"):
        Health(spike=0)


# -- real training


def stopped(spec: Spec, **how) -> str:
    """Run the step, which fails; returns what it said."""
    codes, output = ended(start(spec, **how))
    assert all(codes) and not spec.done, output[-3000:]
    assert not (spec.folder / "checkpoint").exists()
    return json.loads((spec.folder / "_FAILED").read_text())["error"]


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "limits", "said"), [
    (1e30, {}, r"^the (loss|gradient norm) is nan at iteration \d+"),
    (0.3, {"grace_iterations": 10, "spike": 1e9}, r"^the loss is .* after 1\d iterations and was .* at the start"),
])  # fmt: skip
def test_a_learning_rate_that_is_too_high_ends_the_run(course, learning_rate, limits, said):
    rates = {"learning_rate": learning_rate, "min_learning_rate": learning_rate, "warmup_iterations": 1}
    name = "distill-diverges" if limits else "distill-nan"
    spec = placed(course, segment(name, course=COURSE | rates))[name]
    assert re.search(said, stopped(spec, limits=limits))
    for folder in spec.folder.glob("iteration_*"):  # none was saved of what it was ended for
        until = int(folder.name[-7:])
        assert all(np.isfinite(line["loss"]) for line in losses(spec) if line["iteration"] <= until)


@pytest.mark.slow
def test_ranks_end_together_and_the_run_goes_on_from_its_last_checkpoint_under_other_limits(course):
    steps = placed(course, segment("distill-whole"), segment("distill-spikes", save_interval=4))
    spec = steps["distill-spikes"]
    said = stopped(spec, ranks_per_node=2, fork=False, limits={"spike": 0.01, "spikes": 1, "window": 20})
    assert (
        "the gradient norm was above 0.01 times its running median once within 20 iterations, at iteration 11" in said
    )
    assert said.endswith("iteration_0000008 is kept.")
    assert [folder.name for folder in spec.folder.glob("iteration_*")] == ["iteration_0000008"]
    run(spec)
    assert "/iteration_0000008" in (spec.folder / "log.txt").read_text()
    whole = losses(steps["distill-whole"])
    assert [line["loss"] for line in losses(spec)] == pytest.approx([line["loss"] for line in whole], rel=1e-5)
    assert len(whole) == ITERATIONS and all(line["grad_norm"] > 0 for line in whole)


@pytest.mark.slow
def test_a_teacher_that_cannot_read_the_data_ends_the_run_before_it_begins(course, tmp_path):
    from safetensors.numpy import load_file, save_file

    steps = placed(course, segment("distill-misread"))
    broken = tmp_path / "teacher"
    shutil.copytree(Path(nemo_distill.__file__).parent / "debug" / "teacher", broken)
    weights = load_file(broken / "model.safetensors")
    (embedding,) = (name for name in weights if "embed" in name)
    weights[embedding] = np.ascontiguousarray(weights[embedding][::-1])  # as another tokenizer's would be
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    config = steps["import-teacher"].config | {"checkpoint": str(broken)}
    imported = place([Step("import-teacher", steps["import-teacher"].module, config)], runs=tmp_path)["import-teacher"]
    run(imported)
    spec = steps["distill-misread"]
    kept = spec.upstream["import-teacher"]
    kept.rename(tmp_path / "kept")
    try:
        imported.folder.rename(kept)
        said = stopped(spec)
        shutil.rmtree(kept)
    finally:
        (tmp_path / "kept").rename(kept)
    assert "the teacher's own next-token loss on the blend is" in said
    assert "where a guess among all 1,024 tokens has 6.93: it cannot read this data" in said
    assert losses(spec) == []


@pytest.mark.slow
def test_data_of_another_vocabulary_ends_the_run_before_it_begins(course):
    spec = placed(course, segment("distill-vocabulary"))["distill-vocabulary"]
    prepare = spec.upstream["prepare"]
    prefix = json.loads((prepare / "sources.json").read_text())["science-mcq"]["prefix"]
    with open((prepare / prefix).resolve().with_name("science-mcq.bin"), "r+b") as tokens:
        tokens.seek(1000)
        kept = tokens.read(2)
        tokens.seek(1000)
        tokens.write(np.uint16(5000).tobytes())
        tokens.flush()
        said = stopped(spec)
        tokens.seek(1000)
        tokens.write(kept)
    assert "source 'science-mcq' holds the token 5,000 and the teacher's vocabulary ends at 1,023" in said
    assert losses(spec) == []
