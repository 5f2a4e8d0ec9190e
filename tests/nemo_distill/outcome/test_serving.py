"""What a recipe makes of `serve_bench.*`: its step, its hours, what is refused; and the step, with vLLM's stand-in."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from evaluator.serve.bench import JOURNAL
from evaluator.serve.throughput import read_throughput
from nemo_distill.config.blend import Blend
from nemo_distill.config.overrides import override
from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Evaluate, Layout, Quantize, ServeBench, Settings
from nemo_distill.errors import PassingError, UserError
from nemo_distill.experiment import steps_of
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
from nemo_distill.outcome.measured import SERVE_BENCH, rates_in
from nemo_distill.outcome.serving import check_context
from nemo_distill.plan.benched import CLIENT_SECONDS, START_SECONDS, hours_of, serving_in_words
from nemo_distill.plan.cost import Job
from nemo_distill.plan.estimate import Estimate
from nemo_distill.plan.gpus import H100
from nemo_distill.plan.serving import Served
from nemo_distill.plan.tables import cost_table
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.gpus import needs, why_short
from nemo_distill.run.step import Spec, mark_done, place
from nemo_distill.steps import serve_bench
from tests.evaluator.conftest import TEACHER
from tests.evaluator.serve.vllm_for_tests import installed, nvidia_smi

PARTS = {"evaluate": Evaluate(), "quantize": Quantize(), "serve_bench": ServeBench(), "layout": Layout()}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    return installed(tmp_path_factory.mktemp("vllm") / "venv")


@pytest.fixture
def recipe(environment):
    """The recipe that words of a command make, where vLLM is."""

    def made(words: str, scale: str = "debug", *, where: str = str(environment)) -> Recipe:
        chosen = override(PARTS, [f"evaluate.vllm={where}", *words.split()])
        return Recipe.of("test", Settings(blend=Blend("test", {"stem": 100}), **chosen), get_scale(scale))

    return made


def test_one_step_serves_the_teacher_the_last_milestone_and_what_it_is_quantised_to(recipe, environment):
    plain = {step.name: step for step in steps_of(recipe("evaluate.engine=vllm quantize.format=fp8"))[0]}
    asked = recipe(
        "evaluate.engine=vllm quantize.format=fp8 serve_bench.settings=512/64x4,64/512x8:16 serve_bench.contexts=1024"
    )
    found = {step.name: step for step in steps_of(asked)[0]}
    step = found.pop(SERVE_BENCH)
    report, before = found.pop("report"), plain.pop("report")
    assert found == plain, "what was there stays"
    assert (
        report.upstream == (*before.upstream, SERVE_BENCH) and report.config == before.config
    )  # which shows the rates
    assert step.upstream == ("export-0.61M", "quantize-0.61M")
    assert [label for label, _ in step.config["checkpoints"]] == ["teacher", "0.61M", "0.61M-fp8"]
    assert step.config["settings"] == ["512/64x4", "64/512x8:16"] and step.config["contexts"] == [1024]
    assert "--max-model-len" in step.config["engine"]["options"]
    assert RunFacts.of(asked, executor="").beside.vllm == str(environment)
    (other,) = (
        one for one in steps_of(recipe("serve_bench.settings=8/8x1 serve_bench.checkpoints=0.3M"))[0]
        if one.name == SERVE_BENCH
    )  # fmt: skip
    assert other.config["checkpoints"] == [["0.3M", "export-0.3M"]] and other.upstream == ("export-0.3M",)
    assert "sha256" not in other.config and "contexts" not in other.config


def test_it_takes_a_gpu_and_no_cpu_does_in_its_place(recipe, tmp_path):
    asked = recipe("serve_bench.settings=8/8x1")
    specs = place(steps_of(asked)[0], runs=tmp_path)
    assert [needs([specs[SERVE_BENCH], specs["prune"]], asked.layout, there=there) for there in (8, 0)] == [
        {SERVE_BENCH: 1, "prune": 1},
        {SERVE_BENCH: 1, "prune": 0},
    ]
    assert why_short(specs.values(), asked.layout, ()) == (
        "serve_bench takes 1 GPU, and this machine has none to give: take a machine that has them, or --executor slurm."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("serve_bench.settings=512x4", "serve_bench: '512x4' is no setting: INPUT/OUTPUTxIN_FLIGHT"),
        ("serve_bench.settings=512/64x200", "has 200 in flight, and a GPU is given 1 to 128: say 128"),
        ("serve_bench.contexts=1", "1 is no context to decode at"),
        ("serve_bench.checkpoints=teacher", "names what is measured, and not at what: say serve_bench.settings="),
        ("serve_bench.settings=8/8x1 serve_bench.checkpoints=0.62M", "cannot have '0.62M'. Did you mean '0.61M'"),
        ("serve_bench.settings=8/8x1 serve_bench.checkpoints=teacher,teacher", "has teacher 2 times"),
        (
            "serve_bench.settings=8/8x1 quantize.format=nvfp4 serve_bench.checkpoints=0.61M-nvfp4",
            "cannot have '0.61M-nv",
        ),
        ("serve_bench.setting=8/8x1", "serve_bench.setting"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(recipe, words, sentence):
    with pytest.raises(UserError, match=sentence):
        steps_of(recipe(words))


def test_without_vllm_and_beyond_the_models_context_it_is_refused(recipe, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"evaluate.vllm=nowhere: there is no such file or folder: install vLLM"):
        steps_of(recipe("serve_bench.settings=8/8x1", where="nowhere"))
    with pytest.raises(UserError, match="evaluate.engine=transformers has no part for it"):
        steps_of(recipe(""))
    config = {"settings": ["130560/1024x16"], "contexts": [131_072], "checkpoints": []}
    with pytest.raises(UserError, match=r"130560/1024x16 is 131,584 tokens long, .* the nearest is 130048/1024x16"):
        check_context(config, 131_072)
    with pytest.raises(UserError, match="serve_bench.contexts=131072 is beyond the .* say 131071 at most"):
        check_context(config | {"settings": ["512/64x4"]}, 131_072)


def test_its_hours_are_those_of_starts_and_of_what_the_study_measured():
    labels = [["teacher", "x"], ["80B", "y"]]
    config = {"checkpoints": labels, "settings": ["32768/1024x128"], "engine": {"version": "1"}}
    models = {"teacher": Served(shape=NANO_9B_V2, gpu=H100), "80B": Served(shape=NANO_7B_PRUNED, gpu=H100)}
    found = 3600 * hours_of(config, models.__getitem__) - 3 * (START_SECONDS + CLIENT_SECONDS)
    published = 128 * 1024 * (2 / 794 + 1 / 963)  # the teacher twice, as it is the control
    assert found == pytest.approx(published, rel=0.2)
    assert serving_in_words(config, 0.2) == (
        "Serving is measured: teacher, 80B, one after another on one GPU by vLLM 1, at 32768/1024x128, about 12 min."
    )
    job = Job(
        teacher=NANO_9B_V2, student=NANO_7B_PRUNED, gpu=H100, nodes=1, gpus_per_node=8, tensor_parallel=2,
        micro_batch_size=1, global_batch_size=8, seq_length=8192,
    )  # fmt: skip
    estimate = Estimate(job=job, student_from="", segments={"80B": 9}, loads=(), benched=config)
    assert dict(estimate.parts)["measure serving"] == {SERVE_BENCH: hours_of(config, models.__getitem__)}
    assert "measure serving" in {cell for column in cost_table(estimate).columns for cell in column.cells}
    config |= {"settings": [], "contexts": [1024, 8192]}
    assert "by vLLM 1, decoding at 1,024, 8,192 tokens." in serving_in_words(config, None)


@pytest.fixture
def spec(environment, recipe, tmp_path, monkeypatch) -> Spec:
    """The step, with the debug world's teacher as every checkpoint, on a machine with GPUs."""
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    asked = recipe("serve_bench.settings=4/6x2,3/4x2 serve_bench.checkpoints=teacher,0.61M")
    placed = place(steps_of(asked)[0], runs=tmp_path / "runs")[SERVE_BENCH]
    placed.folder.mkdir(parents=True)
    saved = placed.save(Beside(vllm=str(environment)))
    (exported,) = placed.upstream.values()
    exported.mkdir(parents=True)
    (exported / "hf").symlink_to(TEACHER)
    return dataclasses.replace(placed, config=resolve_package_paths(Spec.load(saved).config))  # as a step's process


