"""The step over the debug world: its corpora hold no question of its tasks whole, unless one is planted."""

import json

import pytest

from nemo_distill.contamination.overlap import CONTAMINATION_FILE, Contamination
from nemo_distill.contamination.questions import offline_questions
from nemo_distill.debug import corpora
from nemo_distill.debug.questions import exercises
from nemo_distill.errors import UserError
from nemo_distill.run.step import SUCCESS, Step, mark_done, place
from nemo_distill.steps import contamination

COUNT = 400
CODE = ("sft-code", "competitive-python", "competitive-cpp", "exercism", "text-to-sql")


def spec_of(runs, *names, count=COUNT, **config):
    """A contamination step over stand-ins called `names`, after a world step that is done."""
    counts = dict.fromkeys(names, count)
    world = Step("world", "nemo_distill.steps.debug_world", {"seed": 0, "documents": counts})
    sources = [
        {"name": name, "field": corpora.STAND_INS[name].field, "files": [f"world:corpora/{name}.jsonl"]}
        for name in names
    ]
    config = {"sources": sources, "questions": offline_questions()} | config
    specs = place([world, Step("contamination", contamination.__name__, config, ("world",))], runs=runs)
    if not specs["world"].done:
        corpora.write(specs["world"].folder / "corpora", seed=0, counts=counts)
        mark_done(specs["world"].folder)
    specs["contamination"].save()
    return specs["contamination"]


def found(spec):
    contamination.main(spec)
    result = Contamination.load(spec.folder / CONTAMINATION_FILE)
    return result, {(overlap.source, overlap.benchmark): overlap for overlap in result.overlaps}


def test_the_debug_worlds_corpora_hold_no_question_whole_though_code_shares_phrases_of_thirteen_words(tmp_path):
    names = tuple(corpora.STAND_INS)
    result, overlaps = found(spec_of(tmp_path, *names))
    judged = {benchmark.name: benchmark.judged for benchmark in result.benchmarks}
    assert judged["offline_knowledge"] == judged["offline_science"] == 40
    assert judged["offline_math"] < 20  # most are sums of three words
    assert len(overlaps) == len(names) * len(judged)
    assert {pair: overlap.whole for pair, overlap in overlaps.items() if overlap.whole} == {}
    touched = {pair for pair, overlap in overlaps.items() if overlap.touched}
    assert touched == {(name, "offline_code") for name in CODE}
    for source, benchmark in touched:
        for example in overlaps[source, benchmark].examples:
            document = corpora.documents(source, seed=0, count=COUNT)[example.document - 1]
            letters = json.dumps(document).lower()
            assert example.words in "".join(letter for letter in letters if letter.isalnum() or letter == " ")
    assert all(reading.documents == COUNT for reading in result.sources)


@pytest.mark.parametrize("source", ["sft-general", "stem"])
def test_a_planted_question_is_found_in_text_and_in_messages(tmp_path, source):
    spec = spec_of(tmp_path, source)
    planted = exercises("offline_knowledge")[5]
    row = corpora.as_text(planted) if source == "sft-general" else corpora.as_messages(planted, reasoning=True)
    with open(spec.upstream["world"] / f"corpora/{source}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    _, overlaps = found(spec)
    overlap = overlaps[source, "offline_knowledge"]
    assert overlap.touched == overlap.whole == ("offline_knowledge-005",)
    assert overlap.examples[0].document == COUNT + 1
    assert overlap.documents == 1


def test_a_source_is_read_once_for_all_blends_that_draw_on_it(tmp_path):
    spec = spec_of(tmp_path, "stem", "science-mcq")
    first, _ = found(spec)
    (record,) = (tmp_path / "overlaps" / "stem").glob("*/overlaps.json")
    written = record.stat().st_mtime_ns
    for name in ("stem", "science-mcq"):  # that it is not read again is seen from its being gone
        (spec.upstream["world"] / f"corpora/{name}.jsonl").write_text("")
    again, _ = found(spec)
    assert again == first
    assert record.stat().st_mtime_ns == written


def test_other_questions_or_settings_read_it_anew(tmp_path):
    found(spec_of(tmp_path, "stem"))
    found(spec_of(tmp_path, "stem", max_malformed=0.02))
    found(spec_of(tmp_path, "stem", questions=offline_questions()[:1]))
    shorter, more = found(spec_of(tmp_path, "stem", words=4))
    assert len(list((tmp_path / "overlaps" / "stem").glob(f"*/{SUCCESS}"))) == 4
    thirteen, fewer = found(spec_of(tmp_path, "stem"))
    assert (shorter.words, thirteen.words) == (4, 13)
    assert sum(len(overlap.touched) for overlap in more.values()) > sum(len(one.touched) for one in fewer.values())


def test_questions_of_a_user_are_looked_for_too(tmp_path):
    spec = spec_of(tmp_path / "runs", "science-mcq")
    first = corpora.documents("science-mcq", seed=0, count=1)[0]["messages"][0]["content"]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": first}) + "\n")
    entry = {"benchmark": "mine", "file": str(tmp_path / "mine.jsonl"), "field": "question"}
    _, overlaps = found(spec_of(tmp_path / "runs", "science-mcq", questions=[*spec.config["questions"], entry]))
    assert overlaps["science-mcq", "mine"].touched == ("1",)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"questions": offline_questions()[:1] * 2}, "'offline_code' is there twice"),
        ({"questions": [{"benchmark": "a", "file": "/nowhere/a.jsonl", "field": "q"}]}, "no file /nowhere/a.jsonl"),
        (
            {"questions": [{"benchmark": "a", "file": "core_evals:offline_math.jsonl", "field": "question"}]},
            "offline_math.jsonl, line 1: no field 'question'",
        ),
        ({"sources": [{"name": "s", "field": "text", "files": ["wrld:a.jsonl"]}]}, "Did you mean 'world'"),
        ({"sources": [{"name": "s", "field": "text", "files": []}]}, "names no files"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_written(tmp_path, config, complaint):
    spec = spec_of(tmp_path, "stem", **config)
    with pytest.raises(UserError, match=complaint):
        contamination.main(spec)
    assert not (spec.folder / CONTAMINATION_FILE).exists()
    assert not (tmp_path / "overlaps").exists()


def test_malformed_rows_above_the_share_allowed_fail_it(tmp_path):
    spec = spec_of(tmp_path, "stem")
    with open(spec.upstream["world"] / "corpora/stem.jsonl", "a") as file:
        file.write('{"messages": [\n' * 20)
    with pytest.raises(UserError, match=r"20 of 420 rows of source 'stem' are malformed"):
        contamination.main(spec)
    assert not list(tmp_path.glob(f"overlaps/stem/*/{SUCCESS}"))


def test_progress_ends_at_the_whole(tmp_path):
    spec = spec_of(tmp_path, "stem", "sft-code", count=1_200)
    contamination.main(spec)
    said = json.loads((spec.folder / "progress.json").read_text())
    assert said["done"] == said["total"] > 0
    assert said["unit"] == "MB"
