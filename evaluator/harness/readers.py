"""Reads every answer's score from where each harness leaves it.

    read_samples(benchmark, artifacts, ids)              # a Sample per question and repeat

The scores in results.yml are sums; the error bars of this project need the answers behind them. Each reader returns
all that its harness kept, in whatever order, and `evaluator.harness.read` checks that nothing is missing and that the
mean is the one reported.
"""

import html
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evaluator.suites.suite import Benchmark


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer of one question."""

    question: str
    """The question's id."""
    repeat: int
    """Which of its answers, from 0."""
    score: float
    """Score of the answer, from 0 to 1."""
    prompt: str = ""
    """What was asked."""
    reference: str = ""
    """The right answer."""
    text: str = ""
    """What was answered."""
    tokens: int | None = None
    """Length of the answer; None where the harness does not say."""
    finish_reason: str = ""
    """`stop` or `length`; empty where the harness does not say."""
    cluster: str = ""
    """The problem that the question is a part of; empty where it stands alone."""


def read_samples(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> list[Sample]:
    """Every answer that the harness kept in `artifacts`, the output folder of one evaluation.

    `ids` are those of the questions, in the order in which they are asked.
    """
    return list(_READERS[benchmark.harness](benchmark, artifacts, ids))


def _offline(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    for record in _json_lines(artifacts / "samples.jsonl"):
        if record["task"] == benchmark.task:
            yield Sample(
                question=record["id"],
                repeat=record["repeat"],
                score=record["score"],
                prompt=record["prompt"],
                reference=record["reference"],
                text=record["response"],
                tokens=record["tokens"],
                finish_reason=record["finish_reason"],
            )


def _simple_evals(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From its cache, whose keys are the places in (repeat, question): results.yml has lost which answer is whose.

    simple-evals gathers answers as they come in and then cuts the list as if it were in order, so that its standard
    error over repeats is one of groups made by chance.
    """
    database = artifacts / benchmark.task / "cache" / "cache.sqlite" / "cache.db"
    with closing(sqlite3.connect(f"file:{_existing(database)}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT key, value, filename FROM Cache").fetchall()
    for key, value, filename in rows:
        content = value if filename is None else (database.parent / filename).read_bytes()
        record = json.loads(content)
        repeat, place = divmod(int(key), len(ids))
        asked, answered = record["convo"][-2:]
        yield Sample(
            question=ids[place],
            repeat=repeat,
            score=float(record["score"]),
            prompt=asked["content"],
            reference=html.unescape(_between(record["html"], "<p>Correct Answer: ", "</p>")),
            text=answered["content"],
            # `usage` in the record is that of whichever answer came in last, not of this one.
        )


def _lm_eval(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the file of samples that it logs per task or, where the benchmark is a group of tasks, from all of them."""
    task, _, score = benchmark.written
    for file in sorted(artifacts.glob(f"*/samples_{task}_*.jsonl")):
        named = re.fullmatch(rf"samples_{task}(?:_(.+?))?_\d{{4}}-.*", file.stem)
        if named is None:
            raise ValueError(f"'{file}' has no time in its name: it is not lm-evaluation-harness's file of samples.")
        part = named[1]
        for record in _json_lines(file):
            doc, asked = record["doc"], record["arguments"]["gen_args_0"]["arg_0"]
            if isinstance(asked, list):  # chat messages, as JSON
                asked = "\n".join(message["content"] for message in json.loads(asked[0]))
            if "choices" in doc:  # the question alone, which would be lost behind five examples
                letters = zip("ABCDEFGHIJ", doc["choices"], strict=False)
                asked = "\n".join([doc["question"], *(f"{letter}. {choice}" for letter, choice in letters)])
            yield Sample(
                question=f"{part}/{record['doc_id']}" if part else ids[record["doc_id"]],
                repeat=0,
                score=float(record[score]),
                prompt=asked,
                reference=", ".join(doc.get("instruction_id_list", ())) or str(record.get("target", "")),
                text=record["filtered_resps"][0],
            )


def _livecodebench(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the file in which it keeps every problem with its answers, their code and what the tests said."""
    for record in json.loads(_single(artifacts, "*_eval_all.json").read_text(encoding="utf-8")):
        for repeat, (text, passed) in enumerate(zip(record["output_list"], record["graded_list"], strict=True)):
            yield Sample(
                question=record["question_id"],
                repeat=repeat,
                score=float(passed),
                prompt=record["question_content"],
                reference="passes the problem's tests",
                text=text,
            )


def _scicode(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the program it made of every answer, `PROBLEM.STEP_REPEAT.py`, and a word on what became of it.

    A program is the problem's imports, the code of earlier steps, and the answer's code after a blank line.
    """
    files = artifacts.glob("scicode_results/generated_code/*/without_background/*.py")
    programs = {path.stem: path.read_text(encoding="utf-8") for path in files}
    if not programs:
        raise ValueError(f"the evaluation left no programs in '{artifacts}'.")
    answered = not all(program.endswith("\n\n") for program in programs.values())
    for name, program in programs.items():
        step, _, repeat = name.rpartition("_")
        outcome = _single(artifacts, f"logs/*/without_background/{name}.txt").read_text().strip()
        prompt = _single(artifacts, f"scicode_results/prompt/*/without_background/{step}.txt")
        yield Sample(
            question=step,
            repeat=int(repeat),
            score=float(outcome == "pass"),
            prompt=prompt.read_text(encoding="utf-8"),
            reference="passes the sub-step's tests",
            text=program if answered else "",
            cluster=step.partition(".")[0],
        )


def reported_mean(benchmark: Benchmark, samples: Sequence[Sample]) -> float:
    """What the harness says the mean of these scores is.

    SciCode loses three of its 288 sub-steps: of a problem with a step that is given and not asked it counts as many
    steps as are asked, but from the first on, so that the given one is among them, as wrong, and the last is not.
    """
    lost: set[str] = set()
    if benchmark.harness == "scicode" and benchmark.dataset:
        for given in benchmark.dataset.given:
            problem = given.partition(".")[0]
            steps = {sample.question for sample in samples if sample.cluster == problem}
            lost |= {max(steps, key=lambda step: int(step.partition(".")[2]))} if steps else set()
    return sum(sample.score for sample in samples if sample.question not in lost) / len(samples)


def _nemo_skills(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From output.jsonl or, with repeats, output-rs0.jsonl and so on, each in the order of the questions.

    Nothing where the container kept no such files, or files without what the score is made of: the score alone counts.
    """
    names = ["output.jsonl"] if benchmark.repeats == 1 else [f"output-rs{n}.jsonl" for n in range(benchmark.repeats)]
    files = [sorted(artifacts.rglob(name)) for name in names]
    if not any(files):
        return
    for repeat, (name, found) in enumerate(zip(names, files, strict=True)):
        if len(found) != 1:
            raise ValueError(f"'{artifacts}' holds {len(found)} files {name}, not one.")
        for place, record in enumerate(_json_lines(found[0])):
            if benchmark.score == "subtask_accuracy":
                yield from _scicode_steps(record, repeat)
            elif (score := _nemo_skills_score(record, benchmark)) is not None:
                own = record.get("id", record.get("task_id"))
                yield Sample(
                    question=str(own if own is not None else ids[place] if place < len(ids) else place),
                    repeat=repeat,
                    score=float(score),
                    prompt=record.get("problem", record.get("question_content", "")),
                    reference=str(record.get("expected_answer", "")),
                    text=record.get("generation", ""),
                    tokens=record.get("num_generated_tokens"),
                )


def _nemo_skills_score(record: dict, benchmark: Benchmark) -> float | None:
    """Score of one answer, for LiveCodeBench the first of its grades; None where it is not kept by answer."""
    if benchmark.score == "accuracy":
        return record["graded_list"][0] if record.get("graded_list") else None
    return record.get(benchmark.score)


def _scicode_steps(record: dict, repeat: int) -> Iterator[Sample]:
    """A problem's sub-steps: `generation` holds their code by `PROBLEM.STEP`, `eval_status` what became of each."""
    codes, outcomes = record.get("generation"), record.get("eval_status")
    if not isinstance(codes, dict) or outcomes is None:
        return
    if len(codes) != len(outcomes):
        raise ValueError(
            f"the problem {record['problem_id']} of SciCode has {len(codes)} sub-steps and {len(outcomes)} outcomes."
        )
    for (step, code), outcome in zip(codes.items(), outcomes, strict=True):
        yield Sample(
            question=step,
            repeat=repeat,
            score=float(outcome["process_status"] == "completed"),
            prompt=record.get("problem_description_main", ""),
            reference="passes the sub-step's tests",
            text=code,
            cluster=str(record["problem_id"]),
        )


_READERS = {
    "offline": _offline,
    "simple_evals": _simple_evals,
    "lm_eval": _lm_eval,
    "livecodebench": _livecodebench,
    "scicode": _scicode,
    "nemo_skills": _nemo_skills,
}


def _json_lines(path: Path) -> Iterator[dict]:
    with open(_existing(path), encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"the evaluation left no '{path}'.")
    return path


def _single(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"'{folder}' holds {len(found)} files {pattern}, not one.")
    return found[0]


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]
