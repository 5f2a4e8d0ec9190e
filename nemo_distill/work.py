"""What the layers of a Nemotron-H model compute and move: FLOPs, bytes, and what they keep for the backward pass.

>>> from nemo_distill.nemotron_h.shape import NANO_9B_V2
>>> from nemo_distill.work import forward
>>> f"{forward(NANO_9B_V2, seq_length=8192).matmul / 1e9:.1f} GFLOP per token"
'16.9 GFLOP per token'

Counted from the code that runs: Megatron 0.15 with Transformer Engine's layers, mamba-ssm's memory-efficient scan,
FlashAttention, nothing recomputed.
"""

from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import Shape

BF16, FP32 = 2, 4
"""Bytes."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What has to be done, whoever does it."""

    matmul: float = 0.0
    """FLOPs."""
    scan: float = 0.0
    """FLOPs."""
    memory: float = 0.0
    """Bytes moved between a GPU and its memory."""

    def __add__(self, other: "Work") -> "Work":
        return Work(matmul=self.matmul + other.matmul, scan=self.scan + other.scan, memory=self.memory + other.memory)

    def __mul__(self, times: float) -> "Work":
        return Work(matmul=self.matmul * times, scan=self.scan * times, memory=self.memory * times)


def matmul_weights(shape: Shape, kind: str) -> int:
    """Elements of the matrices that a token is multiplied with in a layer of `kind`."""
    h = shape.hidden_size
    if kind == "M":
        return h * (shape.mamba_in_proj_size + shape.mamba_inner_size)
    if kind == "*":
        return 2 * h * shape.kv_channels * (shape.num_attention_heads + shape.num_query_groups)
    assert kind == "-", kind
    return 2 * h * shape.ffn_hidden_size


def layer_forward(shape: Shape, kind: str, seq_length: int) -> Work:
    """Of one token through one layer."""
    # Every layer: its norm reads and writes h, the residual addition reads two and writes one.
    elements = 5 * shape.hidden_size
    attention = scan = 0.0
    if kind == "M":
        elements += 2 * shape.mamba_conv_size + 2 * shape.mamba_inner_size  # convolution, gated norm
        scan = scan_flops(shape)
    elif kind == "*":
        elements += 3 * _qkv(shape) + shape.num_attention_heads * shape.kv_channels  # q, k, v copied; attention
        attention = _attention(shape, seq_length)
    else:
        elements += 4 * shape.ffn_hidden_size  # ReLU, square
    return Work(matmul=2 * matmul_weights(shape, kind) + attention, scan=scan, memory=BF16 * elements)


def layer_backward(shape: Shape, kind: str, seq_length: int) -> Work:
    """Of one token: gradients by inputs and by weights."""
    # Every layer: the norm's backward reads two and writes one, and so does adding the residual's gradient.
    elements = 6 * shape.hidden_size
    attention = scan = 0.0
    if kind == "M":
        elements += 5 * shape.mamba_conv_size + 3 * shape.mamba_inner_size  # convolution again and back, gated norm
        scan = 3 * scan_flops(shape)  # once more forward, then by both factors of every product
    elif kind == "*":
        elements += 6 * _qkv(shape) + 3 * shape.num_attention_heads * shape.kv_channels
        attention = 2.5 * _attention(shape, seq_length)  # FlashAttention computes the scores again
    else:
        elements += 10 * shape.ffn_hidden_size  # PyTorch differentiates the square in three kernels, ReLU in one
    return Work(matmul=4 * matmul_weights(shape, kind) + attention, scan=scan, memory=BF16 * elements)


def forward(shape: Shape, seq_length: int) -> Work:
    """Of one token through the whole model, its logits included."""
    h, total = shape.hidden_size, Work()
    for kind in shape.pattern:
        total += layer_forward(shape, kind, seq_length)
    return total + Work(matmul=2 * h * shape.vocab_size, memory=BF16 * 4 * h)  # embedding and final norm


def backward(shape: Shape, seq_length: int) -> Work:
    """Of one token through the whole model, without what it does per parameter."""
    h, total = shape.hidden_size, Work()
    for kind in shape.pattern:
        total += layer_backward(shape, kind, seq_length)
    return total + Work(matmul=4 * h * shape.vocab_size, memory=BF16 * 5 * h)


def saved_elements(shape: Shape, kind: str) -> int:
    """What one layer keeps of one token for the backward pass, in bf16 elements: its input, normed, and then these."""
    if kind == "M":
        # in_proj's output, and of the inner size: the scan's output, the same gated, and that normed for out_proj.
        return 2 * shape.hidden_size + shape.mamba_in_proj_size + 3 * shape.mamba_inner_size
    if kind == "*":
        return 2 * shape.hidden_size + _qkv(shape) + shape.num_attention_heads * shape.kv_channels
    assert kind == "-", kind
    return 2 * shape.hidden_size + 2 * shape.ffn_hidden_size  # ReLU's output and its square


def _qkv(shape: Shape) -> int:
    return shape.kv_channels * (shape.num_attention_heads + 2 * shape.num_query_groups)


def _attention(shape: Shape, seq_length: int) -> float:
    """FLOPs of one token: scores and their product with the values, over the half of the sequence that is before it."""
    return 2 * seq_length * shape.num_attention_heads * shape.kv_channels


def scan_flops(shape: Shape) -> float:
    """FLOPs of one token in the chunked form of Mamba-2 (arXiv:2405.21060, section 6).

    C B^T within a chunk, its product with x, the chunk's state, and C times the state that came in.
    """
    groups = shape.mamba_num_groups * shape.mamba_state_dim
    return 2 * shape.chunk_size * (groups + shape.mamba_inner_size) + 4 * shape.mamba_state_dim * shape.mamba_inner_size
