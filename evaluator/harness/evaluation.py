"""Runs one evaluation: nemo-evaluator with its configuration, in a process group, and in a sandbox unless it is ours.

    config = run_config(suite, [benchmark], url=server.url, model_id="pruned", folder=where, seed=0, judge=None)
    with evaluating(config, adapter_port=free_ports(1)[0], datasets=Path("datasets"), named=["Idavidrein/gpqa"]) as one:
        one.wait()

Every evaluation has a port of its own for nemo-evaluator's adapter (two that share one score each other's model), a
fresh folder (a used one returns the old score), no cache between (it would give every repeat the same answer) and no
telemetry.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from core_evals.nemo_distill.program import SANDBOX
from evaluator.harness import apart
from evaluator.harness.asking import ASKING, NOT_ANSWERED
from evaluator.harness.bubblewrap import limit, python_path, sandboxed
from evaluator.harness.gateway import gateway
from evaluator.harness.left import last_lines
from evaluator.harness.parameters import own_files, parameters, word_lists
from evaluator.harness.watch import Overrun, wait_for_end, watched
from evaluator.serve.processes import ProgramFailed, below, die_with_parent
from evaluator.serve.server import HOST
from evaluator.suites.judge import KEY_VARIABLE, Judge
from evaluator.suites.own import OWN, QUESTIONS
from evaluator.suites.suite import Benchmark, Suite

VERSION = 2
"""State of how harnesses' answers are taken, raised where a score changes by it. Since 2, what was cut while thinking
is no answer; before, the reasoning was scored."""
CONFIG = "asked_for.yml"
"""What nemo-evaluator was asked for, in the folder of an evaluation."""
LOG = "log.txt"
"""What nemo-evaluator and the harness said, in the folder of an evaluation."""
WORKING_FOLDER = "started_in"
"""Where a harness is started: links to the data sets, and whatever it writes there."""
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A thread's stack counts as memory, and generated code runs in many processes at a time."""


OURS = "nemo_distill."
"""Prefix of the tasks that are asked and judged by code of this package."""
INSIDE = Path(__file__).with_name("inside")
"""Folder with what every Python in the sandbox imports first: each answer is judged by itself."""
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "USER")
"""Environment variables that an evaluation outside the sandbox is given, of those that there are."""
TOKEN_VARIABLE = "SERVED_MODEL_TOKEN"
"""Environment variable with the served model's token, outside the sandbox."""
TASKS = 256
"""Processes and threads that a sandbox may have beside two for each request in flight."""
JUDGE_PORT = 40_001
"""Port of the judge inside a sandbox, or one of the next."""
CHAT = "/chat/completions"
"""What a judge's address is asked for."""


def run_config(
    suite: Suite,
    benchmarks: Sequence[Benchmark],
    *,
    url: str,
    model_id: str,
    folder: Path,
    seed: int,
    judge: Judge | None,
) -> dict:
    """nemo-evaluator's configuration of one evaluation (`Suite.evaluations`)."""
    (benchmark, *others) = benchmarks
    ours = benchmark.harness == "offline"
    if ours:
        (repeats,) = {benchmark.repeats for benchmark in benchmarks}
        task = OWN if benchmark.own else suite.evaluation
        params = {
            "task": ",".join(benchmark.task for benchmark in benchmarks),
            "temperature": suite.temperature,
            "top_p": suite.top_p,
            "max_new_tokens": benchmark.params.get("max_new_tokens", suite.max_new_tokens),
            "parallelism": suite.parallelism,
            "extra": {"num_repeats": repeats, "seed": seed},
        }
        if benchmark.own:  # they lie in the evaluation's folder, and it is started in one beside them
            params["extra"] |= {"data": f"../{QUESTIONS}"}
            params["request_timeout"] = suite.answer_seconds
    else:
        assert not others, f"{benchmark.harness} asks one benchmark at a time"
        task = benchmark.task
        params = parameters(benchmark, suite, seed=seed, judge=judge)
    statistics = {
        "cache_dir": str(folder / "response_stats"),
        "save_individuals": False,
        "stats_file_saving_interval": None,
    }
    adapter: dict[str, Any] = {}
    sends: dict[str, Any] = {"name": "endpoint"}  # our own tasks ask again by themselves, by the same rules
    if not ours:
        adapter["discovery"] = {"modules": ["evaluator.harness.interceptor"]}
        patience = {"seconds": suite.answer_seconds}
        asking = {"timeout": suite.answer_seconds, "end_of_thinking": suite.reasoning_end, "patience": patience}
        sends = {"name": ASKING, "config": asking}
    interceptors = [sends, {"name": "response_stats", "config": statistics}]
    if benchmark.harness == "lm_eval":  # asks every question with the seed 1234
        interceptors.insert(0, {"name": "payload_modifier", "config": {"params_to_add": {"seed": seed}}})
    if suite.reasoning_end and not ours:  # which look after that themselves
        reasoning = {
            "end_reasoning_token": suite.reasoning_end,
            "include_if_not_finished": False,  # what was cut while thinking is no answer
            "enable_reasoning_tracking": False,
            "enable_caching": False,
        }
        interceptors.append({"name": "reasoning", "config": reasoning})
    adapter["interceptors"] = interceptors
    endpoint = {"url": url, "model_id": model_id, "type": benchmark.endpoint, "adapter_config": adapter}
    config = {"type": task, "output_dir": str(folder), "params": params}
    return {"config": config, "target": {"api_endpoint": endpoint}}


