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
IMPORTS = ("nemo_distill.backends:prepared",)
FOLDER = "index"
logger = logging.getLogger(__name__)


def main(spec) -> None:
    """Build them; what an attempt that was cut left is removed first, since Megatron would take half a file for one."""
    from nemo_distill import backends
    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.train.course import Course

    config, teacher = dict(spec.config), spec.upstream["import-teacher"] / "checkpoint"
    shares, tokenizer = config.pop("shares"), backends.of(teacher).tokenizer_of(teacher)
    sources = read_sources(spec.upstream["prepare"], tokenizer=tokenizer)
    folder = spec.folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    course = Course.of_indices(**config)
    blend = megatron_blend(shares, {name: source["prefix"] for name, source in sources.items()})
    backends.prepared().build_indices(course, blend, tokenizer=tokenizer, folder=folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    logger.info("indices of %s sequences: %.3f MB", f"{course.max_iterations * course.global_batch_size:,}", size / 1e6)
