"""A recipe with benchmarks of its own: what its steps are told, what they depend on, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.made_up_runs import make_run
from evaluator.harness import launcher_config
from evaluator.harness.cluster import Cluster
from evaluator.suites.catalogue import STUDY, get_suite
from evaluator.verdicts.contrasts import WORSE
from nemo_distill import Benchmark, Blend, Evaluate, Questions, Settings, UserError
from nemo_distill.config.overrides import override
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.experiment import steps_of
from nemo_distill.make_teacher import SHAPE
from nemo_distill.outcome.card import card_of
from nemo_distill.outcome.compare import write_comparison_report
from nemo_distill.outcome.gather import gather
from nemo_distill.outcome.scores import scores_of
from nemo_distill.outcome.suites import suite_of_config
from nemo_distill.plan import limits
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.step import place

GAS = {"question": "Find a gas.", "choices": ["Saturn", "helium"], "answer": "helium"}
FISH = {"question": "Find a fish.", "choices": ["cod", "oak"], "answer": "A"}
SUM = {"question": "Compute 465 + 111.", "answer": 576}


@pytest.fixture
def quiz(tmp_path, monkeypatch) -> Path:
    """The file of a quiz, in a folder in which commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "sums.jsonl").write_text(f"{json.dumps(SUM)}\n" * 2)
    file = tmp_path / "questions" / "quiz.jsonl"
    write(file, GAS, FISH)
    return file


def write(file: Path, *rows: dict) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def own(**changes) -> tuple[Questions, ...]:
    quiz = Questions(name="my_quiz", path="questions/quiz.jsonl", kind="choice", repeats=4)
    sums = Questions(name="my_sums", path="questions/sums.jsonl", kind="boxed", title="Sums", max_new_tokens=20)
    return dataclasses.replace(quiz, **changes), sums


def recipe(*words: str, benchmarks=()) -> Recipe:
    settings = Settings(blend=Blend("mine", {"stem": 100}), evaluate=Evaluate(benchmarks=benchmarks))
    changed = override({"settings": settings}, [f"settings.{word}" for word in words])["settings"]
    return Recipe.of("mine", changed, get_scale("debug"))


def placed(*words: str, benchmarks=()):
    return place(steps_of(recipe(*words, benchmarks=benchmarks))[0], runs=Path("runs"))


def changed(before, after) -> set[str]:
    return {name.partition("-")[0] for name, spec in after.items() if before[name].fingerprint != spec.fingerprint}


EVALUATION = {"evaluate", "contamination", "report"}


def test_an_evaluation_is_told_what_is_asked_and_nothing_else_depends_on_it(quiz):
    plain, specs = placed(), placed(benchmarks=own())
    assert changed(plain, specs) == EVALUATION
    assert not {"benchmarks", "tasks"} & set(plain["evaluate-teacher"].config)
    config = specs["evaluate-teacher"].config
    assert [entry["name"] for entry in config["benchmarks"]] == ["my_quiz", "my_sums"] and "tasks" not in config
    assert config["benchmarks"] == specs["evaluate-pruned"].config["benchmarks"]
    suite = suite_of_config(json.loads(json.dumps(config)))
    assert [one.title for one in suite.benchmarks[-2:]] == ["my_quiz", "Sums"]
    assert [one.questions for one in suite.benchmarks[-2:]] == [2, 2]
    assert suite.benchmarks[-1].params == {"max_new_tokens": 20}
    asked = [entry["benchmark"] for entry in specs["contamination"].config["questions"]]
    assert {"my_quiz", "my_sums", "offline_math"} < set(asked)


