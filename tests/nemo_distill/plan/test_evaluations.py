"""What evaluations take: modelled, and by the records of those that are done."""

import dataclasses
import json
import os
import re

import pytest

from evaluator.results.spent import SPENT_FILE, Asking, Spent, load_spent, save_spent
from evaluator.serve.throughput import Decoding, Rate, Throughput
from evaluator.serve.throughput import Served as ServedCheckpoint
from nemo_distill.config.blend import Blend
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.resolved import Evaluation
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Evaluate, Layout, Settings
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.outcome.measured import Way, measured_in, rates_in
from nemo_distill.outcome.suites import ask
from nemo_distill.plan.benched import START_SECONDS
from nemo_distill.plan.calibration import Evidence
from nemo_distill.plan.estimate import Estimate, estimate_of
from nemo_distill.plan.evaluation_examples import examples
from nemo_distill.plan.evaluations import MOST, Known, cost_of, measured_apart
from nemo_distill.plan.figures import STUDY
from nemo_distill.plan.gpus import H100, H200
from nemo_distill.plan.serving import Answers, Served
from nemo_distill.plan.tables import cost_table, evaluation_cost_remarks, evaluation_table
from nemo_distill.run.facts import RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec, mark_done
from tests.nemo_distill.plan.test_estimate import cells
from tests.nemo_distill.plan.test_serving import GUIDE

ASKED = ask(Evaluation(suite="study"))
LOADS = ASKED.loads
BOX = Way()
STUDENT, TEACHER = (Served(shape=shape, gpu=H100) for shape in (NANO_7B_PRUNED, NANO_9B_V2))
NOTHING_RAN = Evidence.MODELLED if measured_apart(Served(shape=NANO_7B_PRUNED, gpu=H100)) else Evidence.NEVER_RUN
"""What a figure of an H100 rests on where no evaluation is done."""


def spent(seconds: float, **changes) -> Spent:
    """What an evaluation took whose answers were a tenth longer than published, for all but MMLU."""
    benchmarks = tuple(
        Asking(
            task=load.task,
            questions=load.questions,
            repeats=load.repeats,
            prompt=load.answers * 100,
            generated=round(load.answers * load.length.answer * 1.1),
            limit=load.max_new_tokens,
            seconds=seconds,
        )
        for load in LOADS
    )
    known = {
        "engine": "vllm", "version": "0.23.0", "gpu": "NVIDIA H100 80GB HBM3", "gpus": 1, "in_flight": 128,
        "together": True, "start_seconds": 100.0, "seconds": seconds, "benchmarks": benchmarks,
        "model": NANO_7B_PRUNED.to_hf_config(),
    }  # fmt: skip
    return Spent(**(known | changes))


def kept(runs, one: Spent, *, name: str = "evaluate-20B") -> Known:
    """The runs folder with that record in it, read."""
    folder = runs / name / "0123456789ab"
    folder.mkdir(parents=True)
    save_spent(folder, one)
    before = len(measured_in(runs)[0])
    mark_done(folder)
    found, unread = measured_in(runs)
    assert len(found) == before + 1, "it is there once it is done"
    assert not unread and found[0].role == ("student" if "20B" in name else name.removeprefix("evaluate-"))
    return Known(measured=found)


def test_lengths_are_the_published_ones_and_aime_takes_what_its_context_makes_of_it():
    cost = cost_of(STUDENT, LOADS, BOX, Known(), role="student")
    parts = {part.title: part for part in cost.parts}
    assert {part.tokens_from for part in cost.parts if part.title not in ("MMLU", "IFEval")} == {"published"}
    assert (parts["AIME 2025"].tokens, parts["AIME 2025"].answers) == (19_107, 960)
    asked = Answers(number=960, prompt=150, tokens=19_107, limit=32_768)
    assert parts["AIME 2025"].gpu_seconds == pytest.approx(960 * STUDENT.answer_seconds(asked, 128))
    shares = [part.gpu_seconds for part in cost.parts]
    assert sum(shares) < 3600 * cost.gpu_hours < 1.1 * sum(shares)
    assert cost.evidence == NOTHING_RAN


