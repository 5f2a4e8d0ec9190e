"""Step: the teacher, pruned to the student's shape.

Config: `request` (fields of `minitron.Request`), `score` (a name in `prune.scores.SCORES`; `mmlu` in the study),
`mmlu_fraction`, `calibration` (`source`, or several `sources`, as `prepare` takes them; `sequences`; `seq_length` in
tokens), `precision`,
`student_runtime` (fields of `nemotron_h.model.Runtime`: how the student will be trained).
Upstream: `import-teacher`, and the step whose folder the calibration's files are in.
Output: `checkpoint/` (the backend's), `shape.json`, `candidates.json` (the scored ones, `minitron.Result.candidates`,
each with the modelled milliseconds of its training in FP8), `layers.json` (importance of each layer, which were
dropped, and what an FP8-aligned student would cost in score and win in speed).

Pruning does not depend on a blend's shares: all blends of the study start from the same student, and all blends of the
same own sources from another.
"""

import dataclasses
import json
import logging
import shutil

from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.plan.layouts import check_room
from nemo_distill.plan.limits import HELD_OUT
from nemo_distill.prune.calibration import calibration_tokens
from nemo_distill.prune.fp8_shapes import aligned_in_words, timed
from nemo_distill.prune.scores import Material, find_score

VERSION = 1
GPUS = 1
IMPORTS = ("nemo_distill.backends:prepared", "nemo_distill.prune.minitron")
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Calibrate, prune, save."""
    from nemo_distill import backends
    from nemo_distill.compat import device
    from nemo_distill.nemotron_h.model import Runtime

    config, teacher = spec.config, spec.upstream["import-teacher"]
    tokenizer = backends.of(teacher / "checkpoint").tokenizer_of(teacher / "checkpoint")
    spec.progress.update(done=0, total=4, unit="phases", note="tokenising the calibration text")
    calibration = dict(config["calibration"])
    sources = calibration.pop("sources", None) or [calibration.pop("source")]
    tokens = calibration_tokens(sources, Tokenizer(tokenizer), spec.upstream, **calibration)

    backend = backends.prepared()
    from nemo_distill.prune import minitron as pruning

    request = pruning.Request(**config["request"])
    if request.chip_friendly == "report" and not spec.beside.second_search:
        request = dataclasses.replace(request, chip_friendly="ignore")  # which gives the same student
    runtime = Runtime(precision=config["precision"], layer_spec="local", seq_length=config["calibration"]["seq_length"])
    shape = Shape.load(teacher / "shape.json")
    check_room(shape, device.gpu(), ranked_over=config["calibration"]["seq_length"])
    with backend.session(runtime) as session:
        spec.progress.update(done=1, total=4, unit="phases", note="loading the teacher")
        module = backends.restore(backend, session, teacher / "checkpoint", shape, runtime=runtime)
        notes = {"sequences": "ranking activations", "candidates": "scoring them"}

        def say(done: int, total: int, unit: str) -> None:
            spec.progress.update(done=done, total=total, unit=unit, note=notes[unit])

        held_out = len(tokens) // HELD_OUT
        material = Material(held_out=tokens[:held_out], tokenizer=tokenizer, mmlu_fraction=config["mmlu_fraction"])
        result = pruning.prune(
            module,
            shape,
            request,
            calibration=tokens[held_out:],
            score=find_score(config["score"])(material),
            state_file=spec.folder / "search.pt",
            say=say,
        )
        student = backend.state_of(module)
    spec.progress.update(done=3, total=4, unit="phases", note="saving the student")
    # A new model rather than the pruned one: ModelOpt's traces stay behind, and the student is known to load into the
    # layers it will be trained with.
    runtime = Runtime(**config["student_runtime"])
    target = spec.folder / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    with backend.session(runtime) as session:
        module = backend.build(session, result.shape, tokenizer=tokenizer, runtime=runtime)
        backend.load(module, student)
        backend.save(session, module, target)
    result.shape.save(spec.folder / "shape.json")
    ranked = sorted(result.layer_scores, key=result.layer_scores.__getitem__, reverse=True)
    candidates = timed(result.candidates, shape, ranked, request.alignment, seq_length=runtime.seq_length)
    (spec.folder / "candidates.json").write_text(json.dumps(candidates, indent=1))
    aligned = aligned_in_words(candidates, request.alignment) if request.chip_friendly != "ignore" else ""
    layers = {
        "pattern_before": shape.pattern,
        "pattern_after": result.shape.pattern,
        "dropped": result.dropped_layers,
        "scores": result.layer_scores,
        "parameters_before": shape.parameters(),
        "parameters_after": result.shape.parameters(),
        "shape": dataclasses.asdict(result.shape),
        "chip_friendly": aligned,
    }
    (spec.folder / "layers.json").write_text(json.dumps(layers, indent=1))
    logger.info(
        "pruned %.3fM -> %.3fM parameters (%.1f%%), layers %s dropped",
        shape.parameters() / 1e6,
        result.shape.parameters() / 1e6,
        100 * result.shape.parameters() / shape.parameters(),
        result.dropped_layers or "none",
    )
    if aligned:
        logger.info("%s", aligned)
