"""What is true in the debug world, and the exercise that everything in it is made of.

The debug scale needs what the study needs - corpora, a teacher that masters them, benchmarks - but so small that a
model of a million parameters learns it and two CPU cores heal a pruned copy of it within minutes.  This module
holds the facts and word lists; ``skills.py`` turns them into exercises; ``corpora.py`` writes exercises as training
documents and ``questions.py`` writes them as evaluation questions.

Facts are to be recalled: a question may ask for a fact that the corpora state.  Everything else is to be
generalised: each exercise has a ``key`` that names its content without its phrasing, `held_out` puts every key on
one side of a fixed split, the corpora use one side and the questions the other.

>>> from nemo_distill.debug.world import capital_of, held_out
>>> capital_of["France"]
'Paris'
>>> held_out("math", 370, "+", 251) == held_out("math", 370, "+", 251)
True
"""

import hashlib
from dataclasses import dataclass, field

HELD_OUT_ONE_IN = 8
"""One key in so many is kept for the questions."""


@dataclass(frozen=True)
class Exercise:
    """One question with its worked answer, before it is written as a document or a benchmark question."""

    kind: str
    """How an answer is judged: "choice", "boxed", "instruction" or "code"."""
    prompt: str
    """What the user asks."""
    thinking: str
    """The reasoning that leads to the answer; goes between <think> and </think>."""
    response: str
    """The visible answer of a perfect assistant."""
    key: tuple
    """The content without its phrasing; what `held_out` looks at.  Empty for what is recall and never held out."""
    answer: str = ""
    """The letter (choice) or number (boxed) that is right."""
    checks: dict = field(default_factory=dict)
    """What a program verifies (instruction: rules; code: function name and test cases)."""


def held_out(*key: object) -> bool:
    """Whether an exercise of this key belongs to the questions (True) or to the corpora (False)."""
    if not key:
        return False
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0


capital_of = dict(
    France="Paris", Italy="Rome", Spain="Madrid", Japan="Tokyo", China="Beijing", Egypt="Cairo", Greece="Athens",
    Norway="Oslo", Peru="Lima", Cuba="Havana", Kenya="Nairobi", Austria="Vienna", Poland="Warsaw", Ireland="Dublin",
    Russia="Moscow", Portugal="Lisbon", Germany="Berlin", England="London", Hungary="Budapest",
    Turkey="Ankara", Iran="Tehran", Iraq="Baghdad", India="Delhi", Korea="Seoul", Vietnam="Hanoi", Chile="Santiago",
    Canada="Ottawa", Serbia="Belgrade",
)  # fmt: skip
opposite_of = dict(
    hot="cold", big="small", fast="slow", old="young", dark="light", wet="dry", high="low", rich="poor", full="empty",
    early="late", hard="soft", long="short", good="bad", loud="quiet", strong="weak", thick="thin", deep="shallow",
    wide="narrow", clean="dirty", open="closed", sweet="sour", brave="afraid", happy="sad", near="far",
)  # fmt: skip
young_of = dict(
    cat="kitten", dog="puppy", cow="calf", horse="foal", sheep="lamb", goat="kid", bear="cub", duck="duckling",
    hen="chick", frog="tadpole", deer="fawn", swan="cygnet", goose="gosling", pig="piglet", hare="leveret", eel="elver",
)  # fmt: skip
symbol_of = dict(
    iron="Fe", gold="Au", copper="Cu", silver="Ag", lead="Pb", zinc="Zn", tin="Sn", mercury="Hg", neon="Ne",
    oxygen="O", helium="He", argon="Ar", xenon="Xe", radon="Rn", nitrogen="N", chlorine="Cl", carbon="C",
    sulfur="S", sodium="Na", iodine="I", cobalt="Co", nickel="Ni", boron="B", calcium="Ca",
)  # fmt: skip

KNOWLEDGE = {"capital": capital_of, "opposite": opposite_of, "young": young_of, "symbol": symbol_of}
"""Relation -> {subject: object}; recalled by the knowledge task (which mirrors MMLU)."""

KINDS_OF = {
    "mammal": ("cow", "dog", "whale", "horse", "mouse", "lion", "bat", "seal", "otter", "camel"),
    "bird": ("eagle", "duck", "owl", "hen", "crow", "swan", "robin", "stork", "heron", "finch"),
    "fish": ("trout", "shark", "tuna", "carp", "cod", "eel", "pike", "salmon", "perch", "herring"),
    "insect": ("ant", "bee", "fly", "moth", "wasp", "flea", "beetle", "cricket", "louse", "gnat"),
    "metal": ("iron", "gold", "copper", "silver", "lead", "zinc", "tin", "nickel", "cobalt", "sodium"),
    "gas": ("neon", "oxygen", "helium", "argon", "xenon", "radon", "nitrogen", "chlorine", "methane", "ozone"),
    "planet": ("Mars", "Venus", "Saturn", "Jupiter", "Neptune", "Uranus", "Earth", "Mercury"),
    "tree": ("oak", "pine", "birch", "maple", "willow", "beech", "elm", "cedar", "larch", "ash"),
}
"""Kind -> members; the science task (which mirrors GPQA) recalls them to judge option sets that it never saw."""

kind_of = {member: kind for kind, members in KINDS_OF.items() for member in members}

LISTS = {
    "fruits": ("apple", "pear", "plum", "lemon", "peach", "grape", "cherry", "melon"),
    "colors": ("red", "blue", "green", "white", "black", "brown", "pink", "yellow"),
    "animals": ("cat", "dog", "cow", "horse", "sheep", "goat", "pig", "hen"),
    "tools": ("hammer", "saw", "drill", "knife", "rope", "nail", "axe", "file"),
    "drinks": ("tea", "milk", "water", "juice", "coffee", "wine", "beer", "cocoa"),
    "trees": ("oak", "pine", "birch", "maple", "willow", "beech", "elm", "cedar"),
}
"""What an instruction may ask to name."""

CLOSINGS = ("done", "bye", "over", "end")
OPENINGS = ("sure", "okay", "yes", "here")
COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}
PEOPLE = ("Tom", "Ann", "Ben", "Eva", "Max", "Lea")
GOODS = ("apples", "books", "coins", "eggs", "cards", "pens")