def test_few_in_flight_cost_more_and_so_do_servers_of_their_own():
    site = ASKED.way
    assert site == Way(gpus=8, in_flight=8, together=False)
    few = cost_of(STUDENT, LOADS, site, Known(), role="student")
    full = cost_of(STUDENT, LOADS, dataclasses.replace(site, in_flight=128), Known(), role="student")
    box = cost_of(STUDENT, LOADS, BOX, Known(), role="student")
    assert few.gpu_hours > 2.5 * full.gpu_hours > 2.5 * box.gpu_hours
    assert few.besides == len(LOADS) * 8 * START_SECONDS


def test_a_pruned_student_ends_no_answer_until_its_budget_ends_it():
    box = cost_of(STUDENT, LOADS, BOX, Known(), role="pruned")
    site = cost_of(STUDENT, LOADS, ASKED.way, Known(), role="pruned")
    assert {part.tokens_from for part in box.parts if part.title != "MMLU"} == {"limit"}
    hours = {load.title: load.hours for load in LOADS}
    assert next(part for part in site.parts if part.title == "MMLU Pro").gpu_seconds == 3600 * 8 * hours["MMLU Pro"]


def test_on_cpus_an_evaluation_takes_no_gpu():
    assert cost_of(STUDENT, LOADS, Way(gpus=0), Known(), role="student").gpu_hours == 0
    assert ask(Evaluation(suite="offline")).way.gpus == 0


def test_an_evaluation_asked_alike_says_what_the_next_takes(tmp_path):
    known = kept(tmp_path, spent(50_000.0))
    cost = cost_of(STUDENT, LOADS, BOX, known, role="student")
    assert cost.evidence == Evidence.MEASURED and "evaluate-20B took on H100" in cost.rests_on
    assert 3600 * cost.gpu_hours == pytest.approx(50_000 + 100, rel=1e-3), "the whole, and its start"
    assert {part.tokens_from for part in cost.parts} == {"recorded"}
    assert next(part for part in cost.parts if part.title == "AIME 2025").tokens == pytest.approx(1.1 * 19_107)


def test_another_size_and_format_are_scaled_by_what_they_read(tmp_path):
    known = kept(tmp_path, spent(50_000.0))
    same, in_fp8 = (
        cost_of(dataclasses.replace(STUDENT, format=format), LOADS, BOX, known, role="student")
        for format in ("none", "fp8")
    )
    larger = cost_of(TEACHER, LOADS, BOX, known, role="teacher")
    assert in_fp8.evidence == larger.evidence == Evidence.MODELLED
    modelled = [
        cost_of(one, LOADS, BOX, Known(), role="student").parts[4].per_gpu_hour
        for one in (STUDENT, TEACHER, dataclasses.replace(STUDENT, format="fp8"))
    ]
    then = [cost.parts[4].per_gpu_hour for cost in (same, larger, in_fp8)]
    assert then[1] / then[0] == pytest.approx(modelled[1] / modelled[0], rel=0.02)
    assert then[2] / then[0] == pytest.approx(modelled[2] / modelled[0], rel=0.02)
    assert cost_of(STUDENT, LOADS, BOX, known, role="pruned").parts[4].tokens == 32_768, "it never said how it ends"


def test_what_the_pruned_student_was_not_asked_is_not_told_by_what_it_was(tmp_path):
    """Its answers are other benchmarks' and of other lengths: the harness may be what is slow with them."""
    part = tuple(one for one in spent(9e5).benchmarks if one.task == LOADS[0].task)
    known = kept(tmp_path, spent(9e5, benchmarks=part), name="evaluate-pruned")
    cost = cost_of(STUDENT, LOADS, BOX, known, role="student")
    assert [part.evidence for part in cost.parts] == [Evidence.MEASURED] + 7 * [NOTHING_RAN]
    plain = cost_of(STUDENT, LOADS, BOX, Known(), role="student")
    assert [part.gpu_seconds for part in cost.parts[1:]] == [part.gpu_seconds for part in plain.parts[1:]]
    assert cost.parts[0].gpu_seconds > 100 * plain.parts[0].gpu_seconds


