"""Measures what served checkpoints reach, in turn on one GPU.

    gpu = take_one_gpu()
    plan = Plan(settings=(Setting.parse("32768/1024x16"),), contexts=(1024, 8192))
    found = bench({"80B": Path("hf"), "80B-fp8": Path("fp8")}, find_vllm("/opt/vllm"), plan, gpu=gpu, folder=Path("it"))
    found.save(Path("it"))

Each checkpoint is served once (`evaluator.serve.vllm`), with the options that its evaluations have, reads two prompts
as long as the longest to be warm, and is asked by vLLM's own client (`evaluator.serve.client`). The first is measured
again at the end, which shows what drifted.

What is measured is a line of `JOURNAL` at once. Called again after a kill, it measures what is missing; a line that was
not finished counts for nothing.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.client import Client, Part, ServerEnded, decoding_at
from evaluator.serve.journal import MEMORY, Journal, Turn
from evaluator.serve.throughput import Memory, Setting, Throughput
from evaluator.serve.vllm import SEQUENCES, Vllm, gpus_here, nvidia_smi, serving

JOURNAL = "measured.jsonl"
"""Everything that was measured, a line each, the first of what all of it depends on."""
SPARE_TOKENS = 256
"""Tokens of context beside a setting's: a prompt of random tokens is some more where its text is read otherwise."""
BATCHED_TOKENS = 2_048
"""Tokens that vLLM computes at a time where it does not say it; on 70 GiB and more it is 8,192."""
REPORTED = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "cache_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "cache_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "batched_tokens": r"max_num_batched_tokens=(\d+)",
}
"""What vLLM says of itself in its log."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured of each checkpoint."""

    settings: tuple[Setting, ...]
    """Loads that each is measured at."""
    contexts: tuple[int, ...] = ()
    """Contexts in tokens at which rates of decoding are taken."""
    in_flight: int = SEQUENCES
    """Number of requests at a time for these rates."""
    decoded: tuple[str, ...] | None = None
    """Labels of the checkpoints of which these are taken; None: all."""
    again: tuple[Setting, ...] | None = None
    """Those of the settings that the first is measured at again at the end, where there are others; None: all."""

    def __post_init__(self):
        if not self.settings and not self.contexts:
            raise ValueError("there is nothing to measure: no setting, and no context to decode at.")
        places = [(f"'{one}'", one.in_flight) for one in self.settings]
        for said, count in [*places, (f"decoding with {self.in_flight}", self.in_flight)]:
            if not 1 <= count <= SEQUENCES:
                near = min(max(count, 1), SEQUENCES)
                raise ValueError(f"{said} has {count} in flight, and a GPU is given 1 to {SEQUENCES}: say {near}.")
        if wrong := [one for one in self.contexts if one < 2]:
            raise ValueError(f"{wrong[0]} is no context to decode at: 2 tokens at least.")
        if unknown := [one for one in self.again or () if one not in self.settings]:
            raise ValueError(f"{unknown[0]} is to be measured again, and is none of the settings.")
        named = [*self.settings, *self.contexts]
        if twice := [one for one in named if named.count(one) > 1]:
            raise ValueError(f"{twice[0]} is named twice.")

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer that the server is given."""
        return max(part.setting.length for part in self.parts(BATCHED_TOKENS)) + SPARE_TOKENS

    def parts(self, batched_tokens: int) -> list[Part]:
        """All measurements, of a server that computes so many tokens at a time."""
        decoding = [decoding_at(context, self.in_flight, batched_tokens) for context in self.contexts]
        return [*(Part(setting=setting) for setting in self.settings), *decoding]

    def names(self, turn: Turn) -> list[str]:
        """Names of the measurements of a checkpoint."""
        if turn.control:
            return [str(setting) for setting in self.at_the_end]
        decoded = self.decoded is None or turn.label in self.decoded
        return [part.name for part in self.parts(BATCHED_TOKENS) if decoded or part.context is None]

    @property
    def at_the_end(self) -> tuple[Setting, ...]:
        """The settings that the first is measured at again."""
        return self.settings if self.again is None else self.again

    def turns(self, checkpoints: Mapping[str, Path]) -> list[Turn]:
        """The checkpoints in order. Raises ValueError for one that is not whole."""
        found = [Turn(label=label, folder=path, identity=identity_of(path)) for label, path in checkpoints.items()]
        again = len(found) > 1 and self.at_the_end
        return [*found, dataclasses.replace(found[0], control=True)] if again else found


def take_one_gpu() -> str:
    """Leave this process, and what it starts, the first of its GPUs; returns what kind that is.

    Raises ValueError, in one sentence, where there is none.
    """
    first = gpus_here()[0]
    kind = kind_of(first)
    if kind is None:
        raise ValueError(f"serving is measured on a GPU, and nvidia-smi knows no GPU {first} here.")
    os.environ["CUDA_VISIBLE_DEVICES"] = first
    return kind


def kind_of(gpu: str) -> str | None:
    """What nvidia-smi calls that kind of GPU; None where it knows none."""
    return next((row[0] for row in nvidia_smi("name", (gpu,)) if row and row[0]), None)


def identity_of(checkpoint: Path) -> str:
    """Hash of the checkpoint's config and of its weights' names and sizes, twelve hex digits.

    Raises ValueError for one that is not whole.
    """
    files = sorted(set(verify_checkpoint(checkpoint, quantised=True).values()))
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    said = json.dumps([config, [(path.name, path.stat().st_size) for path in files]], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def bench(
    checkpoints: Mapping[str, Path],
    vllm: Vllm,
    plan: Plan,
    *,
    gpu: str,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Throughput:
    """Serve each of the checkpoints, by label, in turn on the GPU of this process, a `gpu`, and measure it.

    Journal and logs are in `folder`. `say` is told each figure, `progress` how many there are of how many. Raises
    ValueError for a checkpoint that is not whole, `ProgramFailed` when vLLM fails; what was measured before is kept.
    """
    turns = plan.turns(checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / JOURNAL, {"gpu": gpu, "vllm": vllm.version, "context": plan.context})
    total = sum(len(plan.names(turn)) for turn in turns)

    def count() -> None:
        progress(sum(journal.has(turn, name) for turn in turns for name in plan.names(turn)), total)

    count()
    for turn in turns:
        left = [name for name in plan.names(turn) if not journal.has(turn, name)]
        if not left:
            continue
        name, log = turn.name, folder / f"server-{turn.name}.log"
        with serving(
            turn.folder, vllm, model_id=turn.model_id, log=log, context=plan.context, mark=str(folder.resolve())
        ) as (server, _):
            reported = _reported(log)
            parts = plan.parts(int(reported.pop("batched_tokens") or BATCHED_TOKENS))
            client = Client(
                vllm=vllm, server=server, model_id=turn.model_id, checkpoint=turn.folder, folder=folder, name=name
            )
            with contextlib.suppress(ServerEnded):  # which `serving` says, with the end of its log
                client.warm(max(part.setting.input_tokens for part in parts if part.name in left))
                for part in parts:
                    if part.name not in left:
                        continue
                    found = client.measure(part)
                    journal.add(turn, MEMORY, Memory(**reported, used_gib=_used_gib()))
                    journal.add(turn, part.name, found)
                    say(f"{name}, {part.name}: {found.tokens_per_second:,.1f} tokens/s")
                    count()
    return Throughput(
        gpu=gpu,
        vllm=vllm.version,
        settings=tuple(map(str, plan.settings)),
        models=tuple(journal.served(turn, plan.names(turn)) for turn in turns),
    )


def _reported(log: Path) -> dict[str, Any]:
    """What vLLM says of itself, by the names in `REPORTED`; None where it does not."""
    text, found = log.read_text(encoding="utf-8", errors="replace"), {}
    for name, pattern in REPORTED.items():
        said = re.search(pattern, text)
        value = said[1].replace(",", "") if said else None
        found[name] = None if value is None else float(value) if "." in value else int(value)
    return found


def _used_gib() -> float | None:
    with contextlib.suppress(ValueError, LookupError):  # "[N/A]", or no nvidia-smi
        return float(nvidia_smi("memory.used", gpus_here())[0][0]) / 1024
    return None
