"""The study's published models on the board: scores of its tables, rates and sizes of its README.

    [model.name for model in published_models(load_study(), "Average")]     # Teacher, Pruned student, Nano-12B-v2, ...

Of an average only what was collected as the teacher's was; of one benchmark whatever was asked it as often.
"""

from collections.abc import Iterator

from evaluator.results.board import Conditions, Model, Rate
from evaluator.results.run import AVERAGE
from nemo_distill.nemotron_h.published import PUBLISHED
from nemo_distill.study.tables import Checkpoint, Study

PROTOCOL = "the study's"
"""What stands for the protocol of its scores."""
STUDENT = "student"
"""Key of the pruned model, distilled or not, among what was served."""
GIB = 1024**3
BF16 = 2
"""Bytes of a parameter."""


def published_models(study: Study, benchmark: str) -> tuple[Model, ...]:
    """All that were published with this score, then those with a rate and no score at all."""
    models = [_model(study, row, benchmark) for row in study.references]
    for blend in study.blends:
        whole = benchmark == AVERAGE
        if blend in study.comparable or not whole:
            models += [_model(study, row, benchmark, blend.name) for row in blend.evaluated]
    return (*(one for one in models if one.is_scored(benchmark)), *_unscored(study))


def _model(study: Study, row: Checkpoint, benchmark: str, blend: str = "") -> Model:
    asked = {score.benchmark.title: score.benchmark.repeats for score in study.reference("teacher").scores}
    scores = {
        score.benchmark.title: score.estimate
        for score in row.scores
        if benchmark == AVERAGE or score.benchmark.repeats == asked[score.benchmark.title]
    }
    served = study.serving.of("teacher" if row.role == "teacher" else STUDENT, "bf16")
    larger = PUBLISHED[row.model] if row.role == "larger" else None
    return Model(
        title=row.title,
        role=row.role,
        blend=blend,
        protocol=PROTOCOL,
        scores=scores,
        gib=larger.parameters() * BF16 / GIB if larger else served.gib,
        gib_from="parameters" if larger else "as vLLM loads it",
        rates=() if larger else (_rate(study, served.tokens_per_second),),
        tokens=None if row.role != "milestone" else round(row.tokens),
        published=True,
    )


def _unscored(study: Study) -> Iterator[Model]:
    """What was served in FP8, of which no score is published."""
    for served in study.serving.models:
        if served.format != "bf16":
            yield Model(
                title=f"{'Teacher' if served.model == 'teacher' else 'Student'} in {served.format}",
                role="quantised",
                format=served.format,
                protocol=PROTOCOL,
                gib=served.gib,
                gib_from="as vLLM loads it",
                rates=(_rate(study, served.tokens_per_second),),
                published=True,
            )


def _rate(study: Study, tokens_per_second: float) -> Rate:
    serving = study.serving
    return Rate(
        setting=serving.setting, conditions=Conditions(gpu=serving.gpu, engine="vLLM"), values=(tokens_per_second,)
    )
