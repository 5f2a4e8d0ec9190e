"""Step: one segment of the distillation, from one milestone to the next.

Config: `course` (fields of `train.course.Course`), `kd` (fields of `kd.options.Options`), `first` and `until`
(iterations of the course this segment trains, `first` exclusive), `shares` (source -> percent), `intermediate_layers`
(pairs of [student, teacher] module names for the cosine loss; empty for logits only, as in the study),
`save_interval` (iterations between checkpoints inside the segment).
Upstream: `import-teacher`, `prune`, `prepare`, `index` and, but for the first segment, the `distill-*` before.
Output: `checkpoint/` (the backend's, optimizer included), `shape.json`, `losses.jsonl`; where documents were held out,
`held_out.jsonl` (`nemo_distill.train.held_out`); of a deterministic training `deterministic.json` (`run.conditions`).

A segment that was cut goes on from its newest complete checkpoint. A process that has finished one goes on with the
next where it was given that one as well (`nemo_distill.run.at_work`): nothing is loaded again. Data order and learning
rate belong to the whole course, so losses do not depend on where it was cut, nor on how many processes it took, and
ranks share one batch, so they depend on their number by no more than the order of a sum.
"""

import contextlib
import dataclasses
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill.config.division import check_context, check_layout
from nemo_distill.config.resolved import Parallelism
from nemo_distill.errors import UserError
from nemo_distill.run import at_work, beats
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import why_not_resumable
from nemo_distill.train.course import Course

if TYPE_CHECKING:
    from nemo_distill.backends import Part
    from nemo_distill.train.events import Listener

VERSION = 2
MANY_RANKS = True
WATCHED = True
GOES_ON = True
IMPORTS = ("nemo_distill.backends:prepared", "nemo_distill.train.health_gate")
OWN = ("first", "until", "save_interval")
"""What of its config is a segment's own affair, and not the whole course's."""
MARGIN = 1.5
"""Times what a segment takes up to its first checkpoint that a process has to have left to go on with it."""
AUTOTUNING = ".tuned"
"""Folder among the runs with the results of Triton's autotuning (`nemotron_h.kernels.tuning`); no output is judged by
it."""
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Train from the newest checkpoint there is to `until`."""
    (ranks, layout), course = Ranks.here().laid_out(spec), Course(**spec.config["course"])
    check_layout(
        ranks=ranks.size,
        tensor_parallel=ranks.tensor_parallel,
        context_parallel=ranks.context_parallel,
        global_batch_size=course.global_batch_size,
        micro_batch_size=course.micro_batch_size,
    )
    check_context(
        ranks=ranks.size,
        tensor_parallel=ranks.tensor_parallel,
        context_parallel=ranks.context_parallel,
        seq_length=course.seq_length,
        mixers=_mixers(spec) if ranks.context_parallel > 1 else {},
        reset_at_documents=spec.config["kd"].get("reset_at_documents", False),
    )
    final = spec.folder / "checkpoint"
    if ranks.agree("complete", final.exists):  # a kill between the last checkpoint and the mark of success
        logger.info("%s is complete already", final)
        return
    from nemo_distill.train.checkpoints import checkpoint_of, complete_checkpoints, remove_incomplete

    def newest_checkpoint() -> str | None:
        remove_incomplete(spec.folder)
        own = complete_checkpoints(spec.folder)
        return own[-1].name if own else None

    newest, last = ranks.agree("newest", newest_checkpoint), checkpoint_of(spec.folder, spec.config["until"])
    if newest != last.name:
        before = spec.folder / newest if newest else _previous_segment(spec)
        with _order_of_sums(spec):
            spec, ranks = _train(spec, ranks, layout, course, resume_from=before)
    _keep(spec, ranks)


def _keep(spec, ranks: Ranks) -> None:
    """Make the segment's last checkpoint its output."""
    from nemo_distill.train.checkpoints import checkpoint_of, complete_checkpoints

    if ranks.first:
        found, last = complete_checkpoints(spec.folder), checkpoint_of(spec.folder, spec.config["until"])
        if not found or found[-1] != last:
            raise RuntimeError(f"the training ended before iteration {spec.config['until']}, with no error of its own.")
        shutil.copyfile(spec.upstream["prune"] / "shape.json", spec.folder / "shape.json")
        os.replace(last, spec.folder / "checkpoint")


