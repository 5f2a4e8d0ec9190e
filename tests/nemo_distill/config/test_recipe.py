"""A recipe's blend is read without running the recipe."""

import pytest

from nemo_distill.config.recipe import blend_of
from nemo_distill.errors import UserError

RECIPE = '''"""A recipe."""
import a_module_that_is_not_there as run
from nemo_distill.config.blend import Blend

SHARES = {"stem": 60, "sft-code": 40}
WHY: str = "published"
BLEND = Blend(name="mine", shares=SHARES, provenance=WHY)
OTHER = run.something(BLEND)
raise RuntimeError("the recipe was run")
'''


def test_the_blend_is_read_with_what_it_rests_on_and_nothing_else_is_run(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE)
    blend = blend_of(tmp_path / "mine.py")
    assert (blend.name, blend.shares, blend.provenance) == ("mine", {"stem": 60, "sft-code": 40}, "published")


def test_a_recipe_without_a_blend_has_none(tmp_path):
    (tmp_path / "none.py").write_text("BLENDS = 1\n")
    assert blend_of(tmp_path / "none.py") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("BLEND = (", r"half\.py cannot be read"),
        (RECIPE.replace("40", "39"), "sum to 99 percent"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "half.py").write_text(text)
    with pytest.raises(UserError, match=sentence):
        blend_of(tmp_path / "half.py")
