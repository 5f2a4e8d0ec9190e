"""What follows from a Nemotron-H's sizes: of one model, where they are whole numbers, or of many, where arrays are.

`Shape` is the one and `plan.candidates.Candidates` the many, so that a formula stands once.
"""

from typing import Any


class Sizes:
    """Formulas over sizes that a subclass has, in Megatron's names."""

    hidden_size: Any
    ffn_hidden_size: Any
    mamba_num_heads: Any
    mamba_head_dim: Any
    mamba_state_dim: Any
    mamba_num_groups: Any
    num_attention_heads: Any
    num_query_groups: Any
    kv_channels: Any
    vocab_size: Any
    conv_kernel: Any

    @property
    def mamba_inner_size(self) -> Any:
        """Channels inside a Mamba layer: heads times head dimension."""
        return self.mamba_num_heads * self.mamba_head_dim

    @property
    def mamba_in_proj_size(self) -> Any:
        """Rows of a Mamba layer's `in_proj`: z and x, B and C, one dt per head."""
        return 2 * self.mamba_inner_size + 2 * self.mamba_num_groups * self.mamba_state_dim + self.mamba_num_heads

    @property
    def mamba_conv_size(self) -> Any:
        """Channels of a Mamba layer's convolution: x, B and C."""
        return self.mamba_inner_size + 2 * self.mamba_num_groups * self.mamba_state_dim

    def layer_parameters(self, kind: str) -> Any:
        """Parameters of one layer of `kind`, its input norm included."""
        h = self.hidden_size
        if kind == "M":
            inner = self.mamba_inner_size
            conv = self.mamba_conv_size * (self.conv_kernel + 1)
            return h + h * self.mamba_in_proj_size + conv + 3 * self.mamba_num_heads + inner + inner * h
        if kind == "*":
            return h + 2 * h * self.kv_channels * (self.num_attention_heads + self.num_query_groups)
        assert kind == "-", kind
        return h + 2 * h * self.ffn_hidden_size

    @property
    def outer_parameters(self) -> Any:
        """Parameters outside of layers: embedding, output layer and final norm."""
        return (2 * self.vocab_size + 1) * self.hidden_size

    @property
    def cached_per_token(self) -> Any:
        """Numbers that an attention layer keeps of a token: its keys and values."""
        return 2 * self.num_query_groups * self.kv_channels

    @property
    def state_size(self) -> Any:
        """Numbers that a Mamba layer keeps of a sequence, however long: its state and the convolution's last inputs."""
        return self.mamba_inner_size * self.mamba_state_dim + (self.conv_kernel - 1) * self.mamba_conv_size
