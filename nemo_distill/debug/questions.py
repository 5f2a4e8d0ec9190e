"""The questions of the debug world's five offline tasks, one JSONL each; each task mirrors a kind of benchmark.

| task              | mirrors          | kind        | what it tests                                                   |
|-------------------|------------------|-------------|-----------------------------------------------------------------|
| offline_knowledge | MMLU             | choice      | recall of facts that the corpora state; the option sets are new |
| offline_science   | GPQA             | choice      | kinds of things (recall) judged over option sets that are new   |
| offline_math      | AIME, MATH-500   | boxed       | sums and differences that no corpus holds                       |
| offline_ifeval    | IFEval           | instruction | combinations of rules that no corpus holds                      |
| offline_code      | LiveCodeBench    | code        | functions that no corpus holds, run against test cases          |

The files are part of the package (``core_evals/nemo_distill/data``); they never change with a run's seed.  Make
them again with::

    python -m nemo_distill.debug.questions evaluator/core_evals/nemo_distill/data
"""

import json
import random
import sys
from pathlib import Path

from nemo_distill.debug import skills
from nemo_distill.debug.world import LISTS, Exercise, held_out

SEED = 2025
QUESTIONS_PER_TASK = 40

TASKS = {
    "offline_knowledge": (skills.knowledge,),
    "offline_science": (skills.science,),
    "offline_math": (skills.addition, skills.subtraction),
    "offline_ifeval": (skills.instruction,),
    "offline_code": (skills.code,),
}
"""Task -> the skills that it draws on in turn."""


def exercises(task: str) -> list[Exercise]:
    """The exercises of a task: held out of the corpora, no two of the same content."""
    rng, seen = random.Random(f"{task}/{SEED}"), set()
    chosen: list[Exercise] = []
    while len(chosen) < QUESTIONS_PER_TASK:
        exercise = TASKS[task][len(chosen) % len(TASKS[task])](rng)
        if held_out(*exercise.key) and exercise.key not in seen:
            seen.add(exercise.key)
            chosen.append(exercise)
    return chosen


def as_question(exercise: Exercise, *, identity: str) -> dict:
    """The exercise as a line of a task's JSONL, without its worked answer."""
    checks = dict(exercise.checks)
    if exercise.kind == "instruction":
        checks["options"] = list(LISTS[checks.pop("category")])
    return {
        "id": identity,
        "messages": [{"role": "user", "content": exercise.prompt}],
        "kind": exercise.kind,
        "answer": exercise.answer,
        "checks": checks,
    }


def write(folder: Path) -> None:
    """Write ``FOLDER/<task>.jsonl`` for every task."""
    for task in TASKS:
        rows = [as_question(e, identity=f"{task}-{i:03d}") for i, e in enumerate(exercises(task))]
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
