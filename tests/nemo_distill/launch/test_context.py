"""What a recipe is given when settings come from the command line."""

from nemo_distill.config.blend import Blend
from nemo_distill.config.settings import Settings
from nemo_distill.launch.context import Context

BLEND = Blend(name="a_blend", shares={"stem": 60, "science-mcq": 40}, provenance="published")
SETTINGS = Settings(blend=BLEND)


def blend_given(*words: str) -> Blend:
    given = []

    def recipe(ctx, settings: Settings = SETTINGS):
        given.append(settings.blend)

    Context(name="x").execute(recipe, list(words))
    return given[0]


def test_a_blend_left_alone_keeps_its_provenance():
    assert blend_given().provenance == "published"
    assert blend_given("blend.shares.stem=60").provenance == "published"


def test_shares_set_on_the_command_line_are_not_called_published():
    blend = blend_given("blend.shares.stem=70", "blend.shares.science-mcq=30")
    assert blend.shares == {"stem": 70, "science-mcq": 30}
    assert blend.provenance == "set on the command line"