def test_the_step_goes_on_where_it_was_cut_and_ends_in_results(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_DIES", "3")  # in the second setting
    with pytest.raises(PassingError, match=r"vLLM 0.23.0, serving .* ended with 1"):
        serve_bench.main(spec)
    assert read_throughput(spec.folder) is None
    before = (spec.folder / JOURNAL).read_text()
    monkeypatch.delenv("STAND_IN_DIES")
    serve_bench.main(spec)
    assert (spec.folder / JOURNAL).read_text().startswith(before) and "4/6x2" in before
    found = read_throughput(spec.folder)
    assert [one.label for one in found.models] == ["teacher", "0.61M", "teacher"] and found.models[-1].control
    assert found.settings == ("4/6x2", "3/4x2") and all(len(one.rates) == 2 for one in found.models)
    assert (found.gpu, found.vllm) == ("NVIDIA H100 80GB HBM3", "0.23.0")
    progress = json.loads((spec.folder / "progress.json").read_text())
    assert (progress["done"], progress["total"], progress["unit"]) == (6, 6, "measurements")
    mark_done(spec.folder)
    told, unread = rates_in(tmp_path / "runs")  # by which a preview goes
    assert not unread and [one.name for one in told] == ["serve_bench of teacher", "serve_bench of 0.61M"]
    assert {(one.gpu, one.shape.hidden_size, len(one.settings)) for one in told} == {(found.gpu, 128, 2)}


def test_another_vllm_than_was_asked_for_and_no_gpu_are_sentences(spec, tmp_path, monkeypatch):
    spec.save(Beside(vllm=str(installed(tmp_path / "newer", version="0.24.0"))))
    with pytest.raises(UserError, match=r"is vLLM 0.24.0, and this step is of 0.23.0 with .*give the command again"):
        serve_bench.main(spec)
    spec.save(Beside(vllm=str(tmp_path / "gone")))
    with pytest.raises(UserError, match="there is no such file or folder"):
        serve_bench.main(spec)
