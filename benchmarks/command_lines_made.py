"""Makes command lines of the settings' types, of the command's grammar, and of what reviews of the project tried.

    lines = all_lines()             # in a folder that has recipes/
    lines = sample(lines, 900)

Settings, their types and the options of commands are read off the code, so that a new one joins by itself. No value is
chosen for being refused: a type gives the values that its fields are fed, and a fixed seed draws the rest.
"""

import collections
import dataclasses
import json
import random
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from nemo_distill import cli
from nemo_distill.config import values
from nemo_distill.config.recipe import Recipe
from nemo_distill.config.scale import get_scale
from nemo_distill.config.settings import Settings
from nemo_distill.launch.context import settings_of
from nemo_distill.launch.executors import names as executors
from nemo_distill.launch.local.executor import LocalExecutor
from nemo_distill.launch.slurm.executor import SlurmExecutor

CASES = Path(__file__).with_name("command_lines.json")
"""Command lines, with the files they find, that reviews of the project tried."""
RECIPE = "recipes/distill_v1v3.py"
SEED = 20_261_128
SCALES = ("debug", "full")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One command line."""

    kind: str
    """Class: what its value or its words were made by."""
    words: tuple[str, ...]
    """Without the program's name."""
    feeds: tuple[str, ...] = ()
    """What was put into it: settings, options, or words of a command."""
    code: int | None = None
    """Exit code that it has to have, where the way it was made says so; None: oracles judge."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text of files that it finds, by path."""
    writes: bool = False
    """Whether it is a command that writes."""

    def __str__(self) -> str:
        return " ".join(self.words)


def values_of(hint: Any, rng: random.Random) -> Iterator[tuple[str, str]]:
    """(class, text) for a field of the type `hint`: right and wrong types, and the edges of each."""
    kinds = {_origin(kind) for kind in _kinds(hint)}
    if kinds & {int, float}:
        yield from (("negative", "-1"), ("negative", f"-{rng.uniform(0.001, 9):.3g}"), ("zero", "0"))
        yield from (("huge", "1000000000000"), ("huge", "1e30"), ("tiny", "1e-30"), ("not a number", "nan"))
        yield from (("not a number", "inf"), ("another unit", "10%"), ("another unit", "64GB"))
        yield "another unit", f"{rng.randint(1, 9)}e"
        yield from (("drawn", f"{10 ** rng.uniform(-4, 0):.3g}"), ("drawn", str(round(10 ** rng.uniform(0, 7)))))
    if bool in kinds:
        yield from (("drawn", rng.choice(["true", "false", "yes", "no", "on", "off"])), ("wrong type", "maybe"))
    if str in kinds:
        yield from (("odd text", "two words"), ("odd text", "café"), ("odd text", "[bold]"), ("odd text", "x" * 300))
        yield from (("odd text", "line\nbreak"), ("odd text", '"quoted'), ("drawn", _word(rng)))
        yield from (("wrong type", "7"), ("wrong type", "true"), ("another unit", "4h"), ("negative", "-1"))
    if kinds & {list, tuple}:
        yield from (("drawn", _word(rng)), ("drawn", f"[{_word(rng)}, {_word(rng)}]"), ("empty", "[]"))
        yield from (("negative", "-1"), ("zero", "0,0"), ("huge", "1e30,"), ("wrong type", "[[1]]"))
    if dict in kinds or any(dataclasses.is_dataclass(kind) for kind in kinds):
        yield from (("drawn", f"{{{_word(rng)}: {rng.randint(1, 99)}}}"), ("empty", "{}"), ("negative", "{a: -1}"))
        yield from (("wrong type", "{a: {b: c}}"), ("wrong type", "[{]"))
    if not kinds & {int, float}:
        yield "huge", "9" * 30
    yield from (("empty", ""), ("nothing", "null"))
    if not kinds & {list, tuple, str}:
        yield "wrong type", "text"
    yield from (("wrong type", "[1, 2]"), ("wrong type", "{a: 1}"))


def text_of(value: Any) -> str:
    """A value as a command says it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {text_of(one)}" for key, one in value.items()) + "}"
    return str(value)


def nearby(value: Any, rng: random.Random) -> str | None:
    """A number of the same size as `value`; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value:
        return None
    factor = rng.choice([0.5, 2, 3, 0.9, 1.1, 4])
    return f"{value * factor:.6g}" if isinstance(value, float) else str(max(1, round(value * factor)))


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8)))


