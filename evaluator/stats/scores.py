"""Means, standard errors and differences of scores, over questions.

A benchmark is a sample of questions, so how far its score may be off is judged from how questions differ. Asking a
question again says only how much the answers scatter: that is kept apart, as re-run noise.

>>> table = [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]        # 3 questions, each asked 4 times
>>> summary = summarize(table)
>>> round(summary.mean, 4), round(summary.stderr, 4), round(summary.rerun_sd, 4)
(0.5833, 0.0833, 0.1667)

Two checkpoints that answered the same questions are compared question by question:

>>> one, other = [[1], [1], [1], [1], [1], [1], [0]], [[0], [0], [0], [0], [0], [0], [1]]
>>> difference = paired_difference(one, other)
>>> round(difference.mean, 4), sign_flip(differences(one, other))
(0.7143, 0.125)

Before anything is asked, how small a difference could be seen at all:

>>> round(detectable_difference(198, 1), 4), round(detectable_difference(198, 10), 4)
(0.1327, 0.0757)

Formulas: E. Miller, "Adding Error Bars to Evals", 2024 (arXiv:2411.00640).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

SMALLEST_P = 1e-12
"""The sign-flip test tells no p value from a smaller one."""
_MOST_STEPS = 2**14
"""Sign-flip sums are counted on a grid of at most so many steps."""
BETWEEN, WITHIN = 1 / 9, 1 / 6
"""Variances to plan with before there are answers (Miller, section 5): of the difference between two checkpoints from
question to question, and of one answer about its question's mean. The second is that of right or wrong where chances
are spread evenly from 0 to 1; the first, that of two such checkpoints whose chances correlate at a third."""


@dataclass(frozen=True)
class Summary:
    """One benchmark's score for one checkpoint, on the scale of its scores."""

    mean: float
    """Mean over questions and repeats."""
    stderr: float
    """Standard error of the mean over questions: sd of the questions' means (ddof 1) / sqrt(questions)."""
    rerun_sd: float | None
    """Standard deviation (ddof 1) of the score from one repeat to the next; None when asked once."""
    questions: int
    """Number of questions."""
    repeats: int
    """Times each was asked."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    mean: float
    """The value."""
    stderr: float
    """Its standard error."""


def summarize(scores, clusters: Sequence[Hashable] = ()) -> Summary:
    """The score of a table (questions, repeats).

    `clusters` says, per question, which share a passage and so stand or fall together; the error then is that over
    clusters. Raises ValueError for fewer than two questions or clusters, or a gap.
    """
    table = _table(scores)
    questions, repeats = table.shape
    return Summary(
        mean=float(table.mean()),
        stderr=_stderr(table.mean(axis=1), clusters),
        rerun_sd=float(table.mean(axis=0).std(ddof=1)) if repeats > 1 else None,
        questions=questions,
        repeats=repeats,
    )


def paired_difference(scores, others, clusters: Sequence[Hashable] = ()) -> Estimate:
    """How much `scores` is above `others`, two tables (questions, repeats) over the same questions in one order.

    The questions are the same, so what makes one hard for both cancels: the error is that of the differences. It is
    over `clusters` where there are any, as in `summarize`.
    """
    by_question = differences(scores, others)
    return Estimate(mean=float(by_question.mean()), stderr=_stderr(by_question, clusters))


def differences(scores, others, clusters: Sequence[Hashable] = ()) -> np.ndarray:
    """Mean over repeats of each question of `scores` less that of `others`, summed over each of the `clusters`."""
    one, other = _table(scores), _table(others)
    if len(one) != len(other):
        raise ValueError(f"a paired difference is over the same questions, not {len(one)} and {len(other)}.")
    return _clustered(one.mean(axis=1) - other.mean(axis=1), clusters)


def sign_flip(by_question) -> float:
    """Two-sided p value of paired differences: how often their sum is as far from 0 when each has a sign by chance.

    Two checkpoints that are alike could as well have swapped their answers to any question. All 2^questions ways to
    swap are counted, none is drawn: the sum's distribution has a characteristic function that is a product, one factor
    a question. Asked once, it is McNemar's exact test. No normal distribution is assumed, so it holds for 30
    questions and where all differences are equal, which have no standard error.

    Args:
        by_question: A difference per question or cluster. They are multiples of 1/repeats, as a rule; others are
            rounded to a grid, which leaves the test exact, for they are what is then tested.
    """
    up, down = _steps(np.asarray(by_question, dtype=np.float64))
    sizes, counts = np.unique(np.concatenate([up, down]), return_counts=True)
    if len(sizes) < 2:
        return mcnemar(len(up), len(down))
    total = int(sizes @ counts)
    waves = np.ones(total // 2 + 1, dtype=np.complex128)
    for size, count in zip(sizes, counts, strict=True):
        angles = np.arange(len(waves)) * size % (total + 1) * (2 * np.pi / (total + 1))
        waves *= (0.5 + 0.5 * np.exp(-1j * angles)) ** count
    chances = np.fft.irfft(waves, n=total + 1)  # of the steps that point up: 0 to total
    sums = np.abs(2 * np.arange(total + 1) - total)
    p_value = chances[sums >= abs(2 * int(up.sum()) - total)].sum()
    return float(np.clip(p_value, SMALLEST_P, 1))


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's exact test, two-sided, of questions asked once that just one of two checkpoints answered rightly.

    >>> round(mcnemar(8, 2), 6)
    0.109375
    """
    trials, fewer = only_one + only_other, min(only_one, only_other)
    # The tail's terms as shares of its largest one, which alone is of large whole numbers.
    smaller = np.arange(fewer, 0, -1)
    tail = 1 + float(np.cumprod(smaller / (trials - smaller + 1)).sum())
    return min(1.0, 2 * (math.comb(trials, fewer) / 2**trials) * tail)


