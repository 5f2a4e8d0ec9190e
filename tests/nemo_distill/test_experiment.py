"""The steps of the real recipe: what depends on what, and what a change re-runs."""

import dataclasses
from pathlib import Path

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import SCALES, get_scale
from nemo_distill.config.settings import Distill, Evaluate, Layout, Prepare, Prune, Settings
from nemo_distill.errors import UserError
from nemo_distill.experiment import steps_of
from nemo_distill.kd import losses
from nemo_distill.plan.preview import distillation_remarks, segment_remarks
from nemo_distill.run.step import place

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHARES = {"sft-general": 30, "math-v2-part00": 40, "stem": 30}


def recipe(scale="debug", *, shares=SHARES, **settings) -> Recipe:
    return Recipe.of("test", Settings(blend=Blend("test", shares), **settings), get_scale(scale))


def fingerprints(chosen: Recipe) -> dict[str, str]:
    return {name: spec.fingerprint for name, spec in place(steps_of(chosen)[0], runs=Path("runs")).items()}


def changed(before: Recipe, after: Recipe) -> set[str]:
    """The kinds of steps whose fingerprint differs."""
    old, new = fingerprints(before), fingerprints(after)
    return {name.partition("-")[0] for name in new if old.get(name) != new[name]}


def test_the_debug_run_has_these_steps_in_this_order():
    steps = {step.name: step for step in steps_of(recipe())[0]}
    first, second, last = (milestone.label for milestone in recipe().milestones)
    assert list(steps) == [
        "world", "import-teacher", "prune", "prepare", "index",
        f"distill-{first}", f"distill-{second}", f"distill-{last}",
        "evaluate-teacher", "export-pruned", "evaluate-pruned",
        *(f"{kind}-{label}" for label in (first, second, last) for kind in ("export", "evaluate")),
        "contamination", "report",
    ]  # fmt: skip
    assert steps["prune"].upstream == ("import-teacher", "world")
    assert steps[f"distill-{second}"].upstream == ("import-teacher", "prune", "prepare", "index", f"distill-{first}")
    assert steps[f"export-{last}"].upstream == (f"distill-{last}",)
    assert {f"evaluate-{label}" for label in ("teacher", "pruned", first, second, last)} < set(steps["report"].upstream)


def test_the_segments_cover_the_schedule_without_a_gap():
    chosen = recipe()
    segments = [step.config for step in steps_of(chosen)[0] if step.name.startswith("distill-")]
    bounds = [(config["first"], config["until"]) for config in segments]
    assert bounds == list(zip((0, *chosen.distill.milestones), chosen.distill.milestones, strict=False))
    assert all(config["course"] == segments[0]["course"] for config in segments)


def test_another_blend_never_prunes_again():
    assert changed(recipe(), recipe(shares={**SHARES, "stem": 20, "sft-general": 40})) == {
        "index", "distill", "export", "evaluate", "report",
    }  # fmt: skip
    assert "prepare" in changed(recipe(), recipe(shares={"stem": 100}))
    assert not {"prune", "import", "world"} & changed(recipe(), recipe(shares={"stem": 100}))


def test_another_blend_leaves_teacher_and_pruned_student_judged():
    old, new = fingerprints(recipe()), fingerprints(recipe(shares={"stem": 100}))
    for name in ("evaluate-teacher", "export-pruned", "evaluate-pruned"):
        assert old[name] == new[name]


def test_a_milestone_more_leaves_the_earlier_ones_alone():
    before, after = recipe(distill=Distill(milestones=(50, 100))), recipe(distill=Distill(milestones=(50, 100, 150)))
    old, new = fingerprints(before), fingerprints(after)
    assert {name for name in old if old[name] != new[name]} == {"report"}


def test_a_budget_is_shared_out_among_the_sources_and_drawn_by_the_runs_seed():
    (prepare,) = (s for s in steps_of(recipe("full", prepare=Prepare(tokens="2B")))[0] if s.name == "prepare")
    drawn = {source["name"]: source["tokens"] for source in prepare.config["sources"]}
    assert drawn == {"sft-general": 600_000_000, "math-v2-part00": 800_000_000, "stem": 600_000_000}
    assert prepare.config["seed"] == recipe().seed
    (whole,) = (s for s in steps_of(recipe("full"))[0] if s.name == "prepare")
    assert whole.config["seed"] is None and not any("tokens" in source for source in whole.config["sources"])


