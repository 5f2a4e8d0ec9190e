"""Step: a checkpoint of any backend as a Hugging Face one, of its own shape.

Config: `dtype` (of the weights: `float32`, `bfloat16`). Upstream: one step with `checkpoint/` and `shape.json`.
Output: `hf/` (config.json, weights in safetensors of 5 GB at most, tokenizer). Needs no GPU and no framework: tensors
are renamed, not run.
"""

import logging
import shutil

VERSION = 1
IMPORTS = ("nemo_distill.backends", "nemo_distill.families.checkpoint", "torch.distributed.checkpoint")
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Read the model's tensors, rename, write."""
    spec.progress.update(done=0, total=2, unit="phases", note="reading the checkpoint")
    from nemo_distill import backends, families
    from nemo_distill.families import checkpoint
    from nemo_distill.nemotron_h.shape import Shape

    (source,) = spec.upstream.values()
    shape = Shape.load(source / "shape.json")
    trained = source / "checkpoint"
    backend = backends.of(trained)
    state = families.of(shape).to_hf(backend.read(trained), shape)
    spec.progress.update(done=1, total=2, unit="phases", note="writing the export")
    target = spec.folder / "hf"
    shutil.rmtree(target, ignore_errors=True)
    checkpoint.write_hf(target, shape, state, dtype=spec.config["dtype"], tokenizer=backend.tokenizer_of(trained))
    logger.info("exported %.3fM parameters to %s", shape.parameters() / 1e6, target)
