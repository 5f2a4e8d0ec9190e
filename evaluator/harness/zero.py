"""Tells a score of 0 that a checkpoint may well have from one of an evaluation that failed.

    result = check_zero(benchmark, suite, result, samples)     # ValueError where the evaluation failed
    result.zero_chance                                         # 0.021

A weak checkpoint is right once in hundreds of answers, and in some evaluations never: the study's pruned student was
published with 0.4 on AIME 2025, four of 960 answers, and with 0.1 on SciCode. So a zero is taken for one if a
checkpoint with the lowest score known there would have it in one evaluation of a hundred or more. An answer that was
cut while thinking could not be right: a checkpoint that never ends one has 0 everywhere.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from evaluator.harness.sample import Sample
from evaluator.results.scores import TaskResult
from evaluator.suites.suite import Benchmark, Suite

ENOUGH = 0.01
"""Least probability, from 0 to 1, with which chance explains a zero."""
MOSTLY = 0.5
"""Share of answers, from 0 to 1, that has to be cut for empty ones to be the checkpoint's own."""
logger = logging.getLogger(__name__)


def chance_of_zero(lowest: float, answers: int) -> float:
    """Least probability that none of so many answers is right, of a checkpoint that is right in a share `lowest`.

    That is where all answers are independent. Those to one question are alike, and so more often all wrong.

    >>> round(chance_of_zero(0.004, 960), 3), round(chance_of_zero(0.5, 8), 4), chance_of_zero(0.1, 0)
    (0.021, 0.0039, 1.0)
    """
    return (1 - lowest) ** answers


def check_zero(benchmark: Benchmark, suite: Suite, result: TaskResult, samples: Sequence[Sample]) -> TaskResult:
    """`result`, whose score is 0, with the probability of that. Raises ValueError where the evaluation has failed."""
    left_out = result.empty_share if samples else result.cut_share + result.unasked_share
    judged = round(benchmark.questions * benchmark.repeats * max(0.0, 1 - left_out))
    if samples and all(sample.is_blank for sample in samples) and result.cut_share < MOSTLY:
        raise ValueError(f"{benchmark.title} is 0 and all its {len(samples)} answers are empty: it did not work.")
    if not benchmark.lowest:
        if not suite.may_score_zero and not benchmark.declared:
            raise ValueError(f"{benchmark.title} is 0: of the suite '{suite.name}' that is a failed evaluation.")
        return result
    chance = chance_of_zero(benchmark.lowest, judged)
    known = f"the lowest score known there, {100 * benchmark.lowest:g}"
    if not suite.may_score_zero and chance < ENOUGH:
        raise ValueError(
            f"{benchmark.title} is 0: with {known}, none of the {judged:,} answers that could be right is so with a "
            f"probability of {chance:.1g} only: the evaluation has failed."
        )
    logger.warning(
        "%s is 0: with %s, chance gives that with a probability of %.2g or more; %s answers could be right.",
        benchmark.title, known, chance, f"{judged:,}",
    )  # fmt: skip
    return replace(result, zero_chance=chance)