def _mixers(spec) -> dict[str, tuple[int, int]]:
    """Heads and groups of the Mamba layers of both models, by whose they are."""
    from nemo_distill.nemotron_h.shape import Shape

    steps = {"teacher": "import-teacher", "student": "prune"}
    shapes = {whose: Shape.load(spec.upstream[step] / "shape.json") for whose, step in steps.items()}
    return {whose: (shape.mamba_num_heads, shape.mamba_num_groups) for whose, shape in shapes.items()}


def _previous_segment(spec) -> Path | None:
    before = _segments_before(spec)
    assert len(before) == (spec.config["first"] > 0), spec.upstream
    if not before:
        return None
    folder = spec.upstream[before[0]]
    if problem := why_not_resumable(folder.parent.name, folder):
        raise UserError(problem)
    return folder / "checkpoint"


def _segments_before(spec) -> list[str]:
    """Name of the segment that this one goes on from, if it does."""
    return [name for name in spec.upstream if name.startswith("distill")]


def _order_of_sums(spec) -> contextlib.AbstractContextManager[None]:
    """While it is entered, whether sums have one order is as the step's config says."""
    if not spec.config["kd"].get("deterministic"):
        return contextlib.nullcontext()
    from nemo_distill.compat import device

    return device.deterministic()


def _train(spec, ranks: Ranks, layout: Parallelism, course: Course, *, resume_from: Path | None) -> tuple[Any, Ranks]:
    """Train this segment, and on from there; returns the last that was trained, which is to be kept, and its ranks."""
    from nemo_distill import backends
    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.kd.options import Options
    from nemo_distill.steps import index
    from nemo_distill.track.follow import following

    config = spec.config
    student, teacher = (spec.upstream[name] / "checkpoint" for name in ("prune", "import-teacher"))
    backend = backends.prepared()
    sources = read_sources(spec.upstream["prepare"], tokenizer=backends.of(teacher).tokenizer_of(teacher))
    prefixes = {name: source["prefix"] for name, source in sources.items()}
    if resume_from:
        logger.info("going on from %s", resume_from)
    logger.info("activation recomputation: %s", layout.recompute)
    segments = _Segments(spec, ranks, layout, course, sources=sources, versions=backend.versions())
    training = backends.Training(
        student=student,
        teacher=teacher,
        course=course,
        until=config["until"],
        blend=megatron_blend(config["shares"], prefixes),
        index_folder=spec.upstream["index"] / index.FOLDER,
        folder=spec.folder,
        resume_from=resume_from,
        kd=Options(**config["kd"]),
        intermediate_layers=config["intermediate_layers"],
        recompute=layout.recompute,
        overlap_saves=layout.overlap_saves,
        ranks=ranks,
        listeners=segments.listeners(resume_from=resume_from),
        onward=segments,
    )
    with following(spec.runs, spec.beside.tracked if ranks.first else None):
        backend.train(training)
    return segments.spec, segments.ranks


