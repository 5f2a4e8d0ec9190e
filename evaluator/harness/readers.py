"""Reads every answer's score from where each harness leaves it.

    read_samples(benchmark, artifacts, ids)              # a Sample per question and repeat

The scores in results.yml are sums; the error bars of this project need the answers behind them. Each reader returns
all that its harness kept, in whatever order, and `evaluator.harness.read` checks that nothing is missing and that the
mean is the one reported. NeMo-Skills' files are read in `evaluator.harness.nemo_skills`.
"""

import html
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from evaluator.harness.asking import UNASKED
from evaluator.harness.nemo_skills import nemo_skills_mean, read_nemo_skills
from evaluator.harness.sample import Sample, judged
from evaluator.results.files import form, items, json_lines, mapping, read_json, read_text, text, whole
from evaluator.suites.suite import Benchmark


def read_samples(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> list[Sample]:
    """Every answer that the harness kept in `artifacts`, the output folder of one evaluation.

    `ids` are those of the questions, in the order in which they are asked. Raises ValueError naming the file that is
    missing, damaged or not what this harness writes; of NeMo-Skills alone there may be none at all.
    """
    samples = list(_READERS[benchmark.harness](benchmark, artifacts, ids))
    if not samples and benchmark.harness != "nemo_skills":
        raise ValueError(f"the evaluation left no answers to {benchmark.title} in '{artifacts}'.")
    return samples


def _offline(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    for where, record in json_lines(artifacts / "samples.jsonl"):
        with form(where):
            if record["task"] == benchmark.task:
                reason = record["finish_reason"]
                yield Sample(
                    question=record["id"],
                    repeat=record["repeat"],
                    score=record["score"],
                    prompt=record["prompt"],
                    reference=record["reference"],
                    text=record["response"],
                    tokens=record["tokens"],
                    finish_reason=reason,
                    empty=record.get("empty"),
                    asked=reason != UNASKED,
                    why=record.get(UNASKED, ""),
                    not_taken=record.get("not_taken", 0),
                )


def _simple_evals(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From its cache, whose keys are the places in (repeat, question): results.yml has lost which answer is whose.

    simple-evals gathers answers as they come in and then cuts the list as if it were in order, so that its standard
    error over repeats is one of groups made by chance.
    """
    asked_as = benchmark.task if (artifacts / benchmark.task).is_dir() else benchmark.task.rpartition(".")[2]
    database = artifacts / asked_as / "cache" / "cache.sqlite" / "cache.db"
    try:
        with closing(sqlite3.connect(f"file:{_existing(database)}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT key, value, filename FROM Cache").fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"'{database}' is no whole database of answers: {error}.") from None
    for key, value, filename in rows:
        where = f"'{database}', key {str(key)[:20]!r},"
        with form(where):
            content = value if filename is None else read_text(database.parent / filename)
            record = mapping(json.loads(content), where)
            repeat, place = divmod(whole(int(key), "its key"), len(ids))
            asked, answered = record["convo"][-2:]
            yield Sample(
                question=ids[place],
                repeat=repeat,
                score=judged(record["score"]),
                prompt=asked["content"],
                reference=html.unescape(_between(text(record["html"], "html"), "<p>Correct Answer: ", "</p>")),
                text=answered["content"],
                # `usage` in the record is that of whichever answer came in last, not of this one.
            )


def _lm_eval(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the file of samples that it logs per task or, where the benchmark is a group of tasks, from all of them."""
    task, _, written = benchmark.written
    score, _, kept = written.partition("__")  # behind which lm-evaluation-harness has a task's filter of answers
    for file in sorted(artifacts.glob(f"*/samples_{task}_*.jsonl")):
        named = re.fullmatch(rf"samples_{task}(?:_(.+?))?_\d{{4}}-.*", file.stem)
        if named is None:
            raise ValueError(f"'{file}' has no time in its name: it is not lm-evaluation-harness's file of samples.")
        part = named[1]
        for where, record in json_lines(file):
            with form(where):
                if kept and record.get("filter") != kept:
                    continue
                doc, asked = record["doc"], record["arguments"]["gen_args_0"]["arg_0"]
                if isinstance(asked, list):  # chat messages, as JSON
                    asked = "\n".join(message["content"] for message in json.loads(asked[0]))
                if "choices" in doc:  # the question alone, which would be lost behind five examples
                    letters = zip("ABCDEFGHIJ", doc["choices"], strict=False)
                    asked = "\n".join([doc["question"], *(f"{letter}. {choice}" for letter, choice in letters)])
                place = whole(record["doc_id"], "doc_id")
                yield Sample(
                    question=f"{part}/{place}" if part else ids[place],
                    repeat=0,
                    score=judged(record[score]),
                    prompt=asked,
                    reference=", ".join(doc.get("instruction_id_list", ())) or str(record.get("target", "")),
                    text=record["filtered_resps"][0],
                )


def _livecodebench(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the file in which it keeps every problem with its answers, their code and what the tests said."""
    file = _single(artifacts, "*_eval_all.json")
    for number, record in enumerate(items(read_json(file), f"'{file}'"), start=1):
        with form(f"'{file}', problem {number},"):
            for repeat, (answer, passed) in enumerate(zip(record["output_list"], record["graded_list"], strict=True)):
                yield Sample(
                    question=record["question_id"],
                    repeat=repeat,
                    score=judged(passed),
                    prompt=record["question_content"],
                    reference="passes the problem's tests",
                    text=answer,
                )


def _scicode(benchmark: Benchmark, artifacts: Path, ids: Sequence[str]) -> Iterator[Sample]:
    """From the program it made of every answer, `PROBLEM.STEP_REPEAT.py`, and a word on what became of it.

    A program is the problem's imports, the code of earlier steps, and the answer's code after a blank line.
    """
    files = artifacts.glob("scicode_results/generated_code/*/without_background/*.py")
    programs = {path.stem: read_text(path) for path in files}
    if not programs:
        raise ValueError(f"the evaluation left no programs in '{artifacts}'.")
    answered = not all(program.endswith("\n\n") for program in programs.values())
    for name, program in programs.items():
        step, _, repeat = name.rpartition("_")
        verdict = _single(artifacts, f"logs/*/without_background/{name}.txt")
        outcome = read_text(verdict).strip()
        if outcome not in ("pass", "fail", "time out"):
            raise ValueError(f"'{verdict}' says {outcome[:30]!r}, not pass, fail or time out.")
        prompt = _single(artifacts, f"scicode_results/prompt/*/without_background/{step}.txt")
        with form(f"the program '{name}.py'"):
            yield Sample(
                question=step,
                repeat=int(repeat),
                score=float(outcome == "pass"),
                prompt=read_text(prompt),
                reference="passes the sub-step's tests",
                text=program if answered else "",
                cluster=step.partition(".")[0],
            )


def reported_mean(benchmark: Benchmark, samples: Sequence[Sample]) -> float:
    """What the harness says the mean of these scores is.

    SciCode's own package loses three of its 288 sub-steps: of a problem with a step that is given and not asked it
    counts as many steps as are asked, but from the first on, so that the given one is among them, as wrong, and the
    last is not.
    """
    if benchmark.harness == "nemo_skills":
        return nemo_skills_mean(benchmark, samples)
    lost: set[str] = set()
    if benchmark.harness == "scicode" and benchmark.dataset:
        for given in benchmark.dataset.given:
            problem = given.partition(".")[0]
            steps = {sample.question for sample in samples if sample.cluster == problem}
            lost |= {max(steps, key=lambda step: int(step.partition(".")[2]))} if steps else set()
    return sum(sample.score for sample in samples if sample.question not in lost) / len(samples)


_READERS = {
    "offline": _offline,
    "simple_evals": _simple_evals,
    "lm_eval": _lm_eval,
    "livecodebench": _livecodebench,
    "scicode": _scicode,
    "nemo_skills": read_nemo_skills,
}


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
