"""What a recipe file says, read without running it: importing one loads NeMo-Run and torch, which takes seconds.

blend_of(Path("recipes/distill_v1v3.py")).shares["stem"]        # 10.0
"""

import ast
from pathlib import Path

from nemo_distill.blend import Blend
from nemo_distill.errors import UserError

BLEND = "BLEND"
"""What a recipe calls its blend."""


def blend_of(path: Path) -> Blend | None:
    """The blend that the recipe at `path` assigns to `BLEND`; None when it has none.

    Only that assignment is run, and the imports and assignments that it rests on. Raises `UserError` when the file is
    no Python, or the blend cannot be.
    """
    try:
        module = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    binding: dict[str, ast.stmt] = {}
    for statement in module.body:
        for name in _bound(statement):
            binding[name] = statement
    if BLEND not in binding:
        return None
    needed, names = set(), [BLEND]
    while names:
        statement = binding.get(names.pop())
        if statement is not None and statement not in needed:
            needed.add(statement)
            names += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    module.body = [statement for statement in module.body if statement in needed]
    scope: dict = {"__name__": path.stem}
    exec(compile(module, str(path), "exec"), scope)
    return scope[BLEND]


def _bound(statement: ast.stmt) -> list[str]:
    """Names that an import or an assignment at the top of a module gives a meaning."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
