"""How near a run's exported checkpoint, read by transformers, is to the model that was trained.

    python benchmarks/parity.py RUNS --milestone 3.2M [--length 1024]

Logits of random tokens: of NeMo's checkpoint in Megatron, in float32 and in the precision it was trained in, and of the
exported one in transformers' own PyTorch, in float32. Megatron's model is on a GPU where there is one.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="the folder of all runs")
    parser.add_argument("--milestone", required=True, help="as in the name of the step export-MILESTONE")
    parser.add_argument("--length", type=int, default=1024, help="tokens of each of two sequences")
    options = parser.parse_args()
    trained, exported = (
        _newest(parser, options.runs, f"{step}-{options.milestone}/*/{output}")
        for step, output in (("distill", "checkpoint"), ("export", "hf"))
    )
    from nemo_distill import backends

    backend = backends.prepared()
    import torch
    from in_transformers import InTransformers

    from nemo_distill.compat import device
    from nemo_distill.nemotron_h.model import Runtime
    from nemo_distill.nemotron_h.shape import Shape

    shape = Shape.load(trained.parent / "shape.json")
    tokens = torch.randint(0, shape.vocab_size, (2, options.length), generator=torch.Generator().manual_seed(0))
    with InTransformers() as theirs:
        wanted = theirs.logits(exported, tokens)
    gpu = device.on_gpu()
    layer_spec, rows = "transformer_engine" if gpu else "local", []
    for precision in ("32", "bf16-mixed"):
        runtime = Runtime(precision=precision, layer_spec=layer_spec, seq_length=options.length)
        with backend.session(runtime) as session:
            module = backends.restore(backend, session, trained, shape, runtime=runtime)
            module = (module.bfloat16() if precision == "bf16-mixed" else module).eval()
            module, tokens = (module.cuda(), tokens.cuda()) if gpu else (module, tokens)
            with torch.no_grad():
                positions = torch.arange(options.length, device=tokens.device).expand_as(tokens)
                made = module(tokens, positions, None).float().cpu()
        one, other = made.log_softmax(-1), wanted.log_softmax(-1)
        rows.append(
            f"| {precision} | {((made - wanted).norm() / wanted.norm()).item():.1e} | "
            f"{(made.argmax(-1) == wanted.argmax(-1)).float().mean().item():.1%} | "
            f"{(other.exp() * (other - one)).sum(-1).mean().item():.1e} |"
        )
    print(f"{trained}\n{exported}: {shape.parameters() / 1e9:.3f}B parameters, {tokens.numel()} tokens\n")
    print("| Megatron in | apart, relative | same first choice | KL divergence, nats |\n|---|---|---|---|")
    print("\n".join(rows))


def _newest(parser: argparse.ArgumentParser, runs: Path, pattern: str) -> Path:
    found = sorted(runs.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        parser.error(f"there is no {pattern} in {runs}: run the recipe with --until {pattern.partition('/')[0]} first")
    return found[-1]


if __name__ == "__main__":
    main()
