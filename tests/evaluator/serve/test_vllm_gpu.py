"""vLLM itself, where there is a GPU and `TESTS_VLLM` names its environment: the contract that the stand-in plays."""

import dataclasses
import math
import os
import signal

import pytest

from benchmarks.in_transformers import InTransformers
from evaluator.serve import vllm
from evaluator.serve.bench import Plan, bench, take_one_gpu
from evaluator.serve.probe import ALIKE, TEXTS, difference, probe
from evaluator.serve.processes import ProgramFailed, below, marked
from evaluator.serve.throughput import Setting
from tests.evaluator.conftest import TEACHER

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif("TESTS_VLLM" not in os.environ, reason="TESTS_VLLM names no environment of vLLM"),
]


def made(folder, seed: int):
    """A Nemotron-H with random weights, of widths that vLLM's kernels take."""
    import torch
    from transformers import AutoTokenizer, NemotronHConfig, NemotronHForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    config = NemotronHConfig(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1024, hybrid_override_pattern="M-M*-M-",
        num_attention_heads=8, num_key_value_heads=2, head_dim=64, mamba_num_heads=16, mamba_head_dim=64,
        ssm_state_size=128, n_groups=2, max_position_embeddings=4096, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, initializer_range=0.05,
    )  # fmt: skip
    torch.manual_seed(seed)
    NemotronHForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return [made(tmp_path_factory.mktemp(f"seed-{seed}"), seed) for seed in (0, 1)]


@pytest.fixture
def serving(tmp_path):
    """What serves a checkpoint."""

    def start(checkpoint):
        found = vllm.find_vllm(os.environ["TESTS_VLLM"])
        log, mark = tmp_path / "server.log", str(tmp_path)
        return vllm.serving(checkpoint, found, model_id="made-0123", log=log, context=2048, mark=mark)

    return start


def log_probabilities(theirs, checkpoint) -> list[list[float]]:
    """Of the texts, in float32 on the CPU by transformers alone."""
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(checkpoint), []
    for text in TEXTS:
        tokens = tokenizer(text, return_tensors="pt").input_ids
        given = theirs.logits(checkpoint, tokens)[0, :-1].log_softmax(dim=-1)
        found.append(given.gather(1, tokens[0, 1:, None])[:, 0].tolist())
    return found


def test_it_has_the_log_probabilities_of_transformers_after_a_restart_too_and_another_model_has_others(
    checkpoints, serving
):
    with serving(checkpoints[0]) as (server, first), InTransformers() as theirs:
        assert difference(first, probe(server, "made-0123")) <= ALIKE
        assert difference(first, log_probabilities(theirs, checkpoints[0])) <= ALIKE
    with serving(checkpoints[0]) as (_, again):
        assert difference(first, again) <= ALIKE
    with serving(checkpoints[1]) as (_, other):
        assert ALIKE < difference(first, other) < math.inf


@pytest.mark.parametrize("victim", ["keeper", "server", "engine"])
def test_nothing_is_left_on_the_gpu_whichever_process_is_killed(checkpoints, serving, tmp_path, victim):
    with pytest.raises(ProgramFailed), serving(checkpoints[0]) as (server, _):
        keeper, api, *others = below(server.process.pid)
        os.kill({"keeper": keeper, "server": api, "engine": others[-1]}[victim], signal.SIGKILL)
        server.process.wait(timeout=120)
    assert not marked(str(tmp_path))
    vllm.check_free(vllm.gpus_here())


def test_its_client_measures_it_and_it_says_what_memory_it_takes(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", vllm.gpus_here()[0])
    plan = Plan(settings=(Setting.parse("256/64x8:16"),), contexts=(512,), in_flight=8, decoded=("one",))
    found = bench(
        {"one": checkpoints[0], "other": checkpoints[1]},
        vllm.find_vllm(os.environ["TESTS_VLLM"]),
        plan,
        gpu=take_one_gpu(),
        folder=tmp_path / "bench",
    )
    assert [(one.label, one.control) for one in found.models] == [("one", False), ("other", False), ("one", True)]
    for one in found.models:
        (rate,) = one.rates
        assert rate.generated_tokens == 16 * 64 and 0.9 < rate.prompt_tokens / (16 * 256) < 1.1
        assert 0 < rate.first_token_median_ms <= rate.first_token_p99_ms and rate.preemptions == 0
        assert None not in dataclasses.astuple(one.memory) and one.memory.weights_gib < one.memory.used_gib
    (decoding,) = found.models[0].decoding
    assert 0.8 * 512 < decoding.context_tokens < 1.25 * 512 and decoding.tokens_per_second > 8