def test_the_newest_of_many_that_are_equally_near_are_gone_by(tmp_path):
    for place in range(MOST + 5):
        kept(tmp_path, spent(50_000.0 if place < 5 else 40_000.0), name=f"evaluate-{place}.20B")
        os.utime(tmp_path / f"evaluate-{place}.20B" / "0123456789ab" / SPENT_FILE, (place, place))
    cost = cost_of(STUDENT, LOADS, BOX, Known(measured=measured_in(tmp_path)[0]), role="student")
    assert 3600 * cost.gpu_hours == pytest.approx(40_100, rel=1e-3)


def test_its_own_format_is_nearer_than_another_and_fp8_is_told_by_the_config(tmp_path):
    kept(tmp_path / "a", spent(50_000.0))
    in_fp8 = NANO_7B_PRUNED.to_hf_config() | {"quantization_config": {"quant_algo": "FP8"}}
    both = Known(
        measured=(
            *measured_in(tmp_path / "a")[0],
            *kept(tmp_path / "b", spent(40_000.0, model=in_fp8)).measured,
        )
    )
    of = dataclasses.replace(STUDENT, format="fp8")
    cost = cost_of(of, LOADS, BOX, both, role="student")
    assert cost.evidence == Evidence.MEASURED
    assert 3600 * cost.gpu_hours == pytest.approx(40_100, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": "NVIDIA H200"},
        {"gpu": "NVIDIA RTX 9999"},
        {"gpus": 0, "engine": "transformers", "gpu": ""},
        {"benchmarks": (dataclasses.replace(spent(1.0).benchmarks[0], once=False), *spent(1.0).benchmarks[1:])},
        {"benchmarks": (dataclasses.replace(spent(1.0).benchmarks[0], generated=0), *spent(1.0).benchmarks[1:])},
    ],
    ids=["another GPU", "an unknown one", "on CPUs", "gone on with", "without tokens"],
)
def test_time_of_what_was_asked_otherwise_is_no_help(changes, tmp_path):
    known = kept(tmp_path, spent(50_000.0, **changes))
    cost = cost_of(STUDENT, LOADS, BOX, known, role="student")
    assert cost.evidence == NOTHING_RAN
    assert cost.parts[4].tokens_from == "recorded", "its lengths are"


def test_of_the_launcher_every_benchmark_has_its_own_time_and_the_layouts_gpu(tmp_path):
    launcher = spent(0.0, gpu="", gpus=8, in_flight=8, together=False, start_seconds=None, engine="image", version="")
    times = tuple(
        dataclasses.replace(one, seconds=500.0 * (place + 1)) for place, one in enumerate(launcher.benchmarks)
    )
    known = kept(tmp_path, dataclasses.replace(launcher, benchmarks=times))
    cost = cost_of(Served(shape=NANO_7B_PRUNED, gpu=H200), LOADS, ASKED.way, known, role="student")
    found = [part.gpu_seconds for part in cost.parts]
    assert found == pytest.approx([4_000.0 * (place + 1) for place in range(8)], rel=1e-3)
    assert {part.evidence for part in cost.parts} == {Evidence.MEASURED}


def test_the_preview_says_so_by_benchmark_and_of_the_others(tmp_path):
    known = kept(tmp_path, spent(36_000.0))
    whole = Estimate(
        job=STUDY, student_from="", segments={"80B": 12_800}, loads=LOADS, known=known, format="fp8",
        asked_quantised=("evaluate-80B-fp8",), unread=("What evaluate-5B took is not known: it is damaged.",),
    )  # fmt: skip
    rows = cells(evaluation_table(whole))
    assert rows["AIME 2025"][:3] == ["960", "21,018", "recorded"] and rows["AIME 2025"][-1] == "●"
    assert rows["all"][0] == f"{sum(load.answers for load in LOADS):,}" and rows["all"][-2] == "10"
    per_hour = float(rows["AIME 2025"][3].replace(",", ""))
    assert 960 / per_hour == pytest.approx(float(rows["AIME 2025"][4]), abs=0.06)
    said = [sentence for sentence, _ in evaluation_cost_remarks(whole)]
    assert (
        re.search(r"student in FP8 (9\.\d|10) ◐", said[0]) and "the pruned student is taken to end no answer" in said[0]
    )
    assert said[1].startswith("● Time of evaluations") and said[2].startswith("What evaluate-5B took")
    assert cells(cost_table(whole))["evaluate 4 checkpoints"][-1] == "◐", "the least of them"
    assert whole.evidence("evaluate-80B") == Evidence.MEASURED and whole.evidence("prune") == Evidence.NEVER_RUN


