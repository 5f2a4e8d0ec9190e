"""A recipe's file is imported without NeMo-Run, and under a name that is nobody else's."""

import subprocess
import sys
from pathlib import Path

import pytest

from nemo_distill.config.files import load
from nemo_distill.errors import UserError

RECIPES = sorted((Path(__file__).resolve().parents[3] / "recipes").glob("*.py"))
RECIPE = '''"""A recipe."""
from nemo_distill import Blend

SHARES = {"stem": 60, "sft-code": 40}
WHY: str = "published"
BLEND = Blend(name="mine", shares=SHARES, provenance=WHY)
'''


def test_the_blend_is_read_with_what_it_rests_on_and_nothing_is_left_beside_the_recipe(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE)
    blend = load(tmp_path / "mine.py").BLEND
    assert (blend.name, blend.shares, blend.provenance) == ("mine", {"stem": 60, "sft-code": 40}, "published")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]


def test_a_recipe_that_bears_a_librarys_name_shadows_none(tmp_path):
    (tmp_path / "colorsys.py").write_text(RECIPE + "from beside import HERE\n")
    (tmp_path / "beside.py").write_text("HERE = True\n")
    sys.modules.pop("colorsys", None)
    assert load(tmp_path / "colorsys.py").HERE
    import colorsys

    assert not hasattr(colorsys, "BLEND") and Path(colorsys.__file__).parent != tmp_path
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("BLEND = (", r"half\.py:1:9: .* was never closed"),
        (RECIPE.replace("40", "39"), "sum to 99 percent"),
        ("import a_module_that_is_not_there", r"half\.py:1: there is no module 'a_module_that_is_not_there'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "half.py").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load(tmp_path / "half.py")


def test_a_recipe_is_read_without_nemo_run_and_torch():
    code = (
        "import sys; from pathlib import Path; from nemo_distill.config.files import load;"
        f"[load(Path(path)) for path in {[str(path) for path in RECIPES]}]; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"nemo_run", "torch", "nemo", "transformers", "pandas"} & set(done.stdout.split())
