"""Step: the teacher, pruned to the student's shape.

Config: `request` (fields of `pruning.Request`), `score` (`next_token_loss`, or `mmlu` as in the study),
`mmlu_fraction`, `calibration` (`source`, as `prepare` takes them; `sequences`; `seq_length` in tokens), `precision`,
`student_runtime` (fields of `nemotron_h.model.Runtime`: how the student will be trained).
Upstream: `import-teacher`, and the step whose folder the calibration's files are in.
Output: `checkpoint/` (NeMo), `shape.json`, `candidates.json` (the ten best, scored), `layers.json` (importance of
each layer, and which were dropped).

Pruning does not depend on a blend: every blend starts from the same student.
"""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

from nemo_distill.errors import UserError

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Calibrate, prune, save."""
    from nemo_distill.nemotron_h import model
    from nemo_distill.nemotron_h.checkpoint import context_tokenizer
    from nemo_distill.nemotron_h.shape import Shape

    config, teacher = spec.config, spec.upstream["import-teacher"]
    tokenizer = context_tokenizer(teacher / "checkpoint")
    spec.progress.update(done=0, total=4, unit="phases", note="tokenising the calibration text")
    tokens = calibration_tokens(spec, tokenizer)

    from nemo_distill import pruning

    request = pruning.Request(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["request"].items()})
    runtime = model.Runtime(
        precision=config["precision"], layer_spec="local", seq_length=config["calibration"]["seq_length"]
    )
    shape = Shape.load(teacher / "shape.json")
    with model.session(runtime) as trainer:
        spec.progress.update(done=1, total=4, unit="phases", note="loading the teacher")
        nemo_model = model.restore(trainer, teacher / "checkpoint", shape, runtime=runtime)
        spec.progress.update(done=2, total=4, unit="phases", note="ranking and scoring candidates")
        held_out = len(tokens) // 8
        if config["score"] == "mmlu":
            score = pruning.mmlu(tokenizer, fraction=config["mmlu_fraction"])
        else:
            score = pruning.next_token_loss(tokens[:held_out])
        result = pruning.prune(
            model.megatron(nemo_model),
            shape,
            request,
            calibration=tokens[held_out:],
            score=score,
            state_file=spec.folder / "search.pt",
        )
        student = model.state_of(model.megatron(nemo_model))
    spec.progress.update(done=3, total=4, unit="phases", note="saving the student")
    # A new model rather than the pruned one: ModelOpt's traces stay behind, and the student is known to load into the
    # layers it will be trained with.
    runtime = model.Runtime(**config["student_runtime"])
    target = spec.folder / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    with model.session(runtime) as trainer:
        nemo_model = model.build(trainer, result.shape, tokenizer=tokenizer, runtime=runtime)
        model.load(nemo_model, student)
        model.save(trainer, nemo_model, target)
    result.shape.save(spec.folder / "shape.json")
    (spec.folder / "candidates.json").write_text(json.dumps(result.candidates, indent=1))
    layers = {
        "pattern_before": shape.pattern,
        "pattern_after": result.shape.pattern,
        "dropped": result.dropped_layers,
        "scores": result.layer_scores,
        "parameters_before": shape.parameters(),
        "parameters_after": result.shape.parameters(),
        "shape": dataclasses.asdict(result.shape),
    }
    (spec.folder / "layers.json").write_text(json.dumps(layers, indent=1))
    logger.info(
        "pruned %.3fM -> %.3fM parameters (%.1f%%), layers %s dropped",
        shape.parameters() / 1e6,
        result.shape.parameters() / 1e6,
        100 * result.shape.parameters() / shape.parameters(),
        result.dropped_layers or "none",
    )


def calibration_tokens(spec, tokenizer_folder: Path):
    """Token ids over which activations are ranked, (sequences, tokens): documents of the source, end to end."""
    import torch

    from nemo_distill.documents import Tally, batches, parse
    from nemo_distill.steps.prepare import find_files
    from nemo_distill.tokenizer import Tokenizer

    wanted, source = spec.config["calibration"], spec.config["calibration"]["source"]
    count = wanted["sequences"] * wanted["seq_length"]
    tokenizer, ids = Tokenizer(tokenizer_folder), []
    plain = source["field"] == "text"  # chat templates end a document themselves
    # A few million tokens of what may be terabytes on the hub: only what is needed is fetched.
    for file in find_files(spec, source, streaming=True).files:
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
