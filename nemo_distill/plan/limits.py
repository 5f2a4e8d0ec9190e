"""Settings that cannot work with the teacher, by its config.json and by what ModelOpt can make of it.

    check(recipe, shape, asked.loads, context=None)         # UserError: a sentence with the nearest that works

Checked in the preview, and by the step `prune` for a teacher whose config.json could not be had before.
"""

import math
from collections.abc import Mapping, Sequence

from nemo_distill import families
from nemo_distill.config.benchmarks import files_of
from nemo_distill.config.recipe import Recipe
from nemo_distill.errors import UserError
from nemo_distill.nemotron_h.shape import LAYER_KINDS, Shape
from nemo_distill.outcome.suites import Load, own_questions
from nemo_distill.plan.quantisation import range_length
from nemo_distill.plan.targets import Asked, check_targets

HELD_OUT = 8
"""Sequences of which one is held out from ranking, to score candidates (`steps.prune`)."""
SHORTEST = 16
"""Tokens that documents of the debug world have at least, on average."""
MMLU = "mmlu"
"""The score that takes questions, and no held-out text."""
OFFLINE = "offline"
"""A suite whose answers are short."""


def check(recipe: Recipe, teacher: Shape, loads: Sequence[Load], *, context: int | None) -> None:
    """Raise `UserError` for the first setting of `recipe` that cannot work.

    `loads` are what every checkpoint is asked, in a context of so many tokens; None: the model's own.
    """
    check_attention(teacher)
    check_pruning(teacher, recipe.prune)
    _check_calibration(recipe)
    _check_held_out(recipe)
    if recipe.distill.seq_length > teacher.max_position_embeddings:
        raise UserError(
            f"distill.seq_length={recipe.distill.seq_length} is longer than the teacher's context "
            f"(max_position_embeddings in its config): the nearest is distill.seq_length="
            f"{teacher.max_position_embeddings}."
        )
    _check_pairs(recipe, teacher)
    _check_answers(recipe, loads, context or teacher.max_position_embeddings)


def _check_calibration(recipe: Recipe) -> None:
    """An eighth of the sequences is held out, by which a score ranks candidates; sources hold what is published."""
    asked, length = recipe.prune.calibration_sequences, recipe.scale.calibration_seq_length
    if recipe.prune.export_config is None and recipe.prune.score != MMLU and asked < HELD_OUT:
        raise UserError(
            f"prune.calibration_sequences={asked} leaves prune.score={recipe.prune.score} no text: an eighth of "
            f"them is held out to score candidates; the nearest is prune.calibration_sequences={HELD_OUT}."
        )
    _check_text(recipe, "prune.calibration_sequences", asked, length)
    if recipe.quantize.format != "none":
        _check_text(
            recipe, "quantize.calibration_sequences", recipe.quantize.calibration_sequences, range_length(recipe.scale)
        )


def _check_text(recipe: Recipe, setting: str, asked: int, length: int) -> None:
    """Raise `UserError` where the calibration's sources hold less than `asked` sequences of so many tokens."""
    held = _tokens_held(recipe, wanted=asked * length)
    if held is not None and asked * length > held:
        names = " and ".join(source.name for source in recipe.calibration)
        raise UserError(
            f"{setting}={asked} of {length:,} tokens are more than the {held:,} that {names} holds; the nearest is "
            f"{setting}={held // length}."
        )


def _check_held_out(recipe: Recipe) -> None:
    """Of the debug world, whose documents are counted, some are held out."""
    share, rows = recipe.prepare.held_out, min((recipe.scale.world or {}).get("documents", {0: math.inf}).values())
    if share and share * rows < 1:
        raise UserError(
            f"prepare.held_out={share:g} holds out none of the {rows:,} documents of a source of the "
            f"{recipe.scale.name} scale: prepare.held_out=0.01 holds out about {0.01 * rows:.0f}."
        )


def _tokens_held(recipe: Recipe, *, wanted: int) -> int | None:
    """Tokens of what ranks activations; None where nobody knows, or where there surely are as many as `wanted`."""
    world = recipe.scale.world
    if not world:
        known = [source.available for source in recipe.calibration]
        return None if None in known else sum(filter(None, known))
    counts = {source.name: world["documents"].get(source.name) for source in recipe.calibration}
    if None in counts.values() or wanted <= SHORTEST * min(counts.values()) or recipe.teacher.on_hub:
        return None
    from nemo_distill.data.documents import Document
    from nemo_distill.data.tokenizer import Tokenizer  # takes a second, and few ask for as much
    from nemo_distill.debug.corpora import documents

    tokenizer, held = Tokenizer(recipe.teacher.path), 0
    for source in recipe.calibration:
        rows = documents(source.name, seed=world["seed"], count=counts[source.name])
        plain = source.field == "text"
        texts = [tokenizer.text(Document(0, row["text"] if plain else row["messages"])) for row in rows]
        held += sum(len(ids) + plain for ids in tokenizer.encode(texts, special=plain))
    return held


def _check_pairs(recipe: Recipe, teacher: Shape) -> None:
    """Neither model has more layers than the teacher; how many a searched student has is seen once it is built."""
    for name in (name for pair in recipe.distill.intermediate_layers for name in pair):
        number = name.rpartition(".")[2]
        if number.isdigit() and int(number) >= teacher.num_layers:
            raise UserError(
                f"distill.intermediate_layers names {name}, and the teacher's last layer is "
                f"decoder.layers.{teacher.num_layers - 1}."
            )


