"""How the student is changed once it stands."""

from types import SimpleNamespace

import pytest
import torch

from nemo_distill.nemotron_h.model import Runtime, recompute_mlp
from nemo_distill.nemotron_h.shape import Shape

SHAPE = Shape(
    pattern="M-*-", hidden_size=64, ffn_hidden_size=96, mamba_num_heads=6, mamba_head_dim=16, mamba_state_dim=16,
    mamba_num_groups=2, num_attention_heads=4, num_query_groups=2, kv_channels=16, vocab_size=640,
)  # fmt: skip


@pytest.mark.slow
def test_mlp_layers_are_recomputed_where_they_are_asked_to_be_and_give_the_same_gradients(backend, tokenizer_folder):
    runtime = Runtime()
    with backend.session(runtime) as session:
        module = backend.build(session, SHAPE, tokenizer=tokenizer_folder, runtime=runtime)
        module.train()
        called = []
        for number, layer in enumerate(module.decoder.layers):
            if hasattr(layer, "mlp"):
                layer.mlp.register_forward_pre_hook(lambda *given, number=number: called.append(number))
        tokens = torch.randint(0, SHAPE.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0))
        positions = torch.arange(32).expand_as(tokens)

        def gradients() -> list[torch.Tensor]:
            module.zero_grad()
            module(tokens, positions, None, labels=tokens).mean().backward()
            return [(p.grad if p.grad is not None else p.main_grad).clone() for p in module.parameters()]

        kept = gradients()
        assert called == [1, 2, 3]
        recompute_mlp(module)
        again = gradients()
        assert called[3:] == [1, 2, 3, 3, 1], "the attention layer's stand-in for an MLP is left alone"
        assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))


@pytest.mark.slow
def test_the_loss_of_a_microbatch_is_nemo_s_mean_over_the_tokens_that_count(backend, tokenizer_folder):
    from nemo_distill.backends.nemo import distillation

    per_token = torch.rand(2, 8, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(16).view(2, 8) % 3 > 0).float()
    runtime = Runtime()
    with backend.session(runtime) as session:
        backend.build(session, SHAPE, tokenizer=tokenizer_folder, runtime=runtime)  # for Megatron's groups
        theirs = distillation._DistillationLossReduction(None)._masked_token_loss(per_token, mask)
        summed = distillation._MaskedSum((per_token * mask).sum())
        reduction = distillation._LossReduction(distillation_loss_fn=lambda: {})
        reduction.criterion = SimpleNamespace(per_token=False)
        ours = reduction._masked_token_loss(summed, mask)
    assert ours.item() == pytest.approx(theirs.item()) == (per_token * mask).sum().item() / 10


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_a_temperature_gives_nemo_s_loss_at_it_times_its_square_and_its_gradients(backend, temperature):
    from nemo.collections.llm.modelopt.distill.loss import LogitsKLLoss

    from nemo_distill.backends.nemo.distillation import LogitsKLLossFromHidden
    from nemo_distill.kd.options import Options

    draw = torch.Generator().manual_seed(0)
    config = SimpleNamespace(context_parallel_size=1, tensor_model_parallel_size=1)
    hidden, others = (torch.randn(8, 2, width, generator=draw) for width in (24, 32))
    layers = [SimpleNamespace(weight=torch.randn(301, width, generator=draw) / 4) for width in (24, 32)]
    mask = (torch.arange(16).view(2, 8) % 3 > 0).float()
    parameters = [hidden.requires_grad_(), layers[0].weight.requires_grad_()]
    ours = LogitsKLLossFromHidden(
        config, student_layer=layers[0], teacher_layer=layers[1], options=Options(temperature=temperature)
    )
    ours.loss_mask = mask
    value = ours((hidden, None), (others, None)).value
    logits = [part @ layer.weight.t() for part, layer in ((hidden, layers[0]), (others, layers[1]))]
    per_token, _, _ = LogitsKLLoss(config, temperature=temperature)(*[(part, None) for part in logits])
    theirs = temperature**2 * (per_token * mask).sum()
    assert value.item() == pytest.approx(theirs.item(), rel=1e-5)
    for made, wanted in zip(*(torch.autograd.grad(one, parameters) for one in (value, theirs)), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-6)
