"""The five recipes: their blends add up, say where every share comes from, and stop where the study's tables do."""

import importlib.util
from pathlib import Path

import pytest

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Settings
from nemo_distill.experiment import steps_of
from nemo_distill.run.step import place
from nemo_distill.study.tables import load_study

RECIPES = {path.stem: path for path in sorted((Path(__file__).resolve().parent.parent / "recipes").glob("*.py"))}
PUBLISHED_ROWS = {
    "pre_sft_v1": ["19B", "56B"],
    "pt_v1v2": ["2.5B", "5B", "20B", "40B"],
    "30pre_70post_v1v2": ["2.5B", "5B", "20B", "40B", "60B", "80B", "100B"],
    "30pre_70post_v3": ["2.5B", "5B", "20B", "40B", "60B", "80B"],
    "30pre_70post_v1v3": ["2.5B", "20B", "40B", "60B", "80B"],
}
"""Tokens of the rows of the study's tables."""


def settings(recipe: str) -> Settings:
    spec = importlib.util.spec_from_file_location(recipe, RECIPES[recipe])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SETTINGS


@pytest.fixture(scope="module")
def blends() -> dict:
    """Blend by its name."""
    return {blend.name: blend for blend in (settings(recipe).blend for recipe in RECIPES)}


def placed(recipe: str, scale: str) -> dict:
    return place(steps_of(Recipe.of("test", settings(recipe), get_scale(scale)))[0], runs=Path("runs"))


def test_there_is_a_recipe_for_each_of_the_studys_blends_of_which_its_tables_say_the_same(blends):
    assert set(blends) == set(PUBLISHED_ROWS)
    assert blends == {blend.name: blend.composition for blend in load_study().blends}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_milestones_are_the_rows_of_the_published_table(recipe):
    chosen = Recipe.of("test", settings(recipe), get_scale("full"))
    assert [milestone.label for milestone in chosen.milestones] == PUBLISHED_ROWS[chosen.blend.name]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_share_is_published_or_reconstructed_for_a_reason(recipe):
    blend = settings(recipe).blend
    for source in blend.shares:
        provenance = blend.provenance_of(source)
        assert provenance == "published" or len(provenance.removeprefix("reconstructed: ").split()) >= 3


def test_only_the_chosen_blend_claims_to_be_published(blends):
    published = {
        name for name, blend in blends.items() if any(blend.provenance_of(s) == "published" for s in blend.shares)
    }
    assert published == {"30pre_70post_v1v3"}


def test_the_shares_keep_to_what_the_study_says_of_the_blends(blends):
    def pretraining(name: str) -> float:
        return sum(share for source, share in blends[name].shares.items() if source.startswith("sft-"))

    assert [pretraining(name) for name in PUBLISHED_ROWS] == [100, 0, 30, 30, 30]
    v1v2, v3 = blends["30pre_70post_v1v2"], blends["30pre_70post_v3"]
    for blend in (v1v2, v3):  # "about 14 times" over 100B tokens
        epochs = blend.epochs(100e9)
        assert epochs["science-mcq"] == pytest.approx(14, abs=0.5) and epochs["science-rqa"] == pytest.approx(
            14, abs=0.5
        )
    assert {"exercism", "text-to-sql"} <= set(v1v2.shares) and "math-v2-part01" not in v1v2.shares
    assert not {"exercism", "text-to-sql"} & set(v3.shares)
    assert v3.shares["math-v2-part00"] + v3.shares["math-v2-part01"] == 30


def test_the_pure_post_training_blend_is_the_post_training_part_of_the_first_one(blends):
    whole, part = blends["pt_v1v2"], blends["30pre_70post_v1v2"]
    for source, share in whole.shares.items():
        assert share == pytest.approx(part.shares[source] * 100 / 70, abs=0.6)


@pytest.mark.parametrize("scale", ["full", "debug"])
def test_all_five_start_from_one_student_pruned_once(scale):
    alike = ("import-teacher", "prune", "evaluate-teacher", "export-pruned", "evaluate-pruned")
    folders = [[placed(recipe, scale)[name].folder for name in alike] for recipe in RECIPES]
    assert all(other == folders[0] for other in folders[1:])
    distilled = {placed(recipe, scale)["report"].folder for recipe in RECIPES}
    assert len(distilled) == len(RECIPES)
