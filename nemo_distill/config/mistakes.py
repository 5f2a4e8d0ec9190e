"""What is wrong in a recipe, in a sentence with its line and the nearest right name.

    recipes/mine.py:25: Distill has no argument 'learning_rat'. Did you mean 'learning_rate'?

A mistake is shown where the recipe made it, however deep in this package or another it was noticed.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from nemo_distill.errors import UserError, nearest, slip_of

COMMA = "object is not callable; perhaps you missed a comma?"
"""What Python warns of when it compiles two rows with no comma between them."""
_CALL = r"(?:\w+\.)*?(\w+?)(?:\.__init__|\.__new__)?\(\)"
"""What Python calls the function of a call that it refuses."""
NEMO_RUN = ("nemo_run", "fiddle")
"""Packages whose own entry points a recipe may have used before."""


def explained(error: BaseException, recipe: Path) -> UserError:
    """The mistake that `recipe` made, as a sentence; `error` was raised while its code was read or run."""
    if isinstance(error, SyntaxError):
        file = recipe if error.filename in (None, str(recipe)) else Path(error.filename)
        column = f":{error.offset}" if error.offset else ""
        return UserError(f"{_shown(file)}:{error.lineno or 1}{column}: {error.msg}.")
    if isinstance(error, UnicodeDecodeError) or (isinstance(error, ValueError) and "null bytes" in str(error)):
        return UserError(f"{recipe} cannot be read: {error}.")
    file, line, frame = _place(error, recipe)
    said = _sentence(error, file, line, frame)
    return UserError(f"{_shown(file)}:{line}: {said}" if line else f"{_shown(file)}: {said}")


def made_by(error: BaseException, recipe: Path) -> bool:
    """Whether the code of `recipe` itself raised `error`, or called what there is in a way that it cannot be called."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return traceback is not None and _is(traceback.tb_frame, recipe)


def entry_point(module: Any, path: Path, mark: str) -> Callable[..., None]:
    """The one function of a recipe's `module` that bears the `mark` of an entry point.

    Raises `UserError` where there is none or more than one, or where it cannot be called with settings.
    """
    functions = [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]
    marked = [one for one in functions if hasattr(one, mark)]
    if len(marked) > 1:
        found = " and ".join(f"{one.__name__} on line {_line(one)}" for one in marked)
        raise UserError(f"{path}:{_line(marked[1])}: @entrypoint is on {found}; a recipe has one.")
    if not marked:
        raise UserError(_no_entry_point(module, path, functions))
    (function,) = marked
    parameters = list(inspect.signature(function).parameters.values())
    where = f"{path}:{_line(function)}: {function.__name__}"
    if not parameters:
        raise UserError(f"{where} is given a Context: write def {function.__name__}(ctx: Context, settings: ...).")
    for parameter in parameters[1:]:
        if parameter.default is inspect.Parameter.empty:
            raise UserError(
                f"{where} has no default for '{parameter.name}', and nothing else says what it is: write "
                f"{parameter.name}: Settings = SETTINGS."
            )
    return function


def _no_entry_point(module: Any, path: Path, functions: list) -> str:
    other = [name for name, one in vars(module).items() if getattr(one, "__name__", None) in NEMO_RUN]
    defined = [one for one in functions if inspect.isfunction(one)]
    if not defined:
        return f"{path} has no function under @entrypoint, which is what a recipe is started by."
    line = _line(defined[-1])
    where = f"{path}:{line}: put @entrypoint, from nemo_distill, above def {defined[-1].__name__}"
    return f"{where} in place of {other[0]}.cli.entrypoint(...)." if other else f"{where}: a recipe is started by it."


def _line(function: Any) -> int:
    return inspect.unwrap(function).__code__.co_firstlineno


def _place(error: BaseException, recipe: Path) -> tuple[Path, int, FrameType | None]:
    """The last place in the recipe, or in a file beside it, that the error came by."""
    found: tuple[Path, int, FrameType | None] = (recipe, 0, None)
    traceback = error.__traceback__
    while traceback:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if _is(traceback.tb_frame, recipe):
            found = (recipe, traceback.tb_lineno, traceback.tb_frame)
        elif file.is_file() and file.resolve().parent == recipe.resolve().parent:
            found = (file, traceback.tb_lineno, traceback.tb_frame)
        traceback = traceback.tb_next
    return found


def _is(frame: FrameType, recipe: Path) -> bool:
    file = Path(frame.f_code.co_filename)
    return file == recipe or (file.is_file() and file.resolve() == recipe.resolve())


