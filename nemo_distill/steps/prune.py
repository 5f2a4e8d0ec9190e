"""Step: the teacher, pruned to the student's shape.

Config: `request` (fields of `pruning.Request`), `score` (`next_token_loss`, or `mmlu` as in the study),
`mmlu_fraction`, `calibration` (`source`, as `prepare` takes them; `sequences`; `seq_length` in tokens), `precision`,
`student_runtime` (fields of `nemotron_h.model.Runtime`: how the student will be trained).
Upstream: `import-teacher`, and the step whose folder the calibration's files are in.
Output: `checkpoint/` (NeMo), `shape.json`, `candidates.json` (the scored ones, `pruning.Result.candidates`, each with
the modelled milliseconds of its training in FP8), `layers.json` (importance of each layer, which were dropped, and
what a student that the chip likes would cost in score and win in speed).

Pruning does not depend on a blend: every blend starts from the same student.
"""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from nemo_distill.config.settings import PRUNABLE
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import Shape
from nemo_distill.prune.fp8_shapes import ChipFilter, resized

VERSION = 1
IMPORTS = ("nemo_distill.backends:preload", "nemo_distill.prune.minitron")
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Calibrate, prune, save."""
    from nemo_distill import backends
    from nemo_distill.nemotron_h.model import Runtime

    config, teacher = spec.config, spec.upstream["import-teacher"]
    tokenizer = backends.of(teacher / "checkpoint").tokenizer_of(teacher / "checkpoint")
    spec.progress.update(done=0, total=4, unit="phases", note="tokenising the calibration text")
    tokens = calibration_tokens(spec, tokenizer)

    backend = backends.prepared()
    from nemo_distill.prune import minitron as pruning

    asked: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["request"].items()}
    request = pruning.Request(**asked)
    runtime = Runtime(precision=config["precision"], layer_spec="local", seq_length=config["calibration"]["seq_length"])
    shape = Shape.load(teacher / "shape.json")
    with backend.session(runtime) as session:
        spec.progress.update(done=1, total=4, unit="phases", note="loading the teacher")
        module = backends.restore(backend, session, teacher / "checkpoint", shape, runtime=runtime)
        spec.progress.update(done=2, total=4, unit="phases", note="ranking and scoring candidates")
        held_out = len(tokens) // 8
        if config["score"] == "mmlu":
            score = pruning.mmlu(tokenizer, fraction=config["mmlu_fraction"])
        else:
            score = pruning.next_token_loss(tokens[:held_out])
        result = pruning.prune(
            module,
            shape,
            request,
            calibration=tokens[held_out:],
            score=score,
            state_file=spec.folder / "search.pt",
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
    candidates = timed(result, shape, request.chip_filter, seq_length=runtime.seq_length)
    (spec.folder / "candidates.json").write_text(json.dumps(candidates, indent=1))
    friendly = friendly_in_words(candidates, request.chip_filter) if request.chip_friendly != "ignore" else ""
    layers = {
        "pattern_before": shape.pattern,
        "pattern_after": result.shape.pattern,
        "dropped": result.dropped_layers,
        "scores": result.layer_scores,
        "parameters_before": shape.parameters(),
        "parameters_after": result.shape.parameters(),
        "shape": dataclasses.asdict(result.shape),
        "chip_friendly": friendly,
    }
    (spec.folder / "layers.json").write_text(json.dumps(layers, indent=1))
    logger.info(
        "pruned %.3fM -> %.3fM parameters (%.1f%%), layers %s dropped",
        shape.parameters() / 1e6,
        result.shape.parameters() / 1e6,
        100 * result.shape.parameters() / shape.parameters(),
        result.dropped_layers or "none",
    )
    if friendly:
        logger.info("%s", friendly)


def timed(result, teacher: Shape, keep: ChipFilter, *, seq_length: int) -> list[dict]:
    """The candidates, each with `fp8_ms`: `ChipFilter.fp8_seconds` of a sequence in training, in milliseconds."""
    ranked = sorted(result.layer_scores, key=result.layer_scores.get, reverse=True)
    sizes = [{name: value for name, value in one.items() if name in PRUNABLE} for one in result.candidates]
    return [
        one | {"fp8_ms": 1e3 * keep.fp8_seconds(resized(teacher, size, ranked), tokens=seq_length)}
        for one, size in zip(result.candidates, sizes, strict=True)
    ]


def friendly_in_words(candidates: list[dict], keep: ChipFilter) -> str:
    """What a student that the chip likes costs in score and wins in speed; empty where nothing was searched."""
    if not candidates:
        return ""
    largest, friendly = ([one for one in candidates if one[what]] for what in ("largest", "chip_friendly"))
    liked = f"all matrices in multiples of {keep.multiple} at tensor parallel {keep.tensor_parallel}"
    if not friendly:
        return f"No candidate has {liked}; the best of all lacks it because {'; '.join(largest[0]['misfits'])}."
    best, other = (max(some, key=lambda one: one["score"]) for some in (largest, friendly))
    if best == other:
        return f"The best candidate has {liked}: nothing is lost by asking for it."
    speed = best["fp8_ms"] / other["fp8_ms"]
    return (
        f"The best candidate with {liked} scores {other['score']:.4f}, {other['score'] - best['score']:+.4f} beside "
        f"the best of ModelOpt's own search, has {other['parameters'] / best['parameters'] - 1:+.1%} parameters and "
        f"would train {speed:.2f}x as fast in FP8: {other['fp8_ms']:.3g} ms a sequence where it takes "
        f"{best['fp8_ms']:.3g}, modelled on one H100. The student is {'it' if other['chosen'] else 'the other'}."
    )


def calibration_tokens(spec, tokenizer_folder: Path):
    """Token ids over which activations are ranked, (sequences, tokens): documents of the source, end to end."""
    import torch

    from nemo_distill.data.documents import Tally, batches, parse
    from nemo_distill.data.find import find_files
    from nemo_distill.data.tokenizer import Tokenizer

    wanted, source = spec.config["calibration"], spec.config["calibration"]["source"]
    count = wanted["sequences"] * wanted["seq_length"]
    tokenizer, ids = Tokenizer(tokenizer_folder), list[int]()
    plain = source["field"] == "text"  # chat templates end a document themselves
    # A few million tokens of what may be terabytes on the hub: only what is needed is fetched.
    for file in find_files(source, spec.upstream, streaming=True).files:
        for batch in batches(file, field=source["field"]):
            texts = [tokenizer.text(document) for document in parse(batch, field=source["field"], tally=Tally())]
            for document in tokenizer.encode(texts, special=plain):
                ids += [*document, tokenizer.end_of_document] if plain else document
            if len(ids) >= count:
                return torch.tensor(ids[:count]).view(wanted["sequences"], wanted["seq_length"])
    raise UserError(
        f"calibration wants {count:,} tokens; source {source['name']!r} holds {len(ids):,}. "
        f"Lower prune.calibration_sequences to {len(ids) // wanted['seq_length']} or fewer."
    )
