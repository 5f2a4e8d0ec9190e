"""The colours of the blends, seen by those who do not see all colours, and whose they are."""

import itertools
import re
from importlib.resources import files

import numpy as np
import pytest

from benchmarks.palette import PAPERS, SIGHT, ciede2000, contrast, rgb, seen
from evaluator.report.colours import DARK, KNOWN, LIGHT, MOST, REFERENCES, numbers_of

APART = 18
"""Least difference of two colours, CIEDE2000."""
STANDS_OUT = 3
"""Least contrast of what is drawn with what is behind it (WCAG 2, 1.4.11)."""


def test_the_measure_gives_what_its_authors_published():
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for one, other, published in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_two_are_apart_in_every_sight_and_stand_out_from_the_paper(paper):
    palette = {"light": LIGHT, "dark": DARK}[paper]
    blends = [f"blend{number}" for number in range(1, MOST + 1)]
    looks = {name: seen(rgb(palette[name])) for name in (*blends, *REFERENCES)}
    pairs = [*itertools.combinations(blends, 2), *itertools.product(blends, REFERENCES)]
    near = {pair: dict(zip(SIGHT, ciede2000(looks[pair[0]], looks[pair[1]]))) for pair in pairs}
    assert len(near) == 28 + 16
    assert {pair: apart for pair, apart in near.items() if min(apart.values()) < APART} == {}
    behind = {(name, back): contrast(palette[name], back) for name in looks for back in PAPERS[paper]}
    assert {pair: ratio for pair, ratio in behind.items() if ratio < STANDS_OUT} == {}


def test_the_papers_are_those_of_the_pages():
    css = (files("evaluator.report") / "templates" / "report.css").read_text(encoding="utf-8")
    found = re.findall(r"--(?:paper|card|tint): (#\w+)", css)  # on light, on dark, and a white page to print on
    assert [set(found[:3]), set(found[3:6])] == [set(PAPERS["light"]), set(PAPERS["dark"])]


def test_a_blend_is_the_same_whoever_stands_beside_it_and_in_whatever_order():
    for names in itertools.permutations(KNOWN):
        assert numbers_of(names) == dict(zip(KNOWN, range(1, 6)))
    assert numbers_of(["30pre_70post_v3 (full scale)"]) == {"30pre_70post_v3 (full scale)": 4}
    assert numbers_of(["blend_30pre_70post_v1v3", "mine"])["blend_30pre_70post_v1v3"] == 5
    alone = {name: numbers_of([name])[name] for name in "abcdefgh"}
    assert len(set(alone.values())) > 3  # by the name, not all the same
    for names in itertools.combinations("abcdefgh", 3):
        together = numbers_of(names)
        assert len(set(together.values())) == 3 and numbers_of(reversed(names)) == together
        if len({alone[name] for name in names}) == 3:
            assert together == {name: alone[name] for name in names}


def test_eight_of_a_kind_are_told_apart_and_the_study_s_own_keeps_its_place():
    names = ["pre_sft_v1", *(f"pre_sft_v1-again-{place}" for place in range(7))]
    numbers = numbers_of(names)
    assert sorted(numbers.values()) == list(range(1, 9)) and numbers["pre_sft_v1"] == 1
