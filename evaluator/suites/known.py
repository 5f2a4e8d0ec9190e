"""Knows the tasks that nemo-evaluator has by name: in the launcher's containers, and installed on this machine.

    known = find_task("ns_gpqa", runner="launcher")     # ValueError with the nearest name for one that there is not
    known.harness, known.result, known.parameters       # "nemo_skills", "gpqa", {"num_repeats", "prompt_config", ...}

Both lists are files of packages that are installed, so no network is asked: nemo-evaluator-launcher's list of all tasks
in all containers, and the framework.yml of each harness here.
"""

import difflib
import functools
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LIST = Path("resources", "all_tasks_irs.yaml")
"""The launcher's list, in its package."""
READERS = {
    "nemo_skills": "nemo_skills",
    "simple_evals": "simple_evals",
    "lm-evaluation-harness": "lm_eval",
    "livecodebench": "livecodebench",
    "scicode": "scicode",
}
"""`Benchmark.harness` by nemo-evaluator's name of a harness, where its answers are read."""
WHERE = {"launcher": "nemo-evaluator-launcher", "direct": "the harnesses of this machine"}
"""Who knows the tasks, by `Suite.runner`."""
_OURS = "nemo_distill"
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 times as fast, where PyYAML was built with it
_PARAMETER = re.compile(r"config\.params\.extra\.(\w+)")


@dataclass(frozen=True)
class Task:
    """A task of nemo-evaluator's."""

    name: str
    """Its name."""
    harness: str
    """Its harness, as nemo-evaluator calls it."""
    result: str
    """The task's name in results.yml, as far as it can be told beforehand."""
    endpoint: str
    """What it asks: `chat`, `completions`, `vlm` or `embedding`."""
    parameters: frozenset[str]
    """Names of the harness's own parameters."""

    @property
    def reader(self) -> str:
        """`Benchmark.harness`; empty where its answers are not read."""
        return READERS.get(self.harness, "")

    def check_parameters(self, given: Iterable[str]) -> None:
        """Raise ValueError for the first parameter that the harness does not have."""
        for name in given:
            if name not in self.parameters:
                raise ValueError(f"{self.harness} has no parameter {name!r}. {_nearest(name, self.parameters)}")


def find_task(name: str, *, runner: str) -> Task:
    """The task called TASK or HARNESS.TASK, where suites of this `runner` are asked.

    Raises ValueError for one that there is not, with the nearest, and for one that several harnesses have.
    """
    known = _launchers() if runner == "launcher" else _installed()
    harness, dot, task = name.rpartition(".")
    found = [one for one in known if one.name == task and (not dot or one.harness == harness)]
    if len(found) == 1:
        return found[0]
    if found:
        each = " and ".join(f"{one.harness}.{one.name}" for one in found)
        raise ValueError(f"several harnesses have a task {name!r}: {each}.")
    names = [f"{one.harness}.{one.name}" if dot else one.name for one in known]
    elsewhere = runner == "direct" and any(one.name == task for one in _launchers())
    hint = (
        "It is asked in a container of the launcher's, by a suite such as 'study'."
        if elsewhere
        else _nearest(name, names)
    )
    raise ValueError(f"{WHERE[runner]} know no task {name!r}. {hint}".replace("launcher know", "launcher knows"))


@functools.cache
def _launchers() -> tuple[Task, ...]:
    """All tasks of the launcher's containers."""
    spec = importlib.util.find_spec("nemo_evaluator_launcher")
    assert spec and spec.origin, "nemo-evaluator-launcher is a dependency"
    with open(Path(spec.origin).parent / LIST, encoding="utf-8") as file:
        listed = yaml.load(file, _YAML)
    return tuple(_task(one["name"], one["harness"], one["defaults"]) for one in listed["tasks"])


@functools.cache
def _installed() -> tuple[Task, ...]:
    """All tasks of the harnesses that are installed here, but our own."""
    spec = importlib.util.find_spec("core_evals")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [file for folder in folders for file in sorted(folder.glob("*/framework.yml"))]
    return tuple(task for file in files if file.parent.name != _OURS for task in _of_framework(file))


def _of_framework(file: Path) -> Iterator[Task]:
    with open(file, encoding="utf-8") as opened:
        record = yaml.load(opened, _YAML)
    for evaluation in record.get("evaluations") or ():
        own = evaluation["defaults"]
        defaults = {"command": record["defaults"].get("command", ""), **own}
        yield _task(own["config"]["type"], record["framework"]["name"], defaults)


def _task(name: str, harness: str, defaults: Mapping[str, Any]) -> Task:
    config = defaults.get("config") or {}
    params = config.get("params") or {}
    return Task(
        name=name,
        harness=harness,
        result=str(params.get("task") or name),
        endpoint=(config.get("supported_endpoint_types") or ["chat"])[0],
        parameters=frozenset(_PARAMETER.findall(defaults.get("command") or "")),
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    listed = sorted(set(known))
    near = difflib.get_close_matches(name, listed, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(listed[:12])}{', ...' if len(listed) > 12 else ''}." if listed else "There is none."
