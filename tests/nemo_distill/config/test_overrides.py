"""Settings on the command line."""

from dataclasses import dataclass, field

import pytest

from nemo_distill.config.blend import Blend
from nemo_distill.config.overrides import override
from nemo_distill.config.settings import Distill, Prune
from nemo_distill.errors import UserError


@dataclass(frozen=True)
class Server:
    host: str = "here"
    ports: tuple[int, ...] = (1, 2)
    limit: float | None = None
    name: str | None = None
    quiet: bool = False
    extra: dict[str, str] = field(default_factory=dict)


DEFAULTS = {"server": Server(host="there"), "seed": 1, "scale": "", "distill": Distill(), "prune": Prune()}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("server.ports=3,4", (3, 4)),
        ("server.ports=[5]", (5,)),
        ("server.limit=1e-5", 1e-5),
        ("server.limit=3", 3.0),
        ("server.limit=none", None),
        ("server.name=7", "7"),
        ("server.host=a=b", "a=b"),
        ("server.quiet=true", True),
        ("server.extra.KEY=v", {"KEY": "v"}),
    ],
)
def test_a_value_takes_the_type_of_what_it_changes(word, value):
    changed = override(DEFAULTS, [word])["server"]
    name = word.partition("=")[0].split(".")[1]
    assert getattr(changed, name) == value and type(getattr(changed, name)) is type(value)


def test_what_the_recipe_set_on_the_instance_stays():
    assert override(DEFAULTS, ["server.quiet=true"])["server"].host == "there"


def test_plain_values_and_the_defaults_left_alone():
    changed = override(DEFAULTS, ["seed=7", "scale=full"])
    assert (changed["seed"], changed["scale"]) == (7, "full")
    assert DEFAULTS["seed"] == 1


def test_changes_to_one_blend_are_judged_together():
    blend = Blend("b", {"stem": 60, "science-mcq": 40})
    changed = override({"blend": blend}, ["blend.shares.stem=50", "blend.shares.science-mcq=50"])["blend"]
    assert changed.shares == {"stem": 50, "science-mcq": 50}
    with pytest.raises(UserError, match="sum to 90 percent"):
        override({"blend": blend}, ["blend.shares.stem=50"])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("distil.learning_rate=1", "no setting 'distil.learning_rate'. Did you mean 'distill.learning_rate'"),
        ("learning_rate=1", "no setting 'learning_rate'. Did you mean 'distill.learning_rate'"),
        ("prune.parmeters=1", "Did you mean 'prune.parameters'"),
        ("prune=1", "no setting 'prune'"),
        ("seed.x=1", "no setting 'seed.x'"),
        ("seed", "Give seed=value"),
        ("sed", "Did you mean 'seed'"),
        ("seed=1.5", "seed=1.5 cannot be: it has to be a whole number"),
        ("seed=one", "seed=one cannot be: it has to be a whole number"),
        ("server.limit=much", "server.limit=much cannot be: it has to be a number"),
        ("server.quiet=maybe", "server.quiet=maybe cannot be: it has to be true or false"),
        ("server.ports=a,b", "server.ports[0]=a cannot be: it has to be a whole number"),
        ("prune.parameters=-1", "prune.parameters=-1 has to be above 0"),
        ("prune.chip_friendly=reprot", "prune.chip_friendly cannot be 'reprot'. Did you mean 'report'"),
        ("prune.export_config={'layers': 3}", "prune.export_config cannot say 'layers'. Did you mean 'num_layers'"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_nearest_right_value(word, sentence):
    with pytest.raises(UserError) as error:
        override(DEFAULTS, [word])
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_two_ways_to_say_the_size_of_the_student_are_one_too_many():
    with pytest.raises(UserError, match="not both"):
        override(DEFAULTS, ["prune.parameters=0.5", "prune.export_config={'num_layers': 8}"])
