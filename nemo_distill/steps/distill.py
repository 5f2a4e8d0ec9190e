"""Step: one segment of the distillation, from one milestone to the next.

Config: `course` (fields of `train.course.Course`), `kd` (fields of `kd.model.Options`), `first` and `until`
(iterations of the course this segment trains, `first` exclusive), `shares` (source -> percent), `intermediate_layers`
(pairs of [student, teacher] module names for the cosine loss; empty for logits only, as in the study),
`save_interval` (iterations between checkpoints inside the segment).
Upstream: `import-teacher`, `prune`, `prepare`, `index` and, but for the first segment, the `distill-*` before.
Output: `checkpoint/` (NeMo, optimizer included), `shape.json`, `losses.jsonl`.

A segment that was cut goes on from its newest complete checkpoint. Data order and learning rate belong to the whole
course, so losses do not depend on where it was cut, and ranks share one batch, so they depend on their number by no
more than the order of a sum.
"""

import json
import logging
import os
import shutil
from pathlib import Path

from nemo_distill.run.ranks import Ranks, check_layout
from nemo_distill.train.course import Course

VERSION = 2
MANY_RANKS = True
IMPORTS = ("nemo_distill.backends.nemo.trainer", "nemo_distill.kd.model", "nemo_distill.train.health_gate")
DISTILLATION_FILE = "distillation.yaml"
TUNED = ".tuned"
"""Folder among the runs with what is known of kernels (`nemotron_h.tuning`); no output is judged by it."""
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Train from the newest checkpoint at hand to `until`."""
    ranks, course = Ranks.here(), Course(**spec.config["course"])
    check_layout(
        ranks=ranks.size,
        tensor_parallel=ranks.tensor_parallel,
        global_batch_size=course.global_batch_size,
        micro_batch_size=course.micro_batch_size,
    )
    final = spec.folder / "checkpoint"
    if ranks.agree("complete", final.exists):  # a kill between the last checkpoint and the mark of success
        logger.info("%s is complete already", final)
        return
    from nemo_distill.backends.nemo import trainer as training

    newest = ranks.agree("newest", lambda: _tidy(spec, training))
    if not (newest and newest.endswith(f"{spec.config['until']:07d}")):
        _train(spec, training, ranks, course, resume_from=spec.folder / newest if newest else _previous_segment(spec))
    if ranks.first:
        shutil.copyfile(spec.upstream["prune"] / "shape.json", spec.folder / "shape.json")
        os.replace(training.complete_checkpoints(spec.folder)[-1], final)


def _tidy(spec, training) -> str | None:
    """Write what all ranks read, remove what an attempt that was cut left, and name its newest checkpoint, if any."""
    if spec.config["intermediate_layers"]:
        # JSON is YAML; NeMo reads a file
        pairs = {"intermediate_layer_pairs": spec.config["intermediate_layers"]}
        (spec.folder / DISTILLATION_FILE).write_text(json.dumps(pairs))
    training.drop_incomplete(spec.folder)
    own = training.complete_checkpoints(spec.folder)
    return own[-1].name if own else None


def _previous_segment(spec) -> Path | None:
    before = [folder for name, folder in spec.upstream.items() if name.startswith("distill")]
    assert len(before) == (spec.config["first"] > 0), spec.upstream
    return before[0] / "checkpoint" if before else None


def _train(spec, training, ranks: Ranks, course: Course, *, resume_from: Path | None) -> None:
    from nemo import lightning as nl
    from nemo.collections import llm

    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.kd.model import Options, distillation_model
    from nemo_distill.nemotron_h.checkpoint import context_tokenizer
    from nemo_distill.steps import index
    from nemo_distill.train.health_gate import gate

    config = spec.config
    student, teacher = (spec.upstream[name] / "checkpoint" for name in ("prune", "import-teacher"))
    until = config["until"]
    sources = read_sources(spec.upstream["prepare"], tokenizer=context_tokenizer(teacher))
    prefixes = {name: source["prefix"] for name, source in sources.items()}
    if resume_from:
        logger.info("going on from %s", resume_from)
    recompute = ranks.agree("recompute", lambda: spec.beside.get("recompute", "none"))
    logger.info("computed again in the backward pass: %s", recompute)
    model = distillation_model(
        student=student,
        teacher=teacher,
        options=Options(**config["kd"]),
        pairs_file=spec.folder / DISTILLATION_FILE if config["intermediate_layers"] else None,
        recompute=recompute,
    )
    data = training.data_module(
        course,
        megatron_blend(config["shares"], prefixes),
        tokenizer=model.tokenizer,
        index_folder=spec.upstream["index"] / index.FOLDER,
    )
    callbacks = [
        training.LossLog(spec.folder / "losses.jsonl", course, spec.progress, first=config["first"], until=until),
        gate(spec, ranks, sources=sources, resume_from=resume_from),
        training.Checkpoints(spec.folder, every=config["save_interval"], until=until, context=student / "context"),
    ]
    llm.train(
        model,
        data,
        trainer=training.trainer(course, until=until, callbacks=callbacks, tuned=spec.runs / TUNED, ranks=ranks),
        log=nl.NeMoLogger(
            log_dir=str(spec.folder / "nemo"),
            use_datetime_version=False,
            ckpt=None,
            tensorboard=None,
            log_global_rank_0_only=True,
        ),
        tokenizer=model.tokenizer,
        optim=training.optimizer(course),
        resume=nl.AutoResume(
            restore_config=nl.RestoreConfig(path=str(student), load_artifacts=False),
            resume_from_path=str(resume_from) if resume_from else None,
        ),
    )
