"""Knows what is particular to each harness before it starts: its package, its parameters, its files.

    check_installed(suite)                               # ValueError naming the package that is missing
    parameters(benchmark, suite, seed=0, judge=None)     # for nemo-evaluator's config

How its answers are read afterwards is `evaluator.harness.readers`'s.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from evaluator.suites.judge import KEY_VARIABLE, Judge
from evaluator.suites.suite import Benchmark, Suite

ANSWER_SECONDS = 3_600
"""The adapter (`evaluator.harness.interceptor`) waits so long for an answer, and asks no more after as long."""
REQUEST_TIMEOUT_SECONDS = 2 * ANSWER_SECONDS + 600
"""A harness waits until the adapter has given up: it would ask beside it otherwise."""
MAX_RETRIES = 10
"""Times that a harness asks the adapter again, and a judge."""
SHARED = ("temperature", "top_p", "max_new_tokens", "parallelism", "max_retries", "request_timeout")
"""Parameters that all harnesses share; the others are a harness's own and go under `extra`."""
JUDGE_WAIT_SECONDS = 10
"""What simple-evals calls the judge's request timeout is the least it waits before it asks again."""
JUDGE_TOKENS = 16
"""A judge answers Yes or No."""
PACKAGES = {
    "simple_evals": ("simple_evals", "nvidia-simple-evals"),
    "lm_eval": ("lm_eval", "nvidia-lm-eval"),
    "livecodebench": ("livecodebench", "nvidia-livecodebench"),
    "scicode": ("scicode", "nvidia-scicode"),
}
"""Module and distribution of each harness that is a package of its own."""


def check_installed(suite: Suite) -> None:
    """Raise ValueError naming the first harness of `suite` that is not installed."""
    for benchmark in suite.benchmarks:
        module, distribution = PACKAGES.get(benchmark.harness, (None, None))
        if module and importlib.util.find_spec(module) is None:
            raise ValueError(
                f"{benchmark.title} is asked by the package {distribution}, which is not installed: "
                "pip install 'nemo-distill[harnesses]'."
            )


def parameters(benchmark: Benchmark, suite: Suite, *, seed: int, judge: Judge | None) -> dict:
    """nemo-evaluator's parameters of one benchmark run by itself."""
    given: dict[str, Any] = {
        "temperature": suite.temperature,
        "top_p": suite.top_p,
        "max_new_tokens": suite.max_new_tokens,
    }
    given |= {"parallelism": suite.parallelism, "max_retries": MAX_RETRIES}
    given |= {"request_timeout": REQUEST_TIMEOUT_SECONDS + 2 * (suite.answer_seconds - ANSWER_SECONDS)}
    given |= benchmark.params
    extra = {name: given.pop(name) for name in set(given) - set(SHARED)}
    if benchmark.repeats_key:
        extra[benchmark.repeats_key] = benchmark.repeats
    if benchmark.harness == "simple_evals":
        extra["args"] = f"--seed {seed}"  # of the questions' shuffling and, with their places, of the answers
    if benchmark.judged:
        assert judge is not None, f"{benchmark.task} is judged by a model, and none is named"
        extra["judge"] = {
            "url": judge.url,
            "model_id": judge.model_id,
            "api_key": KEY_VARIABLE,
            "request_timeout": JUDGE_WAIT_SECONDS,
            "max_retries": MAX_RETRIES,
            "max_tokens": JUDGE_TOKENS,
        }
    return given | {"extra": extra}


def word_lists() -> list[Path]:
    """Folders with NLTK's data, by which IFEval's harness counts sentences: those where NLTK would look for them."""
    named = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    homes = [
        Path.home(),
        *(Path(prefix, *more) for prefix in (sys.prefix, "/usr") for more in ((), ("share",), ("lib",))),
    ]
    places = [
        *map(Path, filter(None, named)),
        *(home / "nltk_data" for home in homes),
        Path("/usr/local/share/nltk_data"),
    ]
    return [place.absolute() for place in places if (place / "tokenizers").is_dir()]


def own_files(task: str, datasets: Path | None) -> tuple[dict[str, str], dict[Path, Path]]:
    """What else a harness needs to find its data set: variables of its environment, and files in the place of others.

    SciCode takes its problems from its own package, and from a folder named in the environment the values that the
    tests compare with, which it would download otherwise.
    """
    if task != "scicode" or datasets is None:
        return {}, {}
    folder = datasets.resolve() / "SciCode1" / "SciCode"
    spec = importlib.util.find_spec("scicode")
    assert spec and spec.origin, "check_installed comes first"
    package = Path(spec.origin).parent
    problems = {package / "data" / "problems_all.jsonl": folder / "problems_test.jsonl"}
    return {"DATA_CACHE_DIR": str(folder)}, problems