def _kinds(hint: Any) -> tuple:
    hint = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    inner = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    return tuple(one for kind in inner for one in _kinds(kind)) if union else (hint,)


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def keys_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of every field that a command may set, parts of parts too."""
    for name, hint in values.hints_of(kind).items():
        inner = values.plain_type(hint)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and inner is not kind:
            yield from keys_of(inner, f"{prefix}{name}.")
        yield f"{prefix}{name}", hint


def preview(*words: str, scale: str = "debug", executor: str = "local") -> tuple[str, ...]:
    """A dry run of the recipe with these words."""
    on = () if executor == "local" else ("--executor", executor)
    return (RECIPE, *on, "--dryrun", f"scale={scale}", *words)


def setting_lines(rng: random.Random, own: Mapping[str, Recipe]) -> Iterator[Line]:
    """Every setting with everything its type gives, alone; with its own value; and with one near it at each scale."""
    for key, hint in keys_of(Settings):
        for kind, text in values_of(hint, rng):
            yield Line(kind=f"setting: {kind}", words=preview(f"{key}={text}"), feeds=(f"{key}={text}",))
        for scale, recipe in own.items():
            there, value = value_at(recipe, key)
            if there:
                word = f"{key}={text_of(value)}"
                yield Line(kind="setting: its own value", words=preview(word, scale=scale), feeds=(word,), code=0)
            if there and (near := nearby(value, rng)):
                word = f"{key}={near}"
                yield Line(kind="setting: nearby", words=preview(word, scale=scale), feeds=(word,))
    for executor, kind in (("local", LocalExecutor), ("slurm", SlurmExecutor)):
        for key, hint in keys_of(kind, "executor."):
            for made, text in values_of(hint, rng):
                word = f"{key}={text}"
                yield Line(kind=f"executor: {made}", words=preview(word, executor=executor), feeds=(word,))


def value_at(recipe: Recipe, key: str) -> tuple[bool, Any]:
    """Whether `recipe` has a value for the setting `key` that can be said again, and the value."""
    found: Any = recipe
    for part in key.split("."):
        if isinstance(found, Mapping) or not hasattr(found, part):
            return False, None
        found = getattr(found, part)
    named = key in ("blend", "scale", "teacher") or dataclasses.is_dataclass(found)
    plain = key.partition(".")[0] != "blend" and key not in ("prune.divisors", "evaluate.benchmarks")
    return plain and not named, found


def pair_lines(rng: random.Random, own: Mapping[str, Recipe], count: int) -> Iterator[Line]:
    """Two settings at once, each near its own value."""
    for _ in range(count):
        scale = rng.choice(SCALES)
        numbers = [(k, n) for k, _ in keys_of(Settings) if (n := nearby(value_at(own[scale], k)[1], rng))]
        words = [f"{key}={near}" for key, near in rng.sample(numbers, 2)]
        yield Line(kind="pair: nearby", words=preview(*words, scale=scale), feeds=tuple(words))


def name_lines(rng: random.Random) -> Iterator[Line]:
    """Keys with a letter lost, doubled or swapped, one part only, no value, or no key."""
    keys = [key for key, _ in keys_of(Settings)] + [f"executor.{name}" for name in values.settable(LocalExecutor)]
    for key in keys:
        place = rng.randrange(1, len(key))
        slip = rng.choice([key[:place] + key[place + 1 :], key[:place] + key[place] + key[place:], key.upper()])
        words = [("slip", f"{slip}=1")] if slip not in keys else []
        words += [("no value", key)]
        words += [("a part of it", f"{key}.part=1")] if not key.endswith("env_vars") else []  # where any name is one
        for kind, word in words:
            yield Line(kind=f"name: {kind}", words=preview(word), feeds=(word,), code=2)
    for word in ("=1", "=", "seed==1", ".=1", "seed =1", "--seed=1", "-s", "seed:1", "{}", "distill.=1", "a.b.c.d=1"):
        yield Line(kind="name: none", words=preview(word), feeds=(word,), code=2)


def grammar_lines(rng: random.Random) -> Iterator[Line]:
    """Every command with its arguments missing, too many or odd; its options misspelt, without a value, with any."""
    app: Any = typer.main.get_command(cli.command_line([RECIPE]))
    for name, command in app.commands.items():
        if name == "experiment" or (name.endswith(".py") and name != RECIPE):  # NeMo-Run's own; all recipes are alike
            continue
        recipe, places = name.endswith(".py"), [p for p in command.params if p.param_type_name == "argument"]
        least = ("--dryrun",) if recipe else ()
        needed = tuple(word for p in command.params if p.required and p not in places for word in (p.opts[0], "a/b"))
        runs = () if recipe else ("there_is_none",) * len(places)
        if places and not recipe and name != "new":
            yield Line(kind="command: a run that is not there", words=(name, *runs, *needed), feeds=runs, code=2)
        if any(p.required for p in places):
            feeds = tuple(name for p in places for name in (p.metavar or p.name, p.name))
            yield Line(kind="command: nothing said", words=(name,), feeds=feeds, code=2)
        if not recipe and name != "report":  # which takes any number
            words = (name, *runs, "one", "too", "many")
            yield Line(kind="command: too many words", words=words, feeds=("one too many", *runs), code=2)
        for odd in ("", "two words", "../..", "x" * 300, "-", "/proc/version"):
            if places and not recipe and name != "new":
                words = (name, odd, *["other"] * (len(places) - 1), *needed)
                yield Line(kind="command: odd run", words=words, feeds=(odd,), code=2)
        for option in (p for p in command.params if p.param_type_name == "option" and p.name != "help"):
            flag = option.opts[0]
            slip = flag[:-1] + ("" if len(flag) > 4 else "zz")
            yield Line(kind="option: slip", words=(name, *runs, *least, f"{slip}q"), feeds=(f"{slip}q",), code=2)
            if option.is_flag:
                yield Line(
                    kind="option: a value for a flag", words=(name, *runs, *least, f"{flag}=7"), feeds=(flag,), code=2
                )
                continue
            yield Line(kind="option: no value", words=(name, *runs, *least, flag), feeds=(flag,), code=2)
            for kind, text in values_of(_option_type(option), rng):
                if not text.startswith("-"):
                    others = needed if flag not in needed else ()
                    words = (name, *runs, *least, *others, flag, text)
                    feeds = (f"{flag} {text}", text, flag, *runs)  # a run that is not there may be said first
                    yield Line(kind=f"option: {kind}", words=words, feeds=feeds, code=None if recipe or not runs else 2)
        if recipe:
            for word in (*executors(), _word(rng), ""):
                known = word in executors()
                words = (name, "--dryrun", "--executor", word, "scale=debug")
                yield Line(kind="option: executor", words=words, feeds=(word or "--executor",), code=0 if known else 2)
    for command in (*app.commands, "run", "train", "ls", "gc"):
        slip = command[:-1] + "q"
        yield Line(kind="command: slip", words=(slip,), feeds=(slip,), code=2)
    for word in ("", "-", "--bogus", "recipes", "recipes/", "recipes/none.py", "none.py", ".", "/", "seed=1"):
        yield Line(kind="command: none", words=(word,), feeds=(word,), code=2)
    for words in ((), ("--help",), ("--version",), (RECIPE, "--help"), (RECIPE, "-h", "distill"), ("status", "--help")):
        yield Line(kind="help", words=words, code=0)
    for folder in ("study", "made/below", "café"):
        yield Line(kind="command: new", words=("new", folder), code=0, writes=True)
    yield Line(kind="command: new", words=("new", "recipes"), feeds=("recipes",), code=2)


def _option_type(option: Any) -> Any:
    kind = option.type_descriptor.annotation
    return kind if kind in (int, float, bool) else str


def case_lines() -> Iterator[Line]:
    """What reviews of the project tried."""
    for case in json.loads(CASES.read_text(encoding="utf-8")):
        yield Line(
            kind=f"case: {case['kind']}", words=tuple(case["words"]), feeds=tuple(case.get("feeds", ())),
            code=case["code"], files=case.get("files", {}),
        )  # fmt: skip


def all_lines(seed: int = SEED, *, pairs: int = 200) -> list[Line]:
    """Every line, in the order it is run; the current folder has the recipes."""
    rng = random.Random(seed)
    settings = settings_of(cli.load_recipe(Path(RECIPE)))
    assert settings
    own = {scale: Recipe.of("own", settings, get_scale(scale), at_once=True) for scale in SCALES}
    made = [
        *setting_lines(rng, own), *pair_lines(rng, own, pairs), *name_lines(rng), *grammar_lines(rng), *case_lines(),
    ]  # fmt: skip
    return list({(line.words, tuple(line.files.items())): line for line in made}.values())


def sample(lines: list[Line], count: int, seed: int = SEED) -> list[Line]:
    """`count` of the lines, of every class its part and one at least; cases are never left out."""
    rng, by_kind = random.Random(seed), collections.defaultdict(list)
    for line in lines:
        by_kind[line.kind].append(line)
    chosen = []
    for kind, some in by_kind.items():
        part = len(some) if kind.startswith("case:") else max(1, round(count * len(some) / len(lines)))
        chosen += rng.sample(some, min(part, len(some)))
    return chosen
