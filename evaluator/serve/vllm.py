"""Finds vLLM, in whatever environment it lies, and serves a checkpoint with it on the GPUs of this machine.

    found = find_vllm("/opt/vllm")              # ValueError, in one sentence, where there is none or it is too old
    found.version, options(context=131_072)     # with the model, what decides an answer
    with serving(Path("hf"), found, model_id="80B-0123456789ab", log=log, context=131_072, mark="runs/x") as server:
        requests.post(server.url, json=body, headers=server.headers)

The contract is that of `evaluator.serve.server`: it is ready when the block begins, it is this checkpoint that answers,
and nothing is left of it when the block or this process ends, whichever of its processes was killed
(`evaluator.serve.keeper`). vLLM is an API server and an engine for each GPU, all of one model: data parallel, since a
pruned shape's heads and groups seldom divide by a number of GPUs.

What it is told overrules what a checkpoint, an environment variable or a default would: generation defaults of the
checkpoint are not taken (`--generation-config vllm`), the Mamba state is float32, no prefix is cached, and of the
variables VLLM_... none that could decide an answer is passed on. The token is in its environment, not in its command
line, which every user of a machine can read.
"""

import contextlib
import functools
import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.ports import free_ports
from evaluator.serve.probe import check_alike, probe
from evaluator.serve.processes import (
    KEEP_ENVIRONMENT,
    MARK,
    ProgramFailed,
    die_with_parent,
    end_marked,
    end_session,
    kept,
)
from evaluator.serve.server import HOST, Server, tail

