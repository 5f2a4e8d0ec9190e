"""Adds to the documentation site what lies elsewhere: pages at the top of the repository, recipes, docstrings.

MkDocs calls it while it builds (`hooks` in mkdocs.yml). Links are written for a git host, relative to the file that
holds them, and are turned to lead to the same thing within the site. One that leads nowhere fails the strict build.
"""

import ast
import logging
import os.path
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.docs")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nemo_distill", "evaluator")
PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "DECISIONS.md": "project/decisions.md",
    "benchmarks/RESULTS.md": "project/results.md",
    "recipes": "project/recipes.md",
}
"""Pages of the site that come from elsewhere than docs/: path in the repository to path in the site."""
EXECUTORS = ("local.yaml", "slurm.example.yaml")
"""Files of executors that are shown; a site's own, which may hold a token, is not."""
API = "reference/api"
"""Folder of the site with a page for each room of the code."""
ORIGIN = {page: origin for origin, page in PAGES.items()}


def rooms() -> dict[str, list[str]]:
    """The modules of each folder of the two packages, by the folder's dotted name; our tasks' namespace is left out."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            # Of a folder that is no package the files are data, such as the recipes that `nemo-run new` writes.
            if parts[:2] == ("evaluator", "core_evals") or not (path.parent / "__init__.py").exists():
                continue
            modules = found.setdefault(".".join(parts[:-1]), [])
            if parts[-1] != "__init__":
                modules.append(".".join(parts))
    return found


def room_page(room: str, modules: list[str]) -> str:
    """Markdown of a room's page: what the room says of itself, and each of its modules."""
    lines = [f"# `{room}`", ""]
    if (ROOT / room.replace(".", "/") / "__init__.py").exists():
        lines += [
            f"::: {room}", "    options:", "      show_root_heading: false", "      show_root_toc_entry: false",
            "      show_submodules: false", "      members: false", "",
        ]  # fmt: skip
    for module in modules:
        lines += [f"::: {module}", "    options: {show_submodules: false}", ""]
    return "\n".join(lines)


def recipes_page() -> str:
    """Markdown of the page of recipes: each as it stands."""
    lines = ["# Recipes", ""]
    for path in sorted((ROOT / "recipes").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        headline = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        lines += [f"## {path.name}", "", headline, "", "```python", source.rstrip(), "```", ""]
    for name in EXECUTORS:
        text = (ROOT / "recipes" / "executors" / name).read_text(encoding="utf-8")
        lines += [f"## executors/{name}", "", "```yaml", text.rstrip(), "```", ""]
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> None:
    """The nav gains a page for each room, under Reference."""
    (reference,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    for package in PACKAGES:
        inside = [{room: f"{API}/{room}.md"} for room in rooms() if room.partition(".")[0] == package]
        reference.append({package: inside})


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """The site gains the pages that come from elsewhere."""
    for origin, page in PAGES.items():
        content = recipes_page() if origin == "recipes" else (ROOT / origin).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    for room, modules in rooms().items():
        files.append(File.generated(config, f"{API}/{room}.md", content=room_page(room, modules)))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to where their target is in the site."""
    source = page.file.src_uri
    if source.startswith(API) or source == PAGES["recipes"]:
        return markdown
    folder = os.path.dirname(ORIGIN.get(source, f"docs/{source}"))

    def turned(link: re.Match) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = os.path.normpath(os.path.join(folder, target)) if target else ORIGIN.get(source, f"docs/{source}")
        place = placed(path, config, files)
        if place is None:
            log.warning("%s links to %s, which is not there", source, target)
            return link[0]
        return f"]({os.path.relpath(place, os.path.dirname(source) or '.')}{anchor})"

    # Code spans and blocks are left as they are.
    parts = re.split(r"(^(?: {4}|\t).*$|^```[\s\S]*?^```|`[^`\n]+`)", markdown, flags=re.MULTILINE)
    pattern = re.compile(r"\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
    return "".join(part if number % 2 else pattern.sub(turned, part) for number, part in enumerate(parts))


def placed(path: str, config: MkDocsConfig, files: Files) -> str | None:
    """Where the site has what lies at `path` in the repository; a file that it lacks is copied into it."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and files.get_file_from_path(path.removeprefix("docs/")):
        return path.removeprefix("docs/")
    if path.replace("/", ".") in rooms():
        return f"{API}/{path.replace('/', '.')}.md"
    if not (ROOT / path).is_file():
        return None
    copy = f"project/files/{path}"
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
    return copy


class Docstrings(griffe.Extension):
    """Makes Markdown of every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Make Markdown of the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """The docstring with its examples as code, which Markdown takes for quotations, and a step's parts as lines.

    >>> as_markdown("So:\\n\\n>>> 1 + 1\\n2\\n\\nUpstream: `prune`.\\nOutput: `hf/`.")
    'So:\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nUpstream: `prune`.  \\nOutput: `hf/`.'
    """
    text = re.sub(r"(?<!\n)\n(?=(?:Upstream|Output): )", "  \n", text)
    return re.sub(r"^>>> .*?(?=\n\s*\n|\Z)", lambda found: f"```pycon\n{found[0]}\n```", text, flags=re.M | re.S)
