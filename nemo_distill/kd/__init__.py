"""Logit distillation that fits the card: a student's and a teacher's output layers, and the divergence between them.

NeMo's distillation holds both models' logits, 131,072 per token, in float32 and several times over: 28 GiB at a
sequence of 8,192 tokens, which is what makes a run need eight GPUs per copy. Here the output layers and the loss are
one operation over chunks of tokens, and the gradient is made while a chunk's logits are at hand.

- `divergence`: that operation, exact, for any device, with or without tensor parallelism;
- `losses`: what can be distilled by, by name;
- `kernel`: its inner loop on GPUs, in Triton;
- `precision`: teacher and student in FP8;
- `abilities`: what a GPU can run of it;
- `teacher`: the teacher's own loss, which says whether it can read the data;
- `options`: what of it a distillation uses.
"""
