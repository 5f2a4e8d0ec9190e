"""Lists the benchmarks: what nemo-evaluator calls them, how often they ask, how they are scored.

>>> suite = get_suite("offline")
>>> suite.answers                     # questions x repeats
800
>>> [benchmark.key for benchmark in suite.benchmarks][:1]
['offline_knowledge_pass_at_1_avg-of-4_symbolic_correct']

`offline` is the suite of the debug scale: small questions that ship with this package. `harness` asks the study's
questions through the same harness packages that its containers hold, but in processes of this machine, and
`harness_code` adds the two benchmarks that execute what the model writes. `study_here` asks all eight so, with the
study's repeats and limits, of vLLM on the GPUs of this machine. `study` is the study's suite, run on a cluster by
nemo-evaluator-launcher from nemo_evaluator.yaml, which `python -m evaluator.harness.launcher_config` renders from here;
`study_published` asks it as the study's published file does, where that differs (`docs/guides/evaluate.md`).
"""

import dataclasses
import difflib

from evaluator.suites.suite import PERCENT, UNIT, Benchmark, Dataset, Suite


def _offline(title: str, task: str, protocol: str) -> Benchmark:
    return Benchmark(
        title=title,
        task=task,
        repeats=4,
        metric="pass_at_1_avg-of-{n}",
        score="symbolic_correct",
        questions=40,
        protocol=protocol,
        repeats_key="num_repeats",
        harness="offline",
        scale=UNIT,
        split="the questions of this package",
    )


