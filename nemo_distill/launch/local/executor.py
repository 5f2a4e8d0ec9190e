"""Runs steps as processes of this machine, a few at a time, through NeMo-Run, which is loaded when there is any to run.

made().launch(run, console, detach=False)
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from nemo_distill.compat.nemo_run import imported_alone
from nemo_distill.config.rules import Variable, between
from nemo_distill.errors import RunFailed, UserError
from nemo_distill.launch.executors import site_settings
from nemo_distill.outcome.suites import Cluster
from nemo_distill.run.closing import print_failure
from nemo_distill.run.display import Display
from nemo_distill.run.full_disk import is_full
from nemo_distill.run.locks import held_in
from nemo_distill.run.manifest import Run
from nemo_distill.run.overview import lock_name
from nemo_distill.run.signals import terminated_like_interrupted


@dataclass(kw_only=True)
class LocalExecutor:
    """What may be said of steps on this machine."""

    name: ClassVar[str] = "local"
    scale: ClassVar[str] = "debug"
    parallel_steps: Annotated[int, between(1, 64)] = 2
    """Steps that run at the same time: a milestone is evaluated while the next one trains."""
    env_vars: dict[Variable, str] = dataclasses.field(default_factory=dict)
    """Environment variables of every step."""
    evaluation: Cluster = Cluster()
    """Cluster that suites of nemo-evaluator-launcher run on."""

    def evaluations(self) -> Mapping[str, Any]:
        """As the site says it."""
        return self.evaluation.plain

    def check(self, run: Run, *, dryrun: bool, detach: bool) -> None:
        """Raise `UserError` for what takes a cluster."""
        if detach:
            raise UserError(
                "--detach is for a cluster: on this machine the steps end with the command that started them."
            )
        nodes = run.facts.beside.layout.nodes
        if nodes > 1 and not dryrun:
            raise UserError(f"layout.nodes={nodes}, and --executor local has one machine: take layout.nodes=1.")

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
            with Display(run, console, parallel=self.parallel_steps), terminated_like_interrupted():
                with imported_alone():
                    from nemo_distill.launch.local.experiment import run_experiment

                try:
                    failed_before_log = run_experiment(
                        run, left, parallel_steps=self.parallel_steps, env_vars=self.env_vars
                    )
                except OSError as error:
                    if not is_full(error):
                        raise
                    failed_before_log = {}
            # A mark of success, not an exit code, is what the next step goes by.
            if not all(spec.done for spec in left.values()):
                print_failure(run, console, failed_before_log=failed_before_log)
                raise RunFailed(run.name)


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
