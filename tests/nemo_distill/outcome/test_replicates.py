"""Which runs are one blend under several seeds."""

from pathlib import Path

from nemo_distill.outcome.replicates import are_replicates, group
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Spec

COURSE = {"learning_rate": 1e-4, "seed": 1, "max_iterations": 100}


def run(
    name: str, *, until: int = 2, seed: int = 1, prune: str = "0.7", index_seed: int | None = None, **course
) -> Run:
    """A run of so many segments."""
    configs: dict[str, dict] = {
        "prune": {"request": {"parameters": prune}},
        "prepare": {"sources": [{"name": "stem"}], "seed": None},
        "index": {"shares": {"stem": 100}, "seed": seed if index_seed is None else index_seed},
    }
    configs |= {
        f"distill-{part}": {"course": COURSE | {"seed": seed} | course, "until": part} for part in range(1, until + 1)
    }
    configs |= {"evaluate-teacher": {"label": name}, "report": {"title": name, "milestones": until}}
    specs = {step: Spec(step, "m", config, Path(step), {}, "0" * 12) for step, config in configs.items()}
    return Run(name=name, runs=Path("runs"), specs=specs)


def test_runs_are_replicates_where_training_differs_in_its_seed_only():
    one = run("one")
    assert are_replicates(one, run("again", seed=2)) and are_replicates(run("again", seed=2), one)
    assert not are_replicates(one, run("same"))  # one run under two names, which tells nothing of another seed
    assert not are_replicates(one, run("faster", seed=2, learning_rate=2e-4))
    assert not are_replicates(one, run("other student", seed=2, prune="0.6"))
    assert not are_replicates(one, run("untrained", seed=2, until=0))


def test_a_run_that_went_less_far_is_a_replicate_up_to_there():
    one, short = run("one", until=3), run("short", until=1, seed=2)
    assert are_replicates(one, short) and are_replicates(short, one)


def test_runs_are_grouped_in_the_order_in_which_they_were_named():
    named = [
        run("a"),
        run("b", learning_rate=1e-5),
        run("a2", seed=2),
        run("b2", seed=2, learning_rate=1e-5),
        run("c", prune="0.5"),
    ]
    assert [[one.name for one in found] for found in group(named)] == [["a", "a2"], ["b", "b2"], ["c"]]
