"""Searches the colours of the blends: as far from each other as they can be, for everyone, on light and on dark paper.

    python benchmarks/palette.py [--chains 256] [--steps 8000]

Prints a palette for each paper, its least distance in every sight, and its least contrast. Simulated annealing of many
palettes beside each other: one colour moves at a time, and what falls is the sum of exp(-distance) over all pairs in
all sights. What a colour must keep to: so much contrast with the least favourable background (WCAG 2, 1.4.11), more if
letters are written in it. The references are black on light paper and white on dark, where they leave most room. The
two palettes are matched so that a blend has about the same hue in both.
"""

import argparse
import itertools

import numpy as np

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
PAPERS = {"light": ("#ffffff", "#fcfcfb", "#f2f5f8"), "dark": ("#15181d", "#1b1f26", "#20262e")}
"""What a colour may stand on: the page, a card, a row that stands out (`report.css`)."""
REFERENCE = {"light": "#000000", "dark": "#ffffff"}
MOST, FIRST = 8, 5
"""Blends with a colour of their own, and how many of them are the study's."""
CONTRAST, LETTERS = 3.1, 4.6
"""Least contrast with the paper: of all, and of the study's blends."""
MORE = 1.35
"""Times as far as under a colour blindness those who see all colours are to see two of them apart."""


def rgb(color: str) -> np.ndarray:
    """The parts of `#rrggbb`, 0-1."""
    return np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])


def linear(color: np.ndarray) -> np.ndarray:
    """Light of sRGB parts."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def luminance(color: np.ndarray) -> np.ndarray:
    """Relative luminance, 0-1, of sRGB parts in the last axis."""
    return linear(color) @ TO_XYZ[1]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1-21 (WCAG 2)."""
    low, high = sorted(float(luminance(rgb(color))) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def seen(color: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB parts in the last axis, with an axis of sights before it."""
    light = linear(color)
    in_sights = np.stack([light @ np.asarray(sight).T for sight in SIGHT.values()], -2)
    share = np.clip(in_sights, 0, 1) @ TO_XYZ.T / WHITE
    x, y, z = np.moveaxis(np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ciede2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference of CIELAB colours in the last axis (Sharma, Wu, Dalal 2005, "The CIEDE2000 color-difference
    formula")."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1 + (1 - np.sqrt(chroma**7 / (chroma**7 + 25**7))) / 2
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = (h1 + turn / 2) % 360
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    cos = [np.cos(np.radians(angle)) for angle in (hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63)]
    t = 1 - 0.17 * cos[0] + 0.24 * cos[1] + 0.32 * cos[2] - 0.20 * cos[3]
    by_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    rotation = np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    rotation *= -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7))
    return np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Least distance of what `seen` gives, over the sights."""
    return (ciede2000(one, other) / [MORE, 1, 1, 1]).min(-1)


def search(paper: str, chains: int, steps: int, rng: np.random.Generator) -> list[str]:
    """The best palette that is found for a paper."""
    backs = [luminance(rgb(color)) + 0.05 for color in PAPERS[paper]]
    wanted = np.array([LETTERS] * FIRST + [CONTRAST] * (MOST - FIRST))

    def legible(colors: np.ndarray, places: np.ndarray) -> np.ndarray:
        light = luminance(colors) + 0.05
        return light * wanted[places] <= min(backs) if paper == "light" else light >= wanted[places] * max(backs)

    all_places, each = np.broadcast_to(np.arange(MOST), (chains, MOST)), np.arange(chains)
    colors = rng.random((chains, MOST, 3))
    while (pale := ~legible(colors, all_places)).any():
        colors[pale] = rng.random((int(pale.sum()), 3))
    reference, looks = seen(rgb(REFERENCE[paper])), seen(colors)
    far = np.full((chains, MOST, MOST + 1), np.inf)  # the last column: from the reference
    for place in range(MOST):
        far[:, place, :MOST] = apart(looks[:, place, None], looks)
        far[:, place, place] = np.inf
        far[:, place, MOST] = apart(looks[:, place], reference)
    best, kept = np.zeros(chains), colors.copy()
    for step in range(steps):
        left = 1 - step / steps
        place = rng.integers(MOST, size=chains)
        moved = colors[each, place] + rng.normal(size=(chains, 3)) * (0.25 * left**1.5 + 0.004)
        moved = np.clip(np.where(rng.random((chains, 1)) < 0.02, rng.random((chains, 3)), moved), 0, 1)
        look = seen(moved)
        new = np.concatenate([apart(look[:, None], looks), apart(look, reference)[:, None]], 1)
        new[each, place] = np.inf
        sharp = 3 - 2.5 * left
        before, after = (np.log(np.exp(-sharp * (one - 15)).sum(1)) for one in (far[each, place], new))
        warm = 0.2 * left**2 + 1e-6
        taken = legible(moved, place) & (rng.random(chains) < np.exp(np.clip((before - after) / warm, -700, 0)))
        chain, at = each[taken], place[taken]
        colors[chain, at], looks[chain, at] = moved[taken], look[taken]
        far[chain, at] = new[taken]
        far[chain, :, at] = new[taken, :MOST]
        if step % 20 == 0 or left < 0.1:
            least = far.min((1, 2))
            better = least > best
            best[better], kept[better] = least[better], colors[better]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in color) for color in kept[best.argmax()]]


def matched(light: list[str], dark: list[str]) -> list[str]:
    """The dark palette in the order in which each colour's hue is nearest to the light one's, the study's among
    themselves."""

    def away(one: str, other: str) -> float:
        (_, a, b), (_, c, d) = (seen(rgb(color))[0] for color in (one, other))
        return float(np.hypot(a - c, b - d))

    found: list[str] = []
    for begin, end in ((0, FIRST), (FIRST, MOST)):
        orders = itertools.permutations(dark[begin:end])
        found += min(orders, key=lambda order: sum(map(away, light[begin:end], order)))
    return found


def main() -> None:
    """Search, match, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    light, dark = (search(paper, options.chains, options.steps, rng) for paper in PAPERS)
    for paper, palette in (("light", light), ("dark", matched(light, dark))):
        looks = seen(np.array([*map(rgb, [*palette, REFERENCE[paper]])]))
        pairs = [ciede2000(one, other) for one, other in itertools.combinations(looks, 2)]
        sights = ", ".join(f"{least:.1f} {sight}" for least, sight in zip(np.min(pairs, 0), SIGHT))
        least = min(contrast(color, back) for color in palette for back in PAPERS[paper])
        print(f"{paper}: {' '.join(palette)}\n  least distance: {sights}\n  least contrast: {least:.2f}")


if __name__ == "__main__":
    main()
