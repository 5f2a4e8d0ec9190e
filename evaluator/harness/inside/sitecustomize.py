"""Has harnesses judge each answer by itself: what Python imports by itself when it starts, inside the sandbox.

A harness takes all answers in one process and one folder, and three of them let an answer say what is run there: the
grader of MATH-500, LiveCodeBench and SciCode. When one of these modules is imported, the function that does so is put
behind `evaluator.harness.apart`, and so are those that search an answer by patterns which some take hours. Where that
cannot be done, nothing starts: the answers would be judged unguarded.
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

CPU_SECONDS, SECONDS = 20, 60
"""The longest that an answer may take what reads or grades it, of CPU time and on the clock; then it is wrong."""
_SERVER = """
import os
answers = open(os.dup(1), "w")
os.dup2(2, 1)  # what an import prints is no answer
from evaluator.harness.apart import serve
{}
serve(function, answers, cpu_seconds={}, seconds={})
"""


class _Served:
    """A function that is called in a process of one thread, which can fork, and for each call apart from it."""

    def __init__(self, source: str):
        """`source` imports what `function` is, and says so."""
        self.source, self.lock = source, threading.Lock()

    @functools.cached_property
    def server(self) -> subprocess.Popen:
        command = [sys.executable, "-P", "-c", _SERVER.format(self.source, CPU_SECONDS, SECONDS)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")

    def __call__(self, *arguments: Any) -> Any:
        """What it returns, as plain JSON data; None where it fails, or takes longer than it may."""
        from evaluator.harness.apart import NotShutIn

        with self.lock:
            assert self.server.stdin and self.server.stdout
            print(json.dumps(arguments), file=self.server.stdin, flush=True)
            said = self.server.stdout.readline()
            if not said:
                raise RuntimeError(f"what judges answers ended with {self.server.wait()}")
        match json.loads(said):
            case [found]:
                return found
            case sentence:
                raise NotShutIn(sentence)


def _math(module: Any) -> None:
    """simple-evals' grader evaluates what an answer says."""
    served = _Served(f"from {module.__name__} import grade_answer; function = grade_answer.__wrapped__")

    @functools.wraps(module.grade_answer)
    def grade_answer(given_answer: str | None, ground_truth: str) -> bool:
        return given_answer is not None and served(given_answer, ground_truth) is True

    module.grade_answer = grade_answer


def _ifeval(module: Any) -> None:
    """lm-evaluation-harness' IFEval searches an answer with patterns that some take hours; its task is a file."""
    find: Callable = module.import_function

    def import_function(loader: Any, node: Any, yaml_path: Any) -> Callable:
        found = find(loader, node, yaml_path=yaml_path)
        if (yaml_path.parent.name, found.__name__) != ("ifeval", "process_results"):
            return found
        served = _Served("from lm_eval.tasks.ifeval.utils import process_results as function")

        @functools.wraps(found)
        def process_results(doc: dict, results: list) -> dict:
            wrong = {"prompt": False, "inst": [False] * len(doc["instruction_id_list"])}
            none = {f"{level}_level_{how}_acc": wrong[level] for level in wrong for how in ("strict", "loose")}
            return served(doc, results) or none

        return process_results

    module.import_function = import_function


def _livecodebench_text(module: Any) -> None:
    """LiveCodeBench takes a program out of an answer by a pattern that some answers take hours."""
    imports = f"from {module.__name__} import LMStyle, extract_code"
    served = _Served(f"{imports}\ndef function(text, style): return extract_code.__wrapped__(text, LMStyle[style])")

    @functools.wraps(module.extract_code)
    def extract_code(model_output: str, lmstyle: Any) -> str:
        return served(model_output, lmstyle.name) or ""

    module.extract_code = extract_code


def _scicode_text(module: Any) -> None:
    """SciCode takes imports out of a program by a pattern that some answers take hours."""
    served = _Served(f"from {module.__name__} import extract_python_script as e; function = e.__wrapped__")

    @functools.wraps(module.extract_python_script)
    def extract_python_script(response: str) -> str:
        return served(response) or ""

    module.extract_python_script = extract_python_script


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
        from evaluator.harness.apart import run_apart

        python, program = command
        return run_apart([python, os.path.abspath(program)], **settings)

    known = {name: getattr(subprocess, name) for name in ("CalledProcessError", "TimeoutExpired")}
    module.subprocess = SimpleNamespace(run=run, **known)


_CHANGES: dict[str, Callable[[Any], None]] = {
    "simple_evals.evals.math_grading.sympy_grader": _math,
    "lm_eval.utils": _ifeval,
    "livecodebench.utils.extraction_utils": _livecodebench_text,
    "scicode.gen.models": _scicode_text,
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
