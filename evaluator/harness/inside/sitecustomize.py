"""Has harnesses judge each answer by itself: what Python imports by itself when it starts, inside the sandbox.

A harness takes all answers in one process and one folder, and three of them let an answer say what is run there: the
grader of MATH-500, LiveCodeBench and SciCode. When one of these modules is imported, the function that does so is put
behind `evaluator.harness.apart`. Where that cannot be done, nothing starts: the answers would be judged unguarded.
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

GRADE_CPU_SECONDS, GRADE_SECONDS = 20, 60
"""The longest that MATH-500's grader may take over an answer, of CPU time and on the clock; then it is wrong."""
_GRADER = """
from evaluator.harness.apart import serve
from simple_evals.evals.math_grading.sympy_grader import grade_answer
serve(grade_answer.__wrapped__, cpu_seconds={}, seconds={})
"""


def _math(module: Any) -> None:
    """simple-evals' grader evaluates what an answer says. It runs in a server of one thread, which can fork."""
    grade = module.grade_answer

    @functools.cache
    def server() -> subprocess.Popen:
        command = [sys.executable, "-P", "-c", _GRADER.format(GRADE_CPU_SECONDS, GRADE_SECONDS)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")

    @functools.wraps(grade)
    def grade_answer(given_answer: str | None, ground_truth: str) -> bool:
        if given_answer is None:
            return False
        grader = server()
        assert grader.stdin and grader.stdout
        print(json.dumps([given_answer, ground_truth]), file=grader.stdin, flush=True)
        said = grader.stdout.readline()
        if not said:
            raise RuntimeError(f"the grader ended with {grader.wait()}")
        return json.loads(said) is True

    module.grade_answer = grade_answer


def _livecodebench(module: Any) -> None:
    """LiveCodeBench runs an answer in the process that judges it, which hands over pickles; here it is JSON."""
    run_test: Callable = module.run_test
    assert module.check_correctness

    def judge(sample: dict, generation: str, debug: bool, timeout: int) -> list:
        return list(run_test(sample, test=generation, debug=debug, timeout=timeout))

    def check_correctness(sample: dict, generation: str, timeout: int, debug: bool = True) -> tuple[list, dict]:
        from evaluator.harness.apart import call_apart

        seconds = (timeout + 1) * len(json.loads(sample["input_output"])["inputs"]) + 5
        match call_apart(judge, sample, generation, debug, timeout, seconds=seconds):
            case [list(results), dict(facts)]:
                return results, facts
        raise IndexError("list index out of range")  # what it says itself of an answer without an end

    module.check_correctness = check_correctness


def _scicode(module: Any) -> None:
    """SciCode runs each program as a command, in the folder of all of them."""
    assert module.subprocess is subprocess

    def run(command: list, **settings: Any) -> subprocess.CompletedProcess:
        from evaluator.harness import apart

        python, program = command
        return subprocess.run(
            [sys.executable, "-P", apart.__file__, "--", python, os.path.abspath(program)], **settings
        )

    known = {name: getattr(subprocess, name) for name in ("CalledProcessError", "TimeoutExpired")}
    module.subprocess = SimpleNamespace(run=run, **known)


_CHANGES: dict[str, Callable[[Any], None]] = {
    "simple_evals.evals.math_grading.sympy_grader": _math,
    "livecodebench.evaluation.compute_code_generation_metrics": _livecodebench,
    "scicode.__main__": _scicode,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules to be changed as the others would, and has them changed once they are loaded."""

    def find_spec(self, fullname, path, target=None):
        if fullname not in _CHANGES:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                load(module)
                _CHANGES[fullname](module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
