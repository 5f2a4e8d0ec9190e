"""Whatever is wrong with what a harness left is refused in one sentence with checkpoint and file, and nothing is taken.

Each damage is done to the folder of a sound invocation (data/launcher); it is refused with a ValueError and with no
other error, which would be a traceback, and never read as if nothing were wrong.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from evaluator.harness.read import read_direct, read_launcher
from tests.damage_for_tests import deep, empty, folder, gone, zeros
from tests.evaluator.harness.left_for_tests import (
    DATA,
    OWN,
    SMALL,
    edit_json,
    edit_line,
    edit_yaml,
    left_behind,
    left_by_our_own_tasks,
)

MMLU, PRO, GPQA, LCB = "lm-evaluation-harness.mmlu.0", "ns_mmlu_pro.1", "ns_gpqa.2", "ns_livecodebench.3"
AIME, MATH, IFEVAL, SCICODE = "ns_aime2025.4", "AA_math_test_500.5", "ns_ifeval.6", "ns_scicode.7"
RESULTS, STATISTICS = "artifacts/results.yml", "artifacts/eval_factory_metrics.json"
ANSWERS = {
    MMLU: "artifacts/80B/samples_mmlu_str_astronomy_2026-01-01T12-00-00.123456.jsonl",
    PRO: "artifacts/eval-results/mmlu-pro/output.jsonl",
    GPQA: "artifacts/eval-results/gpqa/output-rs1.jsonl",
    LCB: "artifacts/eval-results/livecodebench/output-rs0.jsonl",
    AIME: "artifacts/eval-results/aime25/output-rs0.jsonl",
    MATH: "artifacts/AA_math_test_500/cache/cache.sqlite/cache.db",
    IFEVAL: "artifacts/eval-results/ifeval/output.jsonl",
    SCICODE: "artifacts/eval-results/scicode/output-rs0.jsonl",
}
"""A file of answers of each job."""


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def blank(path: Path) -> None:
    path.write_bytes(b"\n")


def latin(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"a", b"\xe4", 1))


def a_list(path: Path) -> None:
    path.write_text("[1, 2, 3]\n")


def yaml_value(value):
    """The score in results.yml becomes `value`."""

    def change(record: dict) -> None:
        results = record["results"]
        (scores,) = [
            metric["scores"]
            for task in (results.get("groups") or {}).values()
            for name, metric in task["metrics"].items()
            if name in ("pass@1[avg-of-2]", "exact_match", "score") or len(task["metrics"]) == 1
        ][:1]
        for name in ("symbolic_correct", "accuracy", "average_score", "subtask_accuracy", "exact_match"):
            if name in scores:
                scores[name]["value"] = value

    return lambda path: edit_yaml(path, change)


def in_yaml(*keys, value):
    """What stands under these keys in results.yml becomes `value`."""

    def change(record: dict) -> None:
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return lambda path: edit_yaml(path, change)


def without(*keys):
    """What stands under these keys in results.yml is taken out."""

    def change(record: dict) -> None:
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return lambda path: edit_yaml(path, change)


def counts(**changed):
    """What the adapter counted becomes this."""
    return lambda path: edit_json(path, lambda record: record["response_stats"].update(changed))


def line(number: int, **changed):
    """Fields of an answer's line become this."""
    return lambda path: edit_line(path, number, lambda record: record.update(changed))


def line_without(number: int, name: str):
    """An answer's line loses a field."""
    return lambda path: edit_line(path, number, lambda record: record.pop(name))


def every_line(**changed):
    """Fields of all lines become this."""

    def change(path: Path) -> None:
        lines = [json.loads(text) | changed for text in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))

    return change


def lines(keep: slice):
    """These lines are kept."""

    def change(path: Path) -> None:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[keep]))

    return change


def doubled(path: Path) -> None:
    """The first line stands in the place of the last, too."""
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*kept[:-1], kept[0]]))


def turned(path: Path) -> None:
    """Lines are in another order than in the other repeats."""
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def of(job: str):
    """The answers of another job stand there."""
    return lambda path: shutil.copy(DATA / "launcher" / job / ANSWERS[job], path)


def verdict(kind: str, **changed):
    """IFEval's verdict on the first prompt becomes this."""
    return lambda path: edit_line(path, 0, lambda record: record[kind].update(changed))


def outcomes(change):
    """SciCode's outcomes of the first problem are changed."""
    return lambda path: edit_line(path, 0, lambda record: change(record["eval_status"]))


