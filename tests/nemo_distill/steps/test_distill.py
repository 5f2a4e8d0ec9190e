"""Distillation as it runs: real steps in real processes, cut at milestones, killed and resumed."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from nemo_distill import backends
from nemo_distill.run.conditions import FILE, Conditions
from nemo_distill.run.step import SUCCESS, Spec, damage
from nemo_distill.steps import index
from nemo_distill.train.checkpoints import complete_checkpoints
from nemo_distill.train.losses import read_losses
from tests.forks_for_tests import HERE
from tests.nemo_distill.segments import (
    CUT,
    ITERATIONS,
    KD,
    MEASURING,
    ended,
    listening,
    losses,
    measured,
    placed,
    run,
    run_all,
    segment,
    start,
)

pytestmark = pytest.mark.slow
STEADY = {**KD, "deterministic": True}


@pytest.fixture(scope="module")
def specs(course) -> dict[str, Spec]:
    """The steps placed; done are those before distillation, the uncut segment and the two it can be cut into."""
    steps = placed(
        course,
        segment("distill-whole"),
        segment("distill-1", until=CUT),
        segment("distill-2", first=CUT, after="distill-1"),
        segment("distill-on-1", until=3),
        segment("distill-on-2", first=3, until=CUT, after="distill-on-1"),
        segment("distill-on-3", first=CUT, after="distill-on-2"),
        segment("distill-steady", until=2, kd=STEADY),
        segment("distill-steady-1", until=1, kd=STEADY),
        segment("distill-steady-2", first=1, until=2, after="distill-steady-1", kd=STEADY),
        segment("distill-again", until=CUT, save_interval=4),  # a name and a folder of its own
        segment("distill-nemo", until=CUT, kd={**KD, "fused_loss": False, "fused_kernels": False}),
        segment("distill-fresh", until=CUT, save_interval=3),
        segment("distill-apart", until=2, kd={**KD, "reset_at_documents": True}),
        segment("distill-hidden", until=2, intermediate_layers=[["decoder.final_norm", "decoder.final_norm"]]),
    )
    run_all([steps["distill-2"], steps["distill-apart"]], [steps["distill-hidden"], steps["distill-nemo"]])
    return steps


@pytest.fixture(scope="module")
def whole(specs) -> list[dict]:
    """The losses of the uncut run."""
    return losses(specs["distill-whole"])


def test_the_loss_falls_and_every_iteration_is_logged(whole):
    assert [line["iteration"] for line in whole] == list(range(1, ITERATIONS + 1))
    assert whole[-1]["tokens"] == ITERATIONS * 8 * 64
    assert whole[-1]["loss"] < whole[0]["loss"]


def test_a_segment_is_the_same_to_the_bit_forked_or_not_and_however_its_checkpoints_are_written(specs):
    forked, fresh = specs["distill-1"], specs["distill-fresh"]
    run(fresh, fork=False, overlap_saves=True)
    parents = [json.loads((spec.folder / "spec.json").read_text())["provenance"] for spec in (forked, fresh)]
    assert ["forked_from" in parent for parent in parents] == [True, False]
    assert losses(forked) == losses(fresh)
    states = [backends.get().read(spec.folder / "checkpoint") for spec in (forked, fresh)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_cut_at_a_milestone_has_the_losses_and_learning_rates_of_the_uncut_one(specs, whole):
    assert losses(specs["distill-1"]) + losses(specs["distill-2"]) == whole


def test_a_deterministic_run_goes_on_bit_for_bit_under_what_it_began_with_and_nothing_else(specs):
    uncut, before, after = (specs[f"distill-steady{part}"] for part in ("", "-1", "-2"))
    run_all([uncut], [before])
    begun = Conditions.read(before.folder)
    after.folder.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(begun, device="NVIDIA H200").write(after.folder)  # as if it had been cut there
    codes, output = ended(start(after))
    assert codes == [1] and "distill-steady-2 began on NVIDIA H200, and here is a CPU" in output
    (after.folder / FILE).unlink()
    run(after)
    assert losses(before) + losses(after) == losses(uncut)
    states = [backends.get().read(spec.folder / "checkpoint") for spec in (uncut, after)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_segment_reads_the_indices_that_were_built_beforehand(specs, whole):
    step = specs["index"]
    built = set(json.loads((step.folder / SUCCESS).read_text())["files"])
    assert len([name for name in built if name.endswith(".npy")]) == 3 * 2 + 2  # of two sources, and of their blend
    assert {str(path.relative_to(step.folder)) for path in (step.folder / index.FOLDER).iterdir()} == built
    assert not [
        path
        for name in ("distill-whole", "distill-2", "distill-apart")
        for path in specs[name].folder.rglob("*_index.npy")
    ]


def test_the_learning_rate_is_the_schedule_s(whole):
    from nemo_distill.config.schedule import Schedule

    schedule = Schedule(
        seq_length=64,
        global_batch_size=8,
        max_iterations=ITERATIONS,
        warmup_iterations=3,
        learning_rate=2e-3,
        min_learning_rate=1e-4,
    )
    for line in whole:
        assert line["learning_rate"] == pytest.approx(schedule.learning_rate_after(line["iteration"] - 1), rel=1e-9)


@pytest.fixture(scope="module")
def on(specs) -> list[Spec]:
    """Three segments that one process went on with, until it was killed in the last."""
    chain = [specs[f"distill-on-{part}"] for part in (1, 2, 3)]
    (process,) = start(chain[0], following=chain[1:], overlap_saves=True)
    log = chain[2].folder / "losses.jsonl"
    while len(read_losses(log)) < 4:  # past the checkpoints at 6 and 8, and far from its end
        assert process.poll() is None, ended([process])
        time.sleep(0.05)
    trains = json.loads((chain[2].folder / "spec.json").read_text())["provenance"]["pid"]
    assert {host for host, _ in listening(trains)} == {"127.0.0.1"}  # gloo's; of a store there is none
    process.send_signal(signal.SIGKILL)
    process.wait()
    return chain


def test_a_process_goes_on_with_the_next_segment_as_one_of_its_own_would(specs, whole, on):
    records = [json.loads((spec.folder / "spec.json").read_text()) for spec in on]
    assert len({record["provenance"]["pid"] for record in records}) == 1
    assert [record.get("continues") for record in records] == [None, "distill-on-1", "distill-on-2"]
    done = on[:2]
    assert [line for spec in done for line in losses(spec)] == whole[:CUT]
    assert [damage(spec.folder) for spec in done] == [None, None]  # though others were trained since
    own = [set(json.loads((spec.folder / SUCCESS).read_text())["files"]) for spec in (specs["distill-1"], *done)]
    assert own[0] == own[1] == own[2]
    for spec in on:
        assert f"[{spec.name}] started" in (spec.folder / "log.txt").read_text().splitlines()[0]
    assert [list(measured(spec)) for spec in on] == [[0, 3], [4, CUT], [8]]
    assert_same_checkpoint(done[1], specs["distill-1"])


def test_a_run_killed_mid_segment_resumes_to_the_same_losses_and_checkpoint(specs, whole, on):
    spec = on[2]
    assert [one.done for one in on] == [True, True, False]
    (spec.folder / "iteration_0000011").mkdir(exist_ok=True)  # and a checkpoint of which the kill left half
    run(spec)
    assert "going on from" in (spec.folder / "log.txt").read_text()
    assert losses(spec) == whole[CUT:] and measured(spec) == measured(specs["distill-2"])
    assert_same_checkpoint(spec, specs["distill-2"])


def assert_same_checkpoint(ours: Spec, theirs: Spec) -> None:
    """Weights, the optimizer's moments and all that a training goes on from, to the bit."""
    (a, common), (b, expected) = (state_on_disk(spec.folder / "checkpoint") for spec in (ours, theirs))
    assert a.keys() == b.keys() and any("exp_avg" in name for name in a)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert common == expected


