"""Renews the guide's pictures of the pages, in a real Chromium, from five made-up runs and from the study's tables.

    python benchmarks/pictures.py [--runs FOLDER] [--to docs/images] [--only curves]
    python benchmarks/pictures.py --before PAGE     # page_before.png alone: of a page that an earlier version made

Makes the runs (with the study's blends' names, its milestones and all questions of its suite) and their pages as the
commands do, or takes those that are in FOLDER, and writes a picture each of: the first screen at 1440, 390 and 2560
pixels, in the dark, on paper, under deuteranopia; the curves as one reads them; the questions; and the study's page.
Needs Chromium and, for paper, pdftoppm. Look at each.
"""

import argparse
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from made_up_runs import make_run
from PIL import Image

from evaluator.suites.catalogue import get_suite
from nemo_distill import cli

ROOT = Path(__file__).resolve().parent.parent
COLOURS = 256
"""Of a picture: text and lines need few, but all of these."""
LARGEST = 300_000
"""Bytes of a picture, at most."""
PARTS = ("sft-general", "math-v2-part00", "math-v2-part01", "competitive-python", "pre")
BLENDS = {
    "30pre_70post_v3": (1.55, (10, 15, 15, 30, 30)),
    "30pre_70post_v1v3": (1.5, (20, 15, 15, 20, 30)),
    "30pre_70post_v1v2": (1.3, (30, 20, 20, 0, 30)),
    "pt_v1v2": (1.2, (10, 0, 0, 0, 90)),
    "pre_sft_v1": (1.0, (60, 0, 0, 0, 40)),
}
"""Skill that each run nears, and percent of each of `PARTS`, made up as well."""
CURVES = "#curves-charts"
PICK = """((box, label, value) => {
  const labels = [...document.querySelectorAll(`${box} .tools label`)];
  const menu = labels.find((one) => one.textContent.startsWith(label)).querySelector("select");
  menu.value = value ?? menu.value;
  menu.dispatchEvent(new Event("change"));
})"""

EDGES = """((selector) => {
  const boxes = [...document.querySelectorAll(selector)].map((one) => one.getBoundingClientRect());
  const edge = (best, side, more) => best(...boxes.map((box) => box[side])) + more;
  return [edge(Math.min, "left", -12), edge(Math.min, "top", -12),
    edge(Math.max, "right", 12), edge(Math.max, "bottom", 12)];
})"""

SHOW = """((selector) => {
  const boxes = [...document.querySelectorAll(selector)].map((one) => one.getBoundingClientRect());
  const isOut = boxes.some((box) => box.top < 0 || box.bottom > innerHeight);
  if (isOut) document.querySelector(selector).scrollIntoView();
})"""