FILES = [cut, empty, gone, folder, latin, zeros, a_list]
DAMAGES = [
    *((job, RESULTS, change) for job in (MMLU, GPQA) for change in FILES),
    *((IFEVAL, STATISTICS, change) for change in (*FILES, deep)),
    *((job, ANSWERS[job], change) for job in (MMLU, PRO, GPQA, MATH, SCICODE) for change in (cut, empty, latin, zeros)),
    *((job, ANSWERS[job], change) for job in (AIME, IFEVAL) for change in (blank, folder, a_list, deep)),
    (GPQA, RESULTS, lambda path: path.write_text("a: [1\nb: {")),
    (GPQA, RESULTS, lambda path: path.write_text("text")),
    (GPQA, RESULTS, without("target")),
    (GPQA, RESULTS, in_yaml("target", value=None)),
    (GPQA, RESULTS, in_yaml("target", "api_endpoint", "model_id", value="60B")),
    (GPQA, RESULTS, without("results")),
    (GPQA, RESULTS, in_yaml("results", value=[1])),
    (GPQA, RESULTS, in_yaml("results", "groups", value={})),
    (GPQA, RESULTS, in_yaml("results", "groups", value=None)),
    (GPQA, RESULTS, in_yaml("results", "groups", "gpqa", value="66.7")),
    (GPQA, RESULTS, in_yaml("results", "groups", "gpqa", "metrics", value=[])),
    (GPQA, RESULTS, in_yaml("results", "groups", "gpqa", "metrics", "pass@1[avg-of-2]", value=None)),
    (GPQA, RESULTS, without("results", "groups", "gpqa", "metrics", "pass@1[avg-of-2]")),
    (GPQA, RESULTS, in_yaml("config", "params", "limit_samples", value=3)),
    *((GPQA, RESULTS, yaml_value(value)) for value in ("66.7", None, [66.7], True, float("nan"), float("inf"))),
    *((GPQA, RESULTS, yaml_value(value)) for value in (-66.7, 6666.7, 33.3, 66.0, 0.0)),
    *((MMLU, RESULTS, yaml_value(value)) for value in (0.5, 0.76, 75.5, -0.75, "0.75")),
    (IFEVAL, STATISTICS, lambda path: path.write_text("{}")),
    (IFEVAL, STATISTICS, counts(count="3")),
    (IFEVAL, STATISTICS, counts(count=-3, successful_count=-3)),
    (IFEVAL, STATISTICS, counts(count=3.0)),
    (IFEVAL, STATISTICS, counts(count=2)),
    (IFEVAL, STATISTICS, counts(successful_count=2)),
    (IFEVAL, STATISTICS, counts(successful_count=None)),
    (IFEVAL, STATISTICS, counts(count=4, successful_count=4)),
    (IFEVAL, STATISTICS, counts(finish_reason={"stop": 30})),
    (IFEVAL, STATISTICS, counts(finish_reason={"stop": -1})),
    (IFEVAL, STATISTICS, counts(finish_reason=["stop"])),
    (IFEVAL, STATISTICS, counts(avg_completion_tokens=-5.0)),
    (IFEVAL, STATISTICS, counts(avg_completion_tokens=float("nan"))),
    (IFEVAL, STATISTICS, lambda path: edit_json(path, lambda record: record["evaluation"].update(total_runs=0))),
    (IFEVAL, STATISTICS, lambda path: edit_json(path, lambda record: record.update(response_stats=[1]))),
    *(
        (GPQA, ANSWERS[GPQA], line(1, symbolic_correct=score))
        for score in ("true", None, -1, 3, 100, 0.5, False, float("nan"), [True])
    ),
    (GPQA, ANSWERS[GPQA], line_without(1, "symbolic_correct")),
    (GPQA, ANSWERS[GPQA], every_line(symbolic_correct=66.7)),
    (GPQA, ANSWERS[GPQA], line(1, generation=["text"])),
    (GPQA, ANSWERS[GPQA], line(1, num_generated_tokens="many")),
    (GPQA, ANSWERS[GPQA], line(1, num_generated_tokens=-1)),
    (GPQA, ANSWERS[GPQA], line(1, finish_reason=3)),
    (GPQA, ANSWERS[GPQA], line(1, problem=None, question=7)),
    (GPQA, ANSWERS[GPQA], line(1, problem="Another question?")),
    (GPQA, ANSWERS[GPQA], line(1, id="one")),
    (GPQA, ANSWERS[GPQA], lines(slice(1, None))),
    (GPQA, ANSWERS[GPQA], lines(slice(0, 2))),
    (GPQA, ANSWERS[GPQA], doubled),
    (GPQA, ANSWERS[GPQA], turned),
    (GPQA, ANSWERS[GPQA], gone),
    (GPQA, ANSWERS[GPQA], of(AIME)),
    (GPQA, ANSWERS[GPQA], of(PRO)),
    (AIME, ANSWERS[AIME], of(GPQA)),
    (IFEVAL, ANSWERS[IFEVAL], of(PRO)),
    (SCICODE, ANSWERS[SCICODE], of(LCB)),
    (PRO, ANSWERS[PRO], every_line(generation="")),
    (PRO, ANSWERS[PRO], every_line(generation=" \n")),
    (PRO, ANSWERS[PRO], lambda path: shutil.copy(path, path.parent.parent / path.name)),
    (AIME, ANSWERS[AIME], line(1, id="aime25-0")),
    (LCB, ANSWERS[LCB], line(0, graded_list=[])),
    (LCB, ANSWERS[LCB], line(0, graded_list=True)),
    (LCB, ANSWERS[LCB], line(0, graded_list=["yes"])),
    (LCB, ANSWERS[LCB], line(0, graded_list=[False])),
    (LCB, ANSWERS[LCB], line_without(0, "graded_list")),
    (MMLU, ANSWERS[MMLU], gone),
    (MMLU, ANSWERS[MMLU], lambda path: path.rename(path.with_name("samples_mmlu_str_astronomy.jsonl"))),
    (MMLU, ANSWERS[MMLU], lambda path: shutil.copy(path, str(path).replace("01T12", "02T12"))),
    (MMLU, ANSWERS[MMLU], lambda path: shutil.rmtree(path.parent)),
    (MMLU, ANSWERS[MMLU], line(0, exact_match="1.0")),
    (MMLU, ANSWERS[MMLU], line(0, exact_match=100.0)),
    (MMLU, ANSWERS[MMLU], line(0, doc_id=-1)),
    (MMLU, ANSWERS[MMLU], line(0, doc_id=1)),
    (MMLU, ANSWERS[MMLU], line(0, filtered_resps=[])),
    (MMLU, ANSWERS[MMLU], line(0, arguments={})),
    (MMLU, ANSWERS[MMLU], line(0, doc=None)),
    (MATH, ANSWERS[MATH], gone),
    (MATH, ANSWERS[MATH], a_list),
    (IFEVAL, ANSWERS[IFEVAL], line_without(0, "strict_eval")),
    (IFEVAL, ANSWERS[IFEVAL], line_without(2, "instruction_id_list")),
    (IFEVAL, ANSWERS[IFEVAL], line(0, instruction_id_list=[])),
    (IFEVAL, ANSWERS[IFEVAL], line(1, key=1000)),
    (IFEVAL, ANSWERS[IFEVAL], verdict("strict_eval", follow_instruction_list=[True, True, True])),
    (IFEVAL, ANSWERS[IFEVAL], verdict("strict_eval", follow_instruction_list=[False, True])),
    (IFEVAL, ANSWERS[IFEVAL], verdict("loose_eval", follow_instruction_list=[False, False, True])),
    (IFEVAL, ANSWERS[IFEVAL], verdict("loose_eval", follow_instruction_list="yes")),
    (IFEVAL, ANSWERS[IFEVAL], verdict("loose_eval", follow_all_instructions=None)),
    (IFEVAL, ANSWERS[IFEVAL], verdict("loose_eval", follow_instruction_list=[2, -1, 1])),
    (SCICODE, ANSWERS[SCICODE], outcomes(lambda status: status.pop())),
    (SCICODE, ANSWERS[SCICODE], outcomes(lambda status: status[0].clear())),
    (SCICODE, ANSWERS[SCICODE], outcomes(lambda status: status[0].update(process_status="error"))),
    (SCICODE, ANSWERS[SCICODE], line(0, generation="def f(): ...")),
    (SCICODE, ANSWERS[SCICODE], line(0, generation={"4.1": 1, "4.2": 2, "4.3": 3})),
    (SCICODE, ANSWERS[SCICODE], line(0, problem_id="5")),
    (SCICODE, ANSWERS[SCICODE], line_without(0, "problem_id")),
    (SCICODE, ANSWERS[SCICODE], lines(slice(1, None))),
    (SCICODE, "logs/stage.exit", empty),
    (SCICODE, "logs/stage.exit", folder),
    (SCICODE, "logs/stage.exit", gone),
    (SCICODE, "logs/stage.exit", zeros),
    (SCICODE, "logs/stage.exit", lambda path: path.write_text("2026-01-01T13:00:00Z 137\n")),
    (SCICODE, "logs", lambda path: shutil.rmtree(path.parent)),
    (SCICODE, "artifacts", shutil.rmtree),
]


