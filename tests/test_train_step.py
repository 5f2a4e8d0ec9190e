"""`benchmarks/train_step.py`: what it is asked, what its table says, and the whole of it on the CPU."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import breakdown
from benchmarks.train_step import HERE, Layout, row, table

ALONE = {
    "event": "microbatch", "line": "fp8-both", "gpu": "H200", "seconds": 0.5, "loss": 1.76, "memory": 70 * 2**30,
    "tokens": 8192, "rate": 800e12, "fp8_rate": 1600e12,
}  # fmt: skip
MEASURED = {
    "layout": "tp2-fp8both", "event": "measured", "ranks": 2, "fp8": "both", "tokens": 65536, "teacher": 9e9,
    "student": 7e9, "seconds": [2.5, 2.0, 9.0], "losses": [1.5, 1.25], "memory": [2**30, 2**31],
    "start": {"import": 40.0, "building": 20.0, "first iteration": 15.0},
}  # fmt: skip


def test_a_layout_is_read_with_what_is_changed_or_refused_by_the_part_that_is_none():
    made = Layout.of("dp2-tp4-fp8teacher+micro_batch_size=2+NCCL_MIN_NCHANNELS=16")
    assert (made.data_parallel, made.tensor_parallel, made.ranks, made.fp8) == (2, 4, 8, "teacher")
    assert made.changes == {"micro_batch_size": "2"} and made.variables == {"NCCL_MIN_NCHANNELS": "16"}
    for name, why in (
        ("dp2-fp8all", "fp8all"), ("dp0", "dp0"), ("tp2+overlap=1", "overlap"), ("tp2+NCCL_NVLS_ENABLE=1", "multicast"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            Layout.of(name)


def test_the_table_has_rates_by_the_median_beside_the_microbatch_and_the_bound():
    cells = [cell.strip() for cell in row(MEASURED, {"fp8-both": ALONE}).split("|")[1:-1]]
    # 65,536 tokens in 2.5 s on two GPUs, of the microbatch's 16,384; 2 x 9e9 + 6 x 7e9 FLOPs a token at 1.6e15 a second
    assert cells[:5] == ["tp2-fp8both", "2500", "13,107", "80.0%", "49%"]
    assert cells[5:] == ["1.0 2.0", "1.50000 to 1.25000", "75: 40, 20, 15"]
    lines = [
        ALONE,
        *({"event": "setup", "layout": name} for name in ("tp2-fp8both", "dp2")),
        {"event": "ended", "layout": "dp2", "problem": "exit code 1; OutOfMemoryError"},
        MEASURED,
    ]
    assert "| dp2 | exit code 1; OutOfMemoryError |" in table(lines) and "2500" in table(lines)
    assert "2500" not in table([*lines, {"event": "setup", "layout": "tp2-fp8both"}]), "it was begun anew since"


def test_a_breakdown_tells_hidden_collectives_from_exposed_ones_and_pauses():
    spans = [(0, 100, "nvjet_a"), (50, 150, "ncclKernel_AllReduce"), (170, 180, "_scan_forward"), (180, 185, "x")]
    found = breakdown.broken_down((begin * 1e3, end * 1e3, name) for begin, end, name in spans)
    assert found["kinds"] == {"matrix products": 100, "collectives": 100, "Mamba scan": 10, "other": 5}
    assert (found["collectives exposed"], found["collectives hidden"]) == (50, 50)
    assert (found["waiting"], found["whole"], found["kernels"]) == (20, 185, 4)
    assert breakdown.broken_down([]) == {}


def debug_run(to) -> list[str]:
    """The command that measures the small shape, on the CPU."""
    return [sys.executable, str(HERE), "--to", str(to), "--shape", "debug"]


@pytest.mark.slow
def test_a_layout_is_trained_with_on_the_cpu_and_says_what_it_took(tmp_path):
    """One rank: each imports NeMo. Two, which share the batch or the model, were tried by hand."""
    command = [*debug_run(tmp_path), "--layouts", "dp1+bucket_size=100000"]
    command += ["--iterations", "2", "--warm-up", "1", "--sequences", "2", "--breakdown", "--seq-length", "32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "train_step.jsonl").read_text().splitlines()]
    (measured,) = (line for line in lines if line["event"] == "measured")
    assert (measured["tokens"], len(measured["seconds"]), len(measured["losses"])) == (2 * 32, 2, 3)
    assert 0 < measured["losses"][-1] < 1 and len(measured["memory"]) == 1


@pytest.mark.slow
def test_told_to_end_it_leaves_no_process_on_a_gpu(tmp_path):
    command = [*debug_run(tmp_path), "--layouts", "dp1", "--only", "layouts"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until, begun = time.monotonic() + 120, []
    while len(begun) < 2 and process.poll() is None and time.monotonic() < until:  # torchrun and its rank
        time.sleep(0.1)
        begun = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(60) == 143 and len(begun) >= 2
    assert psutil.wait_procs(begun, timeout=30)[1] == []
