"""Step: a NeMo checkpoint as a Hugging Face one, of its own shape.

Config: `dtype` (of the weights: `float32`, `bfloat16`). Upstream: one step with `checkpoint/` and `shape.json`.
Output: `hf/` (config.json, model.safetensors, tokenizer). Needs no GPU and no NeMo: tensors are renamed, not run.
"""

import logging
import shutil

VERSION = 1
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Read the model's tensors, rename, write."""
    spec.progress.update(done=0, total=2, unit="phases", note="reading the checkpoint")
    from nemo_distill.nemotron_h import checkpoint, mapping
    from nemo_distill.nemotron_h.shape import Shape

    (source,) = spec.upstream.values()
    shape = Shape.load(source / "shape.json")
    nemo_checkpoint = source / "checkpoint"
    state = mapping.to_hf(checkpoint.read_nemo(nemo_checkpoint), shape)
    spec.progress.update(done=1, total=2, unit="phases", note="writing the export")
    target = spec.folder / "hf"
    shutil.rmtree(target, ignore_errors=True)
    tokenizer = checkpoint.context_tokenizer(nemo_checkpoint)
    checkpoint.write_hf(target, shape, state, dtype=spec.config["dtype"], tokenizer=tokenizer)
    logger.info("exported %.3fM parameters to %s", shape.parameters() / 1e6, target)
