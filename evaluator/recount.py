"""Recomputes any number of a report from the single answers that an evaluation left.

    python -m evaluator.recount runs/evaluate-0.61M/fc0ea80b758e
    python -m evaluator.recount runs/evaluate-0.61M/fc0ea80b758e runs/evaluate-teacher/385bea1c7808

Of one folder it prints each benchmark's score, its standard error over questions and how far the score moves from one
repeat to the next; of two, what the first has over the second, from paired questions, with the p-value of the sign-flip
test before Holm's procedure. Reports print the commands that give their numbers. Of a benchmark whose harness kept no
answers there is nothing to recount: what it reported is shown, and said to be that.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from evaluator.results.pairs import difference, difference_p, same_questions
from evaluator.results.scores import RESULTS_FILE, CheckpointResult
from evaluator.stats.scores import average
from evaluator.text import fixed


def main(arguments: list[str]) -> int:
    """Print the table of one folder or two; 2 when that cannot be, with the reason."""
    if len(arguments) not in (1, 2):
        print("usage: python -m evaluator.recount EVALUATION [OTHER]", file=sys.stderr)
        return 2
    try:
        results = [_load(Path(folder)) for folder in arguments]
        lines = list(recount(*results))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    lacking = dict.fromkeys(task.task for result in results for task in result.tasks if not task.has_answers)
    if lacking:
        print(
            f"\nNothing to recount in {', '.join(lacking)}: no single answers were kept. What the harness reported is "
            f"shown{'' if len(results) == 1 else '; its differences are unpaired'}."
        )
    return 0


def recount(one: CheckpointResult, other: CheckpointResult | None = None) -> Iterator[tuple[str, ...]]:
    """Heading and lines of the table, in points. Raises ValueError when the two were not asked the same."""
    if other is None:
        yield ("", one.label, "±", "re-run sd", "questions", "repeats")
        for task in one.tasks:
            s = task.summary
            noise = "" if s.rerun_sd is None else fixed(100 * s.rerun_sd, 2)
            yield (task.task, fixed(100 * s.mean, 2), fixed(100 * s.stderr, 2), noise, str(s.questions), str(s.repeats))
        whole = average([task.summary for task in one.tasks])
        yield ("average", fixed(100 * whole.mean, 2), fixed(100 * whole.stderr, 2), "", "", "")
        return
    asked = [[(task.task, task.summary.repeats) for task in result.tasks] for result in (one, other)]
    if asked[0] != asked[1] or not all(map(same_questions, one.tasks, other.tasks)):
        raise ValueError(f"'{one.label}' and '{other.label}' were not asked the same questions, as often.")
    yield ("", f"{one.label} - {other.label}", "±", "p")
    parts = []
    for mine, theirs in zip(one.tasks, other.tasks, strict=True):
        parts.append(difference(mine, theirs))
        p_value = difference_p(mine, theirs)
        mean, error = fixed(100 * parts[-1].mean, 2, signed=True), fixed(100 * parts[-1].stderr, 2)
        yield (mine.task, mean, error, f"{p_value:.3g}")
    whole = average(parts)
    yield ("average", fixed(100 * whole.mean, 2, signed=True), fixed(100 * whole.stderr, 2), "")


def _load(folder: Path) -> CheckpointResult:
    if not (folder / RESULTS_FILE).is_file():
        raise ValueError(f"'{folder}' is no evaluation's folder: it has no {RESULTS_FILE}.")
    return CheckpointResult.load(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
