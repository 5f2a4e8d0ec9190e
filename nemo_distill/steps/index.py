"""Step: Megatron's indices over the blend, for the whole course, so that no GPU waits while they are built.

Config: `shares` (source -> percent), and of the course `max_iterations`, `global_batch_size`, `seq_length`, `seed`.
Upstream: `prepare`, and `import-teacher` for its tokenizer.
Output: `index/`, NumPy arrays that Megatron names by a hash of all of the above.

Every segment of the distillation reads them. Another blend, length or seed is another step, another learning rate is
not. The hash holds the paths of the sources: a runs folder that was moved has its indices built again by the segment
that needs them.
"""

import logging
import shutil

VERSION = 1
IMPORTS = ("nemo_distill.backends.nemo.trainer", "nemo_distill.backends.nemo.indices")
FOLDER = "index"
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Build them; what an attempt that was cut left is removed first, since Megatron would take half a file for one."""
    from nemo_distill.compat import registry

    registry.prepare()
    from nemo.collections.common.tokenizers import AutoTokenizer

    from nemo_distill.backends.nemo import trainer as training
    from nemo_distill.backends.nemo.indices import build, one_process
    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.nemotron_h.checkpoint import context_tokenizer
    from nemo_distill.train.course import Course

    config, tokenizer = dict(spec.config), context_tokenizer(spec.upstream["import-teacher"] / "checkpoint")
    shares = config.pop("shares")
    sources = read_sources(spec.upstream["prepare"], tokenizer=tokenizer)
    folder = spec.folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    course = Course.of_indices(**config)
    data = training.data_module(
        course,
        megatron_blend(shares, {name: source["prefix"] for name, source in sources.items()}),
        tokenizer=AutoTokenizer(str(tokenizer)),
        index_folder=folder,
    )
    with one_process():
        build(data, course)
    size = sum(path.stat().st_size for path in folder.iterdir())
    logger.info("indices of %s sequences: %.3f MB", f"{course.max_iterations * course.global_batch_size:,}", size / 1e6)