def _shown(file: Path) -> Path:
    here = Path.cwd()
    return file.relative_to(here) if file.is_absolute() and file.is_relative_to(here) else file


def _sentence(error: BaseException, file: Path, line: int, frame: FrameType | None) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError):
        return _of_import(error, file, line)
    text = str(error)
    names = {**frame.f_globals, **frame.f_locals} if frame else {}
    if isinstance(error, NameError) and error.name in ("run", "nemo_run"):
        return f"nothing is called '{error.name}' here: @entrypoint and main come from nemo_distill."
    if isinstance(error, NameError) and error.name:
        return f"nothing is called '{error.name}' here. {_near(error.name, [*names, *_facade().__all__])}".rstrip()
    if isinstance(error, AttributeError) and error.name:
        known = [name for name in dir(error.obj) if not name.startswith("_")]
        return f"{_name_of(error.obj)} has no '{error.name}'. {_near(error.name, known)}".rstrip()
    if isinstance(error, TypeError):
        return _of_call(text, names)
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def _of_import(error: ImportError, file: Path, line: int) -> str:
    wanted = _imported_at(file, line)
    here = [name for name in wanted if name in _facade().__all__]
    package = (error.name or "").partition(".")[0]
    if package == "nemo_distill" and here and len(here) == len(wanted):
        comes = "comes" if len(here) == 1 else "come"
        return f"{', '.join(here)} {comes} from nemo_distill: write from nemo_distill import {', '.join(here)}."
    missing = re.search(r"cannot import name '(\w+)'", str(error))
    if missing:
        module = error.name or ""
        known = _facade().__all__ if module == "nemo_distill" else _names_of(module)
        return f"{module} has no '{missing.group(1)}'. {_near(missing.group(1), known)}".rstrip()
    if isinstance(error, ModuleNotFoundError) and package == "nemo_distill":
        return f"there is no module {error.name}; what a recipe needs is in nemo_distill itself."
    if isinstance(error, ModuleNotFoundError):
        near = slip_of(error.name or "", [path.stem for path in file.resolve().parent.glob("*.py")])
        hint = f" Did you mean '{near}'?" if near else ""
        return f"there is no module '{error.name}', neither installed nor beside the recipe.{hint}"
    return f"{error}."


def _imported_at(file: Path, line: int) -> list[str]:
    """Names that the import statement on that line asks for."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.lineno <= line <= (node.end_lineno or node.lineno):
            return [name.name for name in node.names]
    return []


def _of_call(text: str, names: dict[str, Any]) -> str:
    """A TypeError of a call, by Python's own words."""
    unexpected = re.fullmatch(rf"{_CALL} got an unexpected keyword argument '(\w+)'", text)
    if unexpected:
        callee, argument = unexpected.groups()
        return f"{callee} has no argument '{argument}'. {_near(argument, _arguments(callee, names))}".rstrip()
    missing = re.fullmatch(rf"{_CALL} missing \d+ required (?:keyword-only |positional )?arguments?: (.*)", text)
    if missing:
        return f"{missing.group(1)} needs {missing.group(2)} as well."
    positional = re.match(rf"{_CALL} takes \d+ positional arguments?", text)
    if positional:
        known = _arguments(positional.group(1), names)
        return f"{positional.group(1)} takes its arguments by name: {', '.join(f'{name}=' for name in known) or text}."
    if text.endswith("object is not callable"):
        return f"a {text}: is a comma missing at the end of a row?"
    return f"{text}."


def _arguments(callee: str, names: dict[str, Any]) -> list[str]:
    there = names.get(callee) or getattr(_facade(), callee, None)
    if dataclasses.is_dataclass(there):
        return [field.name for field in dataclasses.fields(there) if field.init]
    return [name for name in inspect.signature(there).parameters if name != "self"] if callable(there) else []


def _facade() -> Any:
    """The package itself, which recipes import from, and this room does not."""
    return sys.modules[__name__.partition(".")[0]]


def _names_of(module: str) -> list[str]:
    return [name for name in dir(sys.modules.get(module)) if not name.startswith("_")]


def _name_of(thing: Any) -> str:
    name = getattr(thing, "__name__", None)
    return str(name) if name else f"a {type(thing).__name__}"


def _near(word: str, known: list[str]) -> str:
    """The name that `word` is a slip of; or those of a short list; else nothing."""
    if near := slip_of(word, known):
        return f"Did you mean '{near}'?"
    return nearest(word, known, most=20) if 0 < len(known) <= 20 else ""
