import copy
import dataclasses
import pickle

import pytest

from nemo_distill.config.blend import Blend, megatron_blend, reconstructed
from nemo_distill.config.sources import SOURCES, Source, find
from nemo_distill.errors import UserError

V1V3 = {
    "sft-code": 5,
    "sft-general": 20,
    "sft-math": 5,
    "math-v2-part00": 15,
    "math-v2-part01": 15,
    "competitive-python": 15,
    "competitive-cpp": 5,
    "stem": 10,
    "science-mcq": 3,
    "science-rqa": 2,
    "instruction-reasoning-on": 3,
    "instruction-reasoning-off": 2,
}


def test_the_published_blend_is_30_percent_pretraining_and_passes_over_science_as_often_as_the_study_says():
    blend = Blend(name="30pre_70post_v1v3", shares=V1V3, provenance="published")
    epochs = blend.epochs(80e9)
    assert sum(share for source, share in blend.shares.items() if source.startswith("sft-")) == 30
    assert round(epochs["science-mcq"], 1) == 4.8
    # The study writes 5.3, which its own 2 percent of 80B out of 0.278B tokens does not give.
    assert epochs["science-rqa"] == pytest.approx(5.755, abs=0.001)


def test_tokens_drawn_add_up_to_the_run():
    assert sum(Blend("b", V1V3).tokens_drawn(2.5e9).values()) == pytest.approx(2.5e9)


