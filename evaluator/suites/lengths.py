"""How long prompts and answers are, by task, in tokens: what is published or recorded of them, for who plans ahead.

>>> length_of("ns_aime2025", limit=32_768)
Length(prompt=150, answer=19107, published=True)
>>> length_of("a_task_of_mine", limit=32_768)
Length(prompt=300, answer=4096, published=False)
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Mean lengths in tokens."""

    prompt: int
    """Of what is asked."""
    answer: int
    """Of an answer with its reasoning."""
    published: bool = False
    """Whether the answer's is published, or assumed."""


UNKNOWN = Length(300, 4_096)
"""Of a task of which nothing is known."""
UNKNOWN_PART = 8
"""An answer of such a task is taken to be this part of its limit."""
SHORT = 16
"""Of an answer that is a letter or a few words, which the task itself limits."""
# NVIDIA-NeMo/Skills, docs/tutorials/posts/nemotron-nano-v2-evals.md, avg_tokens of NVIDIA-Nemotron-Nano-9B-v2, which
# thinks, 32,768 at most: MMLU Pro, GPQA Diamond, AIME 2025 and MATH-500 as they are asked here; LiveCodeBench of
# another half a year (315 problems); SciCode by problem, 29,461, of 65 with 288 sub-steps. Prompts and IFEval are not
# on it: assumed.
_MMLU_PRO = Length(300, 2_534, published=True)
_GPQA = Length(350, 12_893, published=True)
_AIME = Length(150, 19_107, published=True)
_MATH = Length(150, 5_255, published=True)
_CODE = Length(600, 14_059, published=True)
_SCICODE = Length(2_000, round(29_461 * 65 / 288), published=True)
_IFEVAL = Length(100, 2_000)
LENGTHS = {
    "lm-evaluation-harness.mmlu": Length(700, SHORT),  # five examples before each question
    "ns_mmlu_pro": _MMLU_PRO,
    "simple_evals.mmlu_pro": _MMLU_PRO,
    "ns_gpqa": _GPQA,
    "gpqa_diamond": _GPQA,
    "ns_livecodebench": _CODE,
    "codegeneration_release_v6": _CODE,
    "ns_aime2025": _AIME,
    "aime_2025_nemo": _AIME,
    "AA_math_test_500": _MATH,
    "ns_ifeval": _IFEVAL,
    "lm-evaluation-harness.ifeval": _IFEVAL,
    "ns_scicode": _SCICODE,
    "scicode": _SCICODE,
}
"""By nemo-evaluator's name of the task."""


def length_of(task: str, *, limit: int | None) -> Length:
    """Mean lengths of a task whose answers have at most `limit` tokens; None: it limits them to a few words itself."""
    known = LENGTHS.get(task)
    if limit is None:
        return known or Length(UNKNOWN.prompt, SHORT)
    if known is None:
        return Length(UNKNOWN.prompt, max(1, limit // UNKNOWN_PART))
    return known if known.answer <= limit else Length(known.prompt, limit, known.published)