def test_newlines_that_are_kept_prepare_the_sources_anew_and_prune_nothing_again():
    kept = recipe(prepare=Prepare(join_newlines=False))
    assert changed(recipe(), kept) == {"prepare", "index", "distill", "export", "evaluate", "report"}
    configs = [{step.name: step for step in steps_of(one)[0]}["prepare"].config for one in (recipe(), kept)]
    assert "join_newlines" not in configs[0] and configs[1]["join_newlines"] is False


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prune": Prune(score="mlu")}, "there is no prune.score 'mlu'. Did you mean 'mmlu'"),
        ({"distill": Distill(loss="forward_lk")}, "there is no distill.loss 'forward_lk'. Did you mean 'forward_kl'"),
    ],
)
def test_a_score_or_loss_that_there_is_not_is_named_with_the_nearest(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        steps_of(recipe(**settings))


def test_a_loss_of_ones_own_is_named_in_the_config_and_takes_hidden_states(monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "mine", losses.forward_kl)
    assert changed(recipe(), recipe(distill=Distill(loss="mine"))) == {"distill", "export", "evaluate", "report"}
    with pytest.raises(UserError, match="distill.loss=mine takes hidden states: say distill.fused_loss=true"):
        recipe(distill=Distill(loss="mine", fused_loss=False))


def test_sources_are_searched_for_the_questions_at_hand(tmp_path):
    def searched(scale: str, **settings) -> list[str]:
        found = [step for step in steps_of(recipe(scale, **settings))[0] if step.name == "contamination"]
        return [entry["benchmark"] for step in found for entry in step.config["questions"]]

    assert "offline_code" in searched("debug")
    assert searched("full") == []
    (tmp_path / "aime25.jsonl").write_text('{"problem": "How many?"}\n')
    assert searched("full", prepare=Prepare(questions=str(tmp_path))) == ["aime25"]
    (tmp_path / "offline_code.jsonl").write_text('{"problem": "How many?"}\n')
    with pytest.raises(UserError, match="'offline_code' is there twice"):
        searched("debug", prepare=Prepare(questions=str(tmp_path)))


def test_another_learning_rate_builds_no_indices_again_and_another_length_does():
    assert "index" not in changed(recipe(), recipe(distill=Distill(learning_rate=1e-3)))
    assert "index" in changed(recipe(), recipe(distill=Distill(max_iterations=200)))


def test_another_way_to_evaluate_trains_nothing_again():
    assert changed(recipe(), recipe(evaluate=Evaluate(repeats=8))) == {"evaluate", "report"}


def test_another_student_size_prunes_and_distils_but_imports_nothing_again():
    assert changed(recipe(), recipe(prune=Prune(parameters=0.6))) == {
        "prune", "distill", "export", "evaluate", "report",
    }  # fmt: skip


def test_sizes_given_outright_displace_the_scales_target():
    request = next(
        step for step in steps_of(recipe(prune=Prune(export_config={"num_layers": 8})))[0] if step.name == "prune"
    )
    assert request.config["request"]["parameters"] is None
    assert request.config["request"]["export_config"] == {"num_layers": 8}


def test_the_full_scale_is_the_studys():
    chosen = recipe("full")
    assert [milestone.label for milestone in chosen.milestones] == ["2.5B", "5B", "20B", "40B", "60B", "80B", "100B"]
    assert chosen.schedule.tokens_per_iteration == 6_291_456
    assert "world" not in {step.name for step in steps_of(chosen)[0]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["layout.gpus_per_node=2"], "distill.micro_batch_size=8 would do"),
        (["layout.nodes=2", "distill.micro_batch_size=8"], "layout.nodes=2, and --executor local has one machine"),
    ],
)
def test_a_layout_that_cannot_be_had_is_refused_before_anything_is_written(nemo_run, workplace, listing, words, said):
    before = listing(workplace)
    code, _, err = nemo_run(str(RECIPES / "distill_v1v3.py"), "--executor", "local", *words)
    assert code == 2 and said in err
    assert listing(workplace) == before


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_leaves_nothing_open(name):
    scale = get_scale(name)
    assert (scale.prune.parameters is None) != (scale.prune.export_config is None)
    for settings, may_be_open in (
        (scale.prune, {"parameters", "memory_mb", "export_config", "calibration"}),
        (scale.distill, {"held_out_every"}),
    ):
        left_open = {key for key, value in dataclasses.asdict(settings).items() if value is None}
        assert left_open <= may_be_open
    assert scale.evaluate.suite is not None