def test_other_questions_are_another_evaluation_and_moved_ones_are_not(quiz):
    before = placed(benchmarks=own())
    write(quiz, GAS | {"note": "easy"}, FISH)
    assert changed(before, placed(benchmarks=own())) <= {"contamination", "report"}, "the same is asked"
    write(quiz, GAS | {"answer": "Saturn"}, FISH)
    after = placed(benchmarks=own())
    assert changed(before, after) == EVALUATION
    moved = Path(shutil.move(quiz, quiz.with_name("moved.jsonl")))
    benchmarks = own(path=moved)
    elsewhere = placed(benchmarks=benchmarks)
    assert changed(after, elsewhere) == {"contamination", "report"}
    told = RunFacts.of(recipe(benchmarks=benchmarks), executor="local").beside.questions
    assert told == {"my_quiz": str(moved), "my_sums": str(quiz.with_name("sums.jsonl"))}
    assert changed(elsewhere, placed(benchmarks=own(path=moved, prompt="{question} {choices}"))) == {
        "evaluate",
        "report",
    }


def test_a_part_is_asked_by_task_title_or_name(quiz):
    specs = placed("evaluate.tasks=ifeval,MATH,my_quiz", benchmarks=own())
    config = specs["evaluate-0.2M" if "evaluate-0.2M" in specs else "evaluate-teacher"].config
    assert config["tasks"] == ["offline_math", "offline_ifeval", "my_quiz"]
    assert [entry["name"] for entry in config["benchmarks"]] == ["my_quiz"]
    assert [one.task for one in suite_of_config(config).benchmarks] == config["tasks"]
    asked = {entry["benchmark"] for entry in specs["contamination"].config["questions"]}
    assert asked == {"offline_math", "offline_ifeval", "my_quiz"}
    (only,) = steps_of(recipe("evaluate.tasks=my_quiz", "evaluate.repeats=2", benchmarks=own()))[1].loads
    assert (only.title, only.questions, only.repeats) == ("my_quiz", 2, 2)
    for word, sentence in {
        "evaluate.tasks=ifevl": "names 'ifevl', which is not asked. Did you mean 'ifeval'?",
        "evaluate.tasks=my_quizz": "Did you mean 'my_quiz'?",
    }.items():
        with pytest.raises(UserError, match=sentence):
            placed(word, benchmarks=own())


def test_what_cannot_be_declared_is_one_sentence(quiz):
    for arguments, sentence in (
        ({"nme": "x"}, "a benchmark has no argument 'nme'. Did you mean 'name'?"),
        ({"path": "x"}, "the benchmark path='x' has no name"),
        ({"name": "my quiz", "path": "x", "kind": "choice"}, "cannot be called 'my quiz'. Did you mean 'my-quiz'?"),
        ({"name": "q", "path": "x", "kind": "choices"}, "has the kind 'choices'. Did you mean 'choice'?"),
        ({"name": "q", "path": "", "kind": "choice"}, "path='', which has to be text"),
        ({"name": "q", "path": "x", "kind": "exact", "repeats": 0}, "repeats=0 has to be a whole number above 0"),
        ({"name": "q", "path": "x", "kind": "exact", "prompt": "hm"}, "prompt='hm' has no {question} in it"),
        (
            {"name": "q", "path": "x", "kind": "choice", "prompt": "{question} {choice}"},
            "prompt has {choice} in it. Did you mean 'choices'?",
        ),
    ):
        with pytest.raises(UserError) as raised:
            Questions(**arguments)
        assert sentence in str(raised.value)
    for arguments, sentence in (
        ({"tsk": "x"}, "a benchmark has no argument 'tsk'. Did you mean 'task'?"),
        (
            {"task": "t", "questions": 9, "metric": "m", "score": "s", "scale": "unit", "datasets": ("../home",)},
            "datasets=('../home',) have to be names",
        ),
        ({"task": "a b", "questions": 9, "metric": "m", "score": "s", "scale": "unit"}, "TASK or HARNESS.TASK"),
        ({"task": "a", "questions": 9, "metric": "m", "score": "s", "scale": "percnt"}, "Did you mean 'percent'?"),
        ({"task": "a", "questions": 0, "metric": "m", "score": "s", "scale": "unit"}, "questions=0 has to be a whole"),
        (
            {"task": "a", "questions": 9, "metric": "m", "score": "s", "scale": "unit", "repeats": 4},
            "'a' is asked 4 times, by a parameter that is not named",
        ),
    ):
        with pytest.raises(UserError) as raised:
            Benchmark(**arguments)
        assert sentence in str(raised.value)
    quiz_, sums = own()
    for benchmarks, sentence in (
        ((quiz_, quiz_), "has the task 'my_quiz' twice"),
        ((quiz_, dataclasses.replace(sums, title="my_quiz")), "has the title 'my_quiz' twice"),
        (("my_quiz",), "it has to be a Questions or a Benchmark"),
    ):
        with pytest.raises(UserError, match=sentence):
            Evaluate(benchmarks=benchmarks)
    with pytest.raises(UserError, match="the suite 'offline' has a benchmark 'IFEval'; call yours 'my_IFEval'"):
        placed(benchmarks=own(name="IFEval"))
    with pytest.raises(UserError, match=r"executes what the model writes .my_quiz., in a sandbox"):
        placed(benchmarks=(dataclasses.replace(quiz_, kind="code", path=code(quiz)),))
    write(quiz, GAS, GAS | {"answer": "neon"})
    with pytest.raises(UserError, match=r"benchmark 'my_quiz': .*quiz.jsonl, line 2: its answer is 'neon'"):
        placed(benchmarks=own())
    write(quiz, GAS)
    with pytest.raises(UserError, match="quiz.jsonl has one question; no difference"):
        placed(benchmarks=own())
    quiz.unlink()
    with pytest.raises(UserError, match=r"benchmark 'my_quiz': .*quiz.jsonl cannot be read: No such file"):
        placed(benchmarks=own())


