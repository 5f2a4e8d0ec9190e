"""Step: the run's report: scores of teacher, pruned student and milestones, learning curves, blend, pruning, origin.

Config: `title`; `suite` and `repeats` as in `nemo_distill.steps.evaluate`; `blend` (source -> percent) and
`provenance` (source -> where its share is from); `checkpoints`, a list of {`step`: the evaluation, `role`: teacher |
pruned | milestone | quantised, `tokens`, `iteration`} with the milestones in order and then what of them is quantised,
tokens and iteration None for the teacher and 0 for the pruned student; `distill` (names of the segments).
Upstream: the evaluations, the segments and, where sources were searched for questions, `contamination`.
Output: report.md, report.html, learning_curves.png, questions.csv, summary.txt; of the page's tables scores.csv,
differences.csv, stopping.csv and, as far as there is such, blends.csv, losses.csv, held_out.csv, pruning.csv,
contamination.csv.
"""

from evaluator.report.run import write_report
from nemo_distill.errors import UserError
from nemo_distill.outcome.gather import gather
from nemo_distill.run.step import Spec
from nemo_distill.track.follow import following

VERSION = 4


def main(spec: Spec) -> None:
    """Gather what the upstream steps left and write the report."""
    spec.progress.update(done=0, total=1, unit="reports")
    try:
        write_report(gather(spec), spec.folder)
    except ValueError as error:  # what upstream steps left is damaged, or not to be compared
        raise UserError(str(error)) from error
    with following(spec.runs, spec.beside.tracked):  # whatever trackers lack still, the page's address included
        pass
    spec.progress.update(done=1, total=1, unit="reports")
