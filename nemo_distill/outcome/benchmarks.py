"""Turns the benchmarks that a recipe declares into the evaluator's, by way of plain data in the config of a step.

    entries = [entry_of(declared) for declared in recipe.evaluate.benchmarks]
    # [{"name": "my_quiz", "kind": "choice", "repeats": 4, "questions": 120, "digest": "1f0c..."}]
    benchmark_of(entries[0]).title                        # what tables call it

An entry holds what is asked and what decides a score, the questions' own digest among it, so that other questions are
another evaluation; where the file lies is told beside the config. What is left at its default is not said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.suites.own import PROMPTS, digest_of, read_own
from evaluator.suites.suite import Benchmark, Own, Suite
from nemo_distill.config import benchmarks as config
from nemo_distill.errors import UserError, nearest

_JUDGED = {
    "choice": "multiple choice",
    "boxed": "boxed answer",
    "exact": "compared as text",
    "regex": "a pattern is looked for",
    "instruction": "verified by a program",
    "code": "generated code is run against tests in a sandbox",
}
"""How a benchmark of each kind is described in half a sentence."""


def entry_of(declared: config.Declared) -> dict[str, Any]:
    """What the config of a step says of a benchmark, as plain data.

    Raises `UserError`, with file and line, for questions that cannot be asked.
    """
    if isinstance(declared, config.Benchmark):
        raise UserError(f"benchmark {declared.task!r}: tasks of nemo-evaluator cannot be declared yet.")
    try:
        questions = read_own(declared.file, Own(declared.kind, "", declared.prompt))
    except ValueError as error:
        raise UserError(f"benchmark {declared.name!r}: {error}") from None
    if len(questions) < config.LEAST_QUESTIONS:
        raise UserError(f"benchmark {declared.name!r}: {declared.file} has one question; {config.WHY_SO_MANY}.")
    said: dict[str, Any] = {
        "name": declared.name,
        "kind": declared.kind,
        "title": declared.title if declared.title != declared.name else None,
        "prompt": declared.prompt if declared.prompt != PROMPTS[declared.kind] else None,
        "repeats": declared.repeats,
        "max_new_tokens": declared.max_new_tokens,
        "questions": len(questions),
        "digest": digest_of(questions),
    }
    return {key: value for key, value in said.items() if value not in (None, "")}


def benchmark_of(entry: Mapping[str, Any]) -> Benchmark:
    """The benchmark that an entry says."""
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
            raise UserError(f"evaluate.tasks names {task!r}, which is not asked. {nearest(task, _known(suite))}")
        chosen.add(names[_slug(task)])
    if not chosen:
        raise UserError(f"evaluate.tasks names nothing to ask. {nearest('', _known(suite))}")
    return suite.with_benchmarks(one for one in suite.benchmarks if one.task in chosen)


def _known(suite: Suite) -> list[str]:
    """A short name of each benchmark."""
    return [one.task if one.declared else _slug(one.title) for one in suite.benchmarks]


def _names(suite: Suite) -> dict[str, str]:
    """Tasks of a suite's benchmarks by all that they may be called."""
    return {_slug(name): one.task for one in suite.benchmarks for name in (one.title, one.path[0], one.task)}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.strip().lower())