@dataclass
class Evaluation:
    """One that runs, or has ended."""

    process: subprocess.Popen
    """nemo-evaluator, or the sandbox around it; the leader of a process group."""
    folder: Path
    """Where it writes."""
    task: str
    """What it asks, as nemo-evaluator calls it."""
    overrun: Overrun
    """Whether its sandbox was ended."""

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        return self.process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """How it ended, once it has."""
        return self.process.wait(timeout)


@contextlib.contextmanager
def evaluating(
    config: dict,
    *,
    adapter_port: int,
    datasets: Path | None = None,
    named: Sequence[str] = (),
    executes_code: bool = False,
    token: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Evaluation]:
    """Run nemo-evaluator with `config` in a process group of its own, all of which ends with the block.

    A harness finds those of the hub's data sets that are `named`, in `datasets`, and no other. Whatever is not our own
    runs in a sandbox, all of it, the harness and what it executes, and of our own what `executes_code`. `token` is
    that of the served model; it stays outside the sandbox, and so does the judge's key, which is in `environment`.
    Raises ValueError when the output folder holds an evaluation already: the harness would score what it finds there.
    """
    folder, task = Path(config["config"]["output_dir"]), config["config"]["type"]
    if (folder / CONFIG).exists():
        raise ValueError(f"'{folder}' holds an evaluation already; each needs a fresh folder.")
    ours = task.startswith(OURS)
    sandbox = executes_code or not ours
    found = {name: (datasets / name).resolve() for name in named} if datasets else {}
    started_in = _linked(found, folder / WORKING_FOLDER)
    variables, covered = own_files(task, datasets)
    inside = {
        **{name: environment[name] for name in PASSED_ON if name in environment and not sandbox},
        "ADAPTER_HOST": HOST,
        "ADAPTER_PORT": str(adapter_port),
        "ADAPTER_SERVER_THREADS": str(config["config"]["params"]["parallelism"] + 8),
        "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0",
        "NEMO_EVALUATOR_LOG_LEVEL": "WARNING",  # or it writes four lines per request
        "HF_DATASETS_CACHE": str(started_in / ".cache"),
        "HF_HUB_OFFLINE": "1",
        # Harnesses are commands beside the python that runs this; our tasks' command is `python -m ...`.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "PYTHONSAFEPATH": "1",  # no file of the folder they are started in is a library's module
        **variables,
    }
    entry = "from nemo_evaluator.core.entrypoint import run_eval; run_eval()"  # what the script nemo-evaluator does
    command = [sys.executable, "-P", "-c", entry, "run_eval", "--run_config", str(folder / CONFIG)]
    with contextlib.ExitStack() as around:
        before_start = [die_with_parent()]
        if sandbox:
            target = urllib.parse.urlsplit(config["target"]["api_endpoint"]["url"])
            headers = {"Authorization": f"Bearer {token or 'none'}"}
            ways = {target.port: around.enter_context(gateway(target.geturl(), headers=headers))}
            if judge := (config["config"]["params"].get("extra") or {}).get("judge"):
                port = next(one for one in count(JUDGE_PORT) if one not in (target.port, adapter_port))
                judged = _judge_inside(config, port)
                url = f"{judge['url'].rstrip('/')}{CHAT}"
                key = {"Authorization": f"Bearer {environment.get(KEY_VARIABLE, 'none')}"}
                model = judge["model_id"].removeprefix("azure-")  # which simple-evals does not send
                ways[port] = around.enter_context(gateway(url, headers=key, model=model, proxied=True))
                config, inside = judged, inside | {KEY_VARIABLE: "outside"}
            path = os.pathsep.join(filter(None, [str(INSIDE), python_path()]))
            inside |= {"HOME": "/tmp", "PYTHONPATH": path, "LANG": "C.UTF-8"} | SINGLE_THREADED
            inside |= {SANDBOX: apart.__name__, apart.NOTE: str(folder / NOT_ANSWERED)}
            words = word_lists()
            command = sandboxed(
                command,
                writable=folder,
                readable=[*found.values(), *map(Path, filter(None, [variables.get("DATA_CACHE_DIR")])), *words],
                ways=ways,
                environment=inside | ({"NLTK_DATA": os.pathsep.join(map(str, words))} if words else {}),
                folder=started_in,
                covered=covered,
                tasks=TASKS + 2 * config["config"]["params"]["parallelism"],
            )
            before_start.append(limit)
        elif token:
            endpoint = config["target"]["api_endpoint"] | {"api_key_name": TOKEN_VARIABLE}
            config, inside = config | {"target": {"api_endpoint": endpoint}}, inside | {TOKEN_VARIABLE: token}
        told = config["config"] | {"output_dir": _in_shell(folder, started_in)}
        (folder / CONFIG).write_text(yaml.safe_dump(config | {"config": told}, sort_keys=False), encoding="utf-8")
        log = around.enter_context(open(folder / LOG, "w"))
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=inside,
            cwd=started_in,
            start_new_session=True,
            preexec_fn=lambda: [act() for act in before_start],
        )
        try:
            with watched(process, writable=folder) if sandbox else contextlib.nullcontext(Overrun()) as overrun:
                yield Evaluation(process, folder, task, overrun)
        finally:
            left = below(process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wait_for_end(left)
            shutil.rmtree(started_in, ignore_errors=True)


def _judge_inside(config: dict, port: int) -> dict:
    """`config` with the judge at a port of the sandbox."""
    params = config["config"]["params"]
    judge = params["extra"]["judge"]
    judge = judge | {"url": f"http://{HOST}:{port}{urllib.parse.urlsplit(judge['url']).path}"}
    return config | {"config": config["config"] | {"params": params | {"extra": params["extra"] | {"judge": judge}}}}


def _in_shell(folder: Path, started_in: Path) -> str:
    """How a harness that is started in a folder is told of another one.

    Their commands are templates for a shell and quote no path, so one with a space is given relative to their start.
    """
    return os.path.relpath(folder, started_in) if shlex.quote(str(folder)) != str(folder) else str(folder)


def _linked(found: Mapping[str, Path], folder: Path) -> Path:
    """A new folder with a link OWNER/NAME to each data set in `found`: harnesses write where they are started."""
    folder.mkdir()
    for name, where in found.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(where)
    return folder


def check_ended_well(evaluation: Evaluation) -> None:
    """Raise ProgramFailed with the reason or the log's end where an evaluation has failed."""
    folder, what = evaluation.folder, f"nemo-evaluator's {evaluation.task} ended"
    if evaluation.poll() and evaluation.overrun.why:
        raise ProgramFailed(f"{what}: {evaluation.overrun.why}")
    if why := last_lines(folder / NOT_ANSWERED):
        raise ProgramFailed(f"{what}: {why}")
    if evaluation.poll():
        said = last_lines(folder / LOG).splitlines()[-15:]
        raise ProgramFailed(f"{what} with {evaluation.poll()}:\n" + "\n".join(said))
