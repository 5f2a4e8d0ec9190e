"""Reads what NeMo-Skills keeps of each answer: output.jsonl or, with repeats, output-rs0.jsonl and so on.

    samples = list(read_nemo_skills(benchmark, artifacts, ids))
    nemo_skills_mean(benchmark, samples)                 # what its metrics make of them, from 0 to 1

`ns eval` leaves them in `eval-results/BENCHMARK`, each in the order of the questions, a line a question with all that
the data set says of it, the answer in `generation` (IFEval's in `response`), `finish_reason`, `num_generated_tokens`,
and what its evaluator found: `symbolic_correct` (`is_correct` before July 2025), LiveCodeBench's `graded_list`,
IFEval's `strict_eval` and `loose_eval`, SciCode's `eval_status`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evaluator.harness.sample import Sample, judged
from evaluator.results.files import form, items, json_lines, mapping, text, whole
from evaluator.suites.suite import Benchmark

GIVEN = ("13.6", "62.1", "76.3")
"""Sub-steps of SciCode that it does not ask: their code comes from elsewhere (`prefilled_steps_code`)."""
OUT_OF_CONTEXT = "_ran_out_of_context_"
"""What stands for the code of a sub-step whose prompt did not fit, or that would have followed one."""
Lines = Sequence[tuple[str, dict]]
"""What to call each line of a file, and the record in it."""


def read_nemo_skills(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """Every answer in the order of repeats; `ids` name the questions where their lines do not.

    Nothing where the container kept no such files at all: then the score alone counts.
    """
    read = _READERS.get(benchmark.score, _graded)
    asked: dict[int, str] = {}
    for repeat, file in enumerate(_files(benchmark, artifacts)):
        lines = list(json_lines(file))
        for place, sample in read(benchmark, lines, repeat, ids):
            # Each repeat asks the same questions in the same order, so a line that does not is another file's.
            if asked.setdefault(place, sample.prompt) != sample.prompt:
                raise ValueError(f"{lines[place][0]} asks another question than the first repeat does there.")
            yield sample


def nemo_skills_mean(benchmark: Benchmark, samples: Sequence[Sample]) -> float:
    """The score that it computes of these answers, from 0 to 1.

    SciCode's is over the sub-steps of the first repeat: one whose prompts outgrew the context loses its last.
    """
    counted = [sample for sample in samples if sample.counted]
    if benchmark.score != "subtask_accuracy":
        return sum(sample.score for sample in counted) / len(counted)
    first = sum(sample.repeat == 0 for sample in counted)
    return sum(sample.score for sample in counted) / benchmark.repeats / max(first, 1)


def _files(benchmark: Benchmark, artifacts: Path) -> list[Path]:
    """The file of each repeat; empty where there is none of any."""
    names = [f"output-rs{repeat}.jsonl" for repeat in range(benchmark.repeats)]
    if benchmark.repeats == 1 and any(artifacts.rglob("output.jsonl")):
        names = ["output.jsonl"]
    found = [sorted(artifacts.rglob(name)) for name in names]
    if not any(found):
        return []
    for name, files in zip(names, found, strict=True):
        if len(files) != 1:
            raise ValueError(f"'{artifacts}' holds {len(files)} files {name}, not one.")
    return [files[0] for files in found]


Found = Iterator[tuple[int, Sample]]
"""Places of questions in their file, and answers."""


def _graded(benchmark: Benchmark, lines: Lines, repeat: int, ids: Sequence[str]) -> Found:
    """One score a line."""
    names = _names(lines, ids)
    for place, (where, record) in enumerate(lines):
        with form(where):
            if benchmark.score == "accuracy":
                score = record["graded_list"][0]
            else:
                score = record[benchmark.score if benchmark.score in record else "is_correct"]
            yield place, _sample(record, names[place], repeat, judged(score))


def _ifeval(benchmark: Benchmark, lines: Lines, repeat: int, ids: Sequence[str]) -> Found:
    """The part of each prompt in the mean of four accuracies: of prompts and of instructions, strict and loose.

    Those of instructions are over all instructions, so a prompt counts by how many it has; the mean of these scores
    over prompts is `average_score`. A score is above 1 where a prompt has more instructions than most.
    """
    followed = [_instructions(where, record) for where, record in lines]
    instructions = sum(len(strict) for strict, _ in followed)
    names = _names(lines, ids)
    for place, ((where, record), (strict, loose)) in enumerate(zip(lines, followed, strict=True)):
        with form(where):
            prompts = all(strict) + all(loose)
            score = (prompts + (sum(strict) + sum(loose)) * len(lines) / instructions) / 4
            named = ", ".join(text(name, "an instruction") for name in record["instruction_id_list"])
            yield place, _sample(record, names[place], repeat, score, reference=named)


def _instructions(where: str, record: dict) -> tuple[list[bool], list[bool]]:
    """Which instructions of a prompt were followed, to the letter and loosely."""
    with form(where):
        number = len(items(record["instruction_id_list"], "instruction_id_list"))
        verdicts = []
        for kind in ("strict_eval", "loose_eval"):
            verdict = mapping(record[kind], kind)
            each = [bool(judged(one)) for one in items(verdict["follow_instruction_list"], kind)]
            if len(each) != number or number == 0:
                raise ValueError(f"{kind} judges {len(each)} of its {number} instructions.")
            if bool(judged(verdict["follow_all_instructions"])) != all(each):
                raise ValueError(f"{kind} says of all instructions what it does not say of each.")
            verdicts.append(each)
        strict, loose = verdicts
        if any(one and not other for one, other in zip(strict, loose, strict=True)):
            raise ValueError("it follows to the letter what it does not follow loosely.")
        return strict, loose


def _scicode(benchmark: Benchmark, lines: Lines, repeat: int, ids: Sequence[str]) -> Found:
    """A problem's sub-steps: `generation` holds their code by `PROBLEM.STEP`, `eval_status` what became of each.

    Where a prompt outgrows the context, that sub-step and those after it are not asked, and the last has no entry at
    all: they are wrong here.
    """
    for place, (where, record) in enumerate(lines):
        with form(where):
            problem = str(record["problem_id"])
            codes, outcomes = mapping(record["generation"], "generation"), items(record["eval_status"], "eval_status")
            if len(codes) != len(outcomes):
                raise ValueError(f"problem {problem} has {len(codes)} sub-steps and {len(outcomes)} outcomes.")
            answers = record.get("full_outputs") or {}
            for (step, code), outcome in zip(codes.items(), outcomes, strict=True):
                if step.partition(".")[0] != problem:
                    raise ValueError(f"sub-step {step} is not one of problem {problem}.")
                answer = mapping(answers.get(step) or {}, f"the answer to {step}")
                asked = text(code, f"the code of {step}") != OUT_OF_CONTEXT
                blank = not asked or not text(answer.get("generation", code), f"the answer to {step}").strip()
                yield (
                    place,
                    _step(
                        record,
                        step,
                        repeat,
                        float(outcome["process_status"] == "completed") if asked else 0.0,
                        text=code if asked else "",
                        empty=blank,
                        tokens=answer.get("num_generated_tokens"),
                        finish_reason=answer.get("finish_reason"),
                        asked=asked,
                    ),
                )
            if OUT_OF_CONTEXT in codes.values():
                steps = [mapping(step, "a sub-step")["step_number"] for step in record.get("sub_steps", ())]
                for step in set(steps) - set(codes) - set(GIVEN):
                    yield place, _step(record, step, repeat, 0.0, text="", asked=False, counted=False)


def _step(record: dict, step: str, repeat: int, score: float, **more) -> Sample:
    return Sample(
        question=step,
        repeat=repeat,
        score=score,
        prompt=record.get("problem_description_main") or "",
        reference="passes the sub-step's tests",
        cluster=str(record["problem_id"]),
        **more,
    )


def _sample(record: dict, question: str, repeat: int, score: float, reference: str = "") -> Sample:
    keys = ("problem", "question_content", "question", "prompt")
    return Sample(
        question=question,
        repeat=repeat,
        score=score,
        prompt=next((record[key] for key in keys if record.get(key)), ""),
        reference=reference or str(record.get("expected_answer", "")),
        text=record.get("generation", record.get("response")),
        tokens=record.get("num_generated_tokens"),
        finish_reason=record.get("finish_reason"),
    )


def _names(lines: Lines, ids: Sequence[str]) -> list[str]:
    """What the data set calls each question, or else its place."""
    records = [record for _, record in lines]
    keys = ("id", "task_id", "key")
    key = next((key for key in keys if any(record.get(key) is not None for record in records)), None)
    if key is None:
        return [ids[place] if place < len(ids) else str(place) for place in range(len(lines))]
    names = []
    for where, record in lines:
        with form(where):
            own = record[key]
            names.append(text(own if isinstance(own, str) else str(whole(own, key)), key))
    return names


_READERS: dict[str, Callable[[Benchmark, Lines, int, Sequence[str]], Found]] = {
    "average_score": _ifeval,
    "subtask_accuracy": _scicode,
}
