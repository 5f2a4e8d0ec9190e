"""The model card, read as the hub reads it: by huggingface_hub, which knows nothing of how it was made."""

import dataclasses
import math
import re

import pytest
from huggingface_hub import ModelCard, ModelCardData

from benchmarks.made_up_runs import make_run
from evaluator.suites.catalogue import get_suite
from nemo_distill import cli
from nemo_distill.outcome.card import write_card
from nemo_distill.outcome.gather import gather
from nemo_distill.run.manifest import find
from nemo_distill.run.step import Step, place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that could stop at its third milestone, and falls in its last."""
    runs = tmp_path_factory.mktemp("runs")
    make_run(runs, "a", suite=get_suite("offline"), skills=(-1.0, 0.0, 2.0, 1.0), shares={"stem": 75, "code": 25})
    return runs


@pytest.fixture
def write(runs, capsys):
    """Writes a card by the command and returns its path."""

    def write_card(*words: str):
        assert cli.main(["card", "a", "--runs", str(runs), *words]) == 0
        return capsys.readouterr().out.strip()

    return write_card


def test_the_hubs_library_reads_every_score_from_it_with_error_and_number_of_questions(write, runs):
    data = ModelCard.load(write()).data
    row = gather(find("a", runs=runs).specs["report"]).milestones[2]
    assert (data.library_name, data.pipeline_tag, data.license, data.language) == (
        "transformers", "text-generation", "other", "en",
    )  # fmt: skip
    assert data.model_name == "blend_a 20B" and {"distilled", "pruned"} <= set(data.tags)
    assert [result.dataset_type for result in data.eval_results] == list(row.summaries)
    for result, summary in zip(data.eval_results, row.summaries.values(), strict=True):
        assert (result.task_type, result.metric_type) == ("text-generation", "accuracy")
        assert result.metric_value == pytest.approx(100 * summary.mean, abs=0.005)
        assert result.metric_args["standard_error"] == pytest.approx(100 * summary.stderr, abs=0.005)
        assert (result.metric_args["questions"], result.metric_args["repeats"]) == (40, 4)
        assert result.source_url.startswith("https://")


def test_the_checkpoint_is_the_recommended_one_and_its_weaknesses_are_said(write):
    text = ModelCard.load(write()).text
    assert text.strip().startswith("# blend_a 20B")
    assert "It is the recommended stopping point." in text
    # Both errors: of these answers, and half a point of training beside them.
    answers, both = map(
        float, re.search(r"scores \*\*[\d.]+ ± ([\d.]+)\*\* in these answers, ± ([\d.]+) with", text).groups()
    )
    assert both == pytest.approx(math.hypot(answers, 0.5), abs=0.1)
    limitations = text.partition("## Limitations")[2].partition("\n## ")[0]
    assert "degrades in blend_a." in limitations and "The sources were not searched" in limitations


def test_margin_and_seed_are_those_of_the_report(write):
    text = ModelCard.load(write("--margin", "100", "--seed-sd", "3")).text
    assert text.strip().startswith("# blend_a 2.5B"), "within a hundred points of what follows is the first of all"
    answers, both = map(
        float, re.search(r"scores \*\*[\d.]+ ± ([\d.]+)\*\* in these answers, ± ([\d.]+) with", text).groups()
    )
    assert both == pytest.approx(math.hypot(answers, 3), abs=0.1) and "by 3 points (standard deviation)" in text


def test_a_loss_that_is_not_the_studys_is_said(tmp_path):
    run = make_run(tmp_path, "a", suite=get_suite("offline"), skills=(0.0,), shares={"stem": 100})
    assert "- **Loss:**" not in write_card(run).read_text()
    for name, spec in run.specs.items():
        if name.startswith("distill-"):
            spec.config["kd"] = {"fused_loss": True, "temperature": 2.0, "cross_entropy": 0.1, "per_token": True}
            spec.save()
    said = "- **Loss:** 0.9 of it forward_kl at temperature 2, 0.1 next-token cross-entropy, on answers alone in chats"
    assert said in write_card(run).read_text()


def test_another_checkpoint_is_written_where_it_is_wanted_with_its_own_blend_and_rate(write, tmp_path):
    path = write("--milestone", "5B", "--output", str(tmp_path), "--license", "apache-2.0")
    assert path == str(tmp_path / "README.md")
    card = ModelCard.load(path)
    assert card.data.license == "apache-2.0" and "The report would stop at 20B." in card.text
    # 5B tokens, of which three quarters are of a source that holds 10B.
    assert re.search(r"\| stem \| 75% \| 3\.77B \| 10B \| 0\.38 \|", card.text)
    assert "800 iterations" in card.text and "16,000 iterations" in card.text
    assert "licence is for whoever publishes" not in card.text


def test_the_teacher_is_the_base_model_only_where_it_has_a_name_on_the_hub(report_with_teacher):
    assert report_with_teacher("nvidia/NVIDIA-Nemotron-Nano-9B-v2").base_model == "nvidia/NVIDIA-Nemotron-Nano-9B-v2"
    assert report_with_teacher("org/own@v2").base_model == "org/own"
    for local in ("package:debug/teacher", "/models/teacher", ""):
        assert report_with_teacher(local).base_model is None


@pytest.fixture
def report_with_teacher(tmp_path):
    """The metadata of a card whose teacher is called that."""

    def data(teacher: str) -> ModelCardData:
        from nemo_distill.outcome.card import write_card

        runs = tmp_path / str(len(list(tmp_path.iterdir())))
        run = make_run(runs, "a", suite=get_suite("offline"), skills=(0.0,), shares={"stem": 100})
        spec = run.specs["evaluate-teacher"]
        spec.config["checkpoint"] = teacher
        spec.save()
        return ModelCard.load(write_card(run)).data

    return data


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a", "--milestone", "6B"], "a has no milestone '6B'. Known: '2.5B', "),
        (["b"], "there is no run 'b'"),
        (["a", "--margin", "101"], "--margin 101 is no number of points from 0 to 100."),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence_and_nothing_is_written(runs, tmp_path, capsys, words, sentence):
    assert cli.main(["card", *words, "--runs", str(runs), "--output", str(tmp_path / "x.md")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_that_a_made_world_trained_is_marked_synthetic_at_any_scale(runs, tmp_path):
    made = find("a", runs=runs)
    world = place([Step("world", "nemo_distill.steps.debug_world", {})], runs=runs)
    for scale, specs, marked in (("middle", world | made.specs, True), ("full", made.specs, False)):
        run = dataclasses.replace(made, specs=specs, facts=dataclasses.replace(made.facts, scale=scale))
        text = write_card(run, output=tmp_path / scale).read_text()
        assert ("Not a model to use" in text) is marked
