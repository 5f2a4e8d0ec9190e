"""The mean over all tokens of a batch that count, through Megatron's schedule, on two ranks that share the batch's
sequences or each of them; and our Mamba mixer where they share each.

Run as a script it imports NeMo once, becomes two ranks, and prints what they found.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS, TOKENS, SHARE, TEMPERATURE = 8, 16, 0.3, 2.0
SIZES = {
    "pattern": "M-*-", "ffn_hidden_size": 96, "mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_state_dim": 16,
    "mamba_num_groups": 2, "num_attention_heads": 4, "num_query_groups": 2, "kv_channels": 16, "vocab_size": 128,
}  # fmt: skip


def main(store: str) -> None:
    """Gradients of one batch, however it is split, against PyTorch's of the whole."""
    import torch

    from nemo_distill import backends

    backends.prepared()
    from megatron.core import parallel_state
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
    from megatron.core.pipeline_parallel.schedules import forward_backward_no_pipelining
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    from benchmarks.converted import converted
    from nemo_distill.backends.nemo.distillation import fuse_loss, loss_reduction
    from nemo_distill.backends.nemo.model import config
    from nemo_distill.kd.options import Options
    from nemo_distill.nemotron_h import sequences
    from nemo_distill.nemotron_h.model import Runtime
    from nemo_distill.nemotron_h.shape import Shape

    rank, world = 0 if os.fork() else 1, torch.distributed
    world.init_process_group("gloo", store=world.FileStore(store, 2), rank=rank, world_size=2)
    sequences.install()

    def lay_out(context_parallel: int) -> None:
        parallel_state.destroy_model_parallel()
        parallel_state.initialize_model_parallel(context_parallel_size=context_parallel)
        model_parallel_cuda_manual_seed(1)

    torch.manual_seed(0)
    runtime = Runtime(seq_length=TOKENS)

    def built(shape: Shape, **changes):
        settings = config(shape, runtime)
        for name, value in changes.items():
            setattr(settings, name, value)
        return settings.configure_model(tokenizer=None)

    tokens = torch.randint(0, 128, (ROWS, TOKENS + 1))
    labels, tokens = tokens[:, 1:], tokens[:, :-1]
    counted = torch.tensor([16, 0, 1, 7, 0, 0, 12, 3])  # of each sequence
    mask = (torch.arange(TOKENS) < counted[:, None]).float()
    positions = torch.arange(TOKENS).expand_as(tokens)
    whole = {"tokens": tokens, "positions": positions, "labels": labels, "loss_mask": mask}
    found: dict[str, float] = {}
    right: dict[float, tuple] = {}

    def check(share: float, *, context: int, counts: tuple[int, ...], per_token: bool = True) -> None:
        options = Options(per_token=per_token, cross_entropy=share, temperature=TEMPERATURE)
        torch.manual_seed(0)
        model_parallel_cuda_manual_seed(1, force_reset_rng=True)
        changes = {"context_parallel_size": context}
        student = built(Shape(hidden_size=64, **SIZES), calculate_per_token_loss=per_token, **changes)
        model = converted(student, lambda: built(Shape(hidden_size=80, **SIZES), **changes))
        fuse_loss(model, options)
        model.train()
        parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        if share not in right:  # by whole sequences
            model.eval()  # in which the student gives its logits, and the teacher what enters them
            logits = model(tokens, positions, None)
            others = model.teacher_model(tokens, positions, None) @ model.teacher_model.output_layer.weight.t()
            soft, target = ((one / TEMPERATURE).log_softmax(-1) for one in (logits, others.view_as(logits).detach()))
            divergence = torch.nn.functional.kl_div(soft, target, reduction="none", log_target=True).sum(-1)
            cross_entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            both = TEMPERATURE**2 * divergence, cross_entropy.view_as(mask)
            by_token = (1 - share) * both[0] + share * both[1]
            loss = (by_token * mask).sum() / mask.sum()
            by_name = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
            right[share] = loss, by_name, [(one * mask).sum() / mask.sum() for one in both]
            means = (by_token * mask).sum(-1) / counted.clamp(min=1)
            found[f"control, share {share}"] = abs(means.mean() / loss - 1).item()
            model.train()
        loss, wanted, means = right[share]

        ddp = DistributedDataParallel(student.config, DistributedDataParallelConfig(), model)
        student.config.finalize_model_grads_func = finalize_model_grads
        reduction = loss_reduction(model)

        def step(batches, module):
            batch = next(batches)
            output = module(batch["tokens"], batch["positions"], None, labels=batch["labels"])
            return output, lambda output: reduction.forward(batch, output)

        rows = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
        mine = {name: one[rows] for name, one in whole.items()} if context == 1 else sequences.own(whole)
        for count in counts:
            split = [value.chunk(count) for value in mine.values()]
            batches = [dict(zip(mine, part, strict=True)) for part in zip(*split, strict=True)]
            ddp.zero_grad_buffer()
            reports = forward_backward_no_pipelining(
                forward_step_func=step, data_iterator=iter(batches), model=ddp, num_microbatches=count,
                seq_length=TOKENS, micro_batch_size=len(batches[0]["tokens"]), forward_only=False,
            )  # fmt: skip
            what = f"context {context}, share {share}, of {count}, by token {per_token}"
            errors = [(parameters[key].main_grad - wanted[key]).norm() / wanted[key].norm() for key in wanted]
            found[f"gradients, {what}"] = max(errors).item()
            found[f"loss, {what}"] = abs(reduction.reduce(reports) / loss - 1).item()
            for name, mean in zip(reduction.parts, means):
                found[f"{name}, {what}"] = abs(reduction.parts[name] / mean - 1).item()

    for context in (1, 2):
        lay_out(context)
        for share in (0.0, SHARE):
            check(share, context=context, counts=(1, 2, 4))
    check(0.0, context=2, counts=(1,), per_token=False)
    mixer = built(Shape(hidden_size=64, **SIZES), context_parallel_size=2).decoder.layers[0].mixer
    found |= compare_mixer(mixer, TOKENS)
    if rank:
        os._exit(0)
    print(json.dumps(found))


