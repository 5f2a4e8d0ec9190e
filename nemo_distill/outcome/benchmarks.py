"""Turns the benchmarks that a recipe declares into the evaluator's, by way of plain data in the config of a step.

    entries = [entry_of(declared) for declared in recipe.evaluate.benchmarks]
    # [{"name": "my_quiz", "kind": "choice", "repeats": 4, "questions": 120, "digest": "1f0c..."}]
    benchmark_of(entries[0]).title                        # what tables call it

An entry holds what is asked and what decides a score, the questions' own digest among it, so that other questions are
another evaluation; where the file lies is told beside the config. What is left at its default is not said.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.harness.parameters import SHARED
from evaluator.suites.known import find_task
from evaluator.suites.own import PROMPTS, digest_of, read_own
from evaluator.suites.suite import Benchmark, Own, Suite
from nemo_distill.config import benchmarks as config
from nemo_distill.errors import UserError, nearest

ASKED = {"direct": ("chat",), "launcher": ("chat", "completions")}
"""What a task may ask, by `Suite.runner`."""
_EXECUTING = ("livecodebench", "scicode")
"""Harnesses all of whose tasks execute what the model writes."""
_UNGUARDED = re.compile(r"humaneval|mbpp|livecodebench\.(codeexecution|testoutput)")
"""Tasks that execute what the model writes, and not apart (`evaluator.harness.inside`)."""
_JUDGED = {
    "choice": "multiple choice",
    "boxed": "boxed answer",
    "exact": "compared as text",
    "regex": "a pattern is looked for",
    "instruction": "verified by a program",
    "code": "generated code is run against tests in a sandbox",
}
"""How a benchmark of each kind is described in half a sentence."""


def entry_of(declared: config.Declared, suite: Suite) -> dict[str, Any]:
    """What the config of a step says of a benchmark that is asked beside `suite`, as plain data.

    Raises `UserError` for questions that cannot be asked, with file and line, and for a task that there is not.
    """
    said = _own(declared, suite) if isinstance(declared, config.Questions) else _known(declared, suite)
    return {key: value for key, value in said.items() if value not in (None, "", {}, False)}


def _own(declared: config.Questions, suite: Suite) -> dict[str, Any]:
    if declared.kind == "code" and suite.runner != "direct":
        raise UserError(
            f"benchmark {declared.name!r}: programs are executed in the sandbox of this machine, and the suite "
            f"'{suite.name}' is asked in containers on a cluster: take another evaluate.suite."
        )
    try:
        questions = read_own(declared.file, Own(declared.kind, "", declared.prompt))
    except ValueError as error:
        raise UserError(f"benchmark {declared.name!r}: {error}") from None
    if len(questions) < config.LEAST_QUESTIONS:
        raise UserError(f"benchmark {declared.name!r}: {declared.file} has one question; {config.WHY_SO_MANY}.")
    return {
        "name": declared.name,
        "kind": declared.kind,
        "title": declared.title if declared.title != declared.name else None,
        "prompt": declared.prompt if declared.prompt != PROMPTS[declared.kind] else None,
        "repeats": declared.repeats,
        "max_new_tokens": declared.max_new_tokens,
        "questions": len(questions),
        "digest": digest_of(questions),
    }


def _known(declared: config.Benchmark, suite: Suite) -> dict[str, Any]:
    what = f"benchmark {declared.task!r}"
    try:
        task = find_task(declared.task, runner=suite.runner)
        task.check_parameters(name for name in declared.params if name not in SHARED)
        task.check_parameters([declared.repeats_key] if declared.repeats_key else [])
        task.check_parameters(["judge"] if declared.judged else [])
    except ValueError as error:
        raise UserError(f"{what}: {error}") from None
    if task.endpoint not in ASKED[suite.runner]:
        raise UserError(
            f"{what} asks {task.endpoint}, and the suite '{suite.name}' {' or '.join(ASKED[suite.runner])}."
        )
    if suite.runner == "direct" and _UNGUARDED.search(f"{task.harness}.{task.name}"):
        raise UserError(
            f"{what} executes what the model writes in the process that judges it, where one answer could write the "
            "results of all: on this machine it is not asked. A suite of the launcher's asks it in a container."
        )
    return {
        "task": declared.task,
        "title": declared.title if declared.title != declared.task else None,
        "questions": declared.questions,
        "repeats": declared.repeats,
        "repeats_key": declared.repeats_key,
        "metric": declared.metric,
        "score": declared.score,
        "scale": declared.scale,
        "result": declared.result or (task.result if task.result != declared.task else None),
        "params": dict(declared.params),
        "datasets": list(declared.datasets) or None,
        "requests": declared.requests or 0,
        "judged": declared.judged,
        "executes_code": declared.executes_code or (suite.runner == "direct" and task.reader in _EXECUTING),
        "harness": task.reader,
        "endpoint": task.endpoint if task.endpoint != "chat" else None,
    }


def benchmark_of(entry: Mapping[str, Any]) -> Benchmark:
    """The benchmark that an entry says."""
    return _benchmark_of_questions(entry) if "kind" in entry else _benchmark_of_task(entry)


def _benchmark_of_task(entry: Mapping[str, Any]) -> Benchmark:
    repeats_key = entry.get("repeats_key", "")
    return Benchmark(
        title=entry.get("title", entry["task"]),
        task=entry["task"],
        repeats=entry["repeats"],
        metric=entry["metric"],
        score=entry["score"],
        questions=entry["questions"],
        protocol="declared by the recipe, nemo-evaluator's own",
        result=entry.get("result", ""),
        params=entry.get("params", {}),
        repeats_key=repeats_key,
        harness=entry.get("harness", ""),
        requests=entry.get("requests", 0),
        judged=entry.get("judged", False),
        executes_code=entry.get("executes_code", False),
        scale=entry["scale"],
        endpoint=entry.get("endpoint", "chat"),
        uses=tuple(entry.get("datasets", ())),
        declared=True,
    )


def _benchmark_of_questions(entry: Mapping[str, Any]) -> Benchmark:
    kind, limit = entry["kind"], entry.get("max_new_tokens")
    return Benchmark(
        title=entry.get("title", entry["name"]),
        task=entry["name"],
        repeats=entry["repeats"],
        metric="pass_at_1_avg-of-{n}",
        score="symbolic_correct",
        questions=entry["questions"],
        protocol=f"the recipe's own questions, {_JUDGED[kind]}",
        params={} if limit is None else {"max_new_tokens": limit},
        repeats_key="num_repeats",
        harness="offline",
        executes_code=kind == "code",
        declared=True,
        own=Own(kind=kind, digest=entry["digest"], prompt=entry.get("prompt", "")),
    )


def with_declared(suite: Suite, entries: Sequence[Mapping[str, Any]]) -> Suite:
    """`suite` with what a recipe declares behind its benchmarks. Raises `UserError` for a name that is the suite's."""
    declared = [benchmark_of(entry) for entry in entries]
    for one in declared:
        if not one.own and one.task in _names(suite).values():
            raise UserError(f"evaluate.benchmarks declares the task {one.task!r}, which the suite '{suite.name}' asks.")
        for name in (one.task, one.title):
            if _slug(name) in _names(suite):
                raise UserError(f"the suite '{suite.name}' has a benchmark {name!r}; call yours 'my_{name}'.")
    return suite.with_benchmarks((*suite.benchmarks, *declared))


def with_tasks(suite: Suite, tasks: Sequence[str]) -> Suite:
    """`suite` with the benchmarks that `tasks` name, by task or title, in its own order.

    Raises `UserError` for a name that stands for none, with the nearest.
    """
    names = _names(suite)
    chosen = set()
    for task in tasks:
        if _slug(task) not in names:
            raise UserError(f"evaluate.tasks names {task!r}, which is not asked. {nearest(task, _short_names(suite))}")
        chosen.add(names[_slug(task)])
    if not chosen:
        raise UserError(f"evaluate.tasks names nothing to ask. {nearest('', _short_names(suite))}")
    return suite.with_benchmarks(one for one in suite.benchmarks if one.task in chosen)


def _short_names(suite: Suite) -> list[str]:
    """A short name of each benchmark."""
    return [one.task if one.declared else _slug(one.title) for one in suite.benchmarks]


def _names(suite: Suite) -> dict[str, str]:
    """Tasks of a suite's benchmarks by all that they may be called."""
    return {_slug(name): one.task for one in suite.benchmarks for name in (one.title, one.path[0], one.task)}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.strip().lower())
