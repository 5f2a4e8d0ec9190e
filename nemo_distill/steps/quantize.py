"""Step: a student quantised by ModelOpt after training, as a Hugging Face checkpoint that vLLM loads.

Config: `format` and `recipe` (names in `settings.QUANTISED` and `settings.QUANTISE_RECIPES`), `calibration` (`sources`,
as `prepare` takes them; `sequences`; `seq_length` in tokens).
Upstream: one step with `hf/`, and the step whose folder the calibration's files are in.
Output: `hf/` (config.json with `quantization_config`, hf_quant_config.json, weights with their scales, tokenizer) and
`quantised.json` (what is in which format, what is padded when it is served, bytes, and all of it in sentences).

Computes on a GPU where there is one; on a CPU, ModelOpt's simulation takes the same ranges.
"""

import json
import logging
import shutil

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.data.models import model_config
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError
from nemo_distill.families.checkpoint import shape_in
from nemo_distill.outcome.gather import QUANTISED_FILE
from nemo_distill.plan.quantisation import in_words
from nemo_distill.prune.calibration import calibration_tokens

VERSION = 1
GPUS = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Calibrate, quantise, write."""
    config = spec.config
    format, recipe = config["format"], config["recipe"]
    (export,) = (folder for name, folder in spec.upstream.items() if name.startswith("export-"))
    source, target = export / "hf", spec.folder / "hf"
    try:
        files = verify_checkpoint(source)
    except ValueError as error:
        raise UserError(str(error)) from None
    shape = shape_in(model_config(str(source)), f"checkpoint {source}")
    spec.progress.update(done=0, total=3, unit="phases", note="tokenising the calibration text")
    calibration = dict(config["calibration"])
    tokens = calibration_tokens(
        calibration.pop("sources"),
        Tokenizer(source),
        spec.upstream,
        setting="quantize.calibration_sequences",
        **calibration,
    )
    from nemo_distill.quantize import ptq

    spec.progress.update(done=1, total=3, unit="phases", note="loading the student")
    model = ptq.load(source)

    def say(done: int) -> None:
        spec.progress.update(done=done, total=len(tokens), unit="sequences", note="taking ranges")

    ptq.calibrate(model, format, recipe, tokens, say=say)
    quantised = ptq.quantised_weights(model)
    spec.progress.update(done=2, total=3, unit="phases", note="writing the checkpoint")
    shutil.rmtree(target, ignore_errors=True)
    ptq.write(target, source, files, quantised)
    try:
        if format == "fp8":  # what nothing here computes with is not checked by what does
            verify_checkpoint(target, quantised=True)
    except ValueError as error:
        raise RuntimeError(f"what was written cannot be read: {error}") from None
    said = in_words(shape, format, recipe)
    record = {
        "format": format,
        "recipe": recipe,
        "sentences": said,
        "matrices": {name: list(size) for name, size in quantised.sizes.items()},
        "kept": list(quantised.kept),
        "calibration": {"sequences": len(tokens), "seq_length": tokens.shape[1]},
        "bytes": {"before": _bytes(source), "after": _bytes(target)},
    }
    (spec.folder / QUANTISED_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for sentence in said:
        logger.info(sentence)


def _bytes(folder) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
