"""Step: the Hugging Face teacher as a checkpoint of the training backend.

Config: `checkpoint` (a folder, or the name of a model on the hub: `nemo_distill.data.models.model_folder`; `folder:`
for one that is named beside the config), `seq_length` (tokens), `precision`, `layer_spec` (see
`nemotron_h.model.Runtime`).
Output: `checkpoint/` (the backend's), `shape.json`, `tokenizer/`.
"""

import logging
import shutil

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.config.teacher import path_of
from nemo_distill.data.models import model_config
from nemo_distill.errors import UserError
from nemo_distill.plan.layouts import check_room

VERSION = 1
GPUS = 1
IMPORTS = ("nemo_distill.backends:prepared",)
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Convert, save and leave a note of what the conversion decided."""
    from nemo_distill import backends, families
    from nemo_distill.compat import device
    from nemo_distill.families import checkpoint
    from nemo_distill.nemotron_h.model import Runtime

    source = checkpoint.fetched(path_of(spec.config["checkpoint"], spec.beside.teacher))
    try:
        files = verify_checkpoint(source)
    except ValueError as error:
        raise UserError(str(error)) from None
    shape, state = checkpoint.read_hf(source, files=files)
    floor = model_config(str(source)).get("time_step_min", 0.001)
    if floor > 1e-9:
        logger.warning(
            "config.json has time_step_min=%g: transformers clamps dt there from below. Megatron, mamba-ssm and vLLM "
            "do not, nor does this package: logits differ from transformers' by up to 1e-3.",
            floor,
        )
    runtime = Runtime(
        precision=spec.config["precision"],
        layer_spec=spec.config["layer_spec"],
        seq_length=spec.config["seq_length"],
    )
    target = spec.folder / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    # The folder that the tokenizer is read from is kept in every checkpoint from here on: never with the weights
    tokenizer = spec.folder / "tokenizer"
    checkpoint.copy_tokenizer(source, tokenizer)
    shutil.copyfile(source / "config.json", tokenizer / "config.json")
    backend = backends.prepared()
    check_room(shape, device.gpu())
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=tokenizer, runtime=runtime)
        backend.load(module, families.of(shape).to_megatron(state, shape))
        backend.save(session, module, target)
    shape.save(spec.folder / "shape.json")
    logger.info("imported %s: %.3fM parameters, %s", source, shape.parameters() / 1e6, shape.pattern)
