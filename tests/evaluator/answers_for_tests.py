"""Single answers beside a made-up run's results, as an evaluation keeps them."""

import json

from evaluator.results.answers import ANSWERS_FILE
from evaluator.results.scores import CheckpointResult
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import read_mark, remark, sizes_of


def keep_answers(run: Run, tasks: tuple[str, ...]) -> None:
    """Write answers.jsonl into every evaluation's folder, of these tasks, in accordance with its scores."""
    for name, spec in run.specs.items():
        if not name.startswith("evaluate-"):
            continue
        with open(spec.folder / ANSWERS_FILE, "w", encoding="utf-8") as file:
            for task in CheckpointResult.load(spec.folder).tasks:
                for question, scores in zip(task.questions, task.scores) if task.task in tasks else ():
                    answers = [
                        {"text": f"{name} says <{'yes' if score else 'no'}>", "score": score, "finish_reason": "stop"}
                        for score in scores
                    ]
                    record = {
                        "task": task.task,
                        "question": question,
                        "prompt": f"Is {question} so? " + "Think. " * 300,
                    }
                    file.write(json.dumps(record | {"reference": "yes", "answers": answers}) + "\n")
        remark(spec.folder, read_mark(spec.folder) | {"files": sizes_of(spec.folder)})