def normal_p(estimate: Estimate) -> float:
    """Two-sided p value of an estimate from so many questions that it is normally distributed; 0 has no error."""
    if estimate.stderr == 0:
        return float(estimate.mean == 0)
    return math.erfc(abs(estimate.mean) / estimate.stderr / math.sqrt(2))


@dataclass(frozen=True)
class Needed:
    """What it would take to tell two checkpoints apart, if their difference is what was seen."""

    questions: int
    """Questions of this kind, asked as often as they were."""
    repeats: int | None
    """Repeats of the questions there are; None when no number would do, or when asking once left it unknown."""


def needed(
    scores, others, clusters: Sequence[Hashable] = (), *, significance: float = 0.05, power: float = 0.8
) -> Needed | None:
    """How much more would have to be asked so that a difference as large as the one seen is found.

    Args:
        scores: Table (questions, repeats) of one checkpoint.
        others: The other's, over the same questions.
        clusters: Per question what it shares with others, as in `summarize`: more questions then are more of such
            clusters, and asking again betters less.
        significance: Two-sided level of the test that has to find it.
        power: How often it does.

    None when no difference was seen. The variance of the differences is that between questions and, over the repeats,
    that of single answers: only the second gets smaller by asking again.
    """
    one, other = _table(scores), _table(others)
    by_question = differences(one, other)
    mean, questions = by_question.mean(), len(by_question)
    variance = questions * _stderr(by_question, clusters) ** 2
    if mean == 0:
        return None
    # Variance of a question's difference at which the mean's standard error is small enough, per question asked.
    bearable = (mean / (NormalDist().inv_cdf(1 - significance / 2) + NormalDist().inv_cdf(power))) ** 2
    more_questions = max(2, math.ceil(variance / bearable))
    if one.shape[1] == 1 or other.shape[1] == 1:
        return Needed(more_questions, None)
    answers = [table.var(axis=1, ddof=1).mean() for table in (one, other)]
    between = max(0.0, variance - answers[0] / one.shape[1] - answers[1] / other.shape[1])
    room = bearable * questions - between
    return Needed(more_questions, max(1, math.ceil(sum(answers) / room)) if room > 0 else None)


def average(parts: Sequence[Summary | Estimate]) -> Estimate:
    """The unweighted mean of benchmarks that share no question, each counting alike whatever its size."""
    return Estimate(
        mean=float(np.mean([part.mean for part in parts])),
        stderr=float(np.sqrt(np.sum([part.stderr**2 for part in parts])) / len(parts)),
    )


