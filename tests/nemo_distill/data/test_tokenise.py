"""One source from files to .bin and .idx: cut and gone on with, drawn to a budget, on a disk that fills."""

import collections
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nemo_distill.config.plain import resolve_package_paths
from nemo_distill.data import documents, held_out, tokenise
from nemo_distill.data.files import LocalFile
from nemo_distill.data.indexed import lengths_of
from nemo_distill.data.prepared import read_sources
from nemo_distill.data.tokenise import Job, Treatment, Workers
from nemo_distill.data.tokenizer import Tokenizer
from nemo_distill.errors import UserError
from nemo_distill.run.step import SUCCESS, Step, place

TEACHER = resolve_package_paths("package:debug/teacher")
ROWS = 3_000
TREATMENT = Treatment(field="text", max_document_tokens=40)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(TEACHER)


@pytest.fixture
def workers(tokenizer):
    with Workers(tokenizer, count=2) as some:
        yield some


@pytest.fixture
def small_batches(monkeypatch):
    """Many batches and many checkpoints in little text."""
    monkeypatch.setattr(documents, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(tokenise, "_CHECKPOINT_TOKENS", 3_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[LocalFile]:
    """Three files, each row its own number, some rows malformed, some lines blank; two rows in a hundred are long."""
    folder = tmp_path_factory.mktemp("rows")
    found = []
    for number in range(3):
        path = folder / f"{number}.jsonl"
        lines = []
        for row in range(ROWS // 3):
            text = f"row {number * ROWS // 3 + row}" + " more words" * (30 if row % 50 == 0 else row % 5)
            lines.append("{" if row % 400 == 7 else json.dumps({"text": text}))
            lines += [""] * (row % 90 == 3)
        path.write_text("\n".join(lines) + "\n")
        found.append(LocalFile(path, path.name))
    return found


def job(files, **of) -> Job:
    return Job(**{"source": "stem", "files": files, "treatment": TREATMENT, "max_malformed": 0.01} | of)


def made(job: Job, workers: Workers, prefix: Path, *, cut_after: int | None = None):
    """Tokenise; with `cut_after`, fail when that many batches have been written."""
    said = 0

    def say(share: float, tokens_per_second: float) -> None:
        nonlocal said
        said += 1
        if said == cut_after:
            raise InterruptedError

    return tokenise.tokenise(job, workers, prefix, say=say)


def bytes_of(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{ending}").read_bytes() for ending in (".bin", ".idx")]


def texts_in(prefix: Path, tokenizer: Tokenizer) -> list[str]:
    tokens = np.fromfile(f"{prefix}.bin", np.uint16)
    ends = np.cumsum(np.concatenate(list(lengths_of(prefix))))
    return [tokenizer._backend.decode(ids[:-1]) for ids in np.split(tokens, ends[:-1])]


def numbers_in(prefix: Path, tokenizer: Tokenizer) -> list[int]:
    return [int(text.split()[1]) for text in texts_in(prefix, tokenizer)]


def test_every_row_comes_out_once_and_in_order(files, workers, tokenizer, small_batches, tmp_path):
    result = made(job(files), workers, tmp_path / "x")
    malformed = {number * 1000 + row for number in range(3) for row in range(ROWS // 3) if row % 400 == 7}
    assert numbers_in(tmp_path / "x", tokenizer) == [row for row in range(ROWS) if row not in malformed]
    assert result.tally.rows == ROWS
    assert result.tally.dropped == {"not JSON": len(malformed)}
    assert result.tally.first == f"{files[0]}, line 9: not JSON"  # behind a blank line
    assert (result.documents, result.cut, result.share) == (ROWS - len(malformed), 60, 1.0)


@pytest.mark.parametrize("budget", [None, 9_000])
@pytest.mark.parametrize("cut_after", [1, 2, 9, 20, 31])
def test_a_cut_attempt_ends_with_the_bytes_of_an_uncut_one(files, workers, small_batches, tmp_path, cut_after, budget):
    uncut = made(job(files, budget=budget), workers, tmp_path / "uncut")
    with pytest.raises(InterruptedError):
        made(job(files, budget=budget), workers, tmp_path / "cut", cut_after=cut_after)
    assert not list(tmp_path.glob("cut.*"))
    resumed = made(job(files, budget=budget), workers, tmp_path / "cut")
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "uncut")
    assert resumed == uncut
    assert not list(tmp_path.glob(".*"))


def test_an_attempt_goes_on_rather_than_starting_again(files, workers, small_batches, tmp_path):
    with pytest.raises(InterruptedError):
        made(job(files), workers, tmp_path / "x", cut_after=30)
    opened = collections.Counter()

    class Watched(LocalFile):
        def open(self, mode: str = "rb"):
            opened[self.name] += 1
            return super().open(mode)

    made(job([Watched(file.path, file.name) for file in files]), workers, tmp_path / "x")
    assert opened == {"2.jsonl": 1}


def test_a_sample_is_the_first_rows_and_later_files_are_not_touched(files, workers, tokenizer, small_batches, tmp_path):
    there = [files[0], files[1], LocalFile(Path("/nowhere/2.jsonl"), "2.jsonl")]
    result = made(job(there, samples=1_500), workers, tmp_path / "x")
    assert result.tally.rows == 1_500
    assert numbers_in(tmp_path / "x", tokenizer)[-1] == 1_499


def test_a_budget_is_met_to_within_a_document_and_drawn_from_all_of_the_source(files, workers, tokenizer, tmp_path):
    everything = made(job(files), workers, tmp_path / "all")
    budget = everything.tokens // 4
    drawn = made(job(files, budget=budget, seed=1), workers, tmp_path / "some")
    assert budget - 45 < drawn.tokens <= budget
    assert drawn.share == pytest.approx(0.25, abs=0.02)
    rows = np.array(numbers_in(tmp_path / "some", tokenizer))
    thirds = np.histogram(rows, bins=3, range=(0, ROWS))[0] / len(rows)
    assert thirds == pytest.approx([1 / 3] * 3, abs=4 * np.sqrt(2 / 9 / len(rows)))
    assert (np.diff(rows) > 0).all()


def test_a_draw_depends_on_the_seed_alone_and_a_smaller_one_is_part_of_a_larger(files, workers, tokenizer, tmp_path):
    found = {}
    for label, budget, seed in [("small", 5_000, 1), ("large", 9_000, 1), ("other", 5_000, 2)]:
        made(job(files, budget=budget, seed=seed), workers, tmp_path / label)
        found[label] = set(numbers_in(tmp_path / label, tokenizer))
    assert found["small"] < found["large"]
    assert len(found["small"] & found["other"]) < len(found["small"]) / 2


def test_the_size_of_batches_changes_nothing(files, workers, tmp_path, monkeypatch):
    made(job(files, budget=9_000), workers, tmp_path / "one")
    monkeypatch.setattr(documents, "BATCH_BYTES", 700)
    made(job(files, budget=9_000), workers, tmp_path / "other")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")


def test_a_budget_above_what_there_is_takes_all(files, workers, tmp_path):
    assert made(job(files, budget=10**9), workers, tmp_path / "x").share == 1.0


def test_a_budget_below_any_document_is_refused_and_leaves_nothing(files, workers, tmp_path):
    with pytest.raises(UserError, match="'stem' has no document within its budget of 2 tokens"):
        made(job(files, budget=2), workers, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def held_out_in(prefix: Path, tokenizer: Tokenizer) -> list[int]:
    return numbers_in(held_out.prefix_of(prefix), tokenizer)


APART = dataclasses.replace(TREATMENT, held_out=0.1)


def test_the_same_documents_are_held_out_whatever_is_drawn_and_none_of_them_is_trained_on(
    files, workers, tokenizer, small_batches, tmp_path
):
    everything = made(job(files), workers, tmp_path / "all")
    apart = made(job(files, treatment=APART), workers, tmp_path / "apart")
    held = held_out_in(tmp_path / "apart", tokenizer)
    rest = numbers_in(tmp_path / "apart", tokenizer)
    assert sorted(held + rest) == numbers_in(tmp_path / "all", tokenizer) and rest == sorted(rest)
    assert (apart.documents, apart.held_out["documents"]) == (len(rest), len(held))
    assert apart.tokens + apart.held_out["tokens"] == everything.tokens
    assert len(held) == pytest.approx(ROWS / 10, abs=4 * np.sqrt(ROWS * 0.09)) and held != sorted(held)
    for seed in (1, 2):
        made(job(files, treatment=APART, budget=9_000, seed=seed), workers, tmp_path / "drawn")
        assert held_out_in(tmp_path / "drawn", tokenizer) == held
        assert set(numbers_in(tmp_path / "drawn", tokenizer)) < set(rest)
    made(job(files, treatment=dataclasses.replace(APART, held_out=0.02)), workers, tmp_path / "fewer")
    assert held_out_in(tmp_path / "fewer", tokenizer) == held[: len(held_out_in(tmp_path / "fewer", tokenizer))]
    manifest = json.loads((tmp_path / "apart.held-out.json").read_text())
    assert len(manifest["numbers"]) == len(held) and manifest["numbers"] == sorted(manifest["numbers"])
    assert manifest["share"] == 0.1 and float(int(manifest["numbers"][-1], 16)) < 0.1 * 2**64


@pytest.mark.parametrize("cut_after", [2, 20])
def test_a_cut_attempt_holds_out_what_an_uncut_one_does(
    files, workers, small_batches, tmp_path, monkeypatch, cut_after
):
    monkeypatch.setattr(held_out, "KEPT_TOKENS", 500)
    uncut = made(job(files, treatment=APART), workers, tmp_path / "uncut")
    with pytest.raises(InterruptedError):
        made(job(files, treatment=APART), workers, tmp_path / "cut", cut_after=cut_after)
    assert made(job(files, treatment=APART), workers, tmp_path / "cut") == uncut
    for name in ("{}", "{}.held-out"):
        assert bytes_of(tmp_path / name.format("cut")) == bytes_of(tmp_path / name.format("uncut"))
    assert 450 < uncut.held_out["kept_tokens"] <= 500 < uncut.held_out["tokens"]
    assert not list(tmp_path.glob(".*"))


def test_a_source_of_which_nothing_can_be_held_out_is_refused_with_a_share_that_holds_some(workers, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"number {row}"}) + "\n" for row in range(40)))
    few = job([LocalFile(path, "a.jsonl")], treatment=dataclasses.replace(TREATMENT, held_out=1e-9))
    with pytest.raises(
        UserError, match=r"none of the 40 documents of source 'stem', .*held_out=0\.2 holds out about 8"
    ):
        made(few, workers, tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_the_loss_is_taken_on_is_held_out_with_the_document(workers, tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    turns = [[("user", f"What is {row}?"), ("assistant", f"It is {row}.")] for row in range(60)]
    rows = [{"messages": [{"role": role, "content": said} for role, said in turn]} for turn in turns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats = Treatment(field="messages", max_document_tokens=100, loss_on="answers", held_out=0.3)
    made(job([LocalFile(path, "a.jsonl")], treatment=chats), workers, tmp_path / "x")
    found = held_out.read(held_out.prefix_of(tmp_path / "x"), vocab_size=1024, tokens=4_096, longest=100)
    assert len(found) > 5
    for document in found:
        marked = tokenizer._backend.decode(document.ids[document.loss == 1], skip_special_tokens=True)
        assert "It is " in marked and "What" not in marked and 0 < document.loss.sum() < len(document.ids)


def test_text_that_utf8_cannot_hold_is_dropped_and_named(workers, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n{"text": ""}\n')
    result = made(job([LocalFile(path, "a.jsonl")], max_malformed=0.9), workers, tmp_path / "x")
    assert result.documents == 1
    assert result.tally.dropped == {"half a surrogate pair": 1, "empty": 1}
    assert result.tally.first == f"{path}, line 2: half a surrogate pair"


def test_messages_that_the_chat_template_refuses_are_dropped_and_named(workers, tmp_path):
    path = tmp_path / "a.jsonl"
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    good = {"messages": [{"role": "user", "content": "hi"}]}
    path.write_text("\n".join(json.dumps(row) for row in (good, {"messages": [call]}, good)))
    chat = Treatment(field="messages", max_document_tokens=100)
    result = made(job([LocalFile(path, "a.jsonl")], treatment=chat, max_malformed=0.5), workers, tmp_path / "x")
    assert result.documents == 2
    (reason,) = result.tally.dropped
    assert reason.startswith("the chat template refuses them")
    assert result.tally.first == f"{path}, line 2: {reason}"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MiB of its own: a tmpfs where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def prepare_step(runs: Path, file: Path) -> Path:
    config = {
        "tokenizer": TEACHER,
        "sources": [{"name": "stem", "field": "text", "files": [str(file)]}],
        "max_document_tokens": 10_000,
    }
    spec = place([Step("prepare", "nemo_distill.steps.prepare", config)], runs=runs)["prepare"]
    spec.save()
    return spec.folder


def run_step(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nemo_distill.step", str(folder / "spec.json")]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, list[bytes]]:
    """A file whose tokens take 1.4 MiB, and the bytes of .bin and .idx that a run makes of it that nothing disturbs."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    with open(folder / "large.jsonl", "w") as file:
        for row in range(1_200):
            words = rng.integers(0, 1 << 30, size=100)
            file.write(json.dumps({"text": f"row {row} " + " ".join(f"{word:x}" for word in words)}) + "\n")
    step = prepare_step(folder / "runs", folder / "large.jsonl")
    assert run_step(step).returncode == 0
    return folder / "large.jsonl", bytes_of(read_sources(step)["stem"]["prefix"])


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(small_disk, large):
    file, undisturbed = large
    folder = prepare_step(small_disk / "runs", file)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))

    failed = run_step(folder)
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert f"the disk of {small_disk / 'runs'} is full: make room there and run again" in said
    assert "Traceback" not in said
    assert not list((small_disk / "runs").rglob(SUCCESS))
    assert not list((small_disk / "runs").rglob("stem.*"))

    ballast.unlink()
    assert run_step(folder).returncode == 0
    assert bytes_of(read_sources(folder)["stem"]["prefix"]) == undisturbed


def test_a_killed_process_takes_its_workers_along_and_the_next_goes_on(large, tmp_path):
    file, undisturbed = large
    folder = prepare_step(tmp_path / "runs", file)
    process = subprocess.Popen([sys.executable, "-m", "nemo_distill.step", str(folder / "spec.json")])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers: list[str] = []
    while not workers:
        assert process.poll() is None
        workers = [child for child in children.read_text().split() if b"nemo_distill.step" in command_of(child)]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 300
    while any(command_of(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.01)
    assert run_step(folder).returncode == 0
    assert bytes_of(read_sources(folder)["stem"]["prefix"]) == undisturbed


def command_of(process: str) -> bytes:
    """Command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