def both_percent(folder: Path) -> None:
    every_line(score=100.0)(folder / "samples.jsonl")
    edit_yaml(folder / "results.yml", lambda record: _score(record).update(value=100.0))


def _score(record: dict) -> dict:
    metrics = record["results"]["tasks"]["offline_math"]["metrics"]
    return metrics["pass_at_1_avg-of-2"]["scores"]["symbolic_correct"]


def in_samples(change):
    return lambda folder: change(folder / "samples.jsonl")


OWN_DAMAGES = [
    both_percent,
    *(in_samples(change) for change in (*FILES, blank, deep)),
    *(in_samples(line(5, score=score)) for score in ("1.0", None, True, -1, 3, 0.5, float("nan"), [1.0])),
    *(in_samples(line_without(5, name)) for name in ("score", "id", "repeat", "response", "task", "finish_reason")),
    *(in_samples(line(5, repeat=repeat)) for repeat in (0, -1, 2, "1", None, 1.5)),
    *(in_samples(line(5, id=name)) for name in ("", None, 7, "offline_math-9", "\ud800")),
    *(in_samples(line(5, tokens=tokens)) for tokens in (-1, "7", 7.5, 10**30)),
    *(in_samples(line(5, empty=empty)) for empty in ("no", 1)),
    *(in_samples(line(5, not_taken=number)) for number in (-1, "1", True)),
    in_samples(line(5, response=7)),
    in_samples(line(5, finish_reason=["stop"])),
    in_samples(line(5, task="offline_code")),
    in_samples(every_line(task="offline_code")),
    in_samples(every_line(response="")),
    in_samples(every_line(finish_reason="unasked")),
    in_samples(lines(slice(0, 4))),
    in_samples(lines(slice(0, 7))),
    in_samples(doubled),
    lambda folder: edit_yaml(folder / "results.yml", lambda record: record["results"]["tasks"].pop("offline_math")),
    lambda folder: edit_yaml(folder / "results.yml", lambda record: _score(record).update(value=0.75)),
    lambda folder: edit_yaml(folder / "results.yml", lambda record: _score(record).pop("value")),
    lambda folder: counts(successful_count=7)(folder / "eval_factory_metrics.json"),
    lambda folder: counts(successful_count=9)(folder / "eval_factory_metrics.json"),
    lambda folder: shutil.rmtree(folder),
]
"""What may be wrong with the folder of our own tasks."""


