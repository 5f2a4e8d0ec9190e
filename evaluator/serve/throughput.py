"""What served checkpoints reach on one GPU: tokens per second, latency, memory, and the file that keeps it.

    found = read_throughput(Path("runs/serve_bench/0123456789ab"))     # None where there is no such file
    found.gpu, found.vllm                                              # "NVIDIA H100 80GB HBM3", "0.24.0"
    rate = found.model("80B-fp8").rate("32768/1024x16")
    rate.tokens_per_second, found.model("80B-fp8").memory.weights_gib, found.ratio("80B-fp8", "32768/1024x16")

results.json has the fields of `Throughput` and, within it, of what it holds, by these names; units are in the names, or
beside the fields below. What was not measured is null or not listed. `evaluator.serve.bench` measures.

    {"form": 1, "gpu": "NVIDIA H100 80GB HBM3", "vllm": "0.24.0", "settings": ["32768/1024x16"],
     "models": [{"label": "80B", "identity": "0123456789ab", "control": false,
                 "memory": {"weights_gib": 13.1, "cache_gib": 55.0, "cache_tokens": 2100000, "used_gib": 72.4},
                 "rates": [{"setting": "32768/1024x16", "tokens_per_second": 963.0, "seconds": 17.0,
                            "generated_tokens": 16384, "prompt_tokens": 524288,
                            "first_token_median_ms": 9000.0, "first_token_p99_ms": 16000.0,
                            "inter_token_median_ms": 12.0, "inter_token_p99_ms": 300.0, "preemptions": 0}],
                 "decoding": [{"context_tokens": 1026.0, "in_flight": 128, "tokens_per_second": 4100.0, "seconds": 7.5,
                               "preemptions": 0}],
                 "aime_gpu_hours": 1.2}]}

Models are in the order in which they were measured. The last may be the first once more, `control`: what drifted in
between is in their ratio, and no other figure is of it.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

RESULTS_FILE = "results.json"
FORM = 1
"""Of the file; another number is read by another version."""
AIME_ANSWERS, AIME_TOKENS = 30 * 32, 15_000
"""Answers that AIME takes of a checkpoint with the study's repeats, and the tokens of one where a model reasons."""
STUDY_SETTING = "32768/1024x16:32"
"""Lengths at which the study measured; how many were in flight it does not say."""
_SETTING = re.compile(r"([0-9]{1,30})/([0-9]{1,30})x([0-9]{1,30})(?::([0-9]{1,30}))?")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A load: requests of one length, so many at a time."""

    input_tokens: int
    """Tokens of each prompt."""
    output_tokens: int
    """Tokens of each answer, which does not end before."""
    in_flight: int
    """Number of requests at a time."""
    requests: int
    """Number of requests in all."""

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """The setting that a text says: INPUT/OUTPUTxIN_FLIGHT, and :REQUESTS where they are not one for each place.

        Raises ValueError, in one sentence, for a text that says none.

        >>> Setting.parse("512/4096x128").requests, str(Setting.parse("32768/1024x16:32"))
        (128, '32768/1024x16:32')
        """
        said = _SETTING.fullmatch(text.strip())
        if not said:
            raise ValueError(
                f"'{text}' is no setting: INPUT/OUTPUTxIN_FLIGHT, in tokens and requests, and :REQUESTS behind it "
                "where they are more than those in flight, e.g. 32768/1024x16 or 512/4096x128:256."
            )
        given, asked, places, count = said.groups()
        setting = cls(
            input_tokens=int(given), output_tokens=int(asked), in_flight=int(places), requests=int(count or places)
        )
        if min(setting.input_tokens, setting.in_flight) < 1 or setting.output_tokens < 2:
            raise ValueError(f"'{text}' is no setting: at least 1 token in, 2 out and 1 request in flight (1/2x1).")
        if setting.requests < setting.in_flight:
            raise ValueError(
                f"'{text}' has {setting.requests} requests for {setting.in_flight} places: the nearest is "
                f"{given}/{asked}x{places}."
            )
        return setting

    def __str__(self) -> str:
        count = "" if self.requests == self.in_flight else f":{self.requests}"
        return f"{self.input_tokens}/{self.output_tokens}x{self.in_flight}{count}"

    @property
    def length(self) -> int:
        """Tokens of a prompt and its answer."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one setting reached, all its requests from the first sent to the last token."""

    setting: str
    """The setting, as `Setting` writes it."""
    tokens_per_second: float
    """Generated tokens per second."""
    seconds: float
    """Time in all, in seconds."""
    generated_tokens: int
    """Tokens generated."""
    prompt_tokens: int
    """Tokens of prompts, as the server counts them."""
    first_token_median_ms: float
    """Time from a request to its first token, in milliseconds: median over requests."""
    first_token_p99_ms: float
    """The same, 99th percentile."""
    inter_token_median_ms: float
    """Time between two tokens of an answer, in milliseconds: median over tokens."""
    inter_token_p99_ms: float
    """The same, 99th percentile."""
    preemptions: int | None = None
    """Number of requests that were set back since caches were full; None: vLLM did not say."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What was reached while all requests were generating, none reading its prompt."""

    context_tokens: float
    """Tokens before the one that is generated, on average."""
    in_flight: int
    """Number of requests at a time."""
    tokens_per_second: float
    """Generated tokens per second, of all requests together."""
    seconds: float
    """How long that was, in seconds."""
    preemptions: int | None = None
    """Number of requests that were set back since caches were full; None: vLLM did not say."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of a GPU with a served checkpoint; None: nobody said."""

    weights_gib: float | None = None
    """Memory of the weights in GiB, as vLLM reports it."""
    cache_gib: float | None = None
    """Memory for key-value caches and Mamba states in GiB, as vLLM reports it: what is left of its share."""
    cache_tokens: int | None = None
    """Tokens of context that these hold, as vLLM reports it."""
    used_gib: float | None = None
    """Memory of the GPU in use in GiB, as nvidia-smi shows it after the settings were measured."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A checkpoint, or the first one again."""

    label: str
    """What tables call it."""
    identity: str
    """Hash of its config and the sizes of its weights, twelve hex digits."""
    control: bool = False
    """Whether it is the first one again, at the end."""
    memory: Memory | None = None
    """What it takes of the GPU."""
    rates: tuple[Rate, ...] = ()
    """What each setting reached."""
    decoding: tuple[Decoding, ...] = ()
    """Rates of decoding, by context."""
    aime_gpu_hours: float | None = None
    """GPU-hours of `AIME_ANSWERS` answers of `AIME_TOKENS` each, integrated over `decoding`; None without it."""

    def rate(self, setting: str) -> Rate | None:
        """What `setting` reached; None: it was not measured."""
        return next((rate for rate in self.rates if rate.setting == setting), None)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What checkpoints reach on one GPU, measured in turn."""

    gpu: str
    """Kind of GPU, as nvidia-smi names it."""
    vllm: str
    """Version of vLLM."""
    settings: tuple[str, ...]
    """What each was measured at."""
    models: tuple[Served, ...]
    """Checkpoints in the order in which they were measured, the control last."""

    def model(self, label: str) -> Served | None:
        """The checkpoint called `label`, not the control; None: it was not measured."""
        return next((one for one in self.models if one.label == label and not one.control), None)

    def ratio(self, label: str, setting: str) -> float | None:
        """Generated tokens per second of `label` over those of the first checkpoint; None where one is lacking."""
        return _over(self.model(label), self.models[0] if self.models else None, setting)

    def drift(self, setting: str) -> float | None:
        """Generated tokens per second of the control over those of the same checkpoint before; None without one."""
        control = next((one for one in self.models if one.control), None)
        return _over(control, self.model(control.label), setting) if control else None

    def record(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {"form": FORM, **asdict(self)}

    def save(self, folder: Path) -> None:
        """Write `RESULTS_FILE` of `folder`."""
        (folder / RESULTS_FILE).write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")


def read_throughput(folder: Path) -> Throughput | None:
    """What `folder` keeps; None where it keeps nothing of this form, or figures that nothing can have measured."""
    try:
        record = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        if record["form"] != FORM:
            return None
        return Throughput(
            gpu=_text(record["gpu"]),
            vllm=_text(record["vllm"]),
            settings=tuple(record["settings"]),
            models=tuple(map(_served, record["models"])),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def gpu_hours(decoding: Sequence[Decoding], *, answers: int = AIME_ANSWERS, tokens: int = AIME_TOKENS) -> float:
    """GPU-hours of so many answers of so many tokens, their places always taken, at these rates of decoding.

    A token takes the GPU 1 / rate seconds, linear in the context between what was measured and the same beyond. Reading
    the prompts, and the end, when fewer are left than there are places, are not in it.

    >>> slow = Decoding(context_tokens=1000, in_flight=1, tokens_per_second=50, seconds=1)
    >>> round(gpu_hours([slow], answers=36, tokens=5000), 6)
    1.0
    """
    points = sorted((one.context_tokens, 1 / one.tokens_per_second) for one in decoding)
    points = [(0.0, points[0][1]), *points, (max(tokens, points[-1][0] + 1.0), points[-1][1])]
    seconds = 0.0
    for (begin, first), (end, last) in itertools.pairwise(points):
        if begin < min(end, tokens):
            cut = min(end, tokens)
            at_cut = first + (last - first) * (cut - begin) / (end - begin)
            seconds += (first + at_cut) / 2 * (cut - begin)
    return answers * seconds / 3600


def lines(found: Throughput) -> list[str]:
    """Tables, in Markdown: one for each setting, one of memory, one of decoding where that was measured."""
    said = [f"{found.gpu}, vLLM {found.vllm}; ratios are to {found.models[0].label}" if found.models else found.gpu]
    for setting in found.settings:
        said += ["", f"| {setting} | tokens/s | ratio | first token, ms (p99) | between tokens, ms (p99) |"]
        said.append("|---|---:|---:|---:|---:|")
        for model in found.models:
            if rate := model.rate(setting):
                ratio = found.drift(setting) if model.control else found.ratio(model.label, setting)
                times = f"{rate.first_token_median_ms:,.0f} ({rate.first_token_p99_ms:,.0f}) | "
                times += f"{rate.inter_token_median_ms:,.1f} ({rate.inter_token_p99_ms:,.1f})"
                told = f" ({rate.preemptions} set back)" if rate.preemptions else ""
                said.append(
                    f"| {_title(model)} | {rate.tokens_per_second:,.0f}{told} | {_or_dash(ratio, '.3f')} | {times} |"
                )
    said += ["", "| memory, GiB | weights | caches | tokens in caches | by nvidia-smi |", "|---|---:|---:|---:|---:|"]
    for model in found.models:
        if memory := model.memory:
            cells = [_or_dash(memory.weights_gib, ".2f"), _or_dash(memory.cache_gib, ".1f")]
            cells += [_or_dash(memory.cache_tokens, ",d"), _or_dash(memory.used_gib, ".1f")]
            said.append(f"| {_title(model)} | {' | '.join(cells)} |")
    if any(model.decoding for model in found.models):
        said += ["", "| decoding | in flight | context: tokens/s | AIME, GPU-hours |", "|---|---:|---:|---:|"]
    for model in found.models:
        if model.decoding:
            rates = ", ".join(f"{one.context_tokens:,.0f}: {one.tokens_per_second:,.0f}" for one in model.decoding)
            hours = _or_dash(model.aime_gpu_hours, ".2f")
            said.append(f"| {_title(model)} | {model.decoding[0].in_flight} | {rates} | {hours} |")
    return said


def _title(model: Served) -> str:
    return f"{model.label}, again" if model.control else model.label


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _served(record: Mapping[str, Any]) -> Served:
    memory = record["memory"]
    return Served(
        label=_text(record["label"]),
        identity=_text(record["identity"]),
        control=record["control"],
        memory=Memory(**memory) if memory else None,
        rates=tuple(_measured(Rate(**one)) for one in record["rates"]),
        decoding=tuple(_measured(Decoding(**one)) for one in record["decoding"]),
        aime_gpu_hours=record["aime_gpu_hours"],
    )


_One = TypeVar("_One", Rate, Decoding)


def _measured(one: _One) -> _One:
    """A rate as it was read. Raises ValueError where it is no positive number, or of no setting."""
    positive = (one.tokens_per_second, *((one.context_tokens,) if isinstance(one, Decoding) else ()))
    if not all(isinstance(number, (int, float)) and math.isfinite(number) and number > 0 for number in positive):
        raise ValueError(f"{one} is no rate.")
    if isinstance(one, Rate):
        Setting.parse(one.setting)
    return one


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value} is no text.")
    return value


def _over(one: Served | None, other: Served | None, setting: str) -> float | None:
    above, below = (model.rate(setting) if model else None for model in (one, other))
    return above.tokens_per_second / below.tokens_per_second if above and below else None
