"""Files of recipes: which there are, what they say of themselves, and what they hold.

    recipe_files()                                          # ./recipes/*.py
    load(Path("recipes/distill_v1v3.py")).BLEND             # whatever the recipe calls so

A recipe is imported under a name of its own, so that one called datasets.py is nobody's `import datasets`.
"""

import ast
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

from nemo_distill.config.mistakes import COMMA, explained

FOLDER = Path("recipes")
"""Where recipes are looked for."""
PREFIX = "_nemo_distill_recipe_"
"""Of the name of a recipe's module."""


def recipe_files() -> list[Path]:
    """The recipes in ./recipes."""
    return sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_") and path.is_file())


def summary(path: Path) -> str:
    """The first line of a recipe's docstring, read without importing it."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError, OSError) as error:  # a null byte is a ValueError
        return f"cannot be read: {error}"
    except (MemoryError, RecursionError):
        return "cannot be read: it is nested too deeply for Python."
    return (docstring or "").partition("\n")[0]


def load(path: Path) -> ModuleType:
    """Import the recipe at `path`; what lies beside it can be imported, too. Raises `UserError` for a mistake in it."""
    # torch says it of a package that NeMo depends on; a user can do nothing about it.
    warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(PREFIX + path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # So that a dry run leaves no __pycache__ beside the recipe.
    writes_bytecode, sys.dont_write_bytecode = not sys.dont_write_bytecode, True
    try:
        with warnings.catch_warnings():
            # It is said as an error, when the row is called.
            warnings.filterwarnings("ignore", message=f".*{COMMA}", category=SyntaxWarning)
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise explained(error, path) from None
    finally:
        sys.dont_write_bytecode = not writes_bytecode
    return module
