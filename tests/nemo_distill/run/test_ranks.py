"""Several ranks: how a step shares its work among them, and distillation over them, whatever starts, cuts or kills it.

Four ranks are two nodes of two here: a torchrun each, which meet on the loopback and talk through gloo. On a real Slurm
they are a job of two nodes.
"""

import base64
import json
import os
import pickle
import re
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest

from nemo_distill.config.division import check_context, check_layout
from nemo_distill.errors import UserError
from nemo_distill.run.manifest import State, state_of
from nemo_distill.run.ranks import Ranks
from nemo_distill.run.step import Spec, Step, place
from tests.damage_for_tests import Runs
from tests.nemo_distill import segments
from tests.nemo_distill.segments import CUT, ended, listening, losses, measured, placed, run, segment, start

COURSE_RECIPE = Path(segments.__file__).with_name("course_recipe_for_tests.py")
SUM_ORDER = 1e-5
"""Relative. Ranks add up the same gradients in another order, which in float32 moves the 8th digit of each; over the
course that moves the loss by up to 8e-7 (data parallel), or 8e-6 where the sums inside a layer are split as well
(tensor parallel). A gradient left out of its sum or of its norm moves it by 1e-4 and more."""


@pytest.fixture
def one(tmp_path, small_steps):
    def placed(**config) -> Spec:
        return place([Step("one", small_steps, config)], runs=tmp_path)["one"]

    return placed


def failure(spec: Spec) -> str:
    return json.loads((spec.folder / "_FAILED").read_text())["error"]


def assert_same(ours: list[dict], those_of_one_rank: list[dict]) -> None:
    """Iterations, tokens and learning rates to the last digit, losses and norms but for the order of sums."""
    summed = {"loss": 0, "grad_norm": 0}
    assert [line | summed for line in ours] == [line | summed for line in those_of_one_rank]
    for name, far in (("loss", SUM_ORDER), ("grad_norm", 100 * SUM_ORDER)):
        assert [line[name] for line in ours] == pytest.approx([line[name] for line in those_of_one_rank], rel=far)


def assert_measured_as(ours: Spec, whole: Spec) -> None:
    """The numbers of held-out documents, but for the order of sums."""
    found, expected = measured(ours), measured(whole)
    assert found
    for iteration, sources in found.items():
        for name, values in sources.items():
            assert values == pytest.approx(expected[iteration][name], rel=1e-4), (iteration, name)


def test_without_torchrun_a_step_has_one_rank():
    assert Ranks.here() == Ranks(rank=0, size=1)
    assert Ranks.here().agree("anything", lambda: [1, None]) == [1, None]


@pytest.mark.parametrize(
    ("ranks", "tensor_parallel", "batch", "micro", "said"),
    [
        (4, 1, 16, 16, "=16 does not divide among 4 copies .* in micro batches of 16; distill.micro_batch_size=4 "),
        (3, 1, 16, 2, "=16 does not divide among 3 copies .* in micro batches of 2; distill.global_batch_size=18 "),
        (768, 8, 800, 4, "among 96 copies .* in micro batches of 4; distill.global_batch_size=768 would do[.]"),
        (4, 3, 16, 1, "tensor_parallel=3 does not divide 4 ranks: 2 is the nearest that does"),
    ],
)
def test_a_batch_that_ranks_cannot_share_is_refused_with_one_that_they_can(ranks, tensor_parallel, batch, micro, said):
    with pytest.raises(UserError, match=said):
        check_layout(ranks=ranks, tensor_parallel=tensor_parallel, global_batch_size=batch, micro_batch_size=micro)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seq_length": 8188}, "=4 does not cut distill.seq_length=8188 into 8 equal parts.*context_parallel=2[.]"),
        (
            {"mixers": {"student": (120, 8)}, "tensor_parallel": 4},
            "=4 does not divide the 30 Mamba heads of the student",
        ),
        ({"mixers": {"teacher": (24, 3)}}, "=4 does not divide the 3 groups of Mamba heads of the teacher"),
        ({"reset_at_documents": True}, "takes whole sequences, .*say layout.context_parallel=1 or"),
    ],
)
def test_sequences_that_ranks_cannot_share_are_refused_with_what_they_can(changes, said):
    asked = {"ranks": 16, "tensor_parallel": 1, "context_parallel": 4, "seq_length": 8192, "mixers": {}}
    check_context(**asked)
    with pytest.raises(UserError, match=said) as refused:
        check_context(**asked | changes)
    check_context(
        **asked | changes | {"context_parallel": int(re.findall(r"context_parallel=(\d+)", str(refused.value))[-1])}
    )