HMMT = Benchmark(
    task="ns_hmmt_feb2025",
    title="HMMT",
    questions=30,
    repeats=16,
    repeats_key="num_repeats",
    metric="pass@1[avg-of-{n}]",
    score="symbolic_correct",
    scale="percent",
)
SITE = {"hostname": "login", "account": "a", "partition": "p", "judge_url": "http://x/v1", "judge_model": "gpt-4o"}


GPQA_ALONE = Evaluate(tasks=("gpqa",))


def test_a_task_of_nemo_evaluators_is_asked_with_the_studys(quiz):
    def evaluations(*words, **changes):
        chosen = recipe("evaluate.suite=study", *words, benchmarks=(dataclasses.replace(HMMT, **changes),))
        return steps_of(chosen, SITE)

    steps, asked = evaluations("evaluate.tasks=gpqa,hmmt")
    config = next(step.config for step in steps if step.name == "evaluate-teacher")
    assert config["tasks"] == ["ns_gpqa", "ns_hmmt_feb2025"] and "mmlu" not in json.dumps(config["launcher"])
    (gpqa, hmmt) = suite_of_config(json.loads(json.dumps(config))).benchmarks
    assert gpqa == next(one for one in STUDY.benchmarks if one.title == "GPQA Diamond")
    assert hmmt.written == ("hmmt_feb25", "pass@1[avg-of-16]", "symbolic_correct")
    assert [(load.title, load.answers, load.hours) for load in asked.loads] == [
        ("GPQA Diamond", 8 * 198, 3),
        ("HMMT", 16 * 30, 2),
    ]
    rendered = yaml.safe_load(launcher_config.render(STUDY.with_benchmarks([hmmt]), Cluster(**SITE)))
    (task,) = rendered["evaluation"]["tasks"]
    assert task["name"] == "ns_hmmt_feb2025"
    assert task["nemo_evaluator_config"]["config"]["params"]["extra"] == {"num_repeats": 16}
    assert evaluations("evaluate.tasks=gpqa,hmmt", params={"prompt_config": "x"})[1].protocol != asked.protocol
    for changes, sentence in (
        (
            {"task": "ns_hmmt_feb25"},
            "nemo-evaluator-launcher knows no task 'ns_hmmt_feb25'. Did you mean 'ns_hmmt_feb2025'",
        ),
        ({"task": "mmlu"}, "several harnesses have a task 'mmlu': lm-evaluation-harness.mmlu and simple_evals.mmlu"),
        ({"task": "ns_gpqa"}, "declares the task 'ns_gpqa', which the suite 'study' asks"),
        ({"repeats_key": "num_repeat"}, "nemo_skills has no parameter 'num_repeat'. Did you mean 'num_repeats'?"),
        ({"params": {"promt_config": "x"}}, "has no parameter 'promt_config'. Did you mean 'prompt_config'?"),
    ):
        with pytest.raises(UserError) as raised:
            evaluations(**changes)
        assert sentence in str(raised.value)
    with pytest.raises(UserError, match="evaluate.tasks=gpqa leaves nothing to ask the pruned .*evaluate.pruned=all"):
        steps_of(
            Recipe.of("x", Settings(blend=Blend("b", {"stem": 100}), evaluate=GPQA_ALONE), get_scale("full")), SITE
        )
    with pytest.raises(UserError, match="harnesses of this machine know no task 'ns_hmmt_feb2025'. It is asked in a"):
        placed(benchmarks=(HMMT,))
    for task in ("simple_evals.humaneval", "livecodebench.codeexecution_v2", "mbpp_plus_chat"):
        with pytest.raises(UserError, match=f"'{task}' executes what the model writes in the process that judges it"):
            placed(benchmarks=(dataclasses.replace(HMMT, task=task, repeats=1, repeats_key=""),))
    with pytest.raises(UserError, match="programs are executed in the sandbox of this machine, and the suite 'study'"):
        steps_of(recipe("evaluate.suite=study", benchmarks=(dataclasses.replace(own()[0], kind="code"),)), SITE)


