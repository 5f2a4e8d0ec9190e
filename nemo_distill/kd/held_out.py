"""What two models make of held-out documents: their divergence and their next-token losses, document by document."""

import torch
from torch import Tensor

from nemo_distill.compat import distillation
from nemo_distill.data.held_out import Batch
from nemo_distill.kd.divergence import divergence_
from nemo_distill.nemotron_h import sequences

CHUNK = 1024
"""Tokens of a document whose logits are held at once."""
SUMS = ("kl", "loss", "teacher_loss")
"""What is summed over a document's tokens: the forward KL divergence of the student from the teacher, and the
cross-entropy of the next token of each, all in nats."""


@torch.no_grad()
def sums_of(model, batch: Batch) -> Tensor:
    """`SUMS` of each document of `batch`, (documents, 3), by ModelOpt's distillation `model`, that holds both models.

    With tensor or context parallelism, a rank gives its part of each. Both models run as in training, forward only;
    logits are made from what enters their output layers, some tokens at a time: whole, they would not fit beside the
    two.
    """
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
    from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

    split = parallel_state.get_tensor_model_parallel_world_size()
    group = parallel_state.get_tensor_model_parallel_group() if split > 1 else None
    layers = (model.output_layer, model.teacher_model.output_layer)
    device = layers[0].weight.device
    whole = {name: torch.from_numpy(getattr(batch, name)) for name in ("tokens", "labels", "mask")}
    if device.type == "cuda":
        # To what our mixer takes: mamba-ssm's, for other lengths, would have to be tuned before the first iteration.
        from nemo_distill.nemotron_h.kernels.ssd import CHUNK as STEP

        missing = -batch.tokens.shape[1] % STEP
        whole = {name: torch.nn.functional.pad(part, (0, missing)) for name, part in whole.items()}
    tokens, labels, mask = (part.to(device) for part in sequences.own(whole).values())
    hidden = []
    for layer, entered in zip(layers, _entered(model, layers, tokens)):
        if model.config.sequence_parallel:
            entered = gather_from_sequence_parallel_region(entered)
        hidden.append(entered.to(layer.weight.dtype))
    sums = torch.zeros(len(tokens), len(SUMS), dtype=torch.float64, device=device)
    for row in range(len(tokens)):
        counted = mask[row].nonzero()
        end = int(counted.max()) + 1 if len(counted) else 0  # a rank may have what fills up alone
        for start in range(0, end, CHUNK):
            part = slice(start, min(end, start + CHUNK))
            student, teacher = (one[part, row] @ layer.weight.t() for one, layer in zip(hidden, layers))
            for place, made in ((1, student), (2, teacher)):
                # A copy: Megatron's takes the maximum off in place.
                copied = made.to(torch.float32, copy=True)
                losses = vocab_parallel_cross_entropy(copied[:, None], labels[row, part, None]).flatten()
                sums[row, place] += losses @ mask[row, part] / split
            sums[row, 0] += divergence_(student, teacher, mask[row, part], group)
    return sums


def _entered(model, layers: tuple, tokens: Tensor) -> list[Tensor]:
    """What enters the two output layers."""
    entered: dict = {}

    def keep(layer, inputs) -> None:
        entered[layer] = inputs[0]

    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    was_training = model.training
    try:
        model.train()  # or the teacher does not run, and the student makes whole logits; nothing is dropped out
        model(tokens, positions, None)
    finally:
        for hook in hooks:
            hook.remove()
        distillation.forget_outputs(model)
        model.train(was_training)
    return [entered[layer] for layer in layers]
