"""A teacher's own next-token loss, which says before a distillation whether it can read the data."""

import torch

from nemo_distill.compat import distillation
from nemo_distill.nemotron_h import sequences
from nemo_distill.nemotron_h.documents import Documents, kept_apart

SAMPLES, SAMPLE_TOKENS, CHUNK = 4, 1024, 256
"""Sequences of the course that the teacher is asked about, tokens of each, and tokens whose logits are held at once."""


@torch.no_grad()
def teacher_loss(teacher, dataset) -> float:
    """Mean cross-entropy, in nats, of the next token over the first sequences of `dataset`, of Megatron's `teacher`.

    Every rank asks about the same ones, of which ranks that share sequences have parts, so they agree. Logits are made
    from what enters the output layer, some tokens at a time: whole, they would not fit beside the two models.
    """
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
    from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

    layer, entered = teacher.output_layer, []
    hook = layer.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    was_training, weight = teacher.training, layer.weight
    total = count = 0.0
    try:
        teacher.eval()
        for index in range(min(SAMPLES, len(dataset))):
            sample = dataset[index]
            whole = {name: sample[name][None, :SAMPLE_TOKENS] for name in ("tokens", "labels", "loss_mask")}
            tokens, labels, mask = (part[0].to(weight.device) for part in sequences.own(whole).values())
            position_ids = torch.arange(len(tokens), device=weight.device)
            with kept_apart(Documents.in_sample(sample, length=len(tokens), device=weight.device)):
                teacher(tokens[None], position_ids[None], None)
            hidden = entered.pop()
            if teacher.config.sequence_parallel:
                hidden = gather_from_sequence_parallel_region(hidden)
            for part in range(0, len(tokens), CHUNK):
                rows = slice(part, part + CHUNK)
                logits = (hidden[rows].to(weight.dtype) @ weight.t()).float()
                losses = vocab_parallel_cross_entropy(logits, labels[rows, None]).flatten()
                total += float(losses @ mask[rows])
                count += float(mask[rows].sum())
    finally:
        hook.remove()
        teacher.train(was_training)
        distillation.forget_outputs(teacher)
    sums = torch.tensor([total, count], dtype=torch.float64, device=weight.device)
    if (shared := sequences.group()) is not None:
        torch.distributed.all_reduce(sums, group=shared)
    return float(sums[0] / sums[1])
