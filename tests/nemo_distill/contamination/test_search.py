"""Questions are found where they stand, and only there; a plain scan over tuples of words is what could disagree."""

import random
import string

import pytest

from nemo_distill.contamination import ngrams
from nemo_distill.contamination.ngrams import normalised
from nemo_distill.contamination.overlap import Contamination, Reading
from nemo_distill.contamination.questions import Question
from nemo_distill.contamination.search import Index
from nemo_distill.errors import UserError

ASKED = "In which year did the old harbour master of Bergen write that long letter about herring?"
FILLER = (
    "Some other words stand here, and more of them after that, so that the document is no shorter than the question."
)


def overlap(question, *documents, **settings):
    """What `documents` and a benchmark of one question have in common."""
    (found,) = Index({"exam": [Question("q1", question)]}, **settings).scan("stem", documents)
    return found


def words(count, *, start=0):
    """So many different words."""
    return " ".join(f"word{number}" for number in range(start, start + count))


@pytest.mark.parametrize(
    "document",
    [
        f"{FILLER} {ASKED} {FILLER}",
        [{"role": "user", "content": ASKED}, {"role": "assistant", "content": "1702"}],
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "1702", "reasoning_content": ASKED}],
        [{"role": "system", "content": FILLER, "reasoning_content": None}, {"role": "user", "content": f"{ASKED} Go."}],
    ],
    ids=["text", "message", "reasoning", "second message"],
)
def test_a_question_in_a_document_is_found(document):
    found = overlap(ASKED, FILLER, document, FILLER)
    assert found.touched == ("q1",)
    assert found.share == 1
    assert found.documents == 1
    (example,) = found.examples
    assert example.question == "q1"
    assert example.document == 2
    assert example.words == "in which year did the old harbour master of bergen write that long"


@pytest.mark.parametrize(
    "document",
    [
        ASKED.upper(),
        ASKED.replace(" ", "\n"),
        ASKED.replace(" ", "  \t"),
        ASKED.replace(" ", "\u00a0"),
        ASKED.replace(" ", "\u2028"),
        ASKED.replace("Bergen", "\u201cBergen\u201d").replace("that", "*that*").replace("?", "\u2026"),
        ASKED.replace(" did", ", did").replace("old", "o\x00ld").replace("long", "_long_ -"),
        f"\ud800 {ASKED}",
    ],
    ids=["case", "line breaks", "spaces", "no-break", "line separator", "beyond ASCII", "punctuation", "surrogate"],
)
def test_how_it_is_typed_does_not_hide_it(document):
    assert overlap(ASKED, document).touched == ("q1",)


@pytest.mark.parametrize(
    "text", ["naïve Größe άλλος", "NAÏVE GRÖSSE ΆΛΛΟΣ", "nai\u0308ve gro\u0308ße άλλος", "»naïve« größe — ά\u00adλλος…"]
)
def test_letters_beyond_ascii_are_words_in_either_case_and_composition(text):
    assert normalised(text).decode() == "naïve grösse άλλοσ"


def test_twelve_of_thirteen_words_are_not_enough():
    question = words(13)
    assert overlap(question, f"x {words(13)} x").touched == ("q1",)
    assert overlap(question, f"x {words(12)} x").touched == ()
    assert overlap(question, f"x {words(12, start=1)} x").touched == ()
    assert overlap(question, f"{words(6)} x {words(7, start=6)}").touched == ()


def test_a_long_question_is_found_by_any_thirteen_of_its_words_and_whole_only_when_all_of_it_is_there():
    part = overlap(words(50), f"x {words(13, start=20)} x")
    assert (part.touched, part.whole) == (("q1",), ())
    almost = overlap(words(50), words(49), words(48, start=1))
    assert (almost.touched, almost.whole) == (("q1",), ())
    whole = overlap(words(50), f"x {words(50)} x")
    assert (whole.touched, whole.whole) == (("q1",), ("q1",))


def test_words_of_two_documents_make_no_ngram():
    assert overlap(words(13), words(7), words(6, start=7)).touched == ()


def test_a_short_question_counts_with_all_its_words_and_a_shorter_one_is_not_judged():
    index = Index({"exam": [Question("8", words(8)), Question("7", words(7, start=100)), Question("0", "?!")]})
    (benchmark,) = index.benchmarks
    assert (benchmark.questions, benchmark.short, benchmark.judged) == (3, 2, 1)
    (found,) = index.scan("stem", [f"x {words(8)} x", words(7, start=100)])
    assert found.touched == ("8",)
    assert found.judged == 1
    assert index.scan("stem", [f"{words(7)} x"])[0].touched == ()


def test_a_benchmark_too_short_to_judge_has_no_share_and_a_dash_in_the_table():
    index = Index({"sums": [Question("1", "Compute 465 + 111.")]})
    overlaps = index.scan("stem", ["Compute 465 + 111."])
    assert overlaps[0].share is None
    found = Contamination(13, tuple(index.benchmarks), (Reading("stem", 1),), tuple(overlaps))
    assert found.table() == (["Source", "sums"], [["stem", "–"]])