def test_epochs_can_be_counted_on_what_was_really_prepared():
    assert Blend("b", {"stem": 50, "science-mcq": 50}).epochs(100, {"stem": 10, "science-mcq": 200}) == {
        "stem": 5.0,
        "science-mcq": 0.25,
    }


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ({"stem": 59, "science-mcq": 40}, "sum to 99 percent"),
        ({"stem": 100.1, "science-mcq": 0.1}, "is 100.1"),
        ({"stem": 0, "science-mcq": 100}, "the share of 'stem' in blend 'b' is 0;"),
        ({"stem": -1, "science-mcq": 101}, "is -1"),
        ({"stem": float("nan"), "science-mcq": 50}, "is nan"),
        ({"stem": float("inf"), "science-mcq": 50}, "is inf"),
        ({"stem": "ten", "science-mcq": 90}, "is 'ten', not a number"),
        ({"stem": True, "science-mcq": 99}, "is True, not a number"),
        ({"stem": None}, "is None, not a number"),
        ({"stme": 100}, "Did you mean 'stem'?"),
        ((("stem", 50), ("stem", 50)), "names the source 'stem' twice"),
        ({}, "has no sources"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_the_value(shares, complaint):
    with pytest.raises(UserError) as refusal:
        Blend("b", shares)
    assert complaint in str(refusal.value)


def test_thirds_are_no_reason_to_refuse_a_blend():
    Blend("b", dict.fromkeys(["stem", "science-mcq", "science-rqa"], 100 / 3))


def test_a_blend_does_not_change():
    shares = {"stem": 100}
    blend = Blend("b", shares)
    shares["science-mcq"] = 5
    assert blend.shares == {"stem": 100.0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        blend.name = "other"


def test_provenance_is_kept_for_all_shares_or_for_each():
    one = Blend("b", {"stem": 60, "science-mcq": 40}, provenance="published")
    each = Blend("b", one.shares, provenance={"stem": "published", "science-mcq": "14 passes in 100B tokens"})
    assert one.provenance_of("stem") == each.provenance_of("stem") == "published"
    assert each.provenance_of("science-mcq").startswith("14 passes")
    with pytest.raises(UserError, match="science-mcq"):
        Blend("b", one.shares, provenance={"stem": "published"})


def test_a_table_of_rows_makes_the_blend_that_its_columns_do():
    blend = Blend.of("b", ("stem", 60, "published"), ("science-mcq", 40, reconstructed("14 passes")))
    assert blend.shares == {"stem": 60, "science-mcq": 40}
    assert blend.provenance == {"stem": "published", "science-mcq": "reconstructed: 14 passes"}
    with pytest.raises(UserError, match="names the source 'stem' twice"):
        Blend.of("b", ("stem", 50, "published"), ("stem", 50, "published"))


@pytest.mark.parametrize(
    ("available", "complaint"),
    [
        ({"stem": 5}, "'science-mcq' holds is not known"),
        ({"stem": 5, "science-mcq": 0}, "'science-mcq' holds 0 tokens"),
    ],
)
def test_epochs_over_a_source_of_unknown_size_or_of_none_are_refused(available, complaint):
    with pytest.raises(UserError, match=complaint):
        Blend("b", {"stem": 60, "science-mcq": 40}).epochs(100, available)


def test_the_difference_of_two_blends_leaves_out_what_they_share_alike():
    one = Blend("one", {"stem": 50, "science-mcq": 30, "science-rqa": 20})
    other = Blend("other", {"stem": 50, "sft-math": 40, "science-rqa": 10})
    assert one.difference(other) == {"science-mcq": (30, 0), "science-rqa": (20, 10), "sft-math": (0, 40)}
    assert one.difference(one) == {}


def test_megatron_reads_the_weights_back():
    from megatron.core.datasets.utils import get_blend_from_list

    blend = Blend("b", V1V3)
    paths, weights = get_blend_from_list(megatron_blend(blend.shares, {source: f"/x/{source}" for source in V1V3}))
    assert dict(zip(paths, weights, strict=True)) == {f"/x/{source}": share for source, share in blend.shares.items()}


def test_a_source_that_was_not_prepared_is_named():
    with pytest.raises(UserError, match="science-mcq"):
        megatron_blend({"stem": 50, "science-mcq": 50}, {"stem": "/x/stem"})


def test_an_unknown_source_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'science-mcq'"):
        find("science-mqc")


def test_a_source_that_holds_nothing_or_has_another_field_is_refused():
    with pytest.raises(UserError, match="holds 0 tokens"):
        dataclasses.replace(find("stem"), tokens=0)
    with pytest.raises(UserError, match="Did you mean 'messages'"):
        dataclasses.replace(find("stem"), field="message")


def test_every_source_of_messages_or_text_lies_somewhere_and_holds_something():
    for source in SOURCES.values():
        assert source.field in ("text", "messages")
        assert source.tokens > 0
        assert source.split or source.files


OWN = Source(name="tickets", path="data/*.jsonl", field="messages", tokens="1.5M")


def test_a_source_of_ones_own_stands_beside_the_catalogues():
    blend = Blend.of("b", (OWN, 60, "a guess"), ("stem", 40, "published"))
    assert blend.shares == {"tickets": 60, "stem": 40}
    assert blend == Blend("b", {OWN: 60, "stem": 40}, provenance={"tickets": "a guess", "stem": "published"})
    assert (blend.source("tickets"), blend.source("stem")) == (OWN, find("stem"))
    assert blend.epochs(3e6)["tickets"] == pytest.approx(1.2)
    assert dataclasses.replace(blend, provenance="other").source("tickets") is OWN
    assert Blend("b", {find("stem"): 100}) == Blend("b", {"stem": 100})


@pytest.mark.parametrize(
    ("shares", "sources", "complaint"),
    [
        ({Source(name="stem", path="a"): 100}, {}, "a source 'stem' of its own, and the catalogue's is called so"),
        ({"tickts": 100}, {"tickets": OWN}, "no source is called 'tickts'. Did you mean 'tickets'?"),
        ({"mine": 100}, {"mine": OWN}, "calls the source 'tickets' 'mine'"),
        ({"mine": 100}, {"mine": "a.jsonl"}, "the source 'mine', which is a str"),
        ([(OWN, 50), (OWN, 50)], {}, "names the source 'tickets' twice"),
    ],
)
def test_a_source_that_cannot_stand_in_a_blend_is_refused(shares, sources, complaint):
    with pytest.raises(UserError) as refusal:
        Blend("b", shares, sources=sources)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("of", "complaint"),
    [
        ({}, "names neither a path nor a dataset"),
        ({"pth": "a"}, "a source has no argument 'pth'. Did you mean 'path'?"),
        ({"path": "a", "dataset": "org/name"}, "names both a path and a dataset"),
        ({"path": "a", "name": "my data"}, "cannot be called 'my data'. Did you mean 'my-data'?"),
        ({"path": "a", "name": "../a"}, "cannot be called '../a'. Did you mean 'a'?"),
        ({"path": "a", "name": 5}, "name=5, which has to be text"),
        ({"path": 5}, "path=5 has to be text"),
        ({"path": "a", "field": "message"}, "has the field 'message'. Did you mean 'messages'?"),
        ({"path": "a", "field": "content"}, "A column that is called so is 'text:content'"),
        ({"path": "a", "field": "txt:content"}, "Did you mean 'text'?"),
        ({"path": "a", "field": "text:"}, "names no column"),
        ({"path": "a", "samples": 0}, "samples=0 has to be a whole number above 0"),
        ({"path": "a", "samples": 2.5}, "samples=2.5 has to be a whole number above 0"),
        ({"path": "a", "tokens": 0}, "holds 0 tokens"),
        ({"path": "a", "tokens": "many"}, "'many' is no number of tokens"),
        ({"path": "a", "files": [5]}, "has to be file names or patterns"),
        ({"path": "a", "revision": "main"}, "revision='main' is of a dataset"),
        ({"dataset": "recipes"}, "Did you mean path='recipes'?"),
        ({"dataset": "name"}, "dataset='name' is no name of a data set. It is ORG/NAME."),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_the_value(of, complaint):
    with pytest.raises(UserError) as refusal:
        Source(**{"name": "mine"} | of)
    assert complaint in str(refusal.value)


def test_a_source_without_a_name_is_refused_and_one_with_a_name_can_be_copied():
    with pytest.raises(UserError, match=r"the source path='a' has no name"):
        Source(path="a")
    assert copy.deepcopy(OWN) == pickle.loads(pickle.dumps(OWN)) == OWN
