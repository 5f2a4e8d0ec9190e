"""Reads how fast models were served, from what the steps `serve_bench` of runs left.

    with_rates(models, run.specs.values())[0].rates[0].mean         # generated tokens per second and GPU

A rate is that of every checkpoint of one identity (its config and the sizes of its weights), whichever was measured:
lengths are forced, so that no weight decides it. What was not measured has no rate.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evaluator.results.board import Conditions, Model, Rate, Setting
from evaluator.results.run import ROLE_TITLES
from evaluator.serve.bench import identity_of
from evaluator.serve.throughput import Setting as Load
from evaluator.serve.throughput import read_throughput
from nemo_distill.errors import UserError, nearest
from nemo_distill.run.step import Spec, is_done

_SETTING = re.compile(r"([0-9]{1,30})/([0-9]{1,30})(?:x([0-9]{1,30})(?::([0-9]{1,30}))?)?")


def with_own_rates(models: Sequence[Model], specs: Iterable[Spec]) -> list[Model]:
    """A run's models, each with the rates that were measured of it."""
    found = [one for folder in _steps(specs) for one in _measured(folder)]
    return [replace(model, rates=tuple(rate for _, label, rate in found if label == _label(model))) for model in models]


def with_rates(models: Sequence[Model], specs: Mapping[str, Iterable[Spec]]) -> list[Model]:
    """The models, each also with the rates that were measured of others of its shape and format in these conditions.

    `specs` are those of runs, by what a run's models are called beside others'.
    """
    found: dict[str, dict[Rate, None]] = {}
    for blend, own in specs.items():
        for folder in _steps(own):
            for identity, label, rate in _measured(folder):
                of = label if label in ROLE_TITLES else f"{blend} {label}".strip()
                found.setdefault(identity, {})[replace(rate, of=of)] = None
    return [replace(model, rates=(*model.rates, *_others(model, found))) for model in models] if found else [*models]


def _others(model: Model, found: Mapping[str, Iterable[Rate]]) -> Iterator[Rate]:
    """Rates of others of its identity, where it was not measured alike itself."""
    own = {(rate.setting, rate.conditions) for rate in model.rates}
    for rate in found.get(_identity(model), ()):
        if (rate.setting, rate.conditions) not in own:
            yield rate


def _steps(specs: Iterable[Spec]) -> list[Path]:
    """Folders of the steps that measured anything, each once."""
    done = (spec.folder for spec in specs if spec.module.endswith(".serve_bench") and is_done(spec.folder))
    return list(dict.fromkeys(done))


def _label(model: Model) -> str:
    """What steps call it."""
    return model.role if model.role in ROLE_TITLES else model.title


def _measured(folder: Path) -> Iterator[tuple[str, str, Rate]]:
    """Identity and label of each checkpoint that was served, with one of its rates; of the control, none of its own."""
    throughput = read_throughput(folder)
    if throughput is None:
        return
    for served in throughput.models:
        for rate in () if served.control else served.rates:
            load = Load.parse(rate.setting)
            again = [
                one.tokens_per_second
                for control in throughput.models
                if control.control and control.identity == served.identity
                for one in control.rates
                if one.setting == rate.setting
            ]
            conditions = Conditions(
                gpu=throughput.gpu.removeprefix("NVIDIA "),
                engine=f"vLLM {throughput.vllm}",
                load=_load_text(load.in_flight, load.requests),
            )
            setting = (load.input_tokens, load.output_tokens)
            yield (
                served.identity,
                served.label,
                Rate(
                    setting=setting,
                    conditions=conditions,
                    values=(rate.tokens_per_second,),
                    controls=tuple(again),
                    folder=f"{folder.parent.name}/{folder.name}",
                ),
            )


def _load_text(in_flight: object, requests: object) -> str:
    """How many requests were under way, and how many there were where they are more."""
    return f"{in_flight} in flight" + ("" if requests == in_flight else f", {requests} requests")


def _identity(model: Model) -> str:
    """Of its files; empty where they are not at hand, or in a format that is not served."""
    if model.files is None:
        return ""
    try:
        return identity_of(model.files)
    except (OSError, ValueError):
        return ""


def at_setting(models: Sequence[Model], asked: str | None, usual: Setting) -> tuple[Setting, list[Model]]:
    """The setting that is shown, and the models with what was measured so, where `asked` says how many are in flight.

    Raises `UserError` for a setting at which nothing was measured.
    """
    there = [rate.setting for model in models for rate in model.rates]
    if asked is None:
        return usual if usual in there or not there else max(sorted(set(there)), key=there.count), list(models)
    words = {"/".join(map(str, setting)) for setting in (*there, usual)}
    said = _SETTING.fullmatch(asked.replace(",", "").strip())
    setting = (int(said[1]), int(said[2])) if said else None
    if setting is None or (setting not in there and setting != usual):
        what = "no rate was measured at that" if said else "a setting is INPUT/OUTPUT in tokens"
        raise UserError(f"--setting {asked}: {what}. {nearest(asked, sorted(words))}")
    if not (said and said[3]):
        return setting, list(models)
    load = _load_text(said[3], said[4] or said[3])
    loads = {rate.conditions.load for model in models for rate in model.rates if rate.setting == setting}
    if load not in loads:
        numbers = (":".join(re.findall(r"\d+", one)) for one in sorted(loads))
        listed = [f"{setting[0]}/{setting[1]}x{one}" for one in numbers]
        raise UserError(f"--setting {asked}: no rate was measured with so many in flight. {nearest(asked, listed)}")
    return setting, [
        replace(model, rates=tuple(rate for rate in model.rates if rate.conditions.load == load)) for model in models
    ]