def test_a_template_that_questions_share_is_dropped_and_counted():
    template = "Answer the following multiple choice question and give nothing but the letter of the option"
    questions = [Question(str(number), f"{template} {words(20, start=100 * number)}") for number in range(10)]
    index = Index({"exam": questions})
    (benchmark,) = index.benchmarks
    assert benchmark.dropped == 15 - 13 + 1
    assert benchmark.judged == 10
    assert index.scan("stem", [template + " apple"])[0].touched == ()
    assert index.scan("stem", [words(13, start=303)])[0].touched == ("3",)


def test_a_question_that_is_all_template_is_not_judged():
    (benchmark,) = Index({"exam": [Question(str(number), words(13)) for number in range(3)]}).benchmarks
    assert (benchmark.common, benchmark.judged, benchmark.ngrams, benchmark.dropped) == (3, 0, 0, 1)


def test_a_question_that_stands_twice_in_a_benchmark_is_still_looked_for():
    index = Index({"exam": [Question("a", words(13)), Question("b", words(13))]})
    assert index.scan("stem", [words(13)])[0].touched == ("a", "b")


def test_boilerplate_is_a_share_of_a_benchmark_of_its_own():
    shared = [Question(str(number), f"{words(13)} {words(13, start=100 * (number + 1))}") for number in range(4)]
    others = [Question(str(number), words(13, start=10_000 + 100 * number)) for number in range(400)]
    index = Index({"small": shared, "large": [*shared, *others]})
    small, large = index.scan("stem", [words(13)])
    assert small.touched == ()  # 4 of 4
    assert large.touched == ("0", "1", "2", "3")  # 4 of 404, below 1%


def test_each_benchmark_is_reported_and_a_document_counts_once_for_it():
    both, exam = words(13), words(13, start=100)
    index = Index({"exam": [Question("a", both), Question("b", exam)], "quiz": [Question("c", both)]})
    one, other = index.scan("stem", [f"{both} {exam} {both}", exam, FILLER])
    assert (one.benchmark, one.touched, one.documents) == ("exam", ("a", "b"), 2)
    assert (other.benchmark, other.touched, other.documents) == ("quiz", ("c",), 1)


def random_text(rng, count):
    """Words of so few kinds that n-grams of five repeat."""
    return " ".join(
        rng.choice(["Aa", "b", "ccc,", "d-", "é", "ff", " ", "-"]) + rng.choice(["", "", ".", "\n"])
        for _ in range(count)
    )


@pytest.mark.parametrize("batch", [1, 100, 1 << 18])
def test_a_plain_scan_over_tuples_finds_the_same_whatever_the_batches(batch, monkeypatch):
    monkeypatch.setattr(ngrams, "BATCH", batch)
    rng = random.Random(0)
    benchmarks = {
        name: [Question(f"{name}{number}", random_text(rng, rng.randint(0, 12))) for number in range(60)]
        for name in ("exam", "quiz")
    }
    documents = [random_text(rng, rng.randint(0, 60)) for _ in range(80)]
    found = Index(benchmarks, words=5, minimum=3, boilerplate=1.0).scan("stem", documents)
    drop = str.maketrans("", "", string.punctuation)

    def grams(text, size):
        tokens = text.lower().translate(drop).split()
        return {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}

    for overlap, questions in zip(found, benchmarks.values()):
        touched, touching = {}, set()
        for number, document in enumerate(documents, start=1):
            for question in questions:
                size = min(5, len(question.text.translate(drop).split()))
                if size >= 3 and grams(question.text, size) & grams(document, size):
                    touched.setdefault(question.identity, number)
                    touching.add(number)
        assert 5 < len(touched) < overlap.judged
        assert set(overlap.touched) == set(touched)
        assert overlap.documents == len(touching)
        assert {example.question: example.document for example in overlap.examples}.items() <= touched.items()


def test_two_questions_of_one_hash_are_told_apart_by_their_words(monkeypatch):
    monkeypatch.setattr(ngrams.Hashed, "grams", lambda self, size: (self.starts[size:] * 0).astype("uint64"))
    assert overlap(words(13), words(13, start=1)).touched == ()
    assert overlap(words(13), words(13)).touched == ("q1",)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"words": 5, "minimum": 8}, "5 words and of no fewer than 8"),
        ({"minimum": 0}, "no fewer than 0"),
        ({"boilerplate": 0}, "not 0"),
        ({"boilerplate": float("nan")}, "not nan"),
        ({"boilerplate": 5}, "not 5"),
    ],
)
def test_settings_without_sense_are_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        Index({}, **settings)


def test_the_table_gives_questions_and_share_by_source_and_benchmark_and_says_what_is_not_in_it(tmp_path):
    questions = [Question(str(number), words(20, start=100 * number)) for number in range(4)]
    index = Index({"exam": questions, "quiz": [*questions[:1], Question("s", "Too short?")]})
    overlaps = [*index.scan("stem", [words(13)]), *index.scan("web", [words(20)])]
    readings = (Reading("stem", 1), Reading("web", 1))
    found = Contamination(13, tuple(index.benchmarks), readings, tuple(overlaps))
    assert found.table() == (
        ["Source", "exam", "quiz"],
        [["stem", "1 (25%)", "1 (100%)"], ["web", "1 (25%), 1 whole", "1 (100%), 1 whole"]],
    )
    assert found.notes()[1:] == ["quiz: 1 of its 2 questions are too short to judge."]
    found.save(tmp_path / "contamination.json")
    assert Contamination.load(tmp_path / "contamination.json") == found