def test_no_fingerprint_depends_on_where_the_package_lies():
    text = repr([step.config for step in steps_of(recipe())[0]])
    assert str(Path(__file__).resolve().parents[2]) not in text


def test_fp8_is_refused_for_layers_that_have_none_before_anything_is_written(nemo_run, workplace, listing):
    before = listing(workplace)
    code, _, err = nemo_run(str(RECIPES / "distill_v1v3.py"), "--executor", "local", "distill.fp8=teacher")
    assert code == 2 and "distill.fp8=teacher needs Transformer Engine's layers" in err
    assert "say distill.fp8=none" in err and listing(workplace) == before
    code, _, err = nemo_run(str(RECIPES / "distill_v1v3.py"), "--executor", "local", "distill.fp8=techer")
    assert code == 2 and "Did you mean 'teacher'?" in err


def test_a_run_can_end_at_a_step_and_has_only_what_that_needs(nemo_run, workplace):
    recipe = str(RECIPES / "distill_v1v3.py")
    code, out, _ = nemo_run(recipe, "--executor", "local", "--dryrun", "--until", "prune")
    steps = out[out.index("fingerprint") :]
    assert code == 0 and all(name in steps for name in ("world", "import-teacher", "prune"))
    assert not any(name in steps for name in ("prepare", "distill", "report"))
    code, _, err = nemo_run(recipe, "--executor", "local", "--until", "prun")
    assert code == 2 and "no step 'prun' to stop after. Did you mean 'prune'?" in err


def test_a_loss_on_answers_prepares_anew_and_needs_hidden_states():
    answers = recipe(distill=Distill(loss_on="answers"))
    assert changed(recipe(), answers) == {"prepare", "index", "distill", "export", "evaluate", "report"}
    assert changed(recipe(), recipe(distill=Distill(loss_on="all"))) == set()
    with pytest.raises(
        UserError, match="distill.loss_on=answers is a mask of hidden states: say distill.fused_loss=true"
    ):
        recipe(distill=Distill(loss_on="answers", fused_loss=False))
    with pytest.raises(
        UserError, match="distill.loss_on=answers is of the output alone: say distill.intermediate_layer"
    ):
        recipe(distill=Distill(loss_on="answers", intermediate_layers=(("decoder.final_norm", "decoder.final_norm"),)))
    with pytest.raises(UserError, match="distill.loss_on cannot be 'answer'. Did you mean 'answers'"):
        Distill(loss_on="answer")


def test_documents_kept_apart_are_another_distillation_of_the_same_tokens():
    apart = recipe(distill=Distill(reset_at_documents=True))
    assert changed(recipe(), apart) == {"distill", "export", "evaluate", "report"}
    assert changed(recipe(), recipe(distill=Distill(reset_at_documents=False))) == set()
    ((sentence, _),) = distillation_remarks(apart)
    assert "begin anew at each" in sentence and not distillation_remarks(recipe())


def test_whether_a_segment_has_a_process_of_its_own_is_said_and_in_no_fingerprint():
    own = recipe(layout=Layout(keep_process=False))
    assert changed(recipe(), own) == set()
    sentences = [segment_remarks(asked)[0][0] for asked in (recipe(), own)]
    assert "goes on from one segment to the next" in sentences[0] and "a process of its own" in sentences[1]