def rates(runs, *, gpu: str = "NVIDIA H100 80GB HBM3", decoding: bool = True) -> None:
    """What serve_bench leaves of the 7B and its FP8, whose rates are 1.25 and 1.5 times the model's."""
    config = NANO_7B_PRUNED.to_hf_config()
    spec = Spec(
        "serve_bench", "nemo_distill.steps.serve_bench",
        {"checkpoints": [["teacher", "org/on-the-hub"], ["20B", "export-20B"], ["20B-fp8", "quantize-20B"]]},
        runs / "serve_bench" / "0123456789ab",
        {"export-20B": runs / "export-20B" / ("a" * 12), "quantize-20B": runs / "quantize-20B" / ("b" * 12)},
        "0123456789ab",
    )  # fmt: skip
    for folder, said in zip(spec.upstream.values(), ({}, {"quant_algo": "FP8"}), strict=True):
        (folder / "hf").mkdir(parents=True)
        (folder / "hf" / "config.json").write_text(json.dumps(config | ({"quantization_config": said} if said else {})))
    spec.save()
    models = []
    for label, format, faster in (("teacher", "none", 9.0), ("20B", "none", 1.25), ("20B-fp8", "fp8", 1.5)):
        served = dataclasses.replace(STUDENT, format=format)
        at = [faster * 128 / served.step_seconds(128, context) for context in (1_026, 15_362)]
        load = {"prompt": 512, "answer": 4_096, "in_flight": 128, "requests": 128}
        rate = {"setting": "512/4096x128", "tokens_per_second": faster * served.tokens_per_second(**load)}
        slow = {"setting": "32768/1024x16:32", "tokens_per_second": 1.0}
        latency = ("first_token_median_ms", "first_token_p99_ms", "inter_token_median_ms", "inter_token_p99_ms")
        others = {"seconds": 1.0, "generated_tokens": 1, "prompt_tokens": 1} | dict.fromkeys(latency, 1.0)
        models.append(
            ServedCheckpoint(
                label=label,
                identity=label,
                rates=tuple(Rate(**one, **others) for one in (slow, rate)),
                decoding=tuple(
                    Decoding(context_tokens=context, in_flight=128, tokens_per_second=value, seconds=1.0)
                    for context, value in zip((1_026, 15_362), at, strict=True)
                )
                if decoding
                else (),
            )
        )
    settings = ("32768/1024x16:32", "512/4096x128")
    Throughput(gpu=gpu, vllm="0.24.0", settings=settings, models=tuple(models)).save(spec.folder)
    mark_done(spec.folder)


@pytest.mark.parametrize("decoding", [True, False], ids=["decoding", "a setting"])
def test_rates_of_served_checkpoints_say_it_where_no_evaluation_does(decoding, tmp_path):
    rates(tmp_path, decoding=decoding)
    found, unread = rates_in(tmp_path)
    assert not unread and [one.name for one in found] == ["serve_bench of 20B", "serve_bench of 20B-fp8"]
    known = Known(rates=found)
    of = {
        format: [
            cost_of(dataclasses.replace(STUDENT, format=format), LOADS, BOX, one, role="student")
            for one in (Known(), known)
        ]
        for format in ("none", "fp8")
    }
    for format, faster in (("none", 1.25), ("fp8", 1.5)):
        before, after = of[format]
        assert after.evidence == Evidence.MODELLED and "serve_bench of 20B" in after.rests_on
        assert before.parts[4].gpu_seconds / after.parts[4].gpu_seconds == pytest.approx(faster)
    elsewhere = cost_of(Served(shape=NANO_7B_PRUNED, gpu=H200), LOADS, BOX, known, role="student")
    assert "serve_bench" not in elsewhere.rests_on
    evaluated = Known(measured=kept(tmp_path, spent(50_000.0)).measured, rates=found)
    by_format = [cost_of(dataclasses.replace(STUDENT, format=format), LOADS, BOX, evaluated, role="student").rests_on
                 for format in ("none", "fp8")]  # fmt: skip
    assert "evaluate-20B" in by_format[0] and "serve_bench of 20B-fp8" in by_format[1]