def check_attention(teacher: Shape) -> None:
    """Raise `UserError` for a teacher that transformers, by which a checkpoint is served, cannot generate with."""
    if "*" not in teacher.pattern:
        raise UserError(
            f"the teacher's {teacher.num_layers} layers ({teacher.pattern}) have no attention layer among them, and "
            "transformers, by which checkpoints are served, generates nothing without one."
        )


def check_pruning(teacher: Shape, asked: Asked) -> None:
    """Raise `UserError` for a target, or for sizes, that pruning cannot reach, or that leave the teacher as it is."""
    choices = families.of(teacher).choices(teacher, asked.divisors)
    own = teacher.to_megatron()
    for name, values in choices.items():
        divisor = asked.divisors.get(f"{name}_divisor")
        if divisor is not None and divisor > own[name]:
            raise UserError(
                f"prune.divisors {name}={divisor} is above the teacher's {own[name]}, so that there is nothing "
                f"smaller; the nearest that leaves a choice is {own[name] // 2}."
            )
        assert own[name] in values
    if asked.export_config is not None:
        _check_sizes(teacher, asked.export_config, choices)
    else:
        check_targets(teacher, asked)


def _check_sizes(teacher: Shape, sizes: Mapping[str, int], choices: Mapping[str, list[int]]) -> None:
    own = teacher.to_megatron()
    kinds = [kind for kind in LAYER_KINDS if kind in teacher.pattern]
    for name, value in sizes.items():
        said = f"prune.export_config {name}={value!r}"
        if name not in choices:
            raise UserError(f"{said}: the teacher, {teacher.pattern}, has no layers of that kind.")
        allowed = choices[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{said} is no whole number; the teacher has {own[name]}.")
        if value not in allowed:
            possible = [choice for choice in allowed if name != "num_layers" or choice >= len(kinds)]
            near = min(possible, key=lambda choice: (abs(choice - value), choice))
            step = f"multiples of {allowed[0]} up to" if len(allowed) > 1 else "nothing but"
            raise UserError(f"{said}: ModelOpt takes {step} the teacher's {own[name]}; the nearest is {near}.")
        if name == "num_layers" and value < len(kinds):
            near = min(choice for choice in allowed if choice >= len(kinds))
            named = ", ".join(LAYER_KINDS[kind] for kind in kinds)
            raise UserError(f"{said} has no room for one layer of each kind ({named}); the nearest that has is {near}.")
    if all(value == own[name] for name, value in sizes.items()):
        given = "has the teacher's own sizes" if sizes else "names no size"
        smaller = next(f"'{name}': {values[-2]}" for name, values in choices.items() if len(values) > 1)
        raise UserError(
            f"prune.export_config={dict(sizes)} {given}, so that the student would be the teacher: "
            f"prune.export_config={{{smaller}}} is the nearest that prunes."
        )


def _check_answers(recipe: Recipe, loads: Sequence[Load], context: int) -> None:
    longest = _longest_question(recipe)
    over = [load for load in loads if load.max_new_tokens is not None and load.max_new_tokens + longest > context]
    if not over:
        return
    if longest >= context:
        raise UserError(
            f"evaluate.benchmarks has a question of {longest:,} tokens, which a context of {context:,} "
            "(max_position_embeddings in the teacher's config) does not hold: shorten it, or leave it out."
        )
    room = (
        f"no room for a question in a context of {context:,} tokens (max_position_embeddings in the teacher's config)"
    )
    fixed = [load for load in over if load.own_limit]
    if fixed:
        listed = ", ".join(f"{load.title} ({load.max_new_tokens:,})" for load in fixed)
        if fixed[0].title in {one.title for one in recipe.evaluate.benchmarks}:
            raise UserError(
                f"evaluate.benchmarks has answers so long that they leave {room}: {listed}; the most is "
                f"max_new_tokens={context - longest}."
            )
        raise UserError(
            f"evaluate.suite={recipe.evaluate.suite} has benchmarks with answers so long, whatever the settings say, "
            f"that they leave {room}: {listed}. Take another evaluate.suite, such as {OFFLINE}."
        )
    load, asked = over[0], recipe.evaluate.max_new_tokens
    what = f"evaluate.suite={recipe.evaluate.suite}, with {load.max_new_tokens:,} new tokens in {load.title},"
    if asked == load.max_new_tokens:
        what = f"evaluate.max_new_tokens={asked}"
    if longest > 1:
        near = f"{context - longest}: the longest question has {longest} tokens"
    else:
        near = f"{context // 2}, for one, leaves half of it"
    raise UserError(f"{what} leaves {room}; the nearest is evaluate.max_new_tokens={near}.")


def _longest_question(recipe: Recipe) -> int:
    """Tokens of the longest question where a limit is set, or questions are a recipe's own, and both they and the
    tokenizer are at hand; else 1, at least."""
    asked = recipe.evaluate.max_new_tokens or files_of(recipe.evaluate.benchmarks)
    questions = own_questions(recipe.evaluate) if asked and not recipe.teacher.on_hub else []
    if not questions:
        return 1
    from nemo_distill.data.tokenizer import Tokenizer  # takes a second, and most runs set no limit

    tokenizer = Tokenizer(recipe.teacher.path)
    return max(map(tokenizer.prompt_length, questions))
