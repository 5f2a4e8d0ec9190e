"""A small checkpoint of an odd shape, and made-up results, for the evaluator's tests."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import nemo_distill
from evaluator.results.run import BlendPart, Report, Row, StepRecord
from evaluator.results.scores import CheckpointResult, TaskResult
from evaluator.suites.catalogue import OFFLINE

TEACHER = Path(nemo_distill.__file__).parent / "debug" / "teacher"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A Nemotron-H with random weights, of sizes such as pruning leaves, and the debug world's tokenizer."""
    import torch
    from transformers import AutoTokenizer, NemotronHConfig, NemotronHForCausalLM

    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    config = NemotronHConfig(
        vocab_size=len(tokenizer),
        hidden_size=72,
        intermediate_size=136,
        hybrid_override_pattern="M-M*-M",
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        mamba_num_heads=6,
        mamba_head_dim=12,
        ssm_state_size=16,
        n_groups=2,
        max_position_embeddings=256,
        time_step_min=1e-12,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = NemotronHForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("dt_bias"):  # states that last for many tokens, so that padding would show in them
            torch.nn.init.uniform_(parameter, -5, -1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "hf"))


def made_up_result(label: str, *, skill: float, seed: int = 0) -> CheckpointResult:
    """Scores of a checkpoint that answers rightly with a chance that rises with `skill`."""
    chances = 1 / (1 + np.exp(np.random.default_rng(7).normal(0, 1.5, 40) - skill))
    rng = np.random.default_rng(seed)
    tasks = []
    for benchmark in OFFLINE.benchmarks:
        scores = (rng.random((benchmark.questions, benchmark.repeats)) < chances[:, None]).astype(float)
        questions = tuple(f"{benchmark.task}-{index}" for index in range(benchmark.questions))
        tasks.append(TaskResult(benchmark.task, questions, tuple(map(tuple, scores.tolist())), 20.5, 0.0125))
    return CheckpointResult(label, "offline", 0, 20.0, ("nemo-evaluator",), tuple(tasks))


@pytest.fixture(scope="session")
def report() -> Report:
    """A made-up run with three milestones."""
    rows = [
        Row(role="teacher", result=made_up_result("teacher", skill=3, seed=1)),
        Row(role="pruned", result=made_up_result("pruned", skill=-2, seed=2), tokens=0, iteration=0),
    ]
    for index, millions in enumerate((0.2, 0.4, 0.8)):
        result = made_up_result(f"{millions}M", skill=index - 0.5, seed=3 + index)
        rows.append(Row("milestone", result, tokens=int(millions * 1e6), iteration=100 * 2**index))
    losses = tuple({"iteration": i, "tokens": 2000 * i, "loss": 2.0 / i, "learning_rate": 1e-3} for i in range(1, 401))
    blend = (BlendPart("science-mcq", 20.0, 100_000, 160_000.0), BlendPart("code", 80.0, 1_000_000, 640_000.0))
    steps = (StepRecord("prune", "prune/0123456789ab", 41.0), StepRecord("distill-1", "distill-1/ba9876543210", 65.2))
    return Report("a_blend", OFFLINE, tuple(rows), losses, blend, steps, {"Command": "nemo-run recipe.py"})


@pytest.fixture(scope="session")
def bubblewrap():
    """Bubblewrap's sandbox, installed where the tests must not be skipped and it is missing."""
    from tests.nemo_distill.launch.slurm.cluster_for_tests import unavailable

    if shutil.which("bwrap") is None and not os.environ.get("TESTS_NEED_SLURM"):
        pytest.skip("needs bubblewrap")
    reason = unavailable(("bwrap",), ("bubblewrap",))
    if reason:
        pytest.fail(reason)


@pytest.fixture(scope="session")
def browser():
    """A real Chromium, installed where that can be; without one these tests are skipped, or fail if it is demanded."""
    from tests.evaluator.browser_for_tests import PACKAGES, PROGRAMS, Browser
    from tests.nemo_distill.launch.slurm.cluster_for_tests import unavailable

    reason = unavailable(PROGRAMS, PACKAGES)
    if reason:
        (pytest.fail if os.environ.get("TESTS_NEED_BROWSER") else pytest.skip)(reason)
    with Browser() as browser:
        yield browser
