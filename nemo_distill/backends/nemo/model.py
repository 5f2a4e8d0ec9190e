"""A Nemotron-H of any shape as a NeMo model, on CPU or GPU; imported once `backends.nemo.prepare` has run.

with session(Runtime()) as made:
    module = build(made, shape, tokenizer=folder, runtime=Runtime())
    save(made, module, Path("checkpoint"))
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.trainer.states import TrainerFn
from megatron.core import parallel_state
from megatron.core.models.mamba import MambaModel as MegatronMambaModel
from megatron.core.ssm.mamba_mixer import MambaMixer
from megatron.core.transformer.enums import AttnBackend
from nemo import lightning as nl
from nemo.collections import llm
from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer
from nemo.collections.llm.gpt.model.ssm import NemotronHConfigBase
from nemo.lightning.ckpt_utils import ckpt_to_context_subdir
from nemo.lightning.io.pl import TrainerContext
from nemo.utils.model_utils import unwrap_model
from torch import nn

from nemo_distill import backends, families
from nemo_distill.compat import device
from nemo_distill.nemotron_h.activation import squared_relu
from nemo_distill.nemotron_h.model import Runtime
from nemo_distill.nemotron_h.shape import Shape


@dataclass
class NemotronHConfig(NemotronHConfigBase):
    """NeMo's Nemotron-H config with the vocabulary taken from the checkpoint, not from the tokenizer's length."""

    activation_func: Callable = squared_relu
    first_last_layers_bf16: bool = False

    def configure_model(self, tokenizer, pre_process=None, post_process=None, vp_stage=None) -> MegatronMambaModel:
        """Build Megatron's model (upstream: `SSMConfig.configure_model`)."""
        assert vp_stage is None and self.virtual_pipeline_model_parallel_size is None
        first, last = parallel_state.is_pipeline_first_stage, parallel_state.is_pipeline_last_stage
        model = MegatronMambaModel(
            self,
            mamba_stack_spec=self.mamba_stack_spec(),
            vocab_size=self.vocab_size,
            max_sequence_length=self.seq_length,
            hybrid_override_pattern=self.hybrid_override_pattern,
            position_embedding_type=self.position_embedding_type,
            pre_process=first() if pre_process is None else pre_process,
            post_process=last() if post_process is None else post_process,
        )
        for module in model.modules():
            if isinstance(module, MambaMixer):
                # Each tensor-parallel rank has its own part of this weight, as of the others that Megatron marks so.
                # Unmarked, the norm that gradients are clipped by leaves all parts out but the first rank's.
                module.norm.weight.tensor_model_parallel = True
        return model


# Checkpoints on disk know it by this name, wherever it lies.
NemotronHConfig.__module__ = "nemo_distill.nemotron_h.model"


@dataclass
class Session:
    """A one-process trainer that trains nothing, and the model that it built last."""

    trainer: nl.Trainer
    """NeMo's trainer."""
    model: llm.MambaModel | None = None
    """NeMo's wrapper of the last model."""


def config(shape: Shape, runtime: Runtime) -> NemotronHConfig:
    """NeMo's config of a model of `shape` that runs as `runtime` says."""
    return NemotronHConfig(**shape.to_megatron(), **_settings(shape, runtime))


def _settings(shape: Shape, runtime: Runtime) -> dict:
    """The fields of NeMo's config that say how a model runs."""
    bf16, fused = runtime.precision == "bf16-mixed", runtime.layer_spec == "transformer_engine"
    return {
        "seq_length": runtime.seq_length,
        "mamba_stack_spec": families.of(shape).layer_spec(runtime.layer_spec),
        "attention_backend": AttnBackend.auto if fused else AttnBackend.local,
        "params_dtype": _dtype(runtime.precision),
        "bf16": bf16,
        "use_cpu_initialization": not device.on_gpu(),
        # the fusions are CUDA extensions that come with Transformer Engine, apex or causal-conv1d
        "use_mamba_mem_eff_path": fused,
        "masked_softmax_fusion": fused,
        "persist_layer_norm": fused,
        "bias_dropout_fusion": False,  # no bias and no dropout: torch.compile, in every process, of one addition
        "cross_entropy_loss_fusion": fused,
        "apply_rope_fusion": False,
        "gradient_accumulation_fusion": False,
    }


def precision_plugin(precision: str, *, gradients: str = "float32") -> nl.MegatronMixedPrecision:
    """NeMo's plugin for `32` or `bf16-mixed`, with gradients in `float32` or `bfloat16`, which it has the last word on.

    It would set the model to float32 parameters, which it then makes bf16, and a Mamba layer casts its input to what
    the config says: Transformer Engine refuses the two together.
    """
    return nl.MegatronMixedPrecision(
        precision=precision, params_dtype=_dtype(precision), grad_reduce_in_fp32=gradients == "float32"
    )


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16-mixed" else torch.float32


@contextlib.contextmanager
def session(runtime: Runtime) -> Iterator[Session]:
    """A one-process NeMo trainer for work that needs a model but no training; torn down on leaving."""
    strategy = nl.MegatronStrategy(
        ddp="pytorch",
        setup_optimizers=False,
        ckpt_save_optimizer=False,
        ckpt_load_optimizer=False,
        ckpt_async_save=False,
        replace_progress_bar=False,
    )
    # No DDP, whose buckets would hold the weights once more. Not by a class of our own: a checkpoint names the class,
    # and is read only where it names what earlier ones do.
    strategy.configure_ddp = lambda: None
    trainer = nl.Trainer(
        devices=1,
        num_nodes=1,
        accelerator="gpu" if device.on_gpu() else "cpu",
        strategy=strategy,
        plugins=precision_plugin(runtime.precision),
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.strategy.store = device.store_of_one()
    try:
        yield Session(trainer)
    finally:
        if torch.distributed.is_initialized():
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


def build(session: Session, shape: Shape, *, tokenizer: Path, runtime: Runtime) -> MegatronMambaModel:
    """Megatron's module of `shape` with fresh weights, inside a NeMo model that is connected to the session."""
    trainer = session.trainer
    model = session.model = llm.MambaModel(config(shape, runtime), tokenizer=AutoTokenizer(str(tokenizer)))
    trainer.state.fn = TrainerFn.FITTING  # NeMo saves only from a trainer that trains
    trainer.strategy.connect(model)
    trainer.strategy.setup_environment()
    _forget_attention()
    with trainer.init_module():
        model.configure_model()
    if device.on_gpu():
        model.cuda()  # norms of the local spec are made on the CPU
    trainer.strategy._init_model_parallel = False  # it stands already
    trainer.strategy.setup(trainer)
    return unwrap_model(model)


def _forget_attention() -> None:
    """Megatron keeps a model's attention backend in the environment, and refuses another one's in the same process."""
    for name in ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN"):
        os.environ.pop(name, None)


def save(session: Session, module: nn.Module, folder: Path) -> None:
    """Save weights and context as a NeMo 2.0 checkpoint."""
    assert session.model is not None and unwrap_model(session.model) is module, "the last model that was built"
    folder.mkdir(parents=True, exist_ok=True)
    session.trainer.save_checkpoint(folder)
    TrainerContext.from_trainer(session.trainer).io_dump(ckpt_to_context_subdir(folder), yaml_attrs=["model"])
    (folder / backends.BACKEND_FILE).write_text(backends.NEMO + "\n", encoding="utf-8")
