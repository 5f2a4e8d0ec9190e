"""Step: what checkpoints reach when vLLM serves them, in turn on one GPU: tokens per second, latency, memory.

Config: `checkpoints` (pairs of a label and the upstream step with `hf/`, or what `data.models.model_folder` takes; the
first is what the others' ratios are to, and is measured again at the end), `settings` (INPUT/OUTPUTxIN_FLIGHT, see
`evaluator.serve.throughput`), `engine` (vLLM's version and the options that decide what is measured); where there are
any, `contexts` (in tokens, at which rates of decoding are taken); with the teacher, `sha256` of a folder.
Upstream: the steps that exported or quantised the checkpoints.
Beside it, in no fingerprint: `vllm`, where vLLM is. The GPU is the first that CUDA_VISIBLE_DEVICES names.
Output: `results.json` (`evaluator.serve.throughput` says in which form) and the logs of server and client.

`measured.jsonl` has each figure as soon as there is one, and an attempt that was cut goes on behind it, on a GPU of the
same kind.
"""

import logging

from evaluator.serve.bench import bench, take_one_gpu
from evaluator.serve.processes import ProgramFailed
from evaluator.serve.throughput import lines
from evaluator.serve.vllm import find_vllm
from nemo_distill.config.teacher import path_of
from nemo_distill.errors import PassingError, UserError
from nemo_distill.families.checkpoint import fetched
from nemo_distill.outcome.serving import engine_of, plan_of
from nemo_distill.run.step import Spec

VERSION = 1
GPUS = 1
GPU_NEEDED = True
logger = logging.getLogger(__name__)


def main(spec: Spec) -> None:
    """Serve each checkpoint, ask, write results.json."""
    config = spec.config
    plan = plan_of(tuple(config["settings"]), tuple(config.get("contexts", ())))
    try:
        vllm = find_vllm(spec.beside.vllm or None, needed_by="serve_bench")
        if (now := engine_of(vllm, plan)) != config["engine"]:
            asked = config["engine"]
            raise UserError(
                f"'{vllm.program}' is vLLM {now['version']}, and this step is of {asked['version']} with "
                f"{' '.join(asked['options'])}: give the command again, which makes another of it."
            )
        found = bench(
            {
                label: spec.upstream[of] / "hf" if of in spec.upstream else fetched(path_of(of, spec.beside.teacher))
                for label, of in config["checkpoints"]
            },
            vllm,
            plan,
            gpu=take_one_gpu(),
            folder=spec.folder,
            say=logger.info,
            progress=lambda done, total: spec.progress.update(done=done, total=total, unit="measurements"),
        )
    except ProgramFailed as error:
        raise PassingError(str(error)) from None
    except ValueError as error:  # a checkpoint, or no GPU
        raise UserError(str(error)) from None
    found.save(spec.folder)
    for line in lines(found):
        logger.info(line)
