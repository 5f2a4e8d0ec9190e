"""The documentation site shows every page there is; `make docs` builds it, strictly."""

import ast
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def pages_of(entries) -> list[str]:
    """Paths that a nav names, in its order, whatever they are nested in."""
    if isinstance(entries, str):
        return [entries]
    inside = entries.values() if isinstance(entries, dict) else entries
    return [page for entry in inside for page in pages_of(entry)]


def constant(name: str):
    """Value of a constant of docs/hooks.py, which needs the site's environment to be imported."""
    tree = ast.parse((ROOT / "docs" / "hooks.py").read_text(encoding="utf-8"))
    (value,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name)
    return ast.literal_eval(value)


def test_the_nav_lists_every_page_once():
    listed = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*written, *constant("PAGES").values()])


def test_every_page_that_is_added_is_there():
    assert [origin for origin in constant("PAGES") if not (ROOT / origin).exists()] == []


def test_the_first_page_and_the_readme_lead_to_every_page_of_docs():
    linked = {
        (page.parent / link).resolve()
        for page in (ROOT / "README.md", ROOT / "docs" / "index.md")
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    }
    assert {path for path in (ROOT / "docs").rglob("*.md") if path.resolve() not in linked} == set()


def test_no_file_of_a_sites_own_is_shown():
    shown = [f"recipes/executors/{name}" for name in constant("EXECUTORS")]
    tracked = subprocess.run(["git", "ls-files", *shown], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(tracked.split()) == sorted(shown)