@pytest.mark.parametrize("number", range(len(OWN_DAMAGES)))
def test_damage_to_our_own_tasks_is_refused_alike(tmp_path, number):
    folder = left_by_our_own_tasks(tmp_path / "left")
    assert [one.result.summary.mean for one in read_direct(folder, OWN, model_id="80B", started=0)] == [0.5, 0.5]
    OWN_DAMAGES[number](folder)
    with pytest.raises(ValueError, match="^checkpoint '80B': ") as refused:
        read_direct(folder, OWN, model_id="80B", started=0)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return left_behind(tmp_path_factory.mktemp("sound"))


def alone(sound: Path, job: str, where: Path):
    """A copy of the folder of one job, as job number 0 of an invocation, and the suite of its benchmark."""
    (benchmark,) = (one for one in SMALL.benchmarks if job.rpartition(".")[0] == one.task)
    copied = Path(shutil.copytree(sound / job, where / "left" / f"{benchmark.task}.0"))
    return copied, dataclasses.replace(SMALL, benchmarks=(benchmark,))


@pytest.mark.parametrize(("job", "file", "change"), DAMAGES, ids=[str(number) for number in range(len(DAMAGES))])
def test_damage_is_refused_in_a_sentence_with_the_checkpoint(sound, tmp_path, job, file, change):
    folder, suite = alone(sound, job, tmp_path)
    change(folder / file)
    with pytest.raises(ValueError, match="^checkpoint '80B': ") as refused:
        read_launcher(folder.parent, suite, model_id="80B", started=0)
    sentence = str(refused.value)
    assert "\n" not in sentence and len(sentence.replace(str(folder), "")) < 400, sentence
    said = (folder.name, suite.benchmarks[0].task, suite.benchmarks[0].title, Path(file).name, "results.yml says")
    assert any(word in sentence for word in said), sentence


def test_the_folder_that_is_damaged_is_sound(sound):
    assert len(read_launcher(sound, SMALL, model_id="80B", started=0)) == len(SMALL.benchmarks)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(sound, tmp_path):
    folder, suite = alone(sound, GPQA, tmp_path)
    (folder / RESULTS).chmod(0)
    with pytest.raises(ValueError, match=r"results\.yml' cannot be read"):
        read_launcher(folder.parent, suite, model_id="80B", started=0)
