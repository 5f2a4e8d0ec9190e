"""Says how a run ended: what is done, where it lies and what comes next, or what failed and whether going on helps.

A failure begins with its cause, which is said once: of the log the lines before the traceback are shown, without what
frameworks say of themselves, and where in the code it was raised.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.text import Text

from nemo_distill.run.full_disk import SAID, has_no_room, why_full
from nemo_distill.run.job import Job
from nemo_distill.run.manifest import Run, State, failure_of, job_log, last_lines, script_lines, state_of
from nemo_distill.run.step import FAILED, LOG_FILE
from nemo_distill.run.table import duration

LINES = 10
"""Lines of the log that are shown of a failure."""
LOOKED_AT = 400
"""Lines of the log among which they are looked for."""
_NOISE = re.compile(r"^\s*$|^\[NeMo |\bINFO (?!nemo_distill)|\bWARNING\b|Warning: |warnings\.warn\(|OneLogger")
"""What frameworks say of themselves whatever happens."""
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$')
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


def print_done(run: Run, console: Console, *, seconds: float | None, until: str = "") -> None:
    """Say that every step that was asked for is done, in so many `seconds`, and where the last of them lies.

    `until` is the last step that was asked for, empty where all were. None: all had been done before.
    """
    if seconds is None:
        _say(console, f"Nothing to do: all {len(run.specs)} steps of {run.name} are done.")
    else:
        up_to = f", up to {until}" if until else ""
        _say(console, f"Done in {duration(seconds)}: {len(run.specs)} steps of {run.name}{up_to}.")
    if until and not _is_report(run, until):
        _say(console, f"{until} lies in {run.specs[until].folder}")


def print_next(run: Run, console: Console, *, until: str = "", command: Sequence[str] = ()) -> None:
    """Say which command comes next; `command` is what was typed."""
    if until and not _is_report(run, until):
        if rest := without_until(command):
            _say(console, f"Next: {rest}")
    elif _is_report(run, "report"):
        where = "" if run.runs == Path("runs").resolve() else f" --runs {shlex.quote(str(run.runs))}"
        _say(console, f"Next: nemo-run report {run.name} RUN{where}    # beside another run's")
        _say(console, f"      nemo-run card {run.name}{where}          # its model card")


def _is_report(run: Run, step: str) -> bool:
    return step in run.specs and run.specs[step].module.endswith(".report")


def without_until(command: Sequence[str]) -> str:
    """The command as it was typed but for `--until STEP`; empty where there is none.

    >>> without_until(["nemo-run", "recipes/x.py", "--until", "prune", "seed=7"])
    'nemo-run recipes/x.py seed=7'
    """
    words, skip = [], False
    for word in command:
        if skip:
            skip = False
        elif word == "--until":
            skip = True
        elif not word.startswith("--until="):
            words.append(word)
    return shlex.join(words)


def print_failure(
    run: Run,
    console: Console,
    *,
    failed_before_log: Mapping[str, Path | None] = MappingProxyType({}),
    jobs: Mapping[str, Job] = MappingProxyType({}),
) -> None:
    """Say which steps failed and why, what their logs say beside it, what was not started, and whether going on helps.

    `failed_before_log` are steps whose process ended before there was a log in their folder, with the log there is
    instead, if any; `jobs`, on a cluster, are the jobs by step.
    """
    states = {name: state_of(spec, jobs.get(name)) for name, spec in run.specs.items()}
    ended = [name for name, state in states.items() if state in (State.FAILED, State.CUT) or name in failed_before_log]
    failures = {name: failure_of(run.specs[name], jobs.get(name)) for name in ended}
    at_fault = [name for name, failure in failures.items() if not failure.refused] or ended
    no_room = has_no_room(run.runs)
    for name in at_fault:
        spec, error = run.specs[name], failures[name].error
        own = spec.folder / LOG_FILE
        log = failed_before_log.get(name) or (own if own.exists() else job_log(spec)) or own
        console.print(Text.assemble((f"\n{name} failed: ", "bold red"), error), soft_wrap=not console.is_terminal)
        explained = (spec.folder / FAILED).exists() or SAID.search(error)
        lines = beside(error, log) if explained else last_lines(log)
        unexplained = states[name] == State.CUT and name in jobs
        for line in lines + (script_lines(spec) if unexplained else []):
            console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
        console.print(Text(f"  all of it: {log}"), soft_wrap=True)
    waiting = [name for name, spec in run.specs.items() if not spec.done and name not in at_fault]
    if waiting:
        _say(console, f"Not started: {', '.join(waiting)}.")
    if no_room and not any(SAID.search(failures[name].error) for name in at_fault):
        _say(console, f"There is {why_full(run.runs)}")
    if no_room or any(SAID.search(failures[name].error) for name in at_fault):
        _say(console, "The same command goes on from here, once there is room.")
    elif any(failures[name].lasting or failures[name].refused for name in at_fault):
        _say(console, "As it is, it would end alike: that has to be mended first. What is done stays done.")
    else:
        _say(console, "The same command goes on from here.")


def beside(error: str, log: Path) -> list[str]:
    """What the end of a step's log says beside the `error` that ended it: where it was raised, and what came before.

    Nothing where no traceback ends it: then the error is a sentence that was written to be enough.
    """
    lines = last_lines(log, LOOKED_AT)
    starts = [number for number, line in enumerate(lines) if line == _TRACEBACK]
    if not starts:  # a sentence that says it all
        return []
    frames = [found for line in lines[starts[-1] :] if (found := _FRAME.match(line))]
    where = ["raised at {file}:{line}, in {function}".format(**found.groupdict()) for found in frames[-1:]]
    first = starts.pop()
    while starts and any(line.startswith(_CHAINED) for line in lines[starts[-1] : first]):
        first = starts.pop()
    lines = lines[:first]
    said = set(error.splitlines())
    kept = [line for line in lines if not _NOISE.search(line) and not any(line.endswith(one) for one in said if one)]
    return where + [line for line in kept if not _is_own(line)][-LINES:]


def _is_own(line: str) -> bool:
    """Whether the line is a step's own on how it began or ended."""
    return bool(re.match(r"\[[\w.-]+\] (started in|failed:|not started:)", line))


def _say(console: Console, sentence: str) -> None:
    """Print a sentence: whole in a pipe, by words on a terminal."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=not console.is_terminal)
