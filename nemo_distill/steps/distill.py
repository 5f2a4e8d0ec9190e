"""Step: one segment of the distillation, from one milestone to the next.

Config: `course` (fields of `training.Course`), `first` and `until` (iterations of the course this segment trains,
`first` exclusive), `shares` (source -> percent), `intermediate_layers` (pairs of [student, teacher] module names for
the cosine loss; empty for logits only, as in the study), `save_interval` (iterations between checkpoints inside the
segment).
Upstream: `import-teacher`, `prune`, `prepare` and, but for the first segment, the `distill-*` before.
Output: `checkpoint/` (NeMo, optimizer included), `shape.json`, `losses.jsonl`.

A segment that was cut goes on from its newest complete checkpoint. Data order and learning rate belong to the whole
course, so losses do not depend on where it was cut.
"""

import json
import logging
import os
import shutil
from pathlib import Path

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Train from the newest checkpoint at hand to `until`."""
    final = spec.folder / "checkpoint"
    if final.exists():  # a kill between the last checkpoint and the mark of success
        logger.info("%s is complete already", final)
        return
    from nemo_distill import training  # imports NeMo

    training.drop_incomplete(spec.folder)
    own = training.complete_checkpoints(spec.folder)
    if not (own and own[-1].name.endswith(f"{spec.config['until']:07d}")):
        _train(spec, training, resume_from=own[-1] if own else _previous_segment(spec))
    shutil.copyfile(spec.upstream["prune"] / "shape.json", spec.folder / "shape.json")
    shutil.rmtree(spec.folder / "index", ignore_errors=True)
    os.replace(training.complete_checkpoints(spec.folder)[-1], final)


def _previous_segment(spec) -> Path | None:
    before = [folder for name, folder in spec.upstream.items() if name.startswith("distill")]
    assert len(before) == (spec.config["first"] > 0), spec.upstream
    return before[0] / "checkpoint" if before else None


def _train(spec, training, *, resume_from: Path | None) -> None:
    from nemo import lightning as nl
    from nemo.collections import llm

    from nemo_distill.blend import megatron_blend
    from nemo_distill.nemotron_h.checkpoint import context_tokenizer
    from nemo_distill.steps.prepare import read_sources

    config = spec.config
    student, teacher = (spec.upstream[name] / "checkpoint" for name in ("prune", "import-teacher"))
    course = training.Course(**config["course"])
    until = config["until"]
    sources = read_sources(spec.upstream["prepare"], tokenizer=context_tokenizer(teacher))
    prefixes = {name: source["prefix"] for name, source in sources.items()}
    if resume_from:
        logger.info("going on from %s", resume_from)
    distillation_config = None
    if config["intermediate_layers"]:
        distillation_config = spec.folder / "distillation.yaml"
        # JSON is YAML; NeMo reads a file
        distillation_config.write_text(json.dumps({"intermediate_layer_pairs": config["intermediate_layers"]}))
    student_model = nl.io.load_context(student / "context", subpath="model")
    data = training.data_module(
        course,
        megatron_blend(config["shares"], prefixes),
        tokenizer=student_model.tokenizer,
        index_folder=spec.folder / "index",
    )
    callbacks = [
        training.LossLog(spec.folder / "losses.jsonl", course, spec.progress, first=config["first"], until=until),
        training.Checkpoints(spec.folder, every=config["save_interval"], until=until, context=student / "context"),
    ]
    llm.distill(
        student_model_path=str(student),
        teacher_model_path=str(teacher),
        data=data,
        trainer=training.trainer(course, until=until, callbacks=callbacks),
        distillation_config_path=distillation_config,
        log=nl.NeMoLogger(log_dir=str(spec.folder / "nemo"), use_datetime_version=False, ckpt=None, tensorboard=None),
        optim=training.optimizer(course),
        resume=nl.AutoResume(
            restore_config=nl.RestoreConfig(path=str(student), load_artifacts=False),
            resume_from_path=str(resume_from) if resume_from else None,
        ),
    )
