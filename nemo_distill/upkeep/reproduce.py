"""How a run is made again, or why that cannot be said: `nemo-run reproduce RUN`.

    found = reproduction(find("distill_v1v3-debug", runs=Path("runs")), checkout=Path.cwd())
    found.lines()                   # a script: the code, its packages, the command
    found.obstacles                 # sentences; empty: the script makes the run again

The code is the commit that every step noted, the packages are those of its lock file, the command is the run's last.
"""

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.teacher import Teacher
from nemo_distill.data import local
from nemo_distill.data.entry import Entry
from nemo_distill.errors import UserError
from nemo_distill.run.manifest import Run
from nemo_distill.run.provenance import LOCK, files_at, knows_commit, locked_versions, plain_name
from nemo_distill.run.secrets import STARS
from nemo_distill.run.sources import PREPARE
from nemo_distill.upkeep.difference import commit_text, provenance_of

_DROPPED = ("--detach", "--dryrun")
_UNTIL = "--until"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What makes a run again."""

    commit: str
    """Commit of the code; empty where it is not known, or not one."""
    lock: str
    """SHA-256 of the lock file at that commit; empty where there is none."""
    command: tuple[str, ...]
    """The command, word by word."""
    obstacles: tuple[str, ...]
    """Why it would be another run, a sentence each."""
    remarks: tuple[str, ...]
    """What else is good to know, a sentence each."""
    packages: tuple[str, ...]
    """Packages that the run had and the lock has not, as `NAME==VERSION`."""

    def lines(self) -> list[str]:
        """A script for a shell in a clone of the project; in comments where it would make another run."""
        lock = [f"{LOCK}: sha256 {self.lock}"] if self.lock else []
        mark = "# " if self.obstacles else ""
        script = self.script if self.commit and self.command else []
        return [*(f"# {line}" for line in (*lock, *self.remarks)), *(f"{mark}{line}" for line in script)]

    @property
    def script(self) -> list[str]:
        """The code, its packages and the command, a line each."""
        lines = [f"git checkout {self.commit}", "make setup"]
        if self.packages:
            lines.append(f".venv/bin/python -m pip install --no-deps {shlex.join(self.packages)}")
        command = shlex.join(self.command)
        return [*lines, f".venv/bin/{command}" if self.command[:1] == ("nemo-run",) else command]


def reproduction(run: Run, *, checkout: Path) -> Reproduction:
    """What makes `run` again, as far as its steps and the `checkout` of the project say it."""
    made_by = {name: record for name, spec in run.specs.items() if (record := provenance_of(spec.folder))}
    commits = {commit_text(record) for record in made_by.values()}
    commit = next(iter(made_by.values()), {}).get("git") or {}
    one = commit.get("commit") or "" if len(commits) == 1 else ""
    known = knows_commit(checkout, one) if one else None
    lock = files_at(checkout, one, LOCK) if known else None
    command = _whole(run.facts.beside.command)
    return Reproduction(
        commit=one,
        lock=hashlib.sha256(lock.encode()).hexdigest() if lock else "",
        command=command,
        obstacles=tuple(_obstacles(run, made_by, commits, one, known, command, checkout)),
        remarks=tuple(_remarks(run)),
        packages=tuple(_beside_lock(made_by, lock)) if lock else (),
    )


def _obstacles(
    run: Run,
    made_by: dict[str, dict[str, Any]],
    commits: set[str],
    commit: str,
    known: bool | None,
    command: tuple[str, ...],
    checkout: Path,
) -> Iterator[str]:
    if not made_by:
        yield "No step of it says what code it ran: none has begun, or their folders are gone."
    elif len(commits) > 1:
        of = ", ".join(f"{text} ({_those(made_by, text)})" for text in sorted(commits))
        yield f"Its steps are of several states of the code: {of}."
    elif not commit:
        packages = next(iter(made_by.values())).get("packages", {})
        version = packages.get("nemo_distill") or packages.get("nemo-distill") or "of an unknown version"
        yield f"Its commit is not known: nemo-distill {version} was installed, from no checkout of the project."
    elif known is None:
        yield f"{checkout} is no checkout of the project, so whether it has {commit[:12]} is not known: call it there."
    elif not known:
        yield f"Its commit {commit} is not in the checkout {checkout}: git fetch, or look for who has it."
    if changed := [name for name, record in made_by.items() if (record.get("git") or {}).get("dirty")]:
        git = made_by[changed[0]]["git"]
        spec = run.specs[changed[0]].folder / "spec.json"
        files = f", and the files that git did not track: {', '.join(git['untracked'])}" if git.get("untracked") else ""
        yield f"The code had changes that no commit has: {spec} keeps the diff (provenance.git.diff){files}."
    if not command:
        yield "Its command is not known."
    elif STARS in " ".join(command):
        yield f"Its command held a secret, which is not kept: {shlex.join(command)}"
    recipe = next((word for word in command if word.endswith(".py") and "=" not in word), None)
    if known and recipe and files_at(checkout, commit, recipe) is None:
        yield f"Its recipe {recipe} is not in commit {commit[:12]}."
    yield from _other_inputs(run)


def _those(made_by: dict[str, dict[str, Any]], text: str) -> str:
    return ", ".join(name for name, record in made_by.items() if commit_text(record) == text)


def _other_inputs(run: Run) -> Iterator[str]:
    """Sentences on sources and a teacher of this machine that are gone, or not what they were."""
    for entry in (entry for entry in _entries(run) if entry.get("path") and entry.get("sha256")):
        wanted = {key: value for key, value in entry.items() if key not in ("sha256", "tokens")}
        try:
            same = local.identity(local.locate(Entry.of(wanted))) == entry["sha256"]
        except (UserError, OSError) as error:
            yield f"The source {entry['name']} cannot be read any more: {error}"
            continue
        if not same:
            where, digest = entry["path"], entry["sha256"][:12]
            yield f"The source {entry['name']} at {where} is not what it was: its digest was {digest}."
    teacher, importing = run.facts.beside.teacher, run.specs.get("import-teacher")
    if teacher and importing and (digest := importing.config.get("sha256")):
        if not Path(teacher).is_dir():
            yield f"The teacher {teacher} is not there any more."
        elif Teacher.chosen(teacher).sha256 != digest:
            yield f"The teacher {teacher} is not what it was: its digest was {digest}."


def _remarks(run: Run) -> Iterator[str]:
    if left := [name for name, spec in run.specs.items() if not spec.done]:
        yield f"{len(left)} of its {len(run.specs)} steps are not done, {left[0]} first."
    unpinned = [entry["name"] for entry in _entries(run) if entry.get("dataset") and not entry.get("revision")]
    if unpinned:
        yield f"The hub's newest {', '.join(unpinned)} would be read; the card.json of each says the revision that was."


def _entries(run: Run) -> list[dict[str, Any]]:
    """The sources of the run, as the config of its `prepare` has them."""
    prepares = [spec for spec in run.specs.values() if spec.module == PREPARE]
    return [entry for spec in prepares for entry in spec.config.get("sources", ())]


def _whole(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command of the whole run: without what only said how far to go, or how to wait."""
    words = [word for word in command if word not in _DROPPED and not word.startswith(f"{_UNTIL}=")]
    while _UNTIL in words:
        at = words.index(_UNTIL)
        del words[at : at + 2]
    if words and Path(words[0]).name == "nemo-run":
        words[0] = "nemo-run"
    return tuple(words)


def _beside_lock(made_by: dict[str, dict[str, Any]], lock: str) -> list[str]:
    """Packages of the lock that steps ran in another version."""
    locked = locked_versions(lock)
    had: dict[str, str] = {}
    for record in made_by.values():
        had |= {plain_name(name): version for name, version in record.get("packages", {}).items()}
    # What follows a `+` is for whom it was built (torch's `+cpu`): pip takes the build that it finds for a machine.
    other = [name for name in locked if name in had and had[name].partition("+")[0] != locked[name].partition("+")[0]]
    return [f"{name}=={had[name]}" for name in sorted(other)]
