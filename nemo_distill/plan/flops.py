"""What the layers of a Nemotron-H model compute and move: FLOPs, bytes, and what they keep for the backward pass.

>>> from nemo_distill.nemotron_h.shape import NANO_9B_V2
>>> from nemo_distill.plan.flops import forward
>>> f"{forward(NANO_9B_V2, seq_length=8192).matmul / 1e9:.1f} GFLOP per token"
'16.9 GFLOP per token'

Counted from the code that runs: Megatron 0.15 with Transformer Engine's layers, mamba-ssm's memory-efficient scan,
FlashAttention; and, as a `Mode` says, with our squared ReLU, matrix products in FP8, and MLP layers recomputed.
"""

from dataclasses import dataclass

from nemo_distill.nemotron_h.shape import Shape

FP8, BF16, FP32 = 1, 2, 4
"""Bytes."""
FP8_MULTIPLE = 16
"""Number of which the rows of an FP8 matrix are a multiple; others are padded with zeros (`kd.precision`)."""
BF16_MULTIPLE = 8
"""Number of which the rows of a bf16 matrix are a multiple where they fill the 16 bytes that are read at once."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How layers compute."""

    lean_activation: bool = False
    """Squared ReLU from its output, in one kernel (`nemotron_h.activation`), in place of PyTorch's."""
    fp8: bool = False
    """The layers' matrix products in FP8, inputs and gradients quantised with a scale per tensor."""
    recompute: str = "none"
    """Activation recomputation: a name in `settings.RECOMPUTE`."""
    split: int = 1
    """Number of ranks that share each matrix."""


STOCK = Mode()
"""NeMo as it comes."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What has to be done, whoever does it."""

    matmul: float = 0.0
    """FLOPs, in bf16."""
    unaligned: float = 0.0
    """FLOPs of matrix products in bf16 with a matrix whose rows are no multiple of `BF16_MULTIPLE`."""
    fp8: float = 0.0
    """FLOPs of matrix products in FP8."""
    scan: float = 0.0
    """FLOPs."""
    memory: float = 0.0
    """Bytes moved between a GPU and its memory."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            matmul=self.matmul + other.matmul,
            unaligned=self.unaligned + other.unaligned,
            fp8=self.fp8 + other.fp8,
            scan=self.scan + other.scan,
            memory=self.memory + other.memory,
        )

    def __mul__(self, times: float) -> "Work":
        return Work(
            matmul=self.matmul * times,
            unaligned=self.unaligned * times,
            fp8=self.fp8 * times,
            scan=self.scan * times,
            memory=self.memory * times,
        )


def matmul_weights(shape: Shape, kind: str) -> int:
    """Elements of the matrices that a token is multiplied with in a layer of `kind`."""
    h = shape.hidden_size
    if kind == "M":
        return h * (shape.mamba_in_proj_size + shape.mamba_inner_size)
    if kind == "*":
        return 2 * h * shape.kv_channels * (shape.num_attention_heads + shape.num_query_groups)
    assert kind == "-", kind
    return 2 * h * shape.ffn_hidden_size


def layer_forward(shape: Shape, kind: str, seq_length: int, mode: Mode = STOCK, *, trained: bool = True) -> Work:
    """Of one token through one layer, which the backward pass comes back to if it is `trained`."""
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
        elements += (2 if mode.lean_activation else 4) * shape.ffn_hidden_size  # ReLU, square
    if mode.fp8:
        # Read and written; where a gradient needs it, transposed as well. What makes it has noted the largest
        # magnitude (`nemotron_h.amax`), but for attention, whose output is read for that.
        quantised = (BF16 + (2 if trained else 1) * FP8) * sum(product_inputs(shape, kind))
        elements += product_inputs(shape, kind)[1] if kind == "*" else 0
        copied = 2 * BF16 * shape.mamba_in_proj_size if kind == "M" and _unfit(shape, mode) else 0  # the zeros cut off
        products = Work(fp8=2 * matmul_weights(shape, kind), memory=quantised + copied)
    else:
        products = _in_bf16(shape, kind, mode) * 2
    return products + Work(matmul=attention, scan=scan, memory=BF16 * elements)


def layer_backward(shape: Shape, kind: str, seq_length: int, mode: Mode = STOCK) -> Work:
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
        # PyTorch differentiates the square in three kernels, ReLU in one.
        elements += (3 if mode.lean_activation else 10) * shape.ffn_hidden_size
    if mode.fp8:
        quantised = (2 * BF16 + 2 * FP8) * sum(product_outputs(shape, kind))
        copied = 2 * BF16 * shape.mamba_in_proj_size if kind == "M" and _unfit(shape, mode) else 0
        products = Work(fp8=4 * matmul_weights(shape, kind), memory=quantised + copied)
    else:
        products = _in_bf16(shape, kind, mode) * 4
    if _again(kind, mode):
        products += layer_forward(shape, kind, seq_length, mode)
        elements -= 3 * shape.hidden_size  # but for the residual addition
    return products + Work(matmul=attention, scan=scan, memory=BF16 * elements)


def product_inputs(shape: Shape, kind: str) -> tuple[int, int]:
    """Elements of a token that the two matrix products of a layer of `kind` take."""
    inner = {
        "M": shape.mamba_inner_size,
        "*": shape.num_attention_heads * shape.kv_channels,
        "-": shape.ffn_hidden_size,
    }
    return shape.hidden_size, inner[kind]


def product_outputs(shape: Shape, kind: str) -> tuple[int, int]:
    """Elements of a token that they give."""
    inner = {"M": shape.mamba_in_proj_size, "*": _qkv(shape), "-": shape.ffn_hidden_size}
    return inner[kind], shape.hidden_size


def _in_bf16(shape: Shape, kind: str, mode: Mode) -> Work:
    """A FLOP by each weight of a layer. A rank's part of `in_proj`, which has a row per head, need not be aligned."""
    weights = matmul_weights(shape, kind)
    unaligned = kind == "M" and shape.mamba_in_proj_size // mode.split % BF16_MULTIPLE > 0
    apart = shape.hidden_size * shape.mamba_in_proj_size if unaligned else 0
    return Work(matmul=weights - apart, unaligned=apart)


