"""A run, from its placed steps to its outcome, on whichever executor it was asked for.

    launch(ctx, Run(name="test", runs=folder, specs=place(steps, runs=folder)))

Steps whose mark of success stands are not launched at all, so the same command again finishes what was cut, or says
that there is nothing to do.
"""

import dataclasses
import os
import time
from pathlib import Path

from rich.console import Console

from nemo_distill.config.rules import HIDDEN
from nemo_distill.errors import UserError
from nemo_distill.launch import executors
from nemo_distill.launch.context import Context
from nemo_distill.launch.executors import Executor
from nemo_distill.outcome.show import print_outcome
from nemo_distill.run import secrets
from nemo_distill.run.closing import print_done, print_next
from nemo_distill.run.conditions import Conditions
from nemo_distill.run.manifest import Run
from nemo_distill.run.provenance import redact
from nemo_distill.run.sharing import how_to_share, nearest_there, share, whom_it_trusts
from nemo_distill.run.step import NAME, why_damaged, why_not_resumable
from nemo_distill.run.terminal import Terminal
from nemo_distill.track.run import declare, where_tracked

LONGEST_NAME = 200
"""Characters of a run's name at most: files that are called by it have endings, and 255 are a file system's most."""
NO_DISK = ("/proc", "/sys")
"""Folders that the kernel makes up."""


def launch(ctx: Context, run: Run, *, console: Console | None = None) -> None:
    """Run every step of `run` that is not done and show its outcome.

    Raises:
        UserError: Before anything is written, when the run cannot be made as asked.
        RunFailed: When a step failed; the failure has been printed.
    """
    if ctx.preflight is not None:
        raise UserError("this recipe starts its steps by itself; preflight is for those that call run_experiment.")
    console = console or Terminal()
    executor: Executor = ctx.executor
    secrets.remember(executors.hidden_values(executor))  # once more: a recipe may have added to them
    check(run)
    check_hidden(executor)
    left = [spec for spec in run.specs.values() if not spec.done]
    facts = run.facts.launched_by(executor.name, command=redact(list(ctx.command)))
    if not (left or ctx.dryrun):
        share(run.runs)
        dataclasses.replace(run, facts=facts).save_if_other()
        print_done(run, console, seconds=None, until=ctx.until)
    else:
        executor.check(run, dryrun=ctx.dryrun, detach=ctx.detach)
        for line in filter(None, (*executor.describe(run), *where_tracked(run), whom_it_trusts(run.runs))):
            console.print(line, highlight=False)
        if ctx.dryrun:
            return
        if unfilled := executors.missing(executor):
            raise UserError(unfilled)
        share(run.runs)
        declare(run)
        begun = time.monotonic()
        executor.launch(dataclasses.replace(run, facts=facts), console, detach=ctx.detach)
        if not ctx.detach:
            print_done(run, console, seconds=time.monotonic() - begun, until=ctx.until)
    if not ctx.detach:
        print_outcome(run, console)
        print_next(run, console, until=ctx.until, command=redact(list(ctx.command)))


def check(run: Run) -> None:
    """Raise `UserError` for a name or folder that cannot be used, for secrets, and for damage to finished steps."""
    if not NAME.fullmatch(run.name):
        raise UserError(f"a run cannot be called '{run.name}': letters, digits, '.', '_' and '-' make a name.")
    if len(run.name) > LONGEST_NAME:
        raise UserError(
            f"a run cannot be called '{run.name[:40]}...': the name has {len(run.name)} characters, and {LONGEST_NAME} "
            "are the most."
        )
    check_folder(run.runs)
    told = {"settings": run.facts, **{spec.name: spec.config for spec in run.specs.values()}}
    for key in secrets.secrets_within(told):
        raise UserError(f"{key} holds what looks like a token, and would be written to {run.runs}: leave it out.")
    for spec in run.specs.values():
        goes_on_from = [] if spec.done else [name for name in spec.upstream if run.specs[name].module == spec.module]
        for before in (run.specs[name] for name in goes_on_from):
            if before.done and (problem := why_not_resumable(before.name, before.folder)):
                raise UserError(problem)
        if not spec.done:
            begun = {name: run.specs[name].folder for name in goes_on_from} | {spec.name: spec.folder}
            Conditions.of(run.facts.beside.layout).check_all(begun)
        if spec.done and (damaged := why_damaged(f"the output of {spec.name}", spec.folder)):
            raise UserError(damaged)


def check_hidden(executor: Executor) -> None:
    """Raise `UserError` for a secret of the site's that stands elsewhere than where it is kept to oneself."""
    for key in secrets.secrets_within(executor):
        if {*key.split(".")}.isdisjoint(HIDDEN):
            raise UserError(
                f"executor.{key} holds what looks like a secret, which command lines and options of jobs show to every "
                "user of a machine: variables of executor.env_vars are for those."
            )


def check_folder(runs: Path) -> None:
    """Raise `UserError` when runs cannot be written to `runs`; makes nothing."""
    if unwritten := next((root for root in NO_DISK if runs.is_relative_to(root)), None):
        raise UserError(f"runs='{runs}' cannot be made: {unwritten} holds no files that stay.")
    there = nearest_there(runs)
    if not there.is_dir():
        raise UserError(f"runs='{runs}' cannot be made: {there} is no folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"runs='{runs}' cannot be written: no permission in {there}.{how_to_share(there)}")