OLDEST = (0, 12)
"""The first version that is taken: with the options below, and the one that the study's suite runs on a cluster."""
WANTED = "0.22 to 0.24 for torch 2.11 and CUDA 13"
"""What to install, for sentences."""
READY_SECONDS = 1_200.0
"""What it has to be ready: the weights are read, kernels compiled, graphs captured."""
GPU_MEMORY = 0.9
"""Share of a GPU's memory, from 0 to 1, that it takes for weights and caches."""
FREED_SECONDS = 10.0
"""What the memory of a process that has just ended may take to be free."""
SEQUENCES = 128
"""Requests that one GPU computes at a time; a Mamba state and key-value cache for each are in its memory."""
DECIDING = (
    *("--dtype", "bfloat16"),
    *("--mamba-ssm-cache-dtype", "float32"),
    "--no-enable-prefix-caching",
    *("--generation-config", "vllm"),
    *("--tensor-parallel-size", "1"),
)
"""Options that decide an answer, or how it is rounded."""
PASSED_ON = ("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_LOGGING_LEVEL", "VLLM_HOST_IP")
"""Variables of vLLM's that decide no answer."""
WITHHELD = ("JUDGE_API_KEY", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that are not vLLM's business."""
SPECIAL_KEPT = {"skip_special_tokens": False}
"""What every question says beside its own words: a tokenizer may call the end of thinking a special token."""
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
"""What is said where a suite looks for the end of thinking. Both are so in the study's own file."""
FAULTS = (
    (r"Free memory on device.*less than desired GPU memory", "found a GPU's memory taken by another process"),
    (
        r"out of memory|OutOfMemoryError|No available memory for the cache blocks|than the available KV cache memory",
        "ran out of GPU memory",
    ),
    (r"address already in use", "found its port taken by another process"),
    (r"unrecognized arguments|invalid choice", "does not know an option that it was given"),
)
"""What a line of its log says, and how a sentence puts it."""


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """vLLM as it lies on this machine."""

    program: Path
    """Its executable."""
    version: str
    """Its version."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as nvidia-smi tells of it."""

    name: str
    """Number or UUID by which it was asked for."""
    free: float
    """Memory that nobody uses, in GiB."""
    total: float
    """Its memory, in GiB."""


def find_vllm(where: str | None, *, needed_by: str = "evaluate.engine=vllm") -> Vllm:
    """vLLM at `where`, an executable or the folder of an environment; None: beside this Python, or in PATH.

    `needed_by` is the setting that sentences say it is for.
    Raises ValueError, in one sentence with what to install, where there is none, it cannot be run, or it is too old.
    """
    install = f"install vLLM {WANTED} in an environment of its own and name that: evaluate.vllm=FOLDER"
    if where is None:
        beside = Path(sys.executable).with_name("vllm")
        found = str(beside) if beside.is_file() else shutil.which("vllm")
        if found is None:
            raise ValueError(f"{needed_by}: there is no vllm beside this Python or in PATH: {install}.")
        program = Path(found)
    else:
        program = Path(where).expanduser().absolute()  # not resolved: where a link lies says whose environment it is
        if not program.exists():
            raise ValueError(f"evaluate.vllm={where}: there is no such file or folder: {install}.")
        if program.is_dir():
            program = program / "bin" / "vllm"
            if not program.exists():
                raise ValueError(f"evaluate.vllm={where}: this environment has no bin/vllm: {install}.")
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise ValueError(f"evaluate.vllm={where or program}: '{program}' is no file that can be executed.")
    version = _version(program, program.stat().st_mtime)
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ValueError(
            f"'{program}' is vLLM {version}, and {oldest} is the oldest that serves with the options needed: {install}."
        )
    return Vllm(program=program, version=version)


@functools.cache
def _version(program: Path, _changed: float) -> str:
    """The version: as its interpreter knows the package, or, slower, as it says itself."""
    interpreter = _interpreter(program)
    asked = "from importlib.metadata import version; print('vLLM', version('vllm'))"
    commands = [[interpreter, "-c", asked]] if interpreter else []
    said = ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in [*commands, [str(program), "--version"]]:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
            continue
        last = (done.stdout.strip().splitlines() or [""])[-1]  # behind what is logged while it is imported
        if done.returncode == 0 and (found := re.fullmatch(r"(?:vllm )?(\d+\.\d+[\w.+-]*)", last, re.IGNORECASE)):
            return found[1]
        said = " ".join((done.stderr or done.stdout).split())[-200:]
    raise ValueError(f"'{program} --version' does not say which version of vLLM it is: {said or 'it says nothing'}.")


def _interpreter(program: Path) -> str | None:
    """The Python in the first line of a script; None where there is none."""
    with open(program, "rb") as file:
        first = file.readline(512).decode(errors="replace").strip()
    words = first.removeprefix("#!").split()
    return words[0] if first.startswith("#!") and len(words) == 1 and "python" in Path(words[0]).name else None


def options(context: int | None) -> tuple[str, ...]:
    """The options that decide an answer; `context` is the most tokens of a prompt and its answer, None the model's."""
    return (*DECIDING, *(("--max-model-len", str(context)) if context else ()))


def said_besides(*, thinking: bool) -> dict[str, Any]:
    """The fields of a question that whoever asks leaves open, and that decide an answer."""
    return SPECIAL_KEPT | (THINKING if thinking else {})


def gpus_here(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that this process is given, as CUDA_VISIBLE_DEVICES names them; all where that is not set.

    Where there is no nvidia-smi to count them, one is taken to be there. Raises ValueError where none is given.
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        names = names[: names.index("-1")] if "-1" in names else names  # CUDA looks no further
        if not any(names):
            raise ValueError(f"evaluate.engine=vllm: CUDA_VISIBLE_DEVICES={given!r} gives it no GPU.")
        return tuple(filter(None, names))
    listed = nvidia_smi("index", ())
    return tuple(row[0] for row in listed) if listed else ("0",)


def check_free(names: tuple[str, ...]) -> None:
    """Raise `ProgramFailed` naming the first of these GPUs of which too little is free, and stays so."""
    deadline = time.monotonic() + FREED_SECONDS
    while gpu := next((gpu for gpu in _memory(names) if gpu.free < GPU_MEMORY * gpu.total), None):
        if time.monotonic() > deadline:
            raise ProgramFailed(
                f"GPU {gpu.name} is taken by another process: {gpu.free:.1f} of its {gpu.total:.1f} GiB are free, and "
                f"vLLM takes {GPU_MEMORY:.0%}."
            )
        time.sleep(1)


def _memory(names: tuple[str, ...]) -> Iterator[Gpu]:
    for name, row in zip(names, nvidia_smi("memory.free,memory.total", names), strict=False):
        with contextlib.suppress(ValueError):  # "[N/A]", where memory is shared with the host
            free, total = map(float, row)
            yield Gpu(name=name, free=free / 1024, total=total / 1024)


def nvidia_smi(fields: str, names: tuple[str, ...]) -> list[list[str]]:
    """A row of fields for each of the GPUs, or all; empty where nvidia-smi is not there or fails."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    command += [f"--id={','.join(names)}"] if names else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return rows if done.returncode == 0 else []


@contextmanager
def serving(
    checkpoint: Path, vllm: Vllm, *, model_id: str, log: Path, context: int | None, mark: str
) -> Iterator[tuple[Server, list[list[float]]]]:
    """Serve `checkpoint` as `model_id` on the GPUs of this process until the block ends.

    `mark` is what its processes are known by; what has it already is ended first. Yields the server and its
    log-probabilities of the fixed prompts (`evaluator.serve.probe`). Raises ValueError when the checkpoint is not
    whole, `ProgramFailed` when vLLM fails or is not this model's.
    """
    verify_checkpoint(checkpoint, quantised=True)
    gpus = gpus_here()
    end_marked(mark)
    check_free(gpus)
    port, token = free_ports(1)[0], secrets.token_urlsafe(32)
    command = [str(vllm.program), "serve", str(checkpoint), "--served-model-name", model_id]
    command += ["--host", HOST, "--port", str(port), "--data-parallel-size", str(len(gpus))]
    command += ["--gpu-memory-utilization", str(GPU_MEMORY), "--max-num-seqs", str(SEQUENCES)]
    command += ["--disable-uvicorn-access-log", *options(context)]
    what = f"vLLM {vllm.version}, serving '{checkpoint}',"
    with open(log, "w") as output:
        process = subprocess.Popen(
            kept(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(vllm, token) | {MARK: mark},
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    try:
        server = Server(root=f"http://{HOST}:{port}", process=process, token=token)
        _wait_until_ready(server, what, log)
        _check_model(server, model_id, checkpoint, context, what)
        try:
            first, *others = (probe(server, model_id, rank=rank) for rank in range(len(gpus)))
            for rank, other in enumerate(others, start=1):
                check_alike(first, other, f"GPU {gpus[rank]}", f"GPU {gpus[0]}")
        except ValueError as error:
            raise ProgramFailed(f"{what} cannot be believed: {error}") from None
        yield server, first
        if process.poll() is not None:
            raise ProgramFailed(_ended(what, process.returncode, log))
    finally:
        end_session(process, mark=mark)


def environment(vllm: Vllm, token: str) -> dict[str, str]:
    """What it is started with: no variable of vLLM's but those that decide nothing, and none of its business."""
    kept_on = {
        name: value
        for name, value in os.environ.items()
        if name not in WITHHELD and (not name.startswith("VLLM_") or name in PASSED_ON)
    }
    return kept_on | {
        "PATH": f"{vllm.program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # of ninja, for its kernels
        "VLLM_API_KEY": token,
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # a Nemotron-H has no positions that could run out
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # A number is that of nvidia-smi, whose word it is that a GPU is free.
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        **KEEP_ENVIRONMENT,
    }


def _wait_until_ready(server: Server, what: str, log: Path) -> None:
    deadline, pause = time.monotonic() + READY_SECONDS, 0.05
    while server.process.poll() is None:
        status, _ = get(server, "/health", seconds=1)
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise ProgramFailed(f"{what} was not ready after {READY_SECONDS:,.0f} s; the end of its log:\n{tail(log)}")
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    raise ProgramFailed(_ended(what, server.process.returncode, log))


def _check_model(server: Server, model_id: str, checkpoint: Path, context: int | None, what: str) -> None:
    """Raise `ProgramFailed` unless the server has `model_id`, of this folder and with this context, and no other."""
    status, record = get(server, "/v1/models")
    models = [one for one in record.get("data", ()) if isinstance(one, dict)] if isinstance(record, dict) else []
    names = [str(one.get("id")) for one in models]
    if names != [model_id]:
        said = f"as {', '.join(map(repr, names))}" if names else f"with status {status}"
        raise ProgramFailed(f"{what} is to be asked as '{model_id}', and what listens at its port answers {said}.")
    root, length = models[0].get("root"), models[0].get("max_model_len")
    if root is not None and Path(root).resolve() != checkpoint.resolve():
        raise ProgramFailed(f"{what} says that it serves '{root}'.")
    if context and length is not None and length != context:
        raise ProgramFailed(f"{what} has a context of {length} tokens, not of {context}.")


def get(server: Server, path: str, *, seconds: float = 30) -> tuple[int, Any]:
    """Status and JSON of what the server has at `path`; 0 where nobody answers, None where it is no JSON."""
    connection = http.client.HTTPConnection(HOST, int(server.root.rpartition(":")[2]), timeout=seconds)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers=server.headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            return 0, None
    try:
        return reply.status, json.loads(body)
    except ValueError:
        return reply.status, None


def _ended(what: str, code: int, log: Path) -> str:
    """The sentence on a server that ended, with the line of its log that says why, where one is known to."""
    text = log.read_text(errors="replace")
    for pattern, said in FAULTS:
        if line := next((line for line in text.splitlines() if re.search(pattern, line, re.IGNORECASE)), None):
            return f"{what} {said} ({line.strip()[:300]}); the end of its log:\n{tail(log)}"
    return f"{what} ended with {code}; the end of its log:\n{tail(log)}"
