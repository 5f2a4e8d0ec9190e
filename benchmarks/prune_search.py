"""Times the pruning search before its candidates were counted at once and scored together, beside after, by turns.

    python benchmarks/prune_search.py [--questions 64] [--times 3]

Of the debug teacher, on the device that is here: ModelOpt's own list of candidates against `plan.candidates`, equal in
order and counts; and MMLU's way to answer, ModelOpt's `megatron_generate` question by question against
`prune.scores.greedy`, equal in every answer. Ratios of medians; processor time, as far as there is no GPU.
"""

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENS, WIDTH = 64, 0.4
DIVISORS = {"hidden_size_divisor": 16, "ffn_hidden_size_divisor": 64, "mamba_head_dim_divisor": 8,
            "num_layers_divisor": 1}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=64, help="how many are answered")
    parser.add_argument("--times", type=int, default=3, help="how often each way is timed")
    asked = parser.parse_args()

    import torch
    from transformers import AutoTokenizer

    import nemo_distill
    from evaluator.serve.checkpoint import verify_checkpoint
    from nemo_distill import backends, families
    from nemo_distill.compat import device
    from nemo_distill.families import checkpoint
    from nemo_distill.nemotron_h.model import Runtime

    backend, folder = backends.prepared(), Path(nemo_distill.__file__).parent / "debug" / "teacher"
    shape, state = checkpoint.read_hf(folder, files=verify_checkpoint(folder))
    runtime = Runtime(seq_length=TOKENS)
    with backend.session(runtime) as session:
        module = backend.build(session, shape, tokenizer=folder, runtime=runtime)
        backend.load(module, families.of(shape).to_megatron(state, shape))
        words = AutoTokenizer.from_pretrained(folder)
        prompts = [
            f"What is {'so ' * (number % 9)}{number} plus {number}?\n\nAnswer:" for number in range(asked.questions)
        ]
        plugin = importlib.import_module("modelopt.torch.utils.plugins.megatron_generate")
        if not device.on_gpu():  # what insists on CUDA
            plugin.get_current_memory_info = lambda: ""
            plugin.broadcast_from_last_pipeline_stage = lambda size, dtype, tensor: tensor
        from nemo_distill.prune.scores import greedy

        def one_by_one() -> list[str]:
            how = {"osl": 2, "enable_kv_cache": False, "disable_tqdm": True}
            ids = [
                words(prompt, return_tensors="pt").input_ids.to(module.output_layer.weight.device) for prompt in prompts
            ]
            return [words.batch_decode(plugin.megatron_generate(module, one, **how))[0].strip()[:1] for one in ids]

        def together() -> list[str]:
            return [answer[:1] for answer in greedy(module, words, prompts)]

        report(f"{len(prompts)} questions answered", one_by_one, together, asked.times)
        tokens = torch.randint(0, shape.vocab_size, (8, TOKENS), generator=torch.Generator().manual_seed(0))
        listing(module, shape, tokens)


def report(what: str, before: Callable[[], Any], after: Callable[[], Any], times: int) -> None:
    """Time both ways by turns, once each before anything counts, and print the ratio of the medians."""
    assert before() == after()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for seconds, way in zip(taken, (before, after), strict=True):
            started = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - started)
    slow, fast = map(statistics.median, taken)
    print(f"{what}: {slow:.3g} s before, {fast:.3g} s after, {slow / fast:,.0f} times as fast; equal.", flush=True)


def listing(module, shape, tokens) -> None:
    """Print what ModelOpt's own list of candidates takes, and ours; once, for it prunes the module."""
    from modelopt.torch.prune.plugins.mcore_minitron import MCoreMinitronSearcher

    from nemo_distill.plan.candidates import Candidates, parameters
    from nemo_distill.prune import minitron, search

    def both_ways(searcher) -> dict[str, int]:
        started = time.perf_counter()
        found = Candidates(shape, searcher.axes())
        layers = found.kept(searcher.sorted_layers)
        order, counts = found.order(searcher.config["bounds"], layers), parameters(found, layers)
        fast = time.perf_counter() - started
        searcher.config["top_k"] = len(order)
        listed: list[float] = []  # when the state is saved first, which is once the list stands
        searcher.save_search_checkpoint = lambda verbose=False: listed.append(time.perf_counter())
        started = time.perf_counter()
        best = MCoreMinitronSearcher.search_best_arch_by_params(searcher)
        slow = listed[0] - started
        theirs = searcher.top_k_candidates_per_constraint[searcher.constraints["params"]]
        assert [(one.ss_config, one.params) for one in theirs] == [(found.sizes(n), float(counts[n])) for n in order]
        print(f"{found.count:,} candidates listed: {slow:.3g} s before, {1e3 * fast:.2g} ms after; equal.", flush=True)
        return best

    search.Search.search_best_arch_by_params = both_ways
    search.Search.eval_score = lambda self, silent=True: 0.0  # listing alone
    request = minitron.Request(parameters=0.75, divisors=DIVISORS, max_width=WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        minitron.prune(
            module, shape, request, calibration=tokens, score=lambda m: 0.0, state_file=Path(folder) / "search.pt"
        )


if __name__ == "__main__":
    main()
