"""The colours of the blends, seen by those who do not see all colours, and whose they are."""

import itertools

import numpy as np
import pytest

from evaluator.report.colours import DARK, KNOWN, LIGHT, MOST, REFERENCES, numbers_of

APART = 15
"""Least difference of two colours, CIEDE2000."""
LEAST = 12
"""The same of two that need not stand beside each other."""
SIGHT = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What is seen of linear sRGB (Machado, Oliveira, Fernandes 2009, "A physiologically-based model for simulation of
color vision deficiency", severity 1.0)."""
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def seen_as(color: str, sight: str) -> np.ndarray:
    """A colour as CIELAB, as it looks to someone with that sight."""
    rgb = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SIGHT[sight]) @ linear, 0, 1)
    share = TO_XYZ @ seen / WHITE
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Difference of two colours (Sharma, Wu, Dalal 2005, "The CIEDE2000 color-difference formula")."""
    chroma = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    stretch = 1 + (1 - np.sqrt(chroma**7 / (chroma**7 + 25**7))) / 2
    (l1, a1, b1), (l2, a2, b2) = one, other
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = (h1 + turn / 2) % 360
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    cos = [np.cos(np.radians(angle)) for angle in (hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63)]
    t = 1 - 0.17 * cos[0] + 0.24 * cos[1] + 0.32 * cos[2] - 0.20 * cos[3]
    parts = np.array(
        [
            (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)),
            (c2 - c1) / (1 + 0.045 * chroma),
            2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t),
        ]
    )
    rotation = np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    rotation *= -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7))
    return float(np.sqrt((parts**2).sum() + rotation * parts[1] * parts[2]))


def test_the_measure_gives_what_its_authors_published():
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for one, other, published in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_neighbours_are_apart_in_every_sight_and_all_from_the_references(palette, sight):
    lab = {name: seen_as(color, sight) for name, color in palette.items()}
    blends = [f"blend{number}" for number in range(1, MOST + 1)]
    pairs = {*itertools.combinations(blends[: len(KNOWN)], 2), *zip(blends, blends[1:] + blends[:1])}
    pairs |= set(itertools.product(blends, REFERENCES))
    near = {pair: ciede2000(lab[pair[0]], lab[pair[1]]) for pair in pairs}
    assert {pair: distance for pair, distance in near.items() if distance < APART} == {}
    others = {pair: ciede2000(lab[pair[0]], lab[pair[1]]) for pair in itertools.combinations(blends, 2)}
    assert {pair: distance for pair, distance in others.items() if distance < LEAST} == {}


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
