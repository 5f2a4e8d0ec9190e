"""A recipe: the values that decide a run, and what its file says, read without running it.

    Recipe.of("distill_v1v3-debug", settings, get_scale("debug")).milestones
    blend_of(Path("recipes/distill_v1v3.py")).shares["stem"]        # 10.0

Importing a recipe's file loads NeMo-Run and torch, which takes seconds; `blend_of` does not.
"""

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.config.blend import Blend
from nemo_distill.config.scale import Scale
from nemo_distill.config.schedule import Milestone, Schedule
from nemo_distill.config.settings import Distill, Evaluate, Layout, Prepare, Prune, Settings, filled
from nemo_distill.errors import UserError

BLEND = "BLEND"
"""What a recipe calls its blend."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A blend with a value for every setting: all that decides the steps."""

    name: str
    """What its runs are called."""
    blend: Blend
    prepare: Prepare
    prune: Prune
    distill: Distill
    evaluate: Evaluate
    layout: Layout
    scale: Scale
    seed: int
    """Of the sample order and of the answers."""

    @classmethod
    def of(cls, name: str, settings: Settings, scale: Scale) -> "Recipe":
        """The recipe that `settings` are at `scale`, which fills in what they leave open."""
        return cls(
            name=name,
            blend=settings.blend,
            prepare=filled(settings.prepare, scale.prepare, scale=scale.name),
            prune=filled(settings.prune, scale.prune, scale=scale.name),
            distill=filled(settings.distill, scale.distill, scale=scale.name),
            evaluate=filled(settings.evaluate, scale.evaluate, scale=scale.name),
            layout=filled(settings.layout, scale.layout, scale=scale.name),
            scale=scale,
            seed=settings.seed,
        )

    @property
    def schedule(self) -> Schedule:
        """Tokens, iterations and learning rate of the whole distillation."""
        return Schedule.of(dataclasses.asdict(self.distill))

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """Where the distillation is cut, in order."""
        return self.schedule.milestones(self.distill.milestones)


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
