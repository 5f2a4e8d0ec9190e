import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch

from evaluator.serve import engine as engine_module
from evaluator.serve.engine import Engine, Request, Sampler, Shapes


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    return Engine.load(checkpoint, threads=1)


@pytest.fixture(scope="module")
def requests(engine) -> list[Request]:
    """A full batch: 16 prompts of 32 to 63 tokens, each asked four times."""
    rng = np.random.default_rng(0)
    lengths = [32, 63, 63, *rng.integers(32, 64, size=13)]
    prompts = [tuple(rng.integers(6, 1000, size=length).tolist()) for length in lengths]
    return [Request(prompt, 100 * i + r, 0.8, 0.95, 24) for i, prompt in enumerate(prompts) for r in range(4)]


def answers_and_logits(engine, requests, monkeypatch) -> tuple[dict, np.ndarray]:
    """Answers by position, and the logits (steps, rows, vocabulary) that they were drawn from."""
    seen = []

    class Recorder(Sampler):
        def __call__(self, logits, step):
            seen.append(logits.numpy().copy())
            return super().__call__(logits, step)

    monkeypatch.setattr(engine_module, "Sampler", Recorder)
    return dict(engine.generate(requests)), np.stack(seen)


def test_an_answer_and_its_logits_do_not_depend_on_the_batch_bit_for_bit(engine, requests, monkeypatch):
    for slot in (0, 1, 6, 40, 63):
        alone, alone_logits = answers_and_logits(engine, [requests[slot]], monkeypatch)
        for batch in (requests, requests[::-1], requests[slot : slot + 3] + requests[:7]):
            answers, logits = answers_and_logits(engine, batch, monkeypatch)
            position = batch.index(requests[slot])
            assert answers[position] == alone[0]
            steps = answers[position].tokens
            np.testing.assert_array_equal(logits[:steps, position], alone_logits[:steps, 0])


def test_padded_prompts_have_the_logits_of_transformers_without_padding_or_cache(engine, requests, monkeypatch):
    batch = requests[::4]
    _, logits = answers_and_logits(engine, batch, monkeypatch)
    sampler = Sampler([*batch, *[batch[0]] * (engine.shapes.rows - len(batch))])
    tokens = np.stack([sampler(torch.from_numpy(step), index).numpy() for index, step in enumerate(logits)])
    for row, request in enumerate(batch):
        sequence = torch.tensor([[*request.prompt, *tokens[:-1, row]]])
        with torch.inference_mode():
            expected = engine.model(sequence, use_cache=False).logits[0, len(request.prompt) - 1 :]
        np.testing.assert_allclose(logits[:, row], expected, atol=1e-5 * max(1.0, expected.abs().max().item()))


def test_greedy_answers_are_those_of_transformers_own_generate(engine, requests):
    batch = [dataclasses.replace(request, temperature=0.0) for request in requests[::8]]
    for row, answer in engine.generate(batch):
        prompt = torch.tensor([batch[row].prompt])
        generated = engine.model.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=0)[0]
        text = engine.tokenizer.decode(generated[prompt.shape[1] :], skip_special_tokens=True)
        assert answer.text == text


def test_seeds_make_repeats_differ_and_runs_agree(engine, requests):
    first, second = (dict(engine.generate(requests)) for _ in range(2))
    assert first == second
    assert len({first[row].text for row in range(4)}) > 1


def test_a_row_ends_at_the_end_token_and_at_its_own_limit(engine, requests, monkeypatch):
    short = dataclasses.replace(requests[0], max_tokens=3)
    answers = dict(engine.generate([short, requests[1]]))
    assert (answers[0].tokens, answers[0].finish_reason) == (3, "length")
    assert answers[1].tokens > 3
    monkeypatch.setattr(engine, "ends", set(range(1024)))
    answers = dict(engine.generate([requests[0]]))
    assert (answers[0].tokens, answers[0].finish_reason, answers[0].text) == (1, "stop", "")


def test_weights_that_do_not_fit_the_config_are_refused(copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    name = next(name for name in weights if name.endswith("A_log"))
    del weights[name]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing_keys .*A_log"):
        Engine.load(copied, threads=1)


@pytest.mark.parametrize("top_p", [1.0, 0.8, 0.3])
def test_draws_follow_the_nucleus_of_the_softmax(top_p):
    logits = torch.linspace(-2, 2, 12, dtype=torch.float32)
    temperature, draws = 1.5, 4000
    sampler = Sampler([Request((1,), seed, temperature, top_p, 1) for seed in range(draws)])
    drawn = sampler(logits.expand(draws, -1), 0).numpy()

    probabilities = (logits.double() / temperature).softmax(-1).numpy()
    order = np.argsort(-probabilities)
    kept = order[: 1 + np.searchsorted(np.cumsum(probabilities[order]), top_p - 1e-12)]
    assert set(drawn) <= set(kept)
    expected = probabilities[kept] / probabilities[kept].sum() * draws
    counts = np.array([(drawn == token).sum() for token in kept])
    assert scipy.stats.chisquare(counts, expected).pvalue > 0.01


def test_temperature_zero_takes_the_most_likely_token_beside_rows_that_draw():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    sampler = Sampler([Request((1,), 0, 0.0, 1.0, 5), Request((1,), 0, 1.0, 1.0, 5)])
    drawn = [sampler(logits, step).tolist() for step in range(5)]
    assert {row[0] for row in drawn} == {logits[0].argmax().item()}
    assert len({row[1] for row in drawn}) > 1


def test_prompts_are_padded_to_the_multiple_they_need(checkpoint, engine):
    assert [engine.padded_length(range(length)) for length in (1, 31, 32, 33, 96)] == [32, 32, 64, 64, 128]
    assert engine.shapes == Shapes()
