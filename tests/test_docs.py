"""The documentation points at what is there."""

import re
from pathlib import Path

import pytest

from benchmarks import terminal

ROOT = Path(__file__).resolve().parent.parent
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "DECISIONS.md", "benchmarks/RESULTS.md")
OF_A_SITE = {"recipes/executors/slurm.yaml"}
"""Files that a user makes, and git ignores."""
OF_A_STUDY = ROOT / "nemo_distill" / "starter" / "files"
"""What `nemo-run new` writes, which pages on it name as they lie there."""
PAGES = [*(ROOT / page for page in TOP), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_the_reference_lists_every_step():
    reference = (ROOT / "docs" / "reference" / "steps.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "nemo_distill" / "steps").glob("*.py")} - {"__init__"}
    assert {module for module in modules if f"| `{module}` |" not in reference} == set()


def test_every_file_of_ours_that_is_named_exists():
    for page in PAGES:
        for name in re.findall(r"`((?:nemo_distill|evaluator|recipes|docs|tests)/[\w./-]+)`", page.read_text("utf-8")):
            there = (ROOT / name).exists() or (OF_A_STUDY / name).exists()
            assert name in OF_A_SITE or there, f"{page.name} names {name}"


def test_every_module_that_is_run_by_hand_can_be():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"python -m ((?:nemo_distill|evaluator)[\w.]*)", page.read_text("utf-8"))
    }
    assert {"evaluator.serve", "evaluator.recount", "evaluator.harness.launcher_config", "nemo_distill.step"} <= named
    for name in named:
        path = ROOT / name.replace(".", "/")
        source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert source.is_file() and 'if __name__ == "__main__":' in source.read_text("utf-8"), name


def test_captures_of_terminals_fit_the_terminals_that_they_are_of():
    page = (ROOT / "docs" / "reference" / "terminal.md").read_text(encoding="utf-8")
    captures = re.findall(r"^## (.*?)\n(?:.*?)```text\n(.*?)```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(captures) >= 6 and any("40 columns" in title for title, _ in captures)
    for title, shown in captures:
        assert max(map(len, shown.splitlines())) <= (40 if "40 columns" in title else 80), title
    shown = dict(captures)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert terminal.with_end(readme, shown["It ends"]) == readme  # captured as well, not written by hand
    assert re.search(r"^distill-\S+ +running .*\n.*tokens/s, loss", shown["A run goes on"], flags=re.MULTILINE)


def test_every_attack_in_the_table_is_stopped_by_something_that_a_test_shows():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = page.partition("## What stops what")[2].partition("\n## ")[0].splitlines()[4:]
    rows = [row for row in rows if row.startswith("|")]
    assert len(rows) > 30
    above: list[str] = []
    for row in rows:
        attack, stops, shown = (cell.strip() for cell in row.strip("|").rsplit("|", 2))
        files = re.findall(r"`(tests/[\w/]+\.py)`", shown)
        above = files or (above if "the same" in shown else [])
        assert attack and stops and above, row
        texts = [(ROOT / file).read_text(encoding="utf-8") for file in above]
        assert all("\ndef test_" in text for text in texts), row
        for test in re.findall(r"`(test_\w+)`", shown):
            assert any(f"def {test}(" in text for text in texts), test
