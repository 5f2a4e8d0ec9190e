"""What quantising costs, from paired answers: every quantised milestone less itself as it was trained.

    for one in judge_quantised(report):
        print(one.text)                 # "0.61M-fp8 shows no significant difference from 0.61M in any benchmark ..."

Both are one training's, so that another seed has no part in it: all differences, in every benchmark and on average, are
a family of their own.
"""

from dataclasses import dataclass

from evaluator.results.run import AVERAGE, Quantised, Report
from evaluator.text import change_text, joined, p_text
from evaluator.verdicts.contrasts import BETTER, WORSE, Contrast, family


@dataclass(frozen=True)
class Cost:
    """What a milestone loses, or wins, by being quantised."""

    quantised: Quantised
    """The two rows."""
    contrasts: tuple[Contrast, ...]
    """Their differences, the average first, then each benchmark."""

    @property
    def text(self) -> str:
        """What is shown of it, in a sentence."""
        title, of = self.quantised.row.title, self.quantised.of.title
        whole = self.contrasts[0]
        found = {verdict: [one for one in self.contrasts if one.in_answers == verdict] for verdict in (WORSE, BETTER)}
        said = [
            f"{verdict} than {of} in {joined([_figure(one) for one in these])}"
            for verdict, these in found.items()
            if these
        ]
        average = f"on average {change_text(whole.difference)} points"
        if said:
            return f"{title} is {joined(said)}; {average}."
        return (
            f"{title} shows no significant difference from {of} in any benchmark; {average}, {p_text(whole.p_value)}."
        )


def judge_quantised(report: Report) -> tuple[Cost, ...]:
    """The cost of each milestone that is there in fewer bits, all tested together (Holm)."""
    found = report.quantised
    pairs = [((one.row.title, one.of.title, one.of.title), one.row, one.of) for one in found]
    contrasts = family(report.columns, pairs) if pairs else ()
    count = len(report.columns) + 1
    costs = []
    for place, one in enumerate(found):
        own = contrasts[place * count : (place + 1) * count]
        costs.append(Cost(one, tuple(sorted(own, key=lambda contrast: contrast.column != AVERAGE))))
    return tuple(costs)


def _figure(contrast: Contrast) -> str:
    return f"{contrast.column} ({change_text(contrast.difference)})"