def test_a_question_or_an_answer_that_the_context_has_no_room_for_is_refused_beforehand(quiz):
    def refused(benchmarks) -> str:
        chosen = recipe(benchmarks=benchmarks)
        with pytest.raises(UserError) as raised:
            limits.check(chosen, SHAPE, steps_of(chosen)[1].loads, context=None)
        return str(raised.value)

    short, sums = (dataclasses.replace(one, prompt="{question}") for one in own())
    said = refused((short, dataclasses.replace(sums, max_new_tokens=256)))
    assert "evaluate.benchmarks has answers so long" in said and "Sums (256); the most is max_new_tokens=2" in said
    assert "has a question of 613 tokens, which a context of 256" in refused(
        (dataclasses.replace(short, prompt="{question}" + " on" * 300),)
    )


def test_runs_are_reported_compared_and_given_cards_with_what_they_declare(tmp_path):
    offline = get_suite("offline")
    entry = {"name": "my_quiz", "title": "My quiz", "kind": "choice", "repeats": 4, "questions": 50, "digest": "0"}
    told = {"suite": offline, "shares": {"stem": 100}, "declared": [entry]}
    one = make_run(tmp_path, "one", skills=(-1.0, 0.0), **told)
    other = make_run(tmp_path, "other", skills=(-1.0, 2.0), **told)
    report = gather(one.specs["report"])
    assert report.columns[-1] == ("my_quiz", "My quiz") and report.suite.benchmarks[-1].questions == 50
    assert report.milestones[-1].summaries["my_quiz"].repeats == 4
    made, _ = write_comparison_report([one, other], tmp_path)
    own = [contrast for contrast in made.judgement.between if contrast.column == "My quiz"]
    assert own and own[-1].in_answers == WORSE, "paired, question by question"
    assert "the recipe's own questions, multiple choice" in card_of(one).text
    assert {"My quiz", "Average"} < set(scores_of(one.specs["evaluate-teacher"].folder))
    with pytest.raises(UserError, match="they were scored with two suites"):
        write_comparison_report([one, make_run(tmp_path, "less", skills=(0.0,), **told | {"declared": ()})], tmp_path)


def code(quiz: Path) -> Path:
    path = quiz.with_name("code.jsonl")
    write(path, *[{"question": "Double x.", "tests": "assert f(2) == 4"}] * 2)
    return path
