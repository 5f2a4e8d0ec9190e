"""The plan of a run on one machine's GPUs as the preview shows it, and what is said where there are too few."""

import dataclasses
import itertools
import re

import pytest

from nemo_distill.config.resolved import Evaluation, Parallelism
from nemo_distill.outcome.suites import ask
from nemo_distill.plan import layouts
from nemo_distill.plan.cost import Job
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.figures import STUDY, TWO_GPUS
from nemo_distill.plan.timeline import FULL, WIDTH, Box, timeline
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.gpus import why_short
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, mark_done, place

LOADS = ask(Evaluation(suite="study")).loads
ONE_BOX = dataclasses.replace(
    STUDY, nodes=1, fused_loss=True, lean_activation=True, tensor_parallel=4, micro_batch_size=1
)


def job(gpus: int, **changes) -> Job:
    return dataclasses.replace(ONE_BOX, gpus_per_node=gpus, **changes)


def run(runs, gpus: int) -> Run:
    modules = {name: f"nemo_distill.steps.{name}" for name in ("prune", "distill", "evaluate", "export")}
    steps = [
        Step("import-teacher", "nemo_distill.steps.import_teacher", {}),
        Step("prune", modules["prune"], {}, ("import-teacher",)),
        Step("distill-2.5B", modules["distill"], {}, ("prune",)),
        Step("distill-80B", modules["distill"], {}, ("distill-2.5B",)),
        Step("evaluate-teacher", modules["evaluate"], {"engine": {"name": "vllm"}}),
    ]
    for label in ("2.5B", "80B"):
        steps.append(Step(f"export-{label}", modules["export"], {}, (f"distill-{label}",)))
        steps.append(Step(f"evaluate-{label}", modules["evaluate"], {"engine": {"name": "vllm"}}, (f"export-{label}",)))
    layout = Parallelism(gpu="H100", nodes=1, gpus_per_node=gpus, tensor_parallel=4)
    return Run(name="test", runs=runs, specs=place(steps, runs=runs), facts=RunFacts(beside=Beside(layout=layout)))


def rows(asked: Run, gpus: int) -> dict[str, str]:
    """The lines of the steps by their names, for the layout's GPUs on a machine with `gpus`."""
    count = asked.facts.beside.layout.gpus_per_node
    known = Estimate(job=job(count), student_from="", segments={"2.5B": 400, "80B": 12_400}, loads=LOADS)
    lines = [line for line, _ in timeline(asked, known, steps=asked.specs, box=Box(gpus=gpus, others=2))]
    assert all(len(line) <= WIDTH for line in lines[:-1])
    assert (
        lines[-1].startswith("Not counted") and "export-*" in lines[-1] and lines[0].startswith(f"Plan on {gpus or 4} ")
    )
    return {line.split()[0]: line for line in lines[2:-1]}


def columns(line: str) -> set[int]:
    return {place for place, letter in enumerate(line) if letter == FULL}


def test_evaluations_stand_beside_the_training_where_gpus_are_over_and_else_behind_it(tmp_path):
    beside, behind = rows(run(tmp_path, 4), gpus=8), rows(run(tmp_path, 4), gpus=0)
    assert set(beside) == {"import-teacher", "prune", "distill-2.5B", "distill-80B"} | {
        f"evaluate-{label}" for label in ("teacher", "2.5B", "80B")
    }
    training = columns(beside["distill-80B"])
    assert re.search(r"distill-80B +0-3 ", beside["distill-80B"]) and re.search(
        "evaluate-2.5B +4-7 ", beside["evaluate-2.5B"]
    )
    assert (
        min(training) - min(columns(beside["evaluate-2.5B"]))
        <= 0
        <= max(training) - max(columns(beside["evaluate-2.5B"]))
    )
    assert min(columns(behind["evaluate-2.5B"])) >= max(columns(behind["distill-80B"]))
    assert not columns(beside["import-teacher"]) and " ? " in f"{beside['import-teacher']} "


def test_what_is_done_is_planned_no_more_and_a_run_without_gpus_has_no_plan(tmp_path):
    asked = run(tmp_path, 4)
    for name in ("import-teacher", "prune"):
        asked.specs[name].folder.mkdir(parents=True)
        mark_done(asked.specs[name].folder)
    assert not {"import-teacher", "prune"} & set(rows(asked, gpus=4))
    known = Estimate(job=job(4), student_from="", segments={}, loads=LOADS)
    assert timeline(asked, known, steps={"export-80B"}, box=Box(gpus=4, others=2)) == []


@pytest.mark.parametrize(("asked", "there"), list(itertools.product((2, 4, 8), (1, 2, 3, 5))))
def test_the_nearest_layout_on_fewer_gpus_divides_and_fits(asked, there):
    whole = job(asked, tensor_parallel=2, gpu=TWO_GPUS.gpu)
    said = layouts.nearest_within(whole, there)
    pairs = dict(word.split("=") for word in said.partition(" (")[0].split())
    names = {"layout.gpus_per_node": int, "layout.tensor_parallel": int, "distill.micro_batch_size": int}
    changes = {key.partition(".")[2]: names[key](value) for key, value in pairs.items() if key in names}
    near = dataclasses.replace(whole, recompute=pairs.get("layout.recompute", "none"), **changes)
    layouts.check(near)
    assert near.gpus <= there and layouts.misfit(near) is None if said else there == 1


def test_a_run_that_takes_more_gpus_than_there_are_is_told_so_and_which_layout_fits(tmp_path):
    asked = run(tmp_path, 8)
    layout = asked.facts.beside.layout
    assert why_short(asked.specs.values(), layout, tuple("01234567")) is None
    assert why_short(asked.specs.values(), layout, ("0", "GPU-b")) == (
        "distill-2.5B takes 8 GPUs (layout.gpus_per_node=8), and this machine has 2 to give (0, GPU-b): the nearest "
        "layout that fits is layout.gpus_per_node=2 layout.tensor_parallel=2."
    )
    assert why_short(asked.specs.values(), layout, tuple("01234")).endswith("fits is layout.gpus_per_node=4.")
    assert "has none to give: take a machine that has them" in why_short(asked.specs.values(), layout, ())
    split = dataclasses.replace(layout, tensor_parallel=2, context_parallel=4)
    said = why_short(asked.specs.values(), split, tuple("01234"))
    assert said.endswith("layout.gpus_per_node=4 layout.tensor_parallel=2 layout.context_parallel=1.")
    near = layouts.nearest_within(job(8, tensor_parallel=2, context_parallel=4, gpu=TWO_GPUS.gpu), 2)
    assert near.startswith("layout.gpus_per_node=2 layout.tensor_parallel=1 layout.context_parallel=2")
    on_cpu = dataclasses.replace(layout, gpu=None)
    assert why_short(asked.specs.values(), on_cpu, ()) is None
