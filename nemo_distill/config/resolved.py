"""The parts of a recipe in which nothing is left open: what `nemo_distill.config.settings` becomes at a scale.

Every part has the fields of its settings, so a scale is written in these types and a recipe is read in them:

    prune=Prune(parameters=0.7)                   in settings: the rest is the scale's
    recipe.prune.candidates                       in a recipe: an int, never None

A field that may still be None means something by it, which its docstring says.
"""

from dataclasses import dataclass, field

from nemo_distill.config.benchmarks import Declared
from nemo_distill.config.held_out import TIME
from nemo_distill.config.schedule import COSINE
from nemo_distill.config.settings import BF16, BOILERPLATE, FORWARD_KL, MAX_DEPTH, MAX_WIDTH, NGRAM, SKIP


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """`settings.Prune`, resolved."""

    parameters: float | None = None
    """Target of the search: the student's parameters at most; up to 1.0, as a fraction of the teacher's. None where
    `export_config` or `memory_mb` takes its place."""
    memory_mb: float | None = None
    """Target of the search: MiB that serving the student takes at most; None: whatever it takes."""
    memory_seq_length: int = 4096
    """Tokens per sequence that `memory_mb` is of."""
    memory_batch_size: int = 1
    """Sequences at a time that `memory_mb` is of."""
    memory_precision: str = BF16
    """Precision of weights and cache that `memory_mb` is of: a name in `settings.PRECISIONS`."""
    export_config: dict[str, int] | None = None
    """Sizes after pruning, by ModelOpt's names; None where they are searched for."""
    score: str
    """What ranks the candidates: a name in `nemo_distill.prune.scores.SCORES`."""
    candidates: int
    """Number of candidates, the largest first, that are scored."""
    calibration: str | None = None
    """Source over whose text activations are ranked; None: that of the scale, or the blend's where it has its own."""
    calibration_sequences: int
    """Sequences over which activations are ranked."""
    max_width: float = MAX_WIDTH
    """Largest share of the choices of a width, from 0 to 1, that the search goes down."""
    max_depth: float = MAX_DEPTH
    """Largest share of the choices of the number of layers, from 0 to 1, that the search goes down."""
    skip: tuple[str, ...] = SKIP
    """Sizes that the search leaves as the teacher's."""
    divisors: dict[str, int] = field(default_factory=dict)
    """Step along an axis, by ModelOpt's names for it, e.g. `hidden_size_divisor`; ModelOpt's own where not given."""
    chip_friendly: str
    """What is done about FP8-aligned shapes: a name in `settings.CHIP_FRIENDLY`."""
    chip_multiple: int
    """Multiple that every side of an FP8-aligned matrix is of."""
    tensor_parallel: int
    """GPUs among which an FP8-aligned shape divides."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """`settings.Prepare`, resolved."""

    tokens: int | None = None
    """Total number of tokens that are prepared; None: all there are."""
    join_newlines: bool = True
    """Whether newlines of `text` sources become spaces."""
    reasoning: str
    """What becomes of `reasoning_content`: a name in `settings.REASONINGS`."""
    max_malformed: float
    """Share of a source's rows, from 0 to 1, above which unusable ones fail the step."""
    questions: str | None = None
    """Folder of benchmark questions to search the sources for; None: those of the suite only."""
    ngram: int = NGRAM
    """Words of the n-grams by which questions are looked for."""
    boilerplate: float = BOILERPLATE
    """Share of a benchmark's questions, from 0 to 1, above which an n-gram is its prompt template."""
    held_out: float = 0.0
    """Share of each source's documents, from 0 to 1, that is never trained on."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """`settings.Distill`, resolved."""

    milestones: tuple[int | str, ...]
    """Iterations, or tokens as text, after which the student is kept, exported and evaluated."""
    max_iterations: int
    """Length of the learning-rate schedule in iterations."""
    global_batch_size: int
    """Sequences per iteration."""
    micro_batch_size: int
    """Sequences per forward pass and device."""
    seq_length: int
    """Tokens per sequence."""
    learning_rate: float
    """Learning rate at the end of the warm-up."""
    min_learning_rate: float
    """Learning rate at the end of the schedule."""
    warmup_iterations: int
    """Warm-up length in iterations."""
    schedule: str = COSINE
    """Learning-rate schedule: a name in `nemo_distill.config.schedule.SCHEDULES`."""
    loss: str = FORWARD_KL
    """What the student is distilled by: a name in `nemo_distill.kd.losses.LOSSES`."""
    temperature: float = 1.0
    """What both models' logits are divided by before they are compared."""
    intermediate_layers: tuple[tuple[str, str], ...] = ()
    """Pairs of a student's and a teacher's layer whose outputs are compared as well."""
    cross_entropy: float = 0.0
    """Weight of next-token cross-entropy in the loss, from 0 to 1."""
    loss_on: str = "all"
    """Tokens that the loss is taken on: a name in `settings.LOSS_ON`."""
    reset_at_documents: bool = False
    """Whether documents of a sequence are kept apart."""
    deterministic: bool = False
    """Whether everything adds up in one order."""
    fused_loss: bool
    """Whether the loss is taken from hidden states, chunk by chunk."""
    fused_kernels: bool
    """Whether Mamba layers and norms compute in our own kernels on a GPU."""
    fp8: str
    """Models whose matrix products are in FP8: a name in `settings.FP8`."""
    gradients: str
    """Precision in which gradients are added up, kept and exchanged: a name in `settings.GRADIENTS`."""
    held_out_every: int | None = None
    """Iterations between measurements on held-out documents; 0: at milestones only; None: as many as there is time
    for."""
    held_out_time: float = TIME
    """Share of the training's time, from 0 to 1, that these measurements take at most."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`settings.Evaluate`, resolved."""

    suite: str
    """Name of the suite of benchmarks."""
    repeats: int | None = None
    """Answers drawn per question; None: the suite's number for each benchmark."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None: the suite's number."""
    datasets: str | None = None
    """Folder of the hub's data sets; None: they are asked for over the network."""
    execute_generated_code: bool = False
    """Whether code that the model writes may be executed, in a sandbox."""
    max_unasked: float = 0.05
    """Most of a benchmark's answers, as a share from 0 to 1, that may be missing since they could not be asked for."""
    pruned: str = "all"
    """Benchmarks of the pruned student: a name in `settings.PRUNED`."""
    benchmarks: tuple[Declared, ...] = ()
    """Benchmarks that the recipe declares."""
    tasks: tuple[str, ...] | None = None
    """The part of suite and declared benchmarks that is asked; None: all."""
    engine: str = "transformers"
    """What serves a checkpoint on this machine: a name in `settings.ENGINES`."""
    vllm: str | None = None
    """Executable of vLLM, or its environment's folder; None: it is looked for."""
    measured_in: tuple[str, ...] = ()
    """Other runs folders whose finished evaluations the preview goes by."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """`settings.Quantize`, resolved."""

    format: str = "none"
    """Format of the quantised export: a name in `settings.QUANTISED`."""
    recipe: str = "aggressive"
    """What is quantised: a name in `settings.QUANTISE_RECIPES`."""
    milestones: str = "last"
    """Milestones that are quantised: a name in `settings.QUANTISE_MILESTONES`."""
    calibration_sequences: int = 512
    """Sequences over which the range of inputs is taken."""
    evaluate: bool | None = None
    """Whether the quantised student is asked what the others are; None: where that can be."""

    @property
    def evaluated(self) -> bool:
        """Whether the quantised student is asked what the others are."""
        return self.format == "fp8" and self.evaluate is not False


@dataclass(frozen=True, kw_only=True)
class ServingBench:
    """`settings.ServeBench`, resolved."""

    settings: tuple[str, ...] = ()
    """Loads that checkpoints are measured at; none: they are not."""
    contexts: tuple[int, ...] = ()
    """Contexts in tokens at which rates of decoding are taken."""
    checkpoints: tuple[str, ...] | None = None
    """Labels of those that are measured; None: of the teacher, the last milestone and what it is quantised to."""


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """`settings.Layout`, resolved: one process on a CPU unless it says otherwise."""

    gpu: str | None = None
    """Kind of GPU: a name in `nemo_distill.plan.gpus.GPUS`; None: a CPU."""
    nodes: int = 1
    """Number of machines."""
    gpus_per_node: int = 1
    """GPUs, and so ranks, of each machine."""
    tensor_parallel: int = 1
    """Ranks that share each layer of a copy of the model."""
    context_parallel: int = 1
    """Ranks, times as many, that share each sequence; all others share the batch."""
    recompute: str = "none"
    """Activation recomputation: a name in `settings.RECOMPUTE`."""
    overlap_saves: bool = False
    """Whether checkpoints are written while the training goes on."""
    keep_process: bool = True
    """Whether a process that has finished a segment goes on with the next."""

    @property
    def ranks(self) -> int:
        """Total number of ranks."""
        return self.nodes * self.gpus_per_node
