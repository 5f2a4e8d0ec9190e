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


def test_settings_and_parameters_that_were_changed_are_told_from_those_that_were_not():
    seen = []

    def recipe(ctx, settings: Settings = SETTINGS, extra: int = 1, other: str = "a"):
        seen.append((ctx.words, ctx.own, extra))

    Context(name="x").execute(recipe, ["seed=1234", "extra=2", "other=a", "distill.learning_rate=1e-3"])
    words = {"extra": "2", "distill.learning_rate": "1e-3"}  # a field may be as it was, a whole parameter may not
    assert seen == [({"seed": "1234", **words}, SETTINGS, 2)]
