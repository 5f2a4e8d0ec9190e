"""Tells which questions of a benchmark are right or wrong together, from their ids.

>>> clusters_of("scicode", ["12.1", "12.2", "13.1"])
('12', '12', '13')
>>> clusters_of("offline_math", ["offline_math-000", "offline_math-001"])
()

SciCode asks for a problem's sub-steps one by one, each resting on the code of those before: a model that misreads the
problem loses them together. Taken as independent questions they make a score look more exact than it is, so its error
is over problems (`evaluator.stats.scores.summarize`).
"""

import re
from collections.abc import Sequence

_PARTS = {"scicode": re.compile(r"(?:.*?[^\d.])?(\d+)[._-](\d+)$")}
"""By a word of the task's name: what an id looks like, the problem its first group."""


def clusters_of(task: str, questions: Sequence[str]) -> tuple[str, ...]:
    """Per question of a task what it shares with others; empty where no two of them share anything.

    Raises ValueError for a question of such a task whose id does not tell its problem.
    """
    pattern = next((pattern for word, pattern in _PARTS.items() if word in task.lower()), None)
    if pattern is None or not any(map(pattern.match, questions)):
        return ()
    found = []
    for question in questions:
        match = pattern.match(question)
        if match is None:
            raise ValueError(f"the question '{question}' of {task} does not say which problem it is a part of.")
        found.append(match[1])
    return tuple(found) if len(set(found)) < len(found) else ()