def compare_mixer(mixer, length: int) -> dict[str, float]:
    """How far our mixer, of sequences that ranks share, is from Megatron's; the kernels are PyTorch's."""
    from types import SimpleNamespace
    from unittest.mock import MagicMock

    import torch

    from benchmarks.random_mixer import in_pytorch

    kernels = "nemo_distill.nemotron_h.kernels"
    for name in ("causal_conv1d.cpp_functions", "mamba_ssm.ops.triton.ssd_chunk_state", f"{kernels}.norm",
                 f"{kernels}.ssd", f"{kernels}.amax"):  # fmt: skip
        sys.modules[name] = MagicMock()
    from nemo_distill.nemotron_h.kernels import mixer as ours

    ours.MixerFunction = SimpleNamespace(apply=lambda *given: (in_pytorch(*given), None))
    torch.nn.init.normal_(mixer.norm.weight)
    torch.nn.init.normal_(mixer.D)
    rows = mixer.in_proj.weight.shape[0]
    given = torch.randn(length // 2, 2, rows, requires_grad=True)
    weights = {name: one for name, one in mixer.named_parameters() if "proj" not in name}
    made = []
    for compute in (
        lambda inner: ours._ssm_training(None, mixer, inner),
        lambda inner: mixer.ssm_prefill(inner, None, None),
    ):
        output = compute(mixer.cp.pre_conv_ssm(given))
        gradients = torch.autograd.grad(output, [given, *weights.values()], torch.ones_like(output).cumsum(-1))
        for one in gradients[1:]:  # of which each rank has a part
            torch.distributed.all_reduce(one)
        made.append((output, *gradients))
    errors = [((one - two).norm() / two.norm()).item() for one, two in zip(*made, strict=True)]
    return {f"mixer, {name}": error for name, error in zip(("output", "input", *weights), errors, strict=True)}


@pytest.mark.slow
def test_gradients_and_loss_are_those_of_the_whole_batch_however_it_is_split_and_its_masks_are_spread(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "store")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    controls = [found.pop(name) for name in [name for name in found if name.startswith("control")]]
    assert len(found) == 2 * (2 * 3 * 2 + 3 * 2) + 2 + 8 and max(found.values()) < 1e-4, found
    assert min(controls) > 0.01, "a mean of microbatches' means is another loss"


if __name__ == "__main__":
    main(sys.argv[1])
