"""Renders nemo_evaluator.yaml, the study's suite for nemo-evaluator-launcher, from `evaluator.suites.catalogue`.

    python -m evaluator.harness.launcher_config > nemo_evaluator.yaml

The launcher's dry run on it is part of the tests: a parameter that a task does not use fails them.
"""

from pathlib import Path
from typing import Any

import jinja2
import yaml

from evaluator.harness.parameters import SHARED
from evaluator.suites.catalogue import STUDY
from evaluator.suites.suite import Benchmark, Suite

TEMPLATES = Path(__file__).parent
JUDGE = {"url": "${oc.env:JUDGE_URL}", "model_id": "${oc.env:JUDGE_MODEL_ID}", "api_key": "JUDGE_API_KEY"}
"""Who judges MATH-500, from the environment: the study does not say whom it asked."""


def render(suite: Suite = STUDY) -> str:
    """The text of nemo_evaluator.yaml for `suite`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    template = environment.get_template("nemo_evaluator.yaml.j2")
    return template.render(suite=suite, task_lines=lambda benchmark: _task(suite, benchmark).splitlines())


def _task(suite: Suite, benchmark: Benchmark) -> str:
    """What the launcher is told of a task besides its name, in YAML."""
    given: dict[str, Any] = {
        "temperature": suite.temperature,
        "top_p": suite.top_p,
        "max_new_tokens": suite.max_new_tokens,
    }
    given = {name: value for name, value in (given | dict(benchmark.params)).items() if value is not None}
    params = {name: given.pop(name) for name in SHARED if name in given}
    extra = dict(given)
    if benchmark.repeats_key:
        extra[benchmark.repeats_key] = benchmark.repeats
    task: dict = {}
    config: dict = {"config": {"params": params | ({"extra": extra} if extra else {})}}
    if benchmark.task.startswith("lm-evaluation-harness."):
        # A completions endpoint takes no system prompt and the answer follows at once.
        plain = {"use_system_prompt": False, "custom_system_prompt": None, "process_reasoning_traces": False}
        config["target"] = {"api_endpoint": {"adapter_config": plain}}
    if benchmark.judged:
        extra["judge"] = JUDGE
        task["env_vars"] = {"JUDGE_API_KEY": "runtime:JUDGE_API_KEY"}
    return yaml.safe_dump(task | {"nemo_evaluator_config": config}, sort_keys=False, width=120)


if __name__ == "__main__":
    print(render(), end="")
