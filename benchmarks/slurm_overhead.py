"""What a cluster adds: seconds until a run's first job is queued, and the debug run on Slurm against the same run here.

    python benchmarks/slurm_overhead.py [--pairs 2] [--queue 3] [distill.max_iterations=60 ...]

A real Slurm of two nodes with a core each comes up on this machine as in the tests (or, where SLURM_CONF says that one
stands, that is taken), so that both sides have two cores and run two steps at once. The sides alternate, each run in an
empty folder, and the machine's load is printed beside them: above two, other work than ours was measured too.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/nemo_distill/launch/slurm"))
NEMO_RUN = [sys.executable, "-W", "ignore", "-m", "nemo_distill.cli"]
SITE = """\
{account: tests, partition: batch, time: "02:00:00", mem: 6G, poll_seconds: 1, env_vars: {OMP_NUM_THREADS: "1"}}
"""
GOALS = {"queued": 12.0, "ratio": 1.20}


def main() -> None:
    """Time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2, help="how often each side runs the whole DAG")
    parser.add_argument("--queue", type=int, default=3, help="how often a run is queued and cancelled")
    parser.add_argument("settings", nargs="*", help="settings of the run, for both sides")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and the cluster ends with us
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder, standing_cluster(Path(folder)) as environment:
        places = (Path(folder, f"place-{number}") for number in range(1000))
        show_queueing([time_to_queue(new(next(places)), environment) for _ in range(arguments.queue)])
        whole: dict[str, list[tuple[float, float]]] = {"local": [], "slurm": []}
        for _ in range(arguments.pairs):
            for executor, taken in whole.items():
                taken.append(time_of_run(new(next(places)), environment, executor, arguments.settings))
        show_runs(whole)


@contextlib.contextmanager
def standing_cluster(folder: Path):
    """The environment in which Slurm's commands find a cluster that is up."""
    if "SLURM_CONF" in os.environ:
        yield dict(os.environ)
        return
    from cluster_for_tests import Cluster, unavailable

    if reason := unavailable():
        sys.exit(reason)
    with Cluster(folder / "slurm", cpus=1) as cluster:
        yield os.environ | cluster.environment


def new(place: Path) -> Path:
    """`place`, made, with the recipes and a site's settings in it."""
    shutil.copytree(ROOT / "recipes", place / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "recipes/executors/slurm.yaml").write_text(SITE)
    return place


def command(executor: str, *words: str) -> list[str]:
    """The command of the debug run."""
    return [*NEMO_RUN, "recipes/distill_v1v3.py", "--executor", executor, "scale=debug", *words]


def time_to_queue(place: Path, environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds from the command to its first job, to its last, and the load."""
    environment = with_code(environment)
    begin = time.monotonic()
    process = subprocess.Popen(
        command("slurm", "--detach"), cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    first = None
    while process.poll() is None:
        if first is None and any(place.glob("runs/*/*/job.json")):
            first = time.monotonic() - begin
        time.sleep(0.02)
    every = time.monotonic() - begin
    if process.returncode != 0 or first is None:
        sys.exit(process.stdout.read().decode())
    subprocess.run(
        [*NEMO_RUN, "cancel", "distill_v1v3-debug"], cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    until_idle(environment)
    return first, every, os.getloadavg()[0]


def time_of_run(place: Path, environment: dict[str, str], executor: str, settings: list[str]) -> tuple[float, float]:
    """Seconds of the whole run by the clock, and the mean load meanwhile."""
    begin, before = time.monotonic(), os.getloadavg()[0]
    done = subprocess.run(
        command(executor, *settings), cwd=place, env=with_code(environment), capture_output=True, text=True
    )
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    until_idle(environment)
    marks = [json.loads(path.read_text()) for path in place.glob("runs/*/*/_SUCCESS")]
    own = sum(mark["seconds"] for mark in marks)
    print(f"{executor}: {len(marks)} steps in {seconds:.0f} s, {own:.0f} s of their own", file=sys.stderr, flush=True)
    return seconds, (before + os.getloadavg()[0]) / 2


def with_code(environment: dict[str, str]) -> dict[str, str]:
    """`environment` with this checkout on Python's path."""
    return environment | {"PYTHONPATH": f"{ROOT}:{ROOT}/evaluator"}


def until_idle(environment: dict[str, str]) -> None:
    """Wait until the queue is empty."""
    while subprocess.run(["squeue", "--noheader"], env=environment, check=True, capture_output=True).stdout:
        time.sleep(0.2)


def show_queueing(taken: list[tuple[float, float, float]]) -> None:
    """The first table."""
    print("| run | first job queued after, s | all, s | load |\n|---|---:|---:|---:|")
    for number, (first, every, load) in enumerate(taken, 1):
        print(f"| {number} | {first:.1f} | {every:.1f} | {load:.1f} |")
    if taken:
        first = statistics.median(first for first, _, _ in taken)
        print(f"| **median** (goal {GOALS['queued']:.0f}) | **{first:.1f}** | | |\n", flush=True)


def show_runs(whole: dict[str, list[tuple[float, float]]]) -> None:
    """The second table."""
    print("| pair | local, s | load | Slurm, s | load | ratio |\n|---|---:|---:|---:|---:|---:|")
    ratios = []
    for number, ((local, load), (slurm, load_there)) in enumerate(zip(*whole.values(), strict=True), 1):
        ratios.append(slurm / local)
        print(f"| {number} | {local:.0f} | {load:.1f} | {slurm:.0f} | {load_there:.1f} | {ratios[-1]:.2f} |")
    if ratios:
        print(f"| **median** (goal {GOALS['ratio']:.2f}) | | | | | **{statistics.median(ratios):.2f}** |")


if __name__ == "__main__":
    main()
