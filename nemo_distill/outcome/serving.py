"""Says what is measured of served checkpoints, before anything runs.

benched = benched_of(recipe)                    # None where nothing is; UserError for what cannot be
benched.engine["version"], benched.plan.settings[0].output_tokens
hours_of(spec.config, teacher=794, student=963)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluator.serve.bench import Plan
from evaluator.serve.throughput import Setting
from evaluator.serve.vllm import Vllm, find_vllm, options
from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import UserError
from nemo_distill.outcome.measured import SERVE_BENCH

TEACHER = "teacher"
"""Label of the checkpoint that no step made."""


@dataclass(frozen=True, kw_only=True)
class Benched:
    """What is measured of each checkpoint."""

    plan: Plan
    """The settings, and the contexts to decode at."""
    engine: Mapping[str, Any]
    """Version and options of vLLM, as plain JSON data."""


def benched_of(recipe: Recipe) -> Benched | None:
    """What `recipe` has measured; None: nothing.

    Raises `UserError` for a setting that is none, and where vLLM is not there.
    """
    asked = recipe.serve_bench
    if not (asked.settings or asked.contexts):
        if asked.checkpoints is not None:
            raise UserError(
                f"serve_bench.checkpoints={','.join(asked.checkpoints)} names what is measured, and not at what: say "
                "serve_bench.settings=32768/1024x16,512/4096x128, too."
            )
        return None
    plan = plan_of(asked.settings, asked.contexts)
    try:
        found = find_vllm(recipe.evaluate.vllm, needed_by=SERVE_BENCH)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Benched(plan=plan, engine=engine_of(found, plan))


def plan_of(settings: tuple[str, ...], contexts: tuple[int, ...]) -> Plan:
    """The plan that these words say. Raises `UserError` for one that says none."""
    try:
        return Plan(settings=tuple(map(Setting.parse, settings)), contexts=tuple(contexts))
    except ValueError as error:
        raise UserError(f"serve_bench: {error}") from None


def engine_of(vllm: Vllm, plan: Plan) -> dict[str, Any]:
    """What vLLM decides of what is measured, as plain JSON data."""
    return {"name": "vllm", "version": vllm.version, "options": list(options(plan.context))}


def check_context(config: Mapping[str, Any], context: int) -> None:
    """Raise `UserError` for a setting in the step's config that is longer than the model's `context` in tokens."""
    plan = _plan_in(config)
    for setting in plan.settings:
        if setting.length > context:
            room = context - setting.output_tokens
            near = f"{room}/{setting.output_tokens}" if room > 0 else f"1/{context - 1}"
            raise UserError(
                f"serve_bench.settings={setting} is {setting.length:,} tokens long, and the model's context "
                f"(max_position_embeddings in its config) has {context:,}: the nearest is {near}x{setting.in_flight}."
            )
    for at in plan.contexts:
        if at >= context:
            raise UserError(
                f"serve_bench.contexts={at} is beyond the model's context (max_position_embeddings in its config) of "
                f"{context:,} tokens: say {context - 1} at most."
            )


def loads_of(config: Mapping[str, Any], batched_tokens: int) -> list[tuple[str, list[Setting]]]:
    """What a step of that config asks of each server that it starts, in order, by the checkpoint's label.

    A server computes `batched_tokens` at a time.
    """
    plan, labels = _plan_in(config), [label for label, _ in config["checkpoints"]]
    parts = [part.setting for part in plan.parts(batched_tokens)]
    again = list(plan.at_the_end) if len(labels) > 1 else []
    return [(label, parts) for label in labels] + ([(labels[0], again)] if again else [])


def _plan_in(config: Mapping[str, Any]) -> Plan:
    return plan_of(tuple(config["settings"]), tuple(config.get("contexts", ())))