def state_on_disk(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of a checkpoint, and what else is in it."""
    reader = dcp.FileSystemReader(checkpoint / "weights")
    kinds = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(kind.size, dtype=kind.properties.dtype)
        for name, kind in kinds.items()
        if isinstance(kind, TensorStorageMetadata)
    }
    dcp.load(state, storage_reader=reader, no_dist=True)
    return state, torch.load(checkpoint / "weights" / "common.pt", weights_only=False)


@pytest.mark.parametrize(("error", "ranks"), [("RuntimeError", 1), ("OSError", 2)])
def test_what_fails_while_a_checkpoint_is_being_written_waits_for_it(course, whole, monkeypatch, error, ranks):
    monkeypatch.syspath_prepend(HERE)
    step = segment(f"distill-failing-{ranks}", until=3, error=error)
    step = dataclasses.replace(step, module="ending_steps_for_tests")
    spec = placed(course, step)[step.name]
    codes, output = ended(start(spec, ranks_per_node=ranks, overlap_saves=True))
    assert codes == [1] and f"{error}: just so" in output
    assert [path.name for path in complete_checkpoints(spec.folder)] == ["iteration_0000002"]
    if ranks == 1:
        run(spec)
        assert "going on from" in (spec.folder / "log.txt").read_text() and losses(spec) == whole[:3]


def test_held_out_documents_are_measured_at_the_start_at_intervals_and_at_milestones(specs, whole):
    uncut = measured(specs["distill-whole"])
    assert list(uncut) == [0, 4, 8, 12]
    first, then = measured(specs["distill-1"]), measured(specs["distill-2"])
    assert (list(first), list(then)) == ([0, 4, CUT], [8, 12])
    assert {**first, **then} | {CUT: None} == uncut | {CUT: None}
    for sources in uncut.values():
        assert set(sources) == {"sft-code", "science-mcq"}
    for name, last in uncut[12].items():
        assert last["teacher_loss"] == uncut[0][name]["teacher_loss"]
        assert last["documents"] >= 8 and last["tokens"] <= MEASURING.tokens
    # The pruned student knows code nearly as well as its teacher; choices are what it learns.
    kl = [sources["science-mcq"]["kl"] for sources in uncut.values()]
    assert kl == sorted(kl, reverse=True) and kl[0] > 10 * uncut[0]["sft-code"]["kl"]


def test_what_is_measured_is_what_each_document_by_itself_gives_on_whole_logits(specs, backend):
    """The pruned student before its first iteration: no padding, no neighbours, no chunks."""
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.nemotron_h.model import Runtime
    from nemo_distill.nemotron_h.shape import Shape
    from nemo_distill.train.held_out import estimates, read_documents

    sources = read_sources(specs["prepare"].folder)
    runtime, logits = Runtime(), {}
    documents = read_documents(sources, MEASURING, seq_length=64)
    assert len({len(document.ids) for some in documents.values() for document in some}) > 2
    with backend.session(runtime) as session:
        for step in ("import-teacher", "prune"):
            folder = specs[step].folder
            shape = Shape.load(folder / "shape.json")
            module = backends.restore(backend, session, folder / "checkpoint", shape, runtime=runtime).eval()
            for name, some in documents.items():
                for place, document in enumerate(some):
                    tokens = torch.from_numpy(document.ids[:-1])[None]
                    with torch.no_grad():
                        made = module(tokens, torch.arange(tokens.shape[1])[None], None)[0].double().log_softmax(-1)
                    logits[step, name, place] = made
    for name, some in documents.items():
        sums = []
        for place, document in enumerate(some):
            teacher, student = logits["import-teacher", name, place], logits["prune", name, place]
            labels = torch.from_numpy(document.ids[1:])[:, None]
            divergence = (teacher.exp() * (teacher - student)).sum()
            sums.append([divergence, -student.gather(1, labels).sum(), -teacher.gather(1, labels).sum()])
        expected = estimates(np.array(sums), np.array([len(document.ids) - 1 for document in some], float))
        assert measured(specs["distill-whole"])[0][name] == pytest.approx(expected, rel=1e-4)


def test_a_checkpoint_holds_the_tokenizer_and_not_the_weights_it_lay_beside(specs, whole):
    for name in ("import-teacher", "prune", "distill-whole"):
        files = [path.name for path in (specs[name].folder / "checkpoint").rglob("*")]
        assert "tokenizer.json" in files and not [file for file in files if file.endswith(".safetensors")]


def test_mlp_layers_that_are_computed_again_change_no_digit(specs, whole):
    run(specs["distill-again"], recompute="mlp", measuring=None)  # nor does it that nothing is measured
    assert not measured(specs["distill-again"])
    assert "activation recomputation: mlp" in (specs["distill-again"].folder / "log.txt").read_text()
    assert losses(specs["distill-again"]) == whole[:CUT]


def test_hidden_states_can_be_matched_too(specs, whole):
    assert losses(specs["distill-hidden"])[0]["loss"] > whole[0]["loss"]  # the logits' loss and the hidden states'


def test_documents_kept_apart_are_the_same_tokens_and_another_loss(specs, whole):
    made = losses(specs["distill-apart"])
    assert [line["tokens"] for line in made] == [line["tokens"] for line in whole[:2]]
    assert 1e-4 < abs(made[0]["loss"] / whole[0]["loss"] - 1) < 0.2


def test_the_loss_from_hidden_states_trains_as_nemo_s_from_logits(specs, whole):
    theirs = [line["loss"] for line in losses(specs["distill-nemo"])]
    ours = [line["loss"] for line in whole[:CUT]]
    # Two roads to one number, 1e-7 apart, which five steps of Adam widen.
    assert ours == pytest.approx(theirs, rel=1e-5) and ours != theirs