class _Segments:
    """The segments that this process trains, one after the other (`backends.Onward`); it is at `spec`."""

    def __init__(self, spec, ranks: Ranks, layout: Parallelism, course: Course, *, sources: dict, versions: dict):
        self.spec, self.ranks, self.layout, self.course = spec, ranks, layout, course
        self.sources, self.versions = sources, versions

    def listeners(self, *, resume_from: Path | None = None, goes_on: bool = False) -> list["Listener"]:
        """What is told of the segment's iterations, in this order; `goes_on` after another in this process."""
        from nemo_distill.train.checkpoints import Checkpoints
        from nemo_distill.train.health_gate import gate
        from nemo_distill.train.loss_log import LossLog

        spec, config, until = self.spec, self.spec.config, self.spec.config["until"]
        self._checkpoints = Checkpoints(spec.folder, every=config["save_interval"], until=until)
        return [
            *_kernels(spec, self.ranks, self.layout, versions=self.versions),
            LossLog(spec.folder / "losses.jsonl", self.course, spec.progress, first=config["first"], until=until),
            gate(spec, self.ranks, sources=None if goes_on else self.sources, resume_from=resume_from),
            *_held_out_log(spec, self.ranks, self.course, self.sources),
            self._checkpoints,
        ]

    def due(self) -> bool:
        work = at_work.here()
        return work is not None and work.may_go_on(lambda after: _is_next(self.spec, after) and self._has_time(after))

    def _has_time(self, after) -> bool:
        """Whether the process keeps its machines until the first checkpoint of the segment `after` this one."""
        first, until, every = (after.config[name] for name in OWN)
        iterations = min(every - first % every, until - first) if every else until - first
        return at_work.seconds_left() > MARGIN * (iterations * beats.here().note.median + self._checkpoints.seconds)

    def begin(self) -> "Part":
        from nemo_distill.backends import Part

        work = at_work.here()
        assert work is not None, "it has just said that a segment is due"
        _keep(self.spec, self.ranks)
        self.spec, ranks = work.go_on()
        self.ranks = dataclasses.replace(self.ranks, step=ranks.step)
        return Part(
            until=self.spec.config["until"],
            folder=self.spec.folder,
            ranks=self.ranks,
            listeners=self.listeners(goes_on=True),
        )


def _is_next(spec, after) -> bool:
    """Whether a process that has trained `spec` to its end stands where one of its own would begin `after`, of which
    nothing was trained before."""
    from nemo_distill.train.checkpoints import complete_checkpoints, remove_incomplete

    remove_incomplete(after.folder)
    segments = {*_segments_before(spec), *_segments_before(after), spec.name}

    def shared(one) -> tuple:
        config = {name: value for name, value in one.config.items() if name not in OWN}
        upstream = {name: folder for name, folder in one.upstream.items() if name not in segments}
        return one.module, config, upstream, dataclasses.replace(one.beside, command=())

    return (
        shared(after) == shared(spec)
        and after.config["first"] == spec.config["until"]
        and not (after.folder / "checkpoint").exists()
        and not complete_checkpoints(after.folder)
    )


def _kernels(spec, ranks: Ranks, layout: Parallelism, *, versions: dict[str, str]) -> list:
    """The listener that sees to which variants of kernels compute; none where there are none.

    Raises `UserError` where the training is to be equal bit for bit, and began under other conditions.
    """
    from nemo_distill.compat.device import on_gpu
    from nemo_distill.train.autotuning import Autotuning
    from nemo_distill.train.deterministic import Deterministic, conditions

    if not spec.config["kd"].get("deterministic"):
        return [Autotuning(spec.runs / AUTOTUNING)] if on_gpu() else []
    here = conditions(layout, versions)

    def compare() -> None:
        here.check_all({spec.name: spec.folder, **{name: spec.upstream[name] for name in _segments_before(spec)}})

    ranks.agree("conditions", compare)
    return [Deterministic(spec.folder, here)]


def _held_out_log(spec, ranks: Ranks, course: Course, sources: dict[str, dict]) -> list:
    """The listener that measures held-out documents; none where there are none, or nothing says how often."""
    from nemo_distill.config.held_out import Measuring
    from nemo_distill.train.held_out import HeldOutLog, read_documents
    from nemo_distill.train.losses import HELD_OUT_FILE, read_losses

    path = spec.folder / HELD_OUT_FILE

    def look() -> dict | None:
        plan = spec.beside.measuring
        lines = read_losses(path)
        return {"plan": dataclasses.asdict(plan), "recorded": [line["iteration"] for line in lines]} if plan else None

    seen = ranks.agree("held out", look)
    if not seen:
        return []
    plan = Measuring(**seen["plan"])
    documents = read_documents(sources, plan, seq_length=course.seq_length)
    if not documents:
        return []
    return [HeldOutLog(path, course, plan, documents, until=spec.config["until"], recorded=seen["recorded"])]