def _unfit(shape: Shape, mode: Mode) -> bool:
    return shape.mamba_in_proj_size // mode.split % FP8_MULTIPLE > 0


def _again(kind: str, mode: Mode) -> bool:
    return kind == "-" and mode.recompute == "mlp"


def forward(shape: Shape, seq_length: int, mode: Mode = STOCK, *, trained: bool = True) -> Work:
    """Of one token through the whole model, its logits included."""
    h, total = shape.hidden_size, Work()
    for kind in shape.pattern:
        # What is recomputed is quantised for its gradients then, and not the first time.
        total += layer_forward(shape, kind, seq_length, mode, trained=trained and not _again(kind, mode))
    return total + Work(matmul=2 * h * shape.vocab_size, memory=BF16 * 4 * h)  # embedding and final norm


def backward(shape: Shape, seq_length: int, mode: Mode = STOCK) -> Work:
    """Of one token through the whole model, without what it does per parameter."""
    h, total = shape.hidden_size, Work()
    for kind in shape.pattern:
        total += layer_backward(shape, kind, seq_length, mode)
    return total + Work(matmul=4 * h * shape.vocab_size, memory=BF16 * 5 * h)


def saved_bytes(shape: Shape, kind: str, mode: Mode = STOCK) -> int:
    """What one layer keeps of one token for the backward pass: its input, what its products took, and then these."""
    if _again(kind, mode):
        return BF16 * shape.hidden_size
    taken = (FP8 if mode.fp8 else BF16) * sum(product_inputs(shape, kind))
    if kind == "M":
        own = shape.mamba_in_proj_size + 2 * shape.mamba_inner_size  # in_proj's output; the scan's, and the same gated
    elif kind == "*":
        # Attention's output is what the second product takes; in FP8 attention still wants its own.
        own = _qkv(shape) + (shape.num_attention_heads * shape.kv_channels if mode.fp8 else 0)
    else:
        assert kind == "-", kind
        # ReLU's output; or the square, which in bf16 is what the second product takes.
        own = 0 if mode.lean_activation and not mode.fp8 else shape.ffn_hidden_size
    return BF16 * (shape.hidden_size + own) + taken


def saved_weights(shape: Shape, mode: Mode = STOCK) -> int:
    """Bytes of weights that a model in training keeps beside its own: quantised, both ways round, and padded."""
    if not mode.fp8:
        return 0
    filled = in_proj_weights(shape) if _unfit(shape, mode) else 0
    return 2 * FP8 * layer_weights(shape) + BF16 * filled


def layer_weights(shape: Shape) -> int:
    """Elements of all layers' matrices."""
    return sum(matmul_weights(shape, kind) for kind in shape.pattern)


def in_proj_weights(shape: Shape) -> int:
    """Elements of all `in_proj` matrices."""
    return shape.pattern.count("M") * shape.hidden_size * shape.mamba_in_proj_size


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