def test_rates_that_cannot_be_read_are_named(tmp_path):
    rates(tmp_path)
    file = next(tmp_path.glob("serve_bench/*/results.json"))
    (file.parent / "spec.json").write_text("{}")
    assert "spec.json is no step's" in rates_in(tmp_path)[1][0]
    file.write_text("{")
    assert rates_in(tmp_path) == ((), (f"What serve_bench measured is not known: '{file}' is damaged.",))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("{", "is no whole JSON"),
        ('{"engine": "vllm"}', "has no 'start_seconds'"),
        (json.dumps(dataclasses.asdict(spent(-1.0))), "seconds is -1"),
        (json.dumps(dataclasses.asdict(spent(1.0, in_flight=0))), "in_flight is 0"),
        (json.dumps(dataclasses.asdict(spent(1.0, model={"model_type": "llama"}))), "llama"),
    ],
)
def test_a_damaged_record_is_named_and_holds_up_nothing(damage, said, tmp_path):
    whole = kept(tmp_path, spent(50_000.0))
    folder = tmp_path / "evaluate-5B" / "ba9876543210"
    folder.mkdir(parents=True)
    (folder / SPENT_FILE).write_text(damage)
    mark_done(folder)
    found, (sentence,) = measured_in(tmp_path)
    assert found == tuple(whole.measured)
    assert sentence.startswith("What evaluate-5B took is not known: ") and said in sentence and sentence.endswith(".")


def test_a_record_is_read_as_it_was_written_and_with_what_a_later_version_adds(tmp_path):
    one = spent(50_000.0)
    save_spent(tmp_path, one)
    assert load_spent(tmp_path) == one
    record = json.loads((tmp_path / SPENT_FILE).read_text())
    record["watts"] = record["benchmarks"][0]["watts"] = 700
    (tmp_path / SPENT_FILE).write_text(json.dumps(record))
    assert load_spent(tmp_path) == one


def test_evaluations_of_runs_that_are_named_are_gone_by_and_a_folder_without_any_is_refused(tmp_path):
    kept(tmp_path / "runs", spent(50_000.0))
    (tmp_path / "empty").mkdir()

    def of(*folders: str) -> Estimate:
        settings = Settings(
            blend=Blend("test", {"stem": 100}),
            evaluate=Evaluate(measured_in=folders),
            layout=Layout(gpu="H100", gpus_per_node=8, nodes=1, tensor_parallel=8),
        )
        recipe = Recipe.of("test", settings, get_scale("full"))
        specs = {"prune": Spec("prune", "nemo_distill.steps.prune", {}, tmp_path / "here" / "prune" / "a", {}, "a")}
        run = Run(name="test", runs=tmp_path / "here", specs=specs, facts=RunFacts())
        return estimate_of(recipe, run, dataclasses.replace(ASKED, way=BOX), NANO_9B_V2)

    assert of().of_student.evidence == NOTHING_RAN
    there = of(f"{tmp_path}/runs")
    assert there.known.measured[0].name == "evaluate-20B" and there.of_student.evidence == Evidence.MEASURED
    with pytest.raises(UserError, match=r"evaluate.measured_in=gone: there is no such folder\."):
        of("gone")
    with pytest.raises(UserError, match=r"test_evaluations.py: is a file; name a folder of runs\."):
        of(__file__)
    for said, hint in ((tmp_path, "runs"), (tmp_path / "runs" / "evaluate-20B", "runs")):
        with pytest.raises(UserError, match=f"says what it took. Did you mean evaluate.measured_in={tmp_path}/{hint}"):
            of(str(said))
    with pytest.raises(UserError, match=r"empty holds no evaluation that says what it took. Name a folder of runs"):
        of(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="measured_in"):
        of("")


def test_the_guide_shows_the_examples_as_they_come_out():
    assert examples() in GUIDE.read_text(encoding="utf-8")
