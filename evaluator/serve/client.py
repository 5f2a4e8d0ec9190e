"""Asks a served model with vLLM's own benchmark client, `vllm bench serve`, and reads what it found.

    client = Client(
        vllm=vllm, server=server, model_id="80B-0123456789ab", checkpoint=Path("hf"), folder=Path("logs"), name="80B"
    )
    client.warm(32_768)
    client.measure(Part(setting=Setting.parse("32768/1024x16"))).tokens_per_second

Prompts are random tokens of one length, as text by the checkpoint's tokenizer, and answers do not end before theirs
(`ignore_eos`). The token is in the client's environment.
"""

import contextlib
import http.client
import json
import math
import re
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.serve.journal import DECODING
from evaluator.serve.processes import ProgramFailed, die_with_parent
from evaluator.serve.server import HOST, Server, tail
from evaluator.serve.throughput import Decoding, Rate, Setting
from evaluator.serve.vllm import Vllm, environment

WARM_TOKENS = 8
"""Tokens of the answers that are asked for before anything is measured."""
STEADY_TOKENS = 256
"""Tokens of each answer while all requests are generating, about: the time at which a rate of decoding is taken."""
CLIENT_SECONDS = 3_600.0
"""What one setting may take."""
ENDS_SECONDS = 5.0
"""What a server that does not answer any more may take to be gone."""


class ServerEnded(Exception):
    """The server ended while it was asked."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measurement."""

    setting: Setting
    """What is asked."""
    context: int | None = None
    """Context in tokens at which a rate of decoding is taken; None: it is a setting."""

    @property
    def name(self) -> str:
        """What it is called in the journal."""
        return str(self.setting) if self.context is None else f"{DECODING}{self.context}x{self.setting.in_flight}"


