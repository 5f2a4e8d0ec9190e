"""What the tests of distillation share: a small course, its segments as steps, and ways to start them."""

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from nemo_distill.config.held_out import Measuring
from nemo_distill.config.resolved import Parallelism
from nemo_distill.config.settings import Health
from nemo_distill.debug import corpora
from nemo_distill.run.facts import Beside
from nemo_distill.run.forkserver import VARIABLE, imports_of
from nemo_distill.run.ranks import torchrun
from nemo_distill.run.step import Spec, Step, place
from tests.forks_for_tests import ENVIRONMENT, forks

ITERATIONS, CUT = 12, 5
SHARES = {"sft-code": 40.0, "science-mcq": 60.0}
COURSE = {
    "max_iterations": ITERATIONS,
    "global_batch_size": 8,
    "micro_batch_size": 2,
    "seq_length": 64,
    "learning_rate": 2e-3,
    "min_learning_rate": 1e-4,
    "warmup_iterations": 3,
    "weight_decay": 0.01,
    "clip_grad": 1.0,
    "seed": 7,
    "precision": "32",
}
KD = {"fused_loss": True, "fused_kernels": True, "fp8": "none"}
TEACHER = "package:debug/teacher"
MEASURING = Measuring(every=4, tokens=512)
"""Of the held-out documents, a tenth of all."""
INDEXED = ("max_iterations", "global_batch_size", "seq_length", "seed")
"""What of it the indices depend on."""


def segment(
    name: str, *, first: int = 0, until: int = ITERATIONS, after: str | None = None, course=COURSE, **config
) -> Step:
    """A part of the course, trained after another or from the start."""
    return Step(
        name,
        "nemo_distill.steps.distill",
        {
            "course": course,
            "kd": KD,
            "first": first,
            "until": until,
            "shares": SHARES,
            "intermediate_layers": [],
            "save_interval": 2,
            **config,
        },
        upstream=("import-teacher", "prune", "prepare", "index", *([after] if after else [])),
    )


def placed(
    folder: Path, *segments: Step, teacher: str = TEACHER, layer_spec: str = "local", course=COURSE
) -> dict[str, Spec]:
    """The segments, and the steps before them, as placed in `folder`: the same folders whoever asks."""
    files = {}
    for name in SHARES:
        path = folder / f"{name}.jsonl"
        if not path.exists():
            documents = corpora.documents(name, seed=0, count=400)
            path.write_text("".join(json.dumps(document) + "\n" for document in documents))
        files[name] = {"name": name, "field": corpora.STAND_INS[name].field, "files": [str(path)]}
    runtime = {"precision": course["precision"], "layer_spec": layer_spec, "seq_length": course["seq_length"]}
    before = [
        Step("import-teacher", "nemo_distill.steps.import_teacher", {"checkpoint": teacher, **runtime}),
        Step(
            "prepare",
            "nemo_distill.steps.prepare",
            {"tokenizer": TEACHER, "sources": list(files.values()), "held_out": 0.1},
        ),
        Step(
            "index",
            "nemo_distill.steps.index",
            {"shares": SHARES, **{name: course[name] for name in INDEXED}},
            upstream=("import-teacher", "prepare"),
        ),
        Step(
            "prune",
            "nemo_distill.steps.prune",
            {
                "request": {"export_config": {"ffn_hidden_size": 192}, "divisors": {"ffn_hidden_size_divisor": 32}},
                "score": "next_token_loss",
                "mmlu_fraction": 1.0,
                "calibration": {"source": files["sft-code"], "sequences": 16, "seq_length": course["seq_length"]},
                "precision": course["precision"],
                "student_runtime": runtime,
            },
            upstream=("import-teacher",),
        ),
    ]
    return place([*before, *segments], runs=folder / "runs")


def start(
    spec: Spec,
    *,
    nodes: int = 1,
    ranks_per_node: int = 1,
    limits: dict | None = None,
    measuring: Measuring | None = MEASURING,
    fork: bool = True,
    following: Sequence[Spec] = (),
    **layout,
) -> list[subprocess.Popen]:
    """Start the step, under `limits` of its health: as a process, or as one torchrun per node, all on this machine.

    It may go on with those `following`.

    Processes that import NeMo are forks of one that has, unless `fork` says otherwise. `layout` are more fields of
    the layout that it is told.
    """
    spread = Parallelism(nodes=nodes, gpus_per_node=ranks_per_node, **layout)
    beside = Beside(health=Health(**limits or {}), layout=spread, measuring=measuring)
    paths = [str(one.save(beside)) for one in (spec, *following)]
    inherited = os.environ
    if imports_of(spec.module):
        inherited = ENVIRONMENT  # without what NeMo has set in this process
        inherited = inherited | (forks() if fork else {VARIABLE: os.devnull})  # where nothing is that forks
    step = ["-m", "nemo_distill.step", *paths]
    commands = [step]
    if nodes * ranks_per_node > 1:
        endpoint = f"127.0.0.1:{free_port()}" if nodes > 1 else None
        spread_over = functools.partial(torchrun, step, nodes=nodes, ranks_per_node=ranks_per_node, endpoint=endpoint)
        commands = [spread_over(node=node) for node in range(nodes)]
    return [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=inherited | {"OMP_NUM_THREADS": "1"},
        )
        for command in commands
    ]


def listening(*pids: int) -> list:
    """The address and port of every socket on which one of the processes, or one that it started, listens."""
    processes = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    found = set()
    for process in processes:
        with contextlib.suppress(
            psutil.NoSuchProcess
        ):  # it has ended since, as those that a library starts for a moment
            found |= {end.laddr for end in process.net_connections() if end.status == psutil.CONN_LISTEN}
    return sorted(found)


def ended(processes: list[subprocess.Popen], *, seconds: float = 600) -> tuple[list[int], str]:
    """Exit codes and output of processes, once they have ended."""
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda process: process.communicate(timeout=seconds)[0], processes))
    return [process.returncode for process in processes], "".join(outputs)


def run(spec: Spec, **how) -> None:
    """Run the step to its end, which has to be a good one."""
    codes, output = ended(start(spec, **how))
    assert not any(codes) and spec.done, output[-3000:]


def run_all(*chains: list[Spec]) -> None:
    """Run chains of steps at the same time, each chain one step after another."""

    def run_chain(chain: list[Spec]) -> None:
        for spec in chain:
            run(spec)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(run_chain, chain) for chain in chains]:
            done.result()


def losses(spec: Spec) -> list[dict]:
    """The lines of the step's log of losses, but for how long each took and what memory."""
    from nemo_distill.train.losses import read_losses

    lines = read_losses(spec.folder / "losses.jsonl")
    return [{name: value for name, value in line.items() if name not in ("seconds", "memory_gib")} for line in lines]


def measured(spec: Spec) -> dict[int, dict[str, dict]]:
    """What the step measured on held-out documents: by iteration and source."""
    from nemo_distill.train.losses import HELD_OUT_FILE, read_losses

    return {line["iteration"]: line["sources"] for line in read_losses(spec.folder / HELD_OUT_FILE)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