def detectable_difference(
    questions: int,
    repeats: float,
    between: float = BETWEEN,
    within: float = WITHIN,
    *,
    significance: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true difference of two checkpoints that a paired, two-sided test finds, on the scale of the scores.

    Args:
        questions: Asked of both, the same ones.
        repeats: Times each is asked of each; `math.inf` for what no asking again betters.
        between: Variance, from question to question, of the difference between the two checkpoints' chances.
        within: Variance of one answer about the chance of its question.
        significance: How often a difference is seen where there is none.
        power: How often a difference of this size is seen.

    Raises ValueError for fewer than two questions or less than one repeat.
    """
    if questions < 2 or repeats < 1:
        raise ValueError(f"{questions} questions asked {repeats} times tell nothing apart.")
    quantile = NormalDist().inv_cdf(1 - significance / 2) + NormalDist().inv_cdf(power)
    return quantile * float(np.sqrt((between + 2 * within / repeats) / questions))


@dataclass(frozen=True)
class ErrorRange:
    """Where a standard error lies when only the score is known and not the single answers."""

    least: float
    """If all questions were alike, so that asking one again says as much as asking another."""
    most: float
    """If a question were always or never answered rightly, so that asking it again says nothing."""

    def with_other(self, other: "ErrorRange") -> "ErrorRange":
        """Of the difference of two scores with these errors, whose answers are independent."""
        return ErrorRange(math.hypot(self.least, other.least), math.hypot(self.most, other.most))


def binomial_stderr(mean: float, *, questions: int, repeats: int) -> ErrorRange:
    """The standard error of a share of right answers, from 0 to 1, that was published without the answers.

    Each answer is right or wrong, so the variance of a question's mean lies between p(1-p)/repeats and p(1-p).
    """
    if not 0 <= mean <= 1 or questions < 1 or repeats < 1:
        raise ValueError(f"no share of right answers: {mean} of {questions} questions asked {repeats} times.")
    variance = mean * (1 - mean) / questions
    return ErrorRange(least=math.sqrt(variance / repeats), most=math.sqrt(variance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below 0.05 each stands although so many were tested."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def wilson(right: float, questions: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of right answers: of use where few are right, or few wrong, and the error is 0.

    >>> [round(end, 4) for end in wilson(22, 30)]
    [0.5555, 0.8582]
    """
    if not 0 <= right <= questions or questions < 1:
        raise ValueError(f"no share of right answers: {right} of {questions}.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = right / questions, z**2 / questions
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / questions + weight / (4 * questions)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def _stderr(values: np.ndarray, clusters: Sequence[Hashable] = ()) -> float:
    """Of the mean: of values that are independent, or, with `clusters`, only between them (Miller, section 2.2)."""
    sums = _clustered(values - values.mean(), clusters)
    if len(sums) < 2:
        raise ValueError(f"all {len(values)} questions are in one cluster, so that their error cannot be known.")
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values))


def _clustered(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    if not len(clusters):
        return values
    if len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} clusters are named for {len(values)} questions.")
    index = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.bincount([index[name] for name in clusters], weights=values)


def _steps(by_question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The differences above and below 0 as whole numbers of the largest step that all are multiples of."""
    sizes = np.abs(by_question)
    largest = sizes.max(initial=0.0)
    if largest > 0:
        for parts in range(1, 129):
            steps = sizes * parts
            if np.abs(steps - np.rint(steps)).max() < 1e-9 and steps.sum() <= _MOST_STEPS:
                break
        else:
            steps = sizes * (_MOST_STEPS / sizes.sum())
        sizes = np.rint(steps).astype(np.int64)
    return tuple(sizes[(sign * by_question > 0) & (sizes > 0)] for sign in (1, -1))


def _table(scores) -> np.ndarray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or table.shape[1] < 1:
        raise ValueError(f"scores must be a table of at least two questions x repeats, not of shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("scores have a gap: a question was not answered in every repeat.")
    return table