def test_the_study_s_layout_is_taken():
    check_layout(ranks=768, tensor_parallel=8, global_batch_size=768, micro_batch_size=4)


def test_the_first_rank_writes_and_the_others_find_the_step_done(one, attempts, tmp_path):
    spec = one(lines=1)
    for said in ("done in", "already done"):
        codes, output = ended(start(spec, ranks_per_node=2))
        assert codes == [0] and output.count(said) == 1, output
    assert spec.done and attempts(tmp_path, "one") == 1
    assert {path.name for path in spec.folder.glob("log*")} == {"log.txt", "log-1.txt"}
    assert "line 1 of one" not in (spec.folder / "log-1.txt").read_text()
    assert not [name for name in json.loads((spec.folder / "_SUCCESS").read_text())["files"] if name.startswith("log")]


def test_the_first_rank_s_refusal_is_every_rank_s(tmp_path, small_steps):
    steps = place([Step("a", small_steps, {}), Step("b", small_steps, {}, ("a",))], runs=tmp_path)
    codes, output = ended(start(steps["b"], ranks_per_node=2))
    assert codes == [1] and output.count("its upstream step a is not done") == 1
    assert not (steps["b"].folder / "log-1.txt").exists()


def test_what_a_rank_raises_fails_the_step_though_the_first_waits_for_it_for_ever(one):
    spec = one(fail="error", on_rank=1, stuck=True)
    codes, _ = ended(start(spec, nodes=2))
    assert all(codes) and not spec.done
    assert failure(spec) == "rank 1 of 2: RuntimeError: the disk of the tests is full"
    for log in ("log.txt", "log-1.txt"):
        assert "Traceback" in (spec.folder / log).read_text()


def test_a_rank_that_is_killed_at_the_very_end_leaves_no_mark_of_success(one):
    spec = one(fail="killed", on_rank=1)  # the first has finished its own work by then
    codes, _ = ended(start(spec, ranks_per_node=2))
    assert codes == [1] and not spec.done


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_the_ranks_meet_on_the_loopback_and_end_with_the_torchrun_that_started_them(one, sent, tmp_path):
    spec = one(seconds=60)
    (agent,) = start(spec, ranks_per_node=2)
    while not all((spec.folder / name).exists() for name in ("progress.json", "log-1.txt")):
        assert agent.poll() is None, ended([agent])
        time.sleep(0.05)
    assert not planted_in_stores_of(agent, tmp_path / "planted").exists()
    agent.send_signal(sent)
    ended([agent])  # its output is the ranks' too: it ends with the last of them
    assert state_of(spec) == State.CUT and "[one] terminated" in (spec.folder / "log.txt").read_text()


def test_a_step_that_one_process_does_is_not_done_by_two(tmp_path):
    spec = place([Step("world", "nemo_distill.steps.debug_world", {"seed": 1, "documents": {}})], runs=tmp_path)[
        "world"
    ]
    codes, _ = ended(start(spec, ranks_per_node=2))
    assert codes == [1] and failure(spec) == "world was started on 2 ranks, and runs on 1."


@pytest.fixture(scope="module")
def specs(course) -> dict[str, Spec]:
    """The course in two parts, to be trained over several ranks, and whole, as one rank trained it."""
    return placed(
        course,
        segment("distill-whole"),
        segment("distill-ranks-0", until=3),
        segment("distill-ranks-1", first=3, until=8, after="distill-ranks-0", save_interval=4),
        segment("distill-ranks-2", first=8, after="distill-ranks-1", save_interval=0),
        segment("distill-ranks-odd"),
        segment("distill-1", until=CUT),
        segment("distill-shared", first=CUT, until=CUT + 3, after="distill-1"),
        segment("distill-alone", first=CUT + 3, after="distill-shared", save_interval=0),
    )


@pytest.fixture(scope="module")
def killed(specs) -> list[int]:
    """Exit codes of four ranks that trained the first part in two segments, the second of which they went on with: one
    was killed after the checkpoint at 4."""
    first, spec = specs["distill-ranks-0"], specs["distill-ranks-1"]
    agents = start(first, nodes=2, ranks_per_node=2, following=[spec])
    while len(losses(spec)) < 2:
        assert all(agent.poll() is None for agent in agents), ended(agents)
        time.sleep(0.02)
    os.kill(last_rank_of(agents[0]), signal.SIGKILL)
    codes, _ = ended(agents)
    assert first.done and not spec.done
    return codes


