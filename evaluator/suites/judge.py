"""Reads from the environment which model judges answers, as nemo_evaluator.yaml does.

JUDGE_URL is the base of an OpenAI-compatible endpoint (`http://host:8000/v1`), JUDGE_MODEL_ID the model asked for
there, JUDGE_API_KEY its key, any word where none is wanted. The model's name is part of what decides a score; where
it is reached is not.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from evaluator.suites.suite import Suite

KEY_VARIABLE = "JUDGE_API_KEY"
VARIABLES = ("JUDGE_URL", "JUDGE_MODEL_ID", KEY_VARIABLE)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A judge that can be asked."""

    url: str
    """Base of its endpoint."""
    model_id: str
    """What the endpoint calls it."""


def judge_of(suite: Suite, environment: Mapping[str, str] = os.environ) -> Judge | None:
    """The judge of `suite`, None where it needs none. Raises ValueError when the environment names none."""
    judged = [benchmark.title for benchmark in suite.benchmarks if benchmark.judged]
    if not judged:
        return None
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise ValueError(f"{judged[0]} is judged by a model: set {', '.join(missing)} to say which and where it is.")
    return Judge(url=environment["JUDGE_URL"], model_id=environment["JUDGE_MODEL_ID"])
