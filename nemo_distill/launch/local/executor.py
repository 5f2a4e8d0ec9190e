"""Runs steps as processes of this machine, a few at a time, through NeMo-Run, which is loaded when there is any to run.

made().launch(run, console, detach=False)
"""

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from nemo_distill.compat.nemo_run import imported_alone
from nemo_distill.config.rules import Rule, Variable, between
from nemo_distill.errors import RunFailed, UserError
from nemo_distill.launch.executors import site_settings
from nemo_distill.launch.local.cards import Card, Deck, found
from nemo_distill.outcome.suites import Cluster
from nemo_distill.run.closing import print_failure
from nemo_distill.run.display import Display
from nemo_distill.run.full_disk import is_full
from nemo_distill.run.gpus import VISIBLE, why_short
from nemo_distill.run.locks import held_in
from nemo_distill.run.manifest import Run
from nemo_distill.run.overview import lock_name
from nemo_distill.run.signals import terminated_like_interrupted

GPUS = Rule(
    lambda said: bool(re.fullmatch(r"\d{1,3}|[A-Za-z0-9][\w/.-]*(,[A-Za-z0-9][\w/.-]*)*,?", said)),
    "a number of GPUs, or their names with commas between them, e.g. 0,2,3",
)


@dataclass(kw_only=True)
class LocalExecutor:
    """What may be said of steps on this machine."""

    name: ClassVar[str] = "local"
    scale: ClassVar[str] = "debug"
    parallel_steps: Annotated[int, between(1, 64)] = 2
    """Steps that run at the same time: a milestone is evaluated while the next one trains. Those that have GPUs to
    themselves are not counted."""
    gpus: Annotated[str, GPUS] | None = None
    """GPUs that steps are given: `2`, the first two; `0,2,3`, those (`3,`: that one); `0`: none. None: all, or those
    that CUDA_VISIBLE_DEVICES names. On a machine without GPUs, for trying out: as many are made up, and steps compute
    on the CPU."""
    env_vars: dict[Variable, str] = dataclasses.field(default_factory=dict)
    """Environment variables of every step."""
    evaluation: Cluster = Cluster()
    """Cluster that suites of nemo-evaluator-launcher run on."""

    def evaluations(self) -> Mapping[str, Any]:
        """As the site says it."""
        return self.evaluation.plain

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        """The GPUs that there are to give."""
        return found(self.gpus, self._environment)

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """Their names for CUDA."""
        return tuple(card.name for card in self.cards)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.env_vars}

    @property
    def _variables(self) -> dict[str, str]:
        """Those of every step: none of them sees a GPU that it was not given."""
        return self.env_vars | ({} if self.gpus is None and not self.cards else {VISIBLE: ""})

    def check(self, run: Run, *, dryrun: bool, detach: bool) -> None:
        """Raise `UserError` for what takes a cluster, or more GPUs than there are."""
        if detach:
            raise UserError(
                "--detach is for a cluster: on this machine the steps end with the command that started them."
            )
        nodes = run.facts.beside.layout.nodes
        if nodes > 1 and not dryrun:
            raise UserError(f"layout.nodes={nodes}, and --executor local has one machine: take layout.nodes=1.")
        if not dryrun:
            left = [spec for spec in run.specs.values() if not spec.done]
            if short := why_short(left, run.facts.beside.layout, self.gpu_names):
                raise UserError(short)

    def describe(self, run: Run) -> list[str]:
        """Nothing that the preview does not say already."""
        return []

    def launch(self, run: Run, console: Console, *, detach: bool) -> None:
        """Run the steps that are left to their end. Raises `RunFailed`."""
        with _only_one(run, console):
            left = {name: spec for name, spec in run.specs.items() if not spec.done}
            if not left:  # the command that was waited for has done it all
                return
            run.make_ready(left.values())
            run.save()

            def say(sentence: str) -> None:
                console.print(sentence, highlight=False, markup=False, soft_wrap=True)

            parallel = self.parallel_steps + len(self.cards)
            with Display(run, console, parallel=parallel), terminated_like_interrupted(), self._deck() as deck:
                with imported_alone():
                    from nemo_distill.launch.local.experiment import run_experiment

                try:
                    failed_before_log = run_experiment(
                        run, left, deck=deck, parallel_steps=self.parallel_steps, env_vars=self._variables, say=say
                    )
                except OSError as error:
                    if not is_full(error):
                        raise
                    failed_before_log = {}
            # A mark of success, not an exit code, is what the next step goes by.
            if not all(spec.done for spec in left.values()):
                print_failure(run, console, failed_before_log=failed_before_log)
                raise RunFailed(run.name)

    def _deck(self) -> contextlib.closing[Deck]:
        """The GPUs, ready to be dealt out."""
        return contextlib.closing(Deck(self.cards, numbered=VISIBLE not in self._environment))


def made() -> LocalExecutor:
    """The executor as the site's settings have it: this Python first on the path, one thread to a step."""
    settings = site_settings("local", LocalExecutor)
    environment = {
        "PATH": os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])),
        # One thread per step: two run at once, and sums come out in the same order every time.
        "OMP_NUM_THREADS": "1",
        "PYTHONSAFEPATH": "1",  # no file of the current folder is a library's module
    }
    return LocalExecutor(**{**settings, "env_vars": environment | settings.get("env_vars", {})})


@contextlib.contextmanager
def _only_one(run: Run, console: Console) -> Iterator[None]:
    """Hold the run; while another command holds it, say so and wait. The steps' own locks guard what runs share."""

    def waiting() -> None:
        console.print(f"Another nemo-run is at work on {run.name}; waiting for it (nemo-run status {run.name}).")

    with held_in(run.runs, lock_name(run.name), waiting=waiting):
        yield
