"""Step: the Hugging Face teacher as a NeMo checkpoint.

Config: `checkpoint` (a folder, or the name of a model on the hub: `nemo_distill.data.hub.model_folder`), `seq_length`
(tokens), `precision`, `layer_spec` (see `nemotron_h.model.Runtime`).
Output: `checkpoint/` (NeMo), `shape.json`, `tokenizer/`.
"""

import json
import logging
import shutil

from nemo_distill.data.hub import model_folder

VERSION = 1
IMPORTS = ("nemo_distill.nemotron_h.model",)
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Convert, save and leave a note of what the conversion decided."""
    from nemo_distill.nemotron_h import checkpoint, mapping, model

    source = model_folder(spec.config["checkpoint"])
    shape, state = checkpoint.read_hf(source)
    floor = json.loads((source / "config.json").read_text()).get("time_step_min", 0.001)
    if floor > 1e-9:
        logger.warning(
            "config.json has time_step_min=%g: transformers clamps dt there from below. Megatron, mamba-ssm and vLLM "
            "do not, nor does this package: logits differ from transformers' by up to 1e-3.",
            floor,
        )
    runtime = model.Runtime(
        precision=spec.config["precision"],
        layer_spec=spec.config["layer_spec"],
        seq_length=spec.config["seq_length"],
    )
    target = spec.folder / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    # NeMo keeps the folder that the tokenizer is read from in every checkpoint from here on: never with the weights
    tokenizer = spec.folder / "tokenizer"
    checkpoint.copy_tokenizer(source, tokenizer)
    shutil.copyfile(source / "config.json", tokenizer / "config.json")
    with model.session(runtime) as trainer:
        nemo_model = model.build(trainer, shape, tokenizer=tokenizer, runtime=runtime)
        model.load(nemo_model, mapping.to_megatron(state, shape))
        model.save(trainer, nemo_model, target)
    shape.save(spec.folder / "shape.json")
    logger.info("imported %s: %.3fM parameters, %s", source, shape.parameters() / 1e6, shape.pattern)
