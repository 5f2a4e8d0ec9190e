"""Where Megatron's own attention is told that its sequence is shared by ranks (`nemo_distill.nemotron_h.sequences`)."""

from collections.abc import Callable

from nemo_distill.compat.changes import Change, find, source_of, wrap

_ATTENTION = "megatron.core.transformer.dot_product_attention:DotProductAttention"


def _made_for_one(original, attention, *given, config, **named) -> None:
    """Build the attention as for whole sequences: its constructor takes no others, and makes nothing of them."""
    shared, config.context_parallel_size = config.context_parallel_size, 1
    try:
        original(attention, *given, config=config, **named)
    finally:
        config.context_parallel_size = shared


def _share(attend: Callable) -> None:
    attention = find(_ATTENTION)
    wrap(attention, "__init__", _made_for_one)
    wrap(attention, "forward", attend)


ATTENTION = Change(
    name="attention-over-ranks",
    changes=f"__init__ and forward of {_ATTENTION.replace(':', '.')}",
    why="It takes whole sequences only (layout.context_parallel=1); here keys and values are gathered from the ranks "
    "that share one, and their gradients handed back. Transformer Engine's attention, on GPUs, shares them by itself.",
    upstream="none: megatron/core/transformer/dot_product_attention.py refuses context parallelism",
    versions="megatron-core 0.15.3",
    when="on request",
    applies=lambda: "self.config.context_parallel_size == 1" in source_of(f"{_ATTENTION}.__init__"),
    mended=lambda: bool(source_of(f"{_ATTENTION}.__init__")),
    make=_share,
)
CHANGES = (ATTENTION,)
