"""How student and teacher compute in a distillation, as opposed to what: the `kd` of a distill step's config."""

from dataclasses import dataclass

from nemo_distill.config.settings import FORWARD_KL


@dataclass(frozen=True, kw_only=True)
class Options:
    """Losses, kernels and precision of a distillation."""

    fused_loss: bool = True
    """Whether the loss takes hidden states; otherwise the framework's own, which takes logits."""
    loss: str = FORWARD_KL
    """What the student is distilled by: a name in `losses.LOSSES`; the framework's own loss is `forward_kl`."""
    temperature: float = 1.0
    """What logits of both models are divided by before they are compared; the loss is multiplied by its square."""
    cross_entropy: float = 0.0
    """Weight of next-token cross-entropy beside the loss, which has the rest, from 0 to 1."""
    per_token: bool = False
    """Whether the loss is the mean over all tokens of the global batch that it is taken on, rather than the mean of the
    microbatches' means; where it is taken on all tokens the two are one."""
    fused_kernels: bool = True
    """Whether Mamba layers and norms compute on a GPU in our own kernels (`nemotron_h.kernels.mixer` and `.norm`);
    otherwise in mamba-ssm's and Transformer Engine's."""
    fp8: str = "none"
    """Models whose matrix products are in FP8: a name in `settings.FP8`."""
    deterministic: bool = False
    """Whether everything adds up in one order, so that a training repeated is the same bit for bit."""
    reset_at_documents: bool = False
    """Whether documents of a sequence are kept apart (`nemotron_h.documents`)."""
