"""Runs are followed by the trackers' own libraries, and what they keep is read back with these."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluator.results.scores import CheckpointResult, TaskResult
from nemo_distill.errors import UserError
from nemo_distill.run.facts import RunFacts, Tracked
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import Step, mark_done, place
from nemo_distill.track import follow
from nemo_distill.track.kinds import chosen
from nemo_distill.track.run import FOLDER, Sent, TrackedRun, declare, tracked

MODULE = "nemo_distill.steps."
LINE = {"learning_rate": 1e-3, "seconds": 0.5, "grad_norm": 2.0, "memory_gib": 1.5}


def steps(*labels: tuple[str, int]) -> list[Step]:
    found, before = [], ()
    for label, until in labels:
        found.append(Step(f"distill-{label}", f"{MODULE}distill", {"until": until}, before))
        found.append(Step(f"evaluate-{label}", f"{MODULE}evaluate", {"label": label}, (f"distill-{label}",)))
        before = (f"distill-{label}",)
    return [*found, Step("report", f"{MODULE}report", {}, before)]


@pytest.fixture
def run(tmp_path) -> Run:
    """Two segments of 3 iterations; none has begun."""
    specs = place(steps(("0.1M", 3), ("0.2M", 6)), runs=tmp_path)
    facts = RunFacts(
        executor="local", scale="debug", recipe={"blend": {"name": "mine", "shares": {"a b": 100}}}, seed=1
    )
    run = Run(name="mine-debug", runs=tmp_path, specs=specs, facts=facts)
    return Run(**{**vars(run), "facts": facts.tracked_as(tracked(run, ("tensorboard",)))})


def train(run: Run, name: str, iterations: range) -> None:
    folder = run.specs[name].folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "losses.jsonl").open("a") as file:
        for number in iterations:
            file.write(json.dumps({"iteration": number, "loss": 10.0 / number, "tokens": 100 * number, **LINE}) + "\n")


def measure(run: Run, name: str, *iterations: int) -> None:
    with (run.specs[name].folder / "held_out.jsonl").open("a") as file:
        for number in iterations:
            source = {"kl": 1.0 / (1 + number), "loss": 2.0, "teacher_loss": 1.5, "documents": 2, "tokens": 9}
            file.write(json.dumps({"iteration": number, "tokens": 100 * number, "sources": {"a b": source}}) + "\n")


def evaluate(run: Run, label: str, score: float) -> None:
    run.specs[f"evaluate-{label}"].save()
    folder = run.specs[f"evaluate-{label}"].folder
    task = TaskResult("offline_math", ("q1", "q2"), ((score,), (score,)), mean_tokens=5.0, cut_share=0.0)
    CheckpointResult(label, "offline", 1, 1.0, ("asked",), (task,)).save(folder)
    mark_done(folder)


def whole(run: Run) -> None:
    train(run, "distill-0.1M", range(1, 4))
    evaluate(run, "0.1M", 0.5)
    train(run, "distill-0.2M", range(4, 7))
    evaluate(run, "0.2M", 1.0)
    (run.specs["report"].folder).mkdir(parents=True, exist_ok=True)
    (run.specs["report"].folder / "report.html").write_text("<p>")


def send(run: Run, kind: str) -> subprocess.CompletedProcess:
    """Follow the run as a step does that has nothing more to add."""
    command = [sys.executable, "-m", "nemo_distill.track", str(run.runs), run.facts.beside.tracked.id, kind]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    (folder,) = (run.runs / FOLDER / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert "config" in events.Tags()["tensors"]
    names = events.Tags()["scalars"]
    return {name: [(event.step, round(event.value, 4)) for event in events.Scalars(name)] for name in names}


def records_of(text: bytes) -> Iterator[bytes]:
    """The records of a file of W&B's: 7 bytes, then LevelDB's log, blocks of 32 KiB with records that may be cut."""
    place, record = 7, b""
    while place + 7 <= len(text):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(text[place + 4 : place + 6], "little"), text[place + 6]
        record += text[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


LOSSES = [(n, round(10.0 / n, 4)) for n in range(1, 7)]


def test_segments_resumed_ones_and_milestones_append_to_one_run_and_nothing_twice(run):
    declare(run)
    train(run, "distill-0.1M", range(1, 3))
    measure(run, "distill-0.1M", 0, 2)
    assert send(run, "tensorboard").returncode == 0
    assert curves(run)["train/loss"] == LOSSES[:2]
    (run.specs["distill-0.1M"].folder / "losses.jsonl").write_text("")  # killed, and gone on from the start
    whole(run)
    measure(run, "distill-0.2M", 6)
    assert send(run, "tensorboard").returncode == send(run, "tensorboard").returncode == 0
    found = curves(run)
    assert found["held_out/a b/kl"] == [(0, 1.0), (2, 0.3333), (6, 0.1429)]
    assert found["train/loss"] == LOSSES
    assert found["speed/tokens_per_second"][0] == (1, 200.0) and found["speed/peak_memory_gib"][0] == (1, 1.5)
    assert found["scores/Average"] == [(3, 50.0), (6, 100.0)]
    mark = Sent.read(run.runs / FOLDER / run.facts.beside.tracked.id / "tensorboard.json")
    assert mark == Sent(6, ("0.1M", "0.2M"), report=True, held_out=6)


def test_it_is_followed_while_it_goes_on_and_the_process_ends_with_whoever_started_it(run):
    declare(run)
    script = (
        "import time, sys; from pathlib import Path; from nemo_distill.run.facts import Tracked;"
        "from nemo_distill.track.follow import following\n"
        f"runs, id = Path({str(run.runs)!r}), {run.facts.beside.tracked.id!r}\n"
        "with following(runs, Tracked(id=id, kinds=('tensorboard',))):\n"
        "    print('there', flush=True); time.sleep(600)"
    )
    step = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert step.stdout.readline() == "there\n"
    children = Path(f"/proc/{step.pid}/task/{step.pid}/children").read_text().split()
    (follower,) = (pid for pid in children if b"nemo_distill.track" in Path(f"/proc/{pid}/cmdline").read_bytes())
    train(run, "distill-0.1M", range(1, 4))
    step.send_signal(signal.SIGKILL)
    step.wait()
    ends = time.monotonic() + 60
    while Path(f"/proc/{follower}").exists() and Path(f"/proc/{follower}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert curves(run)["train/loss"] == LOSSES[:3]  # the last news were sent all the same


def test_weights_and_biases_offline_has_every_number_once(run, monkeypatch):
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    declare(run)
    whole(run)
    sent = send(run, "wandb")
    assert sent.returncode == 0, sent.stdout
    (file,) = (run.runs / FOLDER / "wandb").rglob("*.wandb")
    rows, text = [], file.read_bytes()
    for data in records_of(text):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    assert [(row["iteration"], round(row["train/loss"], 4)) for row in rows if "train/loss" in row] == LOSSES
    assert [row["scores/Average"] for row in rows if "scores/Average" in row] == [50.0, 100.0]
    assert run.facts.beside.tracked.id.encode() in text
    assert str(Path.home()).encode() not in text and b"pytest" not in text.replace(str(run.runs).encode(), b"")


def test_mlflow_goes_on_with_the_run_of_an_earlier_step(run, monkeypatch, tmp_path):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    declare(run)
    train(run, "distill-0.1M", range(1, 4))
    assert send(run, "mlflow").returncode == 0
    whole_run = run.specs["distill-0.1M"].folder / "losses.jsonl"
    whole_run.unlink()
    whole(run)
    assert send(run, "mlflow").returncode == 0
    client = mlflow.MlflowClient(f"file://{tmp_path}/mlflow")
    (experiment,) = [one for one in client.search_experiments() if one.name == "nemo-distill"]
    (one,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(one.info.run_id, "train/loss")
    assert [(metric.step, round(metric.value, 4)) for metric in history] == LOSSES
    assert one.data.params["blend.shares.a_b"] == "100" and one.data.tags["report"].endswith("report.html")


def test_a_tracker_that_is_down_never_stops_a_step_and_gets_all_when_it_is_up_again(run, monkeypatch, tmp_path):
    monkeypatch.setattr(follow, "LAST_SECONDS", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    declare(run)
    whole(run)
    with follow.following(run.runs, Tracked(id=run.facts.beside.tracked.id, kinds=("mlflow",))):
        pass
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    assert send(run, "mlflow").returncode == 0
    assert Sent.read(run.runs / FOLDER / run.facts.beside.tracked.id / "mlflow.json").iteration == 6


def test_what_steps_are_told_and_a_longer_run_keep_the_tracked_run(run, tmp_path):
    assert RunFacts.read(json.loads(json.dumps(run.facts.record()))) == run.facts
    declare(run)
    longer = Run(**{**vars(run), "specs": place(steps(("0.1M", 3), ("0.2M", 6), ("0.3M", 9)), runs=tmp_path)})
    assert tracked(longer, ("tensorboard",)) == run.facts.beside.tracked
    only = {name: spec for name, spec in longer.specs.items() if name.startswith("distill")}  # as of --until
    declare(Run(**{**vars(longer), "specs": only}))
    known = TrackedRun.load(run.runs, run.facts.beside.tracked.id)
    assert list(known.segments) == ["distill-0.1M", "distill-0.2M", "distill-0.3M"]
    assert list(known.evaluations) == ["0.1M", "0.2M"] and known.report


def test_a_checkpoint_that_was_asked_a_part_has_no_average_as_on_the_pages(run, tmp_path):
    part = Step("evaluate-pruned", f"{MODULE}evaluate", {"label": "pruned", "tasks": ["offline_math"]})
    teacher = Step("evaluate-teacher", f"{MODULE}evaluate", {"label": "teacher"})
    more = Run(**{**vars(run), "specs": place([*steps(("0.1M", 3), ("0.2M", 6)), part, teacher], runs=tmp_path)})
    declare(more)
    evaluate(more, "pruned", 0.25)
    whole(more)
    assert send(more, "tensorboard").returncode == 0
    assert curves(more)["scores/Average"] == [(3, 50.0), (6, 100.0)]
    assert [sorted(score) for score in curves(more).values() if (0, 25.0) in score] == [
        [(0, 25.0), (3, 50.0), (6, 100.0)]
    ]


def test_a_damaged_mark_is_no_mark(tmp_path):
    for text in ("", "{", "[]", '{"iteration": "x", "evaluations": [], "report": true}'):
        (tmp_path / "mark").write_text(text)
        assert Sent.read(tmp_path / "mark") == Sent()


@pytest.mark.parametrize(
    ("track", "environment", "sentence"),
    [
        (
            "wandb",
            {"WANDB_MODE": "online"},
            "track=wandb lacks a login: wandb login, or WANDB_MODE=offline to sync later.",
        ),
        ("mlflow", {}, "track=mlflow lacks the address of its server in MLFLOW_TRACKING_URI."),
        ("tensorbord", {}, "track cannot be 'tensorbord'. Did you mean 'tensorboard'?"),
        ("tensorboard,", {}, "track cannot be ''."),
        ("none,wandb", {"WANDB_MODE": "offline"}, "track cannot be 'none'."),
    ],
)
def test_what_cannot_be_tracked_is_said_before_anything_runs(track, environment, sentence, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        chosen(track)
    assert str(error.value).startswith(sentence)


def test_tensorboard_is_what_one_gets_and_none_is_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert chosen(None) == ("tensorboard",) and chosen("none") == ()
    assert chosen("wandb, tensorboard,wandb") == ("wandb", "tensorboard")
