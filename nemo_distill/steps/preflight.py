"""Step: checks of what a run will need, over all ranks of its layout (`nemo_distill.launch.preflight` starts it).

Config: `surroundings` (`preflight.machines.Surroundings`), `lock` (versions by package, or null), `sources` (entries,
as `prepare` has them), `prepared` (whether that is done), `teacher` (its name on the hub, or ""), `evaluation` (the
config of an `evaluate-*`), `unready` (what the site has not said of evaluations), `checkpoint` (bytes of one, 0 where
its size is not known), `trial` (`preflight.iterations.Trial`, or the sentence on why there is none).
Output: `preflight.json` (`preflight.results.Record`). The step is done when all checks are made, whatever they found.
"""

import dataclasses
import os
import secrets
from typing import Any

from evaluator.suites.judge import VARIABLES
from nemo_distill.outcome.suites import suite_of_config
from nemo_distill.preflight import access, machines, rates
from nemo_distill.preflight.machines import Machine, Surroundings
from nemo_distill.preflight.results import FILE, Check, Record
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import module_constant
from nemo_distill.steps.distill import AUTOTUNING

VERSION = 1
MANY_RANKS = True
BACKEND = "nemo_distill.backends.nemo"
"""Module that names the packages which decide what is computed; importing it takes seconds."""


def main(spec) -> None:
    """Make every check; those of all ranks last, since a job may end in them."""
    ranks, layout = Ranks.here().laid_out(spec)
    record = Record(spec.folder / FILE if ranks.first else None)
    config = spec.config
    surroundings = Surroundings.of(config["surroundings"])
    _of_machines(spec, ranks, layout, surroundings, record)
    # The others wait, however long a hub takes not to answer.
    ranks.agree("access", lambda: _of_access(spec, surroundings, record))
    _write(spec, ranks, record)
    with record.under_way("all-reduce"):
        if ranks.size == 1:
            record.add(Check.unchecked("all-reduce", "One rank has nobody to exchange anything with."))
        else:
            found = ranks.gather("all-reduce", rates.reduce_rate(ranks))
            if ranks.first:
                record.add(rates.all_reduce(ranks, layout, found))
    with record.under_way("iterations"):
        if isinstance(config["trial"], str):
            record.add(Check.unchecked("iterations", config["trial"]))
        else:
            from nemo_distill.preflight.iterations import Trial, iterations, train

            trial = Trial.of(config["trial"])
            made = train(trial, folder=spec.folder, ranks=ranks, layout=layout, tuned=spec.runs / AUTOTUNING)
            every = ranks.gather("iterations", made)
            if ranks.first:
                record.add(iterations(trial, every))


def _write(spec, ranks: Ranks, record: Record) -> None:
    """Each rank's part of a checkpoint, or as much of it as tells the rate."""
    checkpoint = spec.config["checkpoint"]
    with record.under_way("writing"):
        if not checkpoint:
            record.add(Check.unchecked("writing", "The teacher's shape is not known now, nor a checkpoint's size."))
            return
        sample = min(rates.SAMPLE, -(-int(checkpoint) // ranks.size))
        said = ranks.gather("writing", rates.write_sample(spec.folder, rank=ranks.rank, size=sample))
        if ranks.first:
            written = [(seconds, why) for seconds, why in said]
            record.add(rates.writing(spec.folder, written, sample=sample, checkpoint=checkpoint))


def _of_machines(spec, ranks: Ranks, layout, surroundings: Surroundings, record: Record) -> None:
    """What each node has, told by its first rank."""
    file, config = spec.folder / "token.tmp", spec.config

    def write() -> str:
        token = secrets.token_hex(8)
        file.write_text(token, encoding="utf-8")
        return token

    with record.under_way("mounts"):
        token = ranks.agree("token", write)
        mine: dict[str, Any] | None = None
        if ranks.rank % ranks.local_size == 0:
            mine = dataclasses.asdict(machines.look(surroundings, token=file, on_gpus=layout.gpu is not None))
        said = ranks.gather("machine", mine)
        if not ranks.first:
            return
        found = [Machine.of(one) for one in said if one]
        file.unlink(missing_ok=True)
        record.add(machines.image(surroundings, found))
        record.add(machines.mounts(surroundings, found, token=token, runs=str(spec.runs)))
        record.add(machines.versions(config["lock"], module_constant(BACKEND, "PACKAGES"), found))
        record.add(machines.gpus(layout, found))


def _of_access(spec, surroundings: Surroundings, record: Record) -> None:
    """What lies elsewhere, asked for by one rank."""
    config = spec.config
    with record.under_way("sources"):
        known = {"prepared": config["prepared"], "elsewhere": surroundings.prepares_elsewhere}
        record.add(access.sources(config["sources"], teacher=config["teacher"], **known))
    with record.under_way("judge"):
        record.add(_judge(spec))


def _judge(spec) -> Check:
    """The judge of the suite: as the site says it, or the environment."""
    suite, site = suite_of_config(spec.config["evaluation"]), spec.beside.evaluation
    url, model, key = (os.environ.get(name, "") for name in VARIABLES)
    return access.judge(
        [benchmark.title for benchmark in suite.benchmarks if benchmark.judged],
        url=site.get("judge_url") or url,
        model=site.get("judge_model") or model,
        key=key,
        unready=spec.config["unready"],
    )
