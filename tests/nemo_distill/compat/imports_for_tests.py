"""Imports every module of the project in this process, and says which attribute of third-party code that changed.

    python tests/nemo_distill/compat/imports_for_tests.py FILE       # a line `changed NAME` for each

Then it runs the file as if it were one of them, with a line `planted NAME` for each attribute that this changed.

What a module imports of others is imported first, so that what those do to each other is no one's fault here. Changes
that `prepare` makes are made beforehand too, for Megatron and NeMo cannot be imported without.
"""

import ast
import contextlib
import gc
import importlib
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
WATCHED = ("torch", "megatron", "nemo", "lightning", "modelopt", "transformers", "nemo_run", "nemo_evaluator", "typer")
OURS = ("nemo_distill", "evaluator", "core_evals")
FRAMEWORKS = ("megatron", "nemo", "lightning", "modelopt", "mamba_ssm", "transformer_engine", "triton", "causal_conv1d")
"""What is imported after `prepare` only."""
ON_A_GPU_ONLY = ("triton", "transformer_engine", "causal_conv1d", "mamba_ssm")


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for package in ("nemo_distill", "evaluator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name.replace("evaluator.core_evals", "core_evals")] = path
    found.pop("core_evals", None)
    written = "nemo_distill.starter.files."  # by `nemo-run new`, for a folder of its own
    return {name: path for name, path in found.items() if not name.startswith(written)}


def imported_at_top(path: Path) -> set[str]:
    """Third-party modules that the file imports as it is imported, and `module:name` of what it takes of them."""
    names: set[str] = set()
    nodes: list = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}:{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If | ast.Try):
            nodes += [*node.body, *node.orelse, *getattr(node, "finalbody", ())]
    return {name for name in names if _package(name) not in (*OURS, *sys.stdlib_module_names)}


def _package(name: str) -> str:
    return name.split(":")[0].split(".")[0]


def _take(name: str) -> None:
    """Import `module`, or `module:name` as `from module import name` does."""
    module, _, attribute = name.partition(":")
    if attribute and not hasattr(importlib.import_module(module), attribute):
        importlib.import_module(f"{module}.{attribute}")
    importlib.import_module(module)


def attributes() -> dict[tuple[str, str], object]:
    """What every attribute of every module and class of the watched packages is, and what every table there holds."""
    found: dict[tuple[str, str], object] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in WATCHED or not isinstance(module, types.ModuleType):
            continue
        for key, value in list(vars(module).items()):
            found[name, key] = value
            if _is(value, type) and _own(value, "__module__") == name:
                found |= {(f"{name}.{key}", inner): held for inner, held in list(_own(value, "__dict__").items())}
            elif type(value) in (dict, list, set) and not key.startswith("__"):
                found[name, f"{key} holds"] = [id(held) for held in _held(value)]
    return found


def _own(cls: type, name: str) -> Any:
    """A class's attribute, past a metaclass that refuses."""
    return type.__getattribute__(cls, name)


def _held(value) -> list:
    return [*value, *value.values()] if isinstance(value, dict) else list(value)


def changed(before: dict, after: dict) -> list[str]:
    """Names of attributes that are other than before, and of new ones that are ours."""
    found = [key for key, value in after.items() if _differs(key, value, before)]
    return [".".join(key) for key in [*found, *(before.keys() - after.keys())]]


def _differs(key: tuple[str, str], value, before: dict) -> bool:
    if key not in before:
        return not _is(value, types.ModuleType) and _is_ours(value)
    if key[1].endswith(" holds"):
        return value != before[key] and any(_is_ours(held) for held in _held_objects(key))
    return value is not before[key] and not (_is(value, int | str | float) and value == before[key])


def _held_objects(key: tuple[str, str]) -> list:
    return _held(getattr(sys.modules[key[0]], key[1].removesuffix(" holds")))


def _is(value, kind) -> bool:
    """As `isinstance`, past stand-ins that raise whatever they are asked."""
    return issubclass(type(value), kind)


def _is_ours(value) -> bool:
    try:
        module = getattr(value, "__module__", None)
    except ImportError:
        module = None
    return str(module or type(value).__module__).split(".")[0] in OURS


def main(planted: str) -> None:
    gc.disable()  # nothing is garbage of all that is imported
    sys.path[:0] = [str(ROOT), str(ROOT / "evaluator")]
    found = modules()
    theirs = sorted({name for path in found.values() for name in imported_at_top(path)})
    light = [name for name in theirs if _package(name) not in FRAMEWORKS]
    after_prepare = _after_prepare(found)
    alone = [name for name in found if name not in after_prepare]
    for group, names, prepared in ((alone, light, False), (sorted(after_prepare), theirs, True)):
        if prepared:
            importlib.import_module("nemo_distill.backends").get().prepare()
        for name in names:
            with contextlib.suppress(ImportError):  # what only a GPU has
                _take(name)
        before = attributes()
        for name in group:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as missing:
                if (missing.name or "").split(".")[0] not in ON_A_GPU_ONLY:
                    raise
        for name in changed(before, attributes()):
            print("changed", name)
    before = attributes()
    exec(Path(planted).read_text(encoding="utf-8"), {"__name__": "nemo_distill.planted"})
    for name in changed(before, attributes()):
        print("planted", name)


def _after_prepare(found: dict[str, Path]) -> set[str]:
    """The modules that import, or import a module of ours that imports, what comes after `prepare`."""
    needing, leading = set(), {}
    for name, path in found.items():
        frameworks = {_package(taken) for taken in imported_at_top(path)} & set(FRAMEWORKS)
        if frameworks - {"triton"}:
            needing.add(name)
        elif not frameworks:
            leading[name] = _ours_at_top(path, found)
    while reached := {name for name, ours in leading.items() if name not in needing and ours & needing}:
        needing |= reached
    return needing


def _ours_at_top(path: Path, found: dict[str, Path]) -> set[str]:
    """Modules of ours that the file imports as it is imported."""
    return {
        name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if name in found
    }


if __name__ == "__main__":
    main(sys.argv[1])