def decoding_at(context: int, in_flight: int, batched_tokens: int) -> Part:
    """The measurement of decoding at that context.

    Prompts are read `batched_tokens` at a time, and with each of these steps those that have begun go on by a token: an
    answer has as many more, so that the first is not done before the last begins.
    """
    begun_apart = math.ceil(1.25 * in_flight * context / batched_tokens)
    output = STEADY_TOKENS + begun_apart
    setting = Setting(
        input_tokens=max(1, context - output // 2), output_tokens=output, in_flight=in_flight, requests=in_flight
    )
    return Part(setting=setting, context=context)


@dataclass(frozen=True, kw_only=True)
class Client:
    """vLLM's benchmark client, for one server."""

    vllm: Vllm
    """What is run."""
    server: Server
    """What is asked."""
    model_id: str
    """Name of the model that is asked."""
    checkpoint: Path
    """Its folder, for the tokenizer."""
    folder: Path
    """Where its results and logs are."""
    name: str
    """What the names of these have in them."""

    def measure(self, part: Part) -> Rate | Decoding:
        """Ask what `part` says.

        Raises `ProgramFailed` where the client fails or not all was answered as asked, `ServerEnded` where the server
        did.
        """
        before = _preemptions(self.server)
        record = self._run(part.setting, re.sub(r"[/: ]", "-", f"client-{self.name}-{part.name}"))
        after = _preemptions(self.server)
        preemptions = None if before is None or after is None else after - before
        try:
            found = rate_of if part.context is None else decoding_of
            return found(record, part, preemptions)
        except ProgramFailed:
            if _ends(self.server):
                raise ServerEnded from None
            raise

    def warm(self, length: int) -> None:
        """Have kernels compiled and memory taken: two prompts of that length at a time."""
        config = json.loads((self.checkpoint / "config.json").read_text(encoding="utf-8"))
        vocabulary = int(config.get("vocab_size") or 256)
        prompt = [(vocabulary // 4 + place) % vocabulary for place in range(length)]
        body = {"model": self.model_id, "max_tokens": WARM_TOKENS, "ignore_eos": True, "temperature": 0}
        headers = {**self.server.headers, "Content-Type": "application/json"}

        def ask(shift: int) -> int:
            with _connected(self.server, seconds=CLIENT_SECONDS) as connection:
                said = json.dumps({**body, "prompt": prompt[shift:] + prompt[:shift]})
                connection.request("POST", "/v1/completions", said, headers)
                reply = connection.getresponse()
                text = " ".join(reply.read().decode(errors="replace").split())[:200]
            if reply.status != 200:
                raise ProgramFailed(f"vLLM {self.vllm.version} did not answer a prompt of {length:,} tokens: {text}")
            return reply.status

        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(ask, (0, 1)))
        except (OSError, http.client.HTTPException) as error:
            if _ends(self.server):
                raise ServerEnded from None
            raise ProgramFailed(
                f"vLLM {self.vllm.version} did not answer a prompt of {length:,} tokens: {error}."
            ) from None

    def _run(self, setting: Setting, name: str) -> dict[str, Any]:
        log, result = self.folder / f"{name}.log", self.folder / f"{name}.json"
        result.unlink(missing_ok=True)
        command = [str(self.vllm.program), "bench", "serve", "--backend", "openai", "--base-url", self.server.root]
        command += ["--endpoint", "/v1/completions", "--model", self.model_id, "--tokenizer", str(self.checkpoint)]
        command += ["--dataset-name", "random", "--seed", "0", "--ignore-eos", "--temperature", "0"]
        command += ["--random-input-len", str(setting.input_tokens), "--random-output-len", str(setting.output_tokens)]
        command += ["--num-prompts", str(setting.requests), "--max-concurrency", str(setting.in_flight)]
        command += ["--ready-check-timeout-sec", "0", "--disable-tqdm", "--save-result", "--save-detailed"]
        command += ["--percentile-metrics", "ttft,itl", "--metric-percentiles", "99"]
        command += ["--result-dir", str(self.folder), "--result-filename", result.name]
        given = environment(self.vllm, self.server.token) | {"OPENAI_API_KEY": self.server.token}
        given |= {name: HOST for name in ("NO_PROXY", "no_proxy")}  # the client heeds proxies, and asks nobody else
        given = {name: value for name, value in given.items() if not name.startswith("PYTHON")}
        what = f"vLLM {self.vllm.version}'s benchmark client at {setting}"
        with open(log, "w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=given, preexec_fn=die_with_parent()
            )
        try:
            self._wait(process, what, log)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        try:
            record = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ProgramFailed(
                f"{what} ended with {process.returncode} and no result; the end of its log:\n{tail(log)}"
            ) from None
        result.unlink()  # times of every token, of which the journal keeps what is asked for
        return record

    def _wait(self, process: subprocess.Popen, what: str, log: Path) -> None:
        deadline, pause = time.monotonic() + CLIENT_SECONDS, 0.02
        while process.poll() is None:
            if self.server.process.poll() is not None:
                raise ServerEnded
            if time.monotonic() > deadline:
                raise ProgramFailed(f"{what} had not ended after {CLIENT_SECONDS:,.0f} s; its log:\n{tail(log)}")
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)
        if process.returncode != 0:
            if _ends(self.server):
                raise ServerEnded
            raise ProgramFailed(f"{what} ended with {process.returncode}; the end of its log:\n{tail(log)}")


def rate_of(record: Mapping[str, Any], part: Part, preemptions: int | None) -> Rate:
    """What the client's result says of a setting. Raises `ProgramFailed` where not all was answered as asked."""
    _check_answered(record, part.setting)
    return Rate(
        setting=str(part.setting),
        tokens_per_second=record["output_throughput"],
        seconds=record["duration"],
        generated_tokens=record["total_output_tokens"],
        prompt_tokens=record["total_input_tokens"],
        first_token_median_ms=record["median_ttft_ms"],
        first_token_p99_ms=record["p99_ttft_ms"],
        inter_token_median_ms=record["median_itl_ms"],
        inter_token_p99_ms=record["p99_itl_ms"],
        preemptions=preemptions,
    )


def decoding_of(record: Mapping[str, Any], part: Part, preemptions: int | None) -> Decoding:
    """The rate while all requests were generating: from the last one's first token to the first one's last.

    Raises `ProgramFailed` where there was no such time, or not all was answered as asked.
    """
    _check_answered(record, part.setting)
    begun = [start + first for start, first in zip(record["start_times"], record["ttfts"], strict=True)]
    begin = max(begun)
    end = min(first + sum(times) for first, times in zip(begun, record["itls"], strict=True))
    tokens = context = 0.0
    rows = zip(begun, record["itls"], record["input_lens"], record["output_lens"], strict=True)
    for now, times, prompt, length in rows:
        each = (length - 1) / max(len(times), 1)  # tokens of a chunk: a server that is behind sends several in one
        for place, seconds in enumerate(times):
            now += seconds
            if begin < now <= end:
                tokens += each
                context += each * (prompt + (place + 1) * each)
    if tokens == 0:
        raise ProgramFailed(
            f"decoding at {part.context:,} tokens: the first of {part.setting.in_flight} requests was done before the "
            "last had begun, so that at no time all were generating."
        )
    return Decoding(
        context_tokens=context / tokens,
        in_flight=part.setting.in_flight,
        tokens_per_second=tokens / (end - begin),
        seconds=end - begin,
        preemptions=preemptions,
    )


def _check_answered(record: Mapping[str, Any], setting: Setting) -> None:
    errors = [" ".join(str(one).split())[-200:] for one in record.get("errors", ()) if one]
    if record["completed"] != setting.requests:
        said = f": {errors[0]}" if errors else ""
        raise ProgramFailed(f"{record['completed']} of {setting.requests} requests at {setting} were answered{said}.")
    if wrong := next((one for one in record["output_lens"] if one != setting.output_tokens), None):
        raise ProgramFailed(f"an answer at {setting} has {wrong} tokens, not {setting.output_tokens}: they end early.")


def _preemptions(server: Server) -> int | None:
    """How many requests the server has set back so far; None where it does not say."""
    try:
        with _connected(server, seconds=30) as connection:
            connection.request("GET", "/metrics", headers=server.headers)
            text = connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    counts = re.findall(r"^vllm:num_preemptions_total\S* ([\d.e+]+)$", text, re.MULTILINE)
    return int(sum(map(float, counts))) if counts else None


def _connected(server: Server, *, seconds: float):
    return contextlib.closing(http.client.HTTPConnection(HOST, int(server.root.rpartition(":")[2]), timeout=seconds))


def _ends(server: Server) -> bool:
    """Whether the server has ended, or does so within seconds: its port is closed before its process is gone."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(ENDS_SECONDS)
    return server.process.poll() is not None
