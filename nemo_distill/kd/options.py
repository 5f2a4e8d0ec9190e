"""How student and teacher compute in a distillation, as opposed to what: the `kd` of a distill step's config."""

from dataclasses import dataclass

from nemo_distill.kd.divergence import CHUNK_TOKENS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Losses, kernels and precision of a distillation."""

    fused_loss: bool = True
    """Whether the loss takes hidden states; otherwise the framework's own, which takes logits."""
    chunk_tokens: int = CHUNK_TOKENS
    """Tokens whose logits the fused loss holds at a time."""
    fused_kernels: bool = True
    """Whether Mamba layers and norms compute on a GPU in our own kernels (`nemotron_h.kernels.mixer` and `.norm`);
    otherwise in mamba-ssm's and Transformer Engine's."""
    fp8: str = "none"
    """Models whose matrix products are in FP8: a name in `settings.FP8`."""