@pytest.fixture(scope="module")
def resumed(specs, killed) -> Spec:
    """The second segment, finished by one rank."""
    run(specs["distill-ranks-1"])
    return specs["distill-ranks-1"]


@pytest.mark.slow
def test_distillation_refuses_a_batch_before_it_trains(specs):
    spec = specs["distill-ranks-odd"]
    codes, _ = ended(start(spec, ranks_per_node=3))
    assert codes == [1] and "does not divide among 3 copies of the model" in failure(spec)
    assert not (spec.folder / "losses.jsonl").exists()


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_on_every_node(killed):
    assert killed == [1, 1]


@pytest.mark.slow
def test_four_ranks_have_the_losses_of_one_which_goes_on_from_their_checkpoint(specs, resumed):
    assert "/iteration_0000004" in (resumed.folder / "log.txt").read_text()
    for name in ("log.txt", "log-3.txt"):
        assert "in the process of distill-ranks-0" in (resumed.folder / name).read_text()
    assert_same(losses(specs["distill-ranks-0"]) + losses(resumed), losses(specs["distill-whole"])[:8])
    assert_measured_as(resumed, specs["distill-whole"])


@pytest.mark.slow
def test_two_pairs_that_share_the_model_go_on_from_the_milestone_of_one(specs, resumed):
    run(specs["distill-ranks-2"], nodes=2, ranks_per_node=2, tensor_parallel=2)
    assert_same(losses(specs["distill-ranks-2"]), losses(specs["distill-whole"])[8:])
    assert_measured_as(specs["distill-ranks-2"], specs["distill-whole"])


@pytest.mark.slow
def test_two_ranks_that_share_sequences_go_on_from_the_milestone_of_one_and_one_from_theirs(specs):
    run(specs["distill-shared"], ranks_per_node=2, context_parallel=2)
    run(specs["distill-alone"])
    parts = [specs[f"distill-{name}"] for name in ("shared", "alone")]
    assert_same([line for part in parts for line in losses(part)], losses(specs["distill-whole"])[CUT:])
    assert_measured_as(parts[0], specs["distill-whole"])


@pytest.mark.slow
def test_a_job_of_two_nodes_with_two_ranks_each_has_the_losses_of_one_rank(nemo_run, site, slurm, course):
    """From the command to the losses: the batch script, srun on both nodes, a torchrun on each, and their meeting."""
    site(env_vars={"OMP_NUM_THREADS": "1"}, mem="6G")
    layout = ("layout.nodes=2", "layout.gpus_per_node=2", "layout.tensor_parallel=2")
    code, out, err = nemo_run(str(COURSE_RECIPE), "--executor", "slurm", f"folder={course}", *layout)
    assert code == 0 and "distill-jobs on 2 nodes x 2" in out, out + err
    steps = placed(course, segment("distill-jobs", until=CUT), segment("distill-1", until=CUT))
    record = json.loads((steps["distill-jobs"].folder / "spec.json").read_text())
    assert record["ranks"] == 4 and record["provenance"]["slurm"]["nodes"] == "node[1-2]"
    assert_same(losses(steps["distill-jobs"]), losses(steps["distill-1"]))


def planted_in_stores_of(agent: subprocess.Popen, file: Path) -> Path:
    """`file`, which appears if a torchrun or a rank of it unpickles what others can write into their stores."""
    from torch.distributed import TCPStore

    ((host, port),) = listening(agent.pid)
    assert host == "127.0.0.1"
    store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))
    keys = store.list_keys()
    assert keys
    pickled = pickle.dumps(Runs(f"touch {file}"))
    for key in [*keys, "torch.rendezvous.none"]:
        for planted in (pickled, base64.b64encode(pickled)):
            store.set(f"{key}/planted", planted)
            if "nemo_distill" not in key:  # which end the step
                store.set(key, planted)
    time.sleep(1)
    return file


def last_rank_of(agent: subprocess.Popen) -> int:
    """Process id of the last rank that a torchrun of two started, which is not rank 0."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"spec.json" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(ranks) == 2
    return int(ranks[-1])
