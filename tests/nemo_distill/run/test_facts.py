"""What a run's file and a spec say beside the configs, written and read, by this version and by 0.1."""

import json

from nemo_distill.config.blend import Blend
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.resolved import Parallelism
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Evaluate, Health, Layout, Prune, Settings
from nemo_distill.run.facts import Beside, RunFacts
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec

SETTINGS = Settings(
    blend=Blend("mine", {"stem": 100}),
    layout=Layout(nodes=2, gpus_per_node=4, tensor_parallel=4, recompute="mlp"),
    health=Health(spikes=5),
    prune=Prune(chip_friendly="report"),
    evaluate=Evaluate(max_unasked=0.2),
)


def facts(settings: Settings = SETTINGS) -> RunFacts:
    return RunFacts.of(Recipe.of("r", settings, get_scale("full")), executor="slurm")


def test_facts_come_back_from_a_runs_file_as_they_were(tmp_path):
    made = facts()
    Run(name="r", runs=tmp_path, specs={}, facts=made).save()
    back = Run.load(tmp_path / "r.json").facts
    assert json.dumps(back.record()) == json.dumps(made.record())
    assert (back.executor, back.scale, back.blend, back.seed) == ("slurm", "full", "mine", 1234)
    assert back.beside == made.beside


def test_what_a_step_is_told_holds_the_whole_layout(tmp_path):
    spec = Spec("distill-1", "m", {}, tmp_path / "distill-1" / "0", {}, "0")
    assert spec.beside == Beside()
    spec.save(facts().launched_by("slurm", command=["nemo-run", "x.py"]).beside, ranks=8)
    told = spec.beside
    assert told.layout == Parallelism(gpu="H100", nodes=2, gpus_per_node=4, tensor_parallel=4, recompute="mlp")
    assert told.health.spikes == 5 and told.second_search and told.command == ("nemo-run", "x.py")
    assert told.max_unasked == 0.2 and facts(Settings(blend=Blend("mine", {"stem": 100}))).beside.max_unasked == 0.05


def test_the_second_search_is_off_unless_it_is_asked_for():
    assert not facts(Settings(blend=Blend("mine", {"stem": 100}))).beside.second_search


def test_a_spec_and_a_runs_file_of_0_1_are_read(tmp_path):
    old = {"command": ["nemo-run"], "health": {"spikes": 2}, "recompute": "mlp", "ranks": 1, "provenance": {}}
    told = Beside.read(old)
    assert told.layout == Parallelism(recompute="mlp") and told.health.spikes == 2
    assert told.second_search  # which its config then asks for, or not
    layout = {"gpu": None, "nodes": None, "gpus_per_node": 2, "tensor_parallel": None, "recompute": "none"}
    file = {
        "executor": "slurm",
        "scale": "debug",
        "blend": {"name": "b", "shares": {}},
        "layout": layout,
        "queued": 3.5,
    }
    read = RunFacts.read(file)
    assert read.beside.layout == Parallelism(gpus_per_node=2) and read.blend == "b"
    assert read.launched == {"queued": 3.5}