def helper(name: str):
    """A module of the tests, whose folder is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "evaluator" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_pages(runs: Path) -> dict[str, Path]:
    """The pages of five blends and of the study, made where they are not there."""
    for name, (top, shares) in BLENDS.items():
        if not (runs / f"{name}.json").exists():
            skills = [top - 1.6 * 0.5**step for step in range(7)]
            made_of = {part: share for part, share in zip(PARTS, shares, strict=True) if share}
            run = make_run(runs, name, suite=get_suite("study"), skills=skills, shares=made_of)
            helper("answers_for_tests").keep_answers(run, ("ns_gpqa",))
    assert cli.main(["report", *BLENDS, "--runs", str(runs)]) == 0
    assert cli.main(["report", "--published", "--runs", str(runs)]) == 0
    return {
        "comparison": next((runs / "comparisons").glob("*/report.html")),
        "published": runs / "published" / "report.html",
    }


def first(browser, page: Path, *, width: int, height: int, dark: bool = False) -> bytes:
    """What a window shows of a page that was just opened."""
    shown = browser.open(page, width=width, height=height, dark=dark)
    return shot(shown)


def shot(page, of: str = "", sight: str = "") -> bytes:
    """A picture of what a window shows, or of its elements `of` from the first to the last, as it is seen by `sight`;
    then the page is closed."""
    if sight:
        page.call("Emulation.setEmulatedVisionDeficiency", type=sight)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        if of:
            page.evaluate(f"{SHOW}({json.dumps(of)})")
        page.screenshot(Path(file.name), whole=False)
        data = Path(file.name).read_bytes()
    if of:
        out = io.BytesIO()
        left, top, right, bottom = (max(0, int(edge)) for edge in page.evaluate(f"{EDGES}({json.dumps(of)})"))
        Image.open(io.BytesIO(data)).crop((left, top, right, bottom)).save(out, "PNG")
        data = out.getvalue()
    page.close()
    return data


def curves(browser, page: Path, sight: str = "") -> bytes:
    """The curves with the values of a point; as they are with all colours, a part of the tokens of the difference."""
    shown = browser.open(page, width=1440, height=2600)
    if not sight:
        shown.evaluate(f"{PICK}('{CURVES}', 'from', '20132659200')")
        shown.evaluate(
            "(() => { const slider = document.querySelector('[type=range]'); slider.value = 3;"
            "slider.dispatchEvent(new Event('input')); })()"
        )
        shown.drag(f"{CURVES} figure .plot", (0.62, 0.5))
    return shot(shown, f"#curves, {CURVES} .pair, {CURVES} .compared, {CURVES} .panels", sight)


def questions(browser, page: Path) -> bytes:
    """A benchmark unfolded, and the answers to one question."""
    shown = browser.open(page, width=1280, height=1900)
    shown.evaluate(
        "(() => { const sheet = document.getElementById('sheet-ns-gpqa'); sheet.closest('.part').open = true;"
        "sheet.open = true; sheet.querySelector('.scroll').style.maxHeight = '17rem'; })()"
    )
    shown.until("document.querySelector('#sheet-ns-gpqa .tools')")
    shown.evaluate(
        "(() => { const all = [...document.querySelectorAll('#sheet-ns-gpqa .answers')];"
        "all.slice(1).forEach((one) => one.remove()); all[0].open = true;"
        "for (const one of all[0].querySelectorAll('dd')) one.textContent = one.textContent.slice(0, 90); })()"
    )
    return shot(shown, "#questions, #sheet-ns-gpqa")


def paper(browser, page: Path) -> bytes:
    """The first page of what is printed."""
    shown = browser.open(page)
    with tempfile.TemporaryDirectory() as scratch:
        shown.pdf(Path(scratch) / "page.pdf")
        shown.close()
        subprocess.run(["pdftoppm", "-r", "110", "-png", "-l", "1", "page.pdf", "page"], cwd=scratch, check=True)
        return next(Path(scratch).glob("page*.png")).read_bytes()


def sheet(browser, page: Path) -> bytes:
    """What six readers see first of a page: at 1440 pixels, in the dark, at 2560 pixels, its curves under deuteranopia,
    at 390 pixels and on paper."""
    under = browser.open(page, width=1440, height=900)
    under.evaluate("document.getElementById('curves').scrollIntoView()")
    shots = [
        [first(browser, page, width=1440, height=900), first(browser, page, width=1440, height=900, dark=True)],
        [first(browser, page, width=2560, height=1600), shot(under, sight="deuteranopia")],
        [first(browser, page, width=390, height=844), paper(browser, page)],
    ]
    whole, top = Image.new("RGB", (1640, 1570), "#8a919b"), 10
    for row in shots:
        for place, data in enumerate(row):
            image = Image.open(io.BytesIO(data)).convert("RGB")
            image.thumbnail((805, 510), Image.Resampling.LANCZOS)
            whole.paste(image, (10 + 815 * place, top))
        top += 520
    out = io.BytesIO()
    whole.save(out, "PNG")
    return out.getvalue()


PICTURES = {
    "comparison": lambda browser, pages: first(browser, pages["comparison"], width=1440, height=1400),
    "comparison_phone": lambda browser, pages: first(browser, pages["comparison"], width=390, height=1500),
    "comparison_wide": lambda browser, pages: first(browser, pages["comparison"], width=2560, height=1440),
    "comparison_dark": lambda browser, pages: first(browser, pages["comparison"], width=1440, height=900, dark=True),
    "comparison_paper": lambda browser, pages: paper(browser, pages["comparison"]),
    "curves": lambda browser, pages: curves(browser, pages["comparison"]),
    "curves_deuteranopia": lambda browser, pages: curves(browser, pages["comparison"], "deuteranopia"),
    "questions": lambda browser, pages: questions(browser, pages["comparison"]),
    "page_after": lambda browser, pages: sheet(browser, pages["comparison"]),
    "published": lambda browser, pages: first(browser, pages["published"], width=1440, height=1500),
}
"""How each is made."""


def small(data: bytes) -> bytes:
    """The picture in the colours that it has most of, greys aside."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")

    def weight(found) -> float:
        count, colour = found
        return count * (1 + 0.3 * (max(colour) - min(colour)))  # letters that are scaled down have many greys

    counted = sorted(image.getcolors(image.width * image.height), key=weight, reverse=True)[:COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in counted for part in colour])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Make, look at, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="folder of made-up runs; made where they are not there")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", choices=PICTURES)
    parser.add_argument("--before", type=Path, help="a page that an earlier version made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, helper("browser_for_tests").Browser() as browser:
        if options.before:
            wanted = {"page_before": sheet(browser, options.before)}
        else:
            pages = make_pages(options.runs or Path(scratch))
            names = [options.only] if options.only else PICTURES
            wanted = {name: PICTURES[name](browser, pages) for name in names}
    for name, picture in wanted.items():
        data = small(picture)
        if len(data) > LARGEST:
            sys.exit(f"{name}.png has {len(data):,} bytes; at most {LARGEST:,} are meant for a picture.")
        (options.to / f"{name}.png").write_bytes(data)
        print(f"{name}.png  {len(data):,} bytes")


if __name__ == "__main__":
    main()