OFFLINE = Suite(
    name="offline",
    benchmarks=(
        _offline("Knowledge", "offline_knowledge", "multiple choice, in the manner of MMLU"),
        _offline("Science", "offline_science", "multiple choice, in the manner of GPQA Diamond"),
        _offline("Math", "offline_math", "boxed answer, in the manner of AIME and MATH-500"),
        _offline("IFEval", "offline_ifeval", "verified by a program, in the manner of IFEval"),
        _offline("Code", "offline_code", "run against test cases, in the manner of LiveCodeBench"),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=48,
    parallelism=256,
    evaluation="nemo_distill.offline",
)

STUDY = Suite(
    name="study",
    benchmarks=(
        Benchmark(
            title="MMLU",
            task="lm-evaluation-harness.mmlu",
            repeats=1,
            metric="",
            score="",
            questions=14_042,
            protocol="5-shot, the answer generated, greedy",
            result="mmlu",
            written_as=("mmlu_str", "exact_match", "exact_match"),
            harness="lm_eval",
            params={"temperature": None, "top_p": None, "max_new_tokens": None, "num_fewshot": 5},
            endpoint="completions",
            scale=UNIT,
            split="test",
            lowest=0.678,
        ),
        Benchmark(
            title="MMLU Pro",
            task="ns_mmlu_pro",
            harness="nemo_skills",
            repeats_key="num_repeats",
            repeats=1,
            metric="pass_at_1",
            score="symbolic_correct",
            questions=12_032,
            protocol="10 choices, boxed",
            result="mmlu-pro",
            scale=PERCENT,
            split="test",
            lowest=0.119,
            params={"prompt_config": "eval/aai/mcq-10choices-boxed"},
        ),
        Benchmark(
            title="GPQA Diamond",
            task="ns_gpqa",
            harness="nemo_skills",
            repeats_key="num_repeats",
            repeats=8,
            metric="pass_at_1_avg-of-{n}",
            score="symbolic_correct",
            questions=198,
            protocol="4 choices",
            result="gpqa",
            scale=PERCENT,
            split="diamond",
            lowest=0.177,
            params={"prompt_config": "eval/aai/mcq-4choices"},
        ),
        Benchmark(
            title="LCB v6",
            task="ns_livecodebench",
            harness="nemo_skills",
            repeats_key="num_repeats",
            repeats=4,
            metric="pass_at_1_avg-of-{n}",
            score="accuracy",
            questions=454,
            protocol="split test_v6_2408_2505",
            result="livecodebench",
            params={"dataset_split": "test_v6_2408_2505"},
            scale=PERCENT,
            split="test_v6_2408_2505",
            lowest=0.014,
        ),
        Benchmark(
            title="AIME 2025",
            task="ns_aime2025",
            harness="nemo_skills",
            repeats_key="num_repeats",
            repeats=32,
            metric="pass_at_1_avg-of-{n}",
            score="symbolic_correct",
            questions=30,
            protocol="boxed integer",
            result="aime25",
            scale=PERCENT,
            split="test",
            lowest=0.004,
        ),
        Benchmark(
            title="MATH-500",
            task="AA_math_test_500",
            repeats=5,
            metric="score",
            score="micro_avg_of_{n}",
            questions=500,
            protocol="Artificial Analysis's prompt, a model judges equality",
            repeats_key="n_samples",
            harness="simple_evals",
            judged=True,
            scale=UNIT,
            split="test",
            lowest=0.06,
        ),
        Benchmark(
            title="IFEval",
            task="ns_ifeval",
            harness="nemo_skills",
            repeats_key="num_repeats",
            repeats=1,
            metric="pass_at_1",
            score="average_score",
            questions=541,
            protocol="verified by a program, mean of its four accuracies",
            result="ifeval",
            scale=PERCENT,
            split="test",
            most=2.0,  # of a prompt with three instructions, were one the rule
            lowest=0.418,
        ),
        Benchmark(
            title="SciCode",
            task="ns_scicode",
            repeats_key="num_repeats",
            harness="nemo_skills",
            repeats=8,
            metric="pass_at_1_avg-of-{n}",
            score="subtask_accuracy",
            questions=338,  # the 288 of the test split and 50 of the dev split; three are given and not asked
            problems=80,
            protocol="sub-steps, generated code is run in the container's sandbox",
            result="scicode",
            params={"max_new_tokens": 8_192, "dataset_split": "test_aai"},
            scale=PERCENT,
            split="test_aai",
            lowest=0.001,
        ),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=32_768,
    parallelism=64,
    evaluation="",
    runner="launcher",
    may_score_zero=False,
)

STUDY_PUBLISHED = dataclasses.replace(
    STUDY, name="study_published", keeps_reasoning=True, engine=("--kv-cache-dtype", "fp8")
)

_AIME = Benchmark(
    title="AIME 2025",
    task="aime_2025_nemo",
    repeats=32,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=30,
    protocol="boxed integer, compared as text",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("opencompass/AIME2025", ("aime2025-I.jsonl", "aime2025-II.jsonl"), ("", "question")),
    scale=UNIT,
    split="I and II",
)
_MATH = Benchmark(
    title="MATH-500",
    task="AA_math_test_500",
    repeats=5,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=500,
    protocol="Artificial Analysis's prompt, a model judges equality where sympy finds none",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("HuggingFaceH4/MATH-500", ("test.jsonl",), ("unique_id", "problem")),
    judged=True,
    scale=UNIT,
    split="test",
)
_GPQA = Benchmark(
    title="GPQA Diamond",
    task="gpqa_diamond",
    repeats=8,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=198,
    protocol="4 choices, shuffled anew in every repeat, the letter after 'Answer:'",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("Idavidrein/gpqa", ("gpqa_diamond.csv",), ("Record ID", "Question")),
    scale=UNIT,
    split="diamond",
)
_IFEVAL = Benchmark(
    title="IFEval",
    task="lm-evaluation-harness.ifeval",
    result="ifeval",
    repeats=1,
    metric="prompt_level_strict_acc",
    score="prompt_level_strict_acc",
    questions=541,
    protocol="verified by a program, every instruction of a prompt followed to the letter",
    harness="lm_eval",
    dataset=Dataset("google/IFEval", ("ifeval_input_data.jsonl",), ("key", "prompt")),
    scale=UNIT,
    split="train",
)

HARNESS = Suite(
    name="harness",
    benchmarks=(_GPQA, _AIME, _MATH, _IFEVAL),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=1_024,
    parallelism=64,
    evaluation="",
    reasoning_end="</think>",
    context=8_192,
)

_LIVECODEBENCH = Benchmark(
    title="LCB v6",
    task="codegeneration_release_v6",
    result="codegeneration",
    repeats=4,
    metric="pass@1",
    score="pass@1",
    questions=454,
    protocol="problems from August 2024 to May 2025, generated code is run in a sandbox",
    params={"start_date": "2024-08-01", "end_date": "2025-05-31", "parallelism": 8},  # a process for each
    repeats_key="n_samples",
    harness="livecodebench",
    dataset=Dataset(
        "livecodebench/code_generation_lite",
        ("code_generation_lite.py", "test*.jsonl"),
        ("question_id", "question_content"),
        between=("contest_date", "2024-08-01", "2025-05-31"),
    ),
    executes_code=True,
    scale=UNIT,
    split="release_v6, August 2024 to May 2025",
)

_SCICODE = Benchmark(
    title="SciCode",
    task="scicode",
    repeats=8,
    metric="steps_pass@1",
    score="steps_pass@1",
    questions=288,
    problems=65,
    protocol="sub-steps without their background, generated code is run in a sandbox",
    repeats_key="n_samples",
    harness="scicode",
    dataset=Dataset(
        "SciCode1/SciCode",
        ("problems_test.jsonl", "test_data.h5"),
        ("step_number", "step_description_prompt"),
        parts="sub_steps",
        given=("13.6", "62.1", "76.3"),
        by_hand=(
            "test_data.h5",
            "https://drive.usercontent.google.com/download?id=17G_k65N_6yFFZ2O-jQH00Lh6iaw3z-AW&confirm=y",
        ),
    ),
    executes_code=True,
    scale=UNIT,
    split="test",
)

HARNESS_CODE = dataclasses.replace(
    HARNESS,
    name="harness_code",
    benchmarks=(*HARNESS.benchmarks, _LIVECODEBENCH, _SCICODE),
    context=32_768,  # SciCode's prompts hold the code of all earlier steps, of which a problem has up to 15
)

_MMLU = dataclasses.replace(
    STUDY.benchmarks[0],
    protocol="5-shot, the answer generated, greedy; a text is continued, with no chat template",
    dataset=Dataset("hails/mmlu_no_train", ("all/test-*.parquet",), ("", "question"), fetched_as="cais/mmlu"),
    lowest=0.0,
)

_MMLU_PRO = Benchmark(
    title="MMLU Pro",
    task="simple_evals.mmlu_pro",
    result="mmlu_pro",
    repeats=1,
    metric="score",
    score="micro_avg_of_{n}",
    score_once="micro",
    questions=12_032,
    protocol="10 choices, the letter after 'Answer:'",
    repeats_key="n_samples",
    harness="simple_evals",
    dataset=Dataset("TIGER-Lab/MMLU-Pro", ("data/test-*.parquet",), ("question_id", "question")),
    scale=UNIT,
    split="test",
)

STUDY_HERE = Suite(
    name="study_here",
    benchmarks=(
        _MMLU,
        _MMLU_PRO,
        _GPQA,
        _LIVECODEBENCH,
        _AIME,
        _MATH,
        _IFEVAL,
        dataclasses.replace(_SCICODE, params={"max_new_tokens": 8_192}),
    ),
    temperature=0.6,
    top_p=0.95,
    max_new_tokens=32_768,
    parallelism=128,
    evaluation="",
    reasoning_end="</think>",
    context=131_072,
    remark=(
        "NeMo-Skills has no package outside its containers, so its benchmarks are asked by other harnesses here, with "
        "other prompts: MMLU Pro, GPQA and AIME by simple-evals, LiveCodeBench and SciCode by their own, IFEval by "
        "lm-evaluation-harness (whole prompts, strict; the study has the mean of four accuracies). SciCode is the 288 "
        "sub-steps of the test split, without the 50 of the dev split. Compare such scores with each other."
    ),
)

_SUITES = {suite.name: suite for suite in (OFFLINE, HARNESS, HARNESS_CODE, STUDY_HERE, STUDY, STUDY_PUBLISHED)}


def get_suite(name: str) -> Suite:
    """The suite called `name`. Raises ValueError with the nearest name when there is none."""
    if name in _SUITES:
        return _SUITES[name]
    near = difflib.get_close_matches(str(name), _SUITES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_SUITES)}."
    raise ValueError(f"there is no suite called {name!r}; {hint}")
