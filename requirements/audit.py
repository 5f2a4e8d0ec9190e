"""Looks for known vulnerabilities of the locked versions, by pip-audit, which asks OSV, or in a copy of OSV's records.

    python requirements/audit.py requirements/lock.txt              # in an environment of audit.txt: `make audit`
    python requirements/audit.py requirements/lock.txt --database all.zip

A database is a zip or a folder of OSV's JSON records, as OSV exports them for PyPI. What `behind.toml` names, with the
reason why it stays, is shown and passes. Exits with 0: nothing else was found; 1: something was; 2: not a command or a
file that can be read; 3: no database was reached, so nothing was looked up.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

BEHIND = Path(__file__).with_name("behind.toml")
FOUND, UNREADABLE, UNREACHED = 1, 2, 3


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a locked version."""

    package: str
    """Name of the package."""
    version: str
    """Version in the lock."""
    ids: frozenset[str]
    """Its names in all databases."""
    fixed: tuple[str, ...]
    """Versions that mend it, the first of each series."""

    def __str__(self) -> str:
        mended = f"mended in {', '.join(self.fixed)}" if self.fixed else "mended in no version"
        return f"{self.package} {self.version}: {', '.join(sorted(self.ids))}, {mended}"


def locked(*files: Path) -> list[tuple[str, str]]:
    """Package and version of every pin, without what says for whom it was built (`+cpu`)."""
    pins = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\+]+)", re.MULTILINE)
    return sorted({(canonicalize_name(n), v) for file in files for n, v in pins.findall(file.read_text("utf-8"))})


def ask(pins: list[tuple[str, str]]) -> list[Finding] | None:
    """What pip-audit finds; None where it reached no database, or one that knows none of the packages."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked.txt")
        asked.write_text("".join(f"{name}=={version}\n" for name, version in pins), encoding="utf-8")
        words = ["--vulnerability-service", "osv", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        command = [sys.executable, "-m", "pip_audit", *words, "--format", "json", "--requirement", str(asked)]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if "ConnectionError" in done.stderr:
            return None
        raise ValueError(f"pip-audit ends with {done.stderr.strip().rpartition(chr(10))[2]!r}") from None
    # One that is skipped was not found in the database: where that is so of all, it was no database.
    if all("skip_reason" in answer for answer in answers):
        return None
    return [
        Finding(each["name"], each["version"], frozenset({vuln["id"], *vuln["aliases"]}), tuple(vuln["fix_versions"]))
        for each in answers
        for vuln in each.get("vulns", ())
    ]


def look_up(pins: list[tuple[str, str]], database: Path) -> list[Finding]:
    """What a copy of OSV's records says."""
    found = []
    for record in records(database):
        for affected in () if "withdrawn" in record else record.get("affected", ()):
            of = affected.get("package", {})
            name = canonicalize_name(of.get("name", ""))
            for version in (v for n, v in pins if n == name and of.get("ecosystem") == "PyPI" and affects(affected, v)):
                fixed = tuple(event["fixed"] for event in events(affected) if "fixed" in event)
                found.append(Finding(name, version, frozenset({record["id"], *record.get("aliases", ())}), fixed))
    return found


def records(database: Path) -> Iterator[dict[str, Any]]:
    """Every record of a zip or a folder."""
    if database.is_dir():
        yield from (json.loads(path.read_bytes()) for path in sorted(database.rglob("*.json")))
        return
    with zipfile.ZipFile(database) as archive:
        yield from (json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json"))


def events(affected: dict[str, Any]) -> list[dict[str, str]]:
    """The events of all ranges of versions."""
    return [event for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM" for event in each["events"]]


def affects(affected: dict[str, Any], version: str) -> bool:
    """Whether a version is listed, or lies in a range: behind its start, before its end.

    >>> affects({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.6.0"}]}]}, "1.26.20")
    True
    """
    if version in affected.get("versions", ()):
        return True
    inside, at = False, Version(version)
    order = {"introduced": 0, "fixed": 0, "last_affected": 1}
    for key, value in sorted(
        ((key, value) for event in events(affected) for key, value in event.items() if key in order),
        key=lambda event: (as_version(event[1]), order[event[0]]),
    ):
        if as_version(value) < at or (as_version(value) == at and key != "last_affected"):
            inside = key == "introduced"
    return inside


def as_version(text: str) -> Version:
    """A version; one that is none, as OSV's "0" for the first is, comes before all."""
    try:
        return Version(text) if text != "0" else Version("0.dev0")
    except InvalidVersion:
        return Version("0.dev0")


def main() -> int:
    """Shows what is found; the exit code."""
    parser = argparse.ArgumentParser(description="Looks for known vulnerabilities of the locked versions.")
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--database", type=Path, help="a zip or folder of OSV's records, in place of asking OSV")
    given = parser.parse_args()
    try:
        pins = locked(*given.locks)
        behind = tomllib.loads(BEHIND.read_text(encoding="utf-8"))["behind"]
        found = look_up(pins, given.database) if given.database else ask(pins)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"The audit cannot read what it was given: {error}", file=sys.stderr)
        return UNREADABLE
    if found is None:
        print("No database was reached, so nothing is known of these versions: audit them where OSV can be asked,"
              " or with DATABASE=all.zip, OSV's export for PyPI.", file=sys.stderr)  # fmt: skip
        return UNREACHED
    new = []
    for finding in sorted(found, key=str):
        pin = (finding.package, finding.version)
        named = [each for each in behind if (each["package"], each["version"]) == pin and {*each["ids"]} & finding.ids]
        print("behind:" if named else "NEW:", ". ".join([str(finding), *(each["held"] for each in named)]))
        new += [] if named else [finding]
    seen = frozenset().union(*(finding.ids for finding in found))
    for each in behind:
        if not seen & {*each["ids"]}:
            print(f"behind.toml names {each['package']} {each['version']}, of which this database says nothing.")
    print(f"{len(pins)} packages, {len(found)} vulnerabilities, {len(new)} of them not named in behind.toml.")
    return FOUND if new else 0


if __name__ == "__main__":
    sys.exit(main())
