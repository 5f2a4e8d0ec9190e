"""What a recipe or a command may set.

    Settings(blend=BLEND, distill=Distill(learning_rate=5e-5))              # in a recipe
    nemo-run recipes/distill_v1v3.py distill.learning_rate=5e-5 evaluate.repeats=8

A field left at None takes the value of the scale (`nemo_distill.config.scale`); what then has a value for everything is
a `nemo_distill.config.recipe.Recipe`.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Annotated

from nemo_distill.config.benchmarks import Declared, check_declared
from nemo_distill.config.blend import Blend
from nemo_distill.config.held_out import MOST_SHARE
from nemo_distill.config.rules import NOT_EMPTY, Keeps, at_most
from nemo_distill.config.schedule import parse_tokens
from nemo_distill.config.values import check_fields
from nemo_distill.errors import UserError, nearest

CHIP_FRIENDLY = ("ignore", "report", "require")
"""What the pruning search does about FP8-aligned shapes (`nemo_distill.prune.fp8_shapes`)."""
REASONINGS = ("inline", "native", "stripped")
"""What can become of the reasoning in a chat (`nemo_distill.data.tokenizer`)."""
FP8 = ("none", "teacher", "both")
"""Whose matrix products can be in FP8 (`nemo_distill.kd.precision`)."""
FORWARD_KL = "forward_kl"
"""The study's loss, which the framework has as well; others take hidden states (`nemo_distill.kd.losses`)."""
NGRAM, BOILERPLATE = 13, 0.01
"""Words of an n-gram, and share of a benchmark's questions in which one is boilerplate, where nothing else is said."""
MIN_NGRAM, MAX_NGRAM = 3, 50
"""Words of an n-gram, at least and at most, by which a question can be told from other text."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 100.0
"""Beyond these a softmax of logits is one token or all of them alike."""
_LAYER = re.compile(r"decoder\.(final_norm|layers\.\d+)")
LOSS_ON = ("all", "answers")
"""Tokens that the loss can be taken on (`nemo_distill.data.answers`)."""
GRADIENTS = ("float32", "bfloat16")
"""What gradients can be kept in."""
QUANTISED = ("none", "fp8", "nvfp4")
"""Formats that a student's matrices can be exported in besides its own (`nemo_distill.quantize`)."""
QUANTISE_RECIPES = ("aggressive", "conservative")
"""How much of a hybrid is quantised, by the names of ModelOpt's configs (`nemo_distill.quantize`)."""
QUANTISE_MILESTONES = ("last", "all")
"""Milestones that can be quantised."""
PRUNED = ("all", "cheap")
"""What the pruned student can be asked."""
ENGINES = ("transformers", "vllm")
"""What can serve a checkpoint to the suites of this machine."""
RECOMPUTE = ("none", "mlp")
"""Activation recomputation that a student can have (`nemo_distill.nemotron_h.model`)."""
PRUNABLE = ("num_layers", "hidden_size", "ffn_hidden_size", "mamba_num_heads", "mamba_head_dim", "num_attention_heads")
"""What ModelOpt can make smaller in a Nemotron-H."""
DIVISIBLE = ("num_layers", "hidden_size", "ffn_hidden_size", "mamba_head_dim")
"""Those of which it takes multiples of a number that can be said; heads go by the groups that share them."""
MAX_WIDTH, MAX_DEPTH, SKIP = 0.40, 0.20, ("num_attention_heads",)
"""How far the search goes, and what it leaves alone, where nothing else is said: ModelOpt's limits and the study's."""
BF16, PRECISIONS = "bf16", {"fp8": 1, "bf16": 2, "float32": 4}
"""What weights and cache of a student can be served in, with the bytes of a number."""
SERVING = {"memory_seq_length": 4096, "memory_batch_size": 1, "memory_precision": BF16}
"""What memory is of where nothing else is said: ModelOpt's."""
MIN_LIMIT = 0.01
"""Least of such limits: at 0 ModelOpt lists no candidate, rather than the teacher's size alone."""


MAX_REPEATS = 1024
"""Answers per question, four times the most that benchmarks of a few questions are published with (AIME, 256)."""
MIN_RATE, MAX_RATE = 1e-9, 1.0
"""Learning rates between which Adam, whose every step is about as long as that, moves a weight of some hundredths at
all, and leaves something of it."""
MAX_NODES, MAX_GPUS = 65_536, 1_024
"""Machines, and GPUs of one, above which a number is mistyped."""
MAX_SEED = 2**32 - 1
"""Largest seed that numpy takes, which draws the order of sequences."""


def _positive(settings, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise UserError(f"{type(settings).__name__.lower()}.{name}={value:g} has to be above 0.")


def _share(settings, name: str) -> None:
    value = getattr(settings, name)
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"{type(settings).__name__.lower()}.{name}={value} is no share: it lies between 0 and 1.")


def _one_of(settings, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    if value is not None and value not in choices:
        near = nearest(value, choices)
        raise UserError(f"{type(settings).__name__.lower()}.{name} cannot be '{value}'. {near}")


@dataclass(frozen=True, kw_only=True)
class Prune:
    """How the teacher becomes the student (`nemo_distill.prune.minitron`)."""

    parameters: float | None = None
    """Target of the search: the student's parameters at most; up to 1.0, as a fraction of the teacher's."""
    memory_mb: float | None = None
    """Target of the search, alone or beside `parameters`: MiB that serving the student takes at most, its weights, its
    key-value cache and its Mamba state (ModelOpt's constraint `memory_mb`)."""
    memory_seq_length: int | None = None
    """Tokens per sequence that `memory_mb` is of: 4,096, as ModelOpt's `seq_length`."""
    memory_batch_size: int | None = None
    """Sequences at a time that `memory_mb` is of: 1, as ModelOpt's `batch_size`."""
    memory_precision: str | None = None
    """What weights and cache are in for `memory_mb`: `bf16`, as ModelOpt has it, `fp8` or `float32`."""
    export_config: dict[str, int] | None = None
    """Sizes after pruning, by ModelOpt's names, in place of a search."""
    score: str | None = None
    """What ranks the candidates, a name in `nemo_distill.prune.scores.SCORES`: `mmlu` (a tenth of it, as in the study)
    or `next_token_loss` on held-out text."""
    candidates: int | None = None
    """How many candidates, the largest first, are scored."""
    calibration: str | None = None
    """The source over whose text activations are ranked, by its name in the blend or the catalogue; None: that of the
    scale or, for a blend with sources of its own, as much of each of its sources, whatever their shares."""
    calibration_sequences: int | None = None
    """Sequences over which activations are ranked."""
    max_width: float | None = None
    """Largest share of the choices of a width that the search goes down, of 1 (ModelOpt's `max_width_pruning`)."""
    max_depth: float | None = None
    """Largest share of the choices of the number of layers that it goes down, of 1 (`max_depth_pruning`)."""
    skip: tuple[str, ...] | None = None
    """Sizes that the search leaves as the teacher's (`hparams_to_skip`): `num_attention_heads` in the study."""
    divisors: dict[str, int] | None = None
    """Of what a size is a multiple, by the names in `DIVISIBLE`; one that is not named goes by the scale's or
    ModelOpt's."""
    chip_friendly: str | None = None
    """What is done about FP8-aligned shapes: `ignore` them, `report` the best beside the student, or `require` one
    (`nemo_distill.prune.fp8_shapes`)."""
    chip_multiple: int | None = None
    """Number of which every side of an FP8-aligned matrix is a multiple."""
    tensor_parallel: int | None = None
    """GPUs among which such a shape is to divide. It stands apart from `layout.tensor_parallel`, so that a run can go
    on over other GPUs without pruning anew."""

    def __post_init__(self):
        check_fields(self, "prune")
        if self.export_config is not None and self.parameters is not None:
            raise UserError("prune takes parameters or export_config, not both.")
        if self.export_config is not None and self.memory_mb is not None:
            raise UserError("prune.memory_mb is of a search, and prune.export_config names the sizes: say one.")
        _one_of(self, "memory_precision", tuple(PRECISIONS))
        for setting, own in SERVING.items():
            if self.memory_mb is None and getattr(self, setting) not in (None, own):
                raise UserError(f"prune.{setting} says what prune.memory_mb is of, and there is none: say both.")
        for name in self.export_config or ():
            if name not in PRUNABLE:
                raise UserError(f"prune.export_config cannot say '{name}'. {nearest(name, PRUNABLE)}")
        for setting in ("max_width", "max_depth", "skip"):
            if self.export_config is not None and getattr(self, setting) is not None:
                raise UserError(f"prune.{setting} is of a search, and prune.export_config names the sizes: say one.")
        for setting in ("max_width", "max_depth"):
            value = getattr(self, setting)
            if value is not None and not MIN_LIMIT <= value <= 1:
                near = 1 if value > 1 else MIN_LIMIT  # or no number
                raise UserError(
                    f"prune.{setting}={value:g} has to lie from {MIN_LIMIT:g} to 1, the share of the choices that the "
                    f"search may go down: the nearest is prune.{setting}={near:g}, and prune.skip leaves a size alone."
                )
        for name in self.skip or ():
            if name not in PRUNABLE:
                raise UserError(f"prune.skip cannot have '{name}'. {nearest(name, PRUNABLE)}")
        for name, divisor in (self.divisors or {}).items():
            if name not in DIVISIBLE:
                raise UserError(f"prune.divisors cannot have '{name}'. {nearest(name, DIVISIBLE)}")
            if divisor < 1:
                raise UserError(f"prune.divisors {name}={divisor} has to be above 0; the nearest is 1.")
        _one_of(self, "chip_friendly", CHIP_FRIENDLY)
        _positive(self, "parameters", "memory_mb", "memory_seq_length", "memory_batch_size", "candidates")
        _positive(self, "calibration_sequences", "chip_multiple", "tensor_parallel")


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """How the sources become tokens (`nemo_distill.steps.prepare`), and what they are searched for."""

    tokens: str | None = None
    """Tokens prepared in all, e.g. `20B`: its share of them of each source, drawn by seed; None: all there are."""
    join_newlines: bool | None = None
    """Whether newlines of `text` sources become spaces, as in the study; code is better off without."""
    reasoning: str | None = None
    """What becomes of `reasoning_content`: `inline`, `native` or `stripped`."""
    max_malformed: float | None = None
    """Share of a source's rows that may be unusable, of 1; above it the step fails."""
    questions: Annotated[str, NOT_EMPTY] | None = None
    """Folder of benchmark questions to search the sources for (`nemo_distill.contamination.questions`)."""
    ngram: int | None = None
    """Words of the n-grams by which questions are looked for, 13 as in GPT-3's appendix C; a question of fewer, but of
    8 or as many as that, is one n-gram."""
    boilerplate: float | None = None
    """Share of a benchmark's questions, of 1; n-grams in more of them, and in more than two, are its prompt template
    and are not looked for: 0.01."""
    held_out: float | None = None
    """Share of each source's documents, of 1, that is never trained on, and on which the student is measured while it
    learns (`nemo_distill.data.held_out`); 0: none, as in the study."""

    def __post_init__(self):
        check_fields(self, "prepare")
        if self.held_out is not None and not 0 <= self.held_out <= MOST_SHARE:
            raise UserError(
                f"prepare.held_out={self.held_out:g} is a share of the documents, from 0 to {MOST_SHARE:g}: "
                "prepare.held_out=0.001 holds out one in a thousand."
            )
        if self.ngram is not None and not MIN_NGRAM <= self.ngram <= MAX_NGRAM:
            near = min(max(self.ngram, MIN_NGRAM), MAX_NGRAM)
            raise UserError(
                f"prepare.ngram={self.ngram} has to be {MIN_NGRAM} to {MAX_NGRAM} words: fewer are in any text, and "
                f"more in few questions; the nearest is prepare.ngram={near}."
            )
        if self.boilerplate is not None and not 0 < self.boilerplate <= 1:
            raise UserError(
                f"prepare.boilerplate={self.boilerplate:g} has to be above 0 and up to 1, at which nothing is left out."
            )
        if self.tokens is not None:
            parse_tokens(self.tokens)
        _one_of(self, "reasoning", REASONINGS)
        _share(self, "max_malformed")


@dataclass(frozen=True, kw_only=True)
class Distill:
    """How the student learns from the teacher (`nemo_distill.backends`)."""

    milestones: tuple[int | str, ...] | dict[str, tuple[int | str, ...]] | None = None
    """Iterations, or tokens as text like `0.4096M`, after which the student is kept, exported and evaluated; the last
    one ends the run. A dict gives them by the name of a scale, and leaves those of other scales open."""
    max_iterations: int | None = None
    """Iterations of the learning-rate schedule, which the last milestone may stop short of."""
    global_batch_size: int | None = None
    """Sequences per iteration."""
    micro_batch_size: int | None = None
    """Sequences per forward pass and device."""
    seq_length: int | None = None
    """Tokens per sequence."""
    learning_rate: float | None = None
    """Learning rate at the end of the warm-up."""
    min_learning_rate: float | None = None
    """Learning rate at the end of the schedule."""
    warmup_iterations: int | None = None
    """Iterations over which the learning rate rises from 0."""
    schedule: str | None = None
    """How the learning rate changes, a name in `nemo_distill.config.schedule.SCHEDULES`: `cosine`, as in the study."""
    loss: str | None = None
    """What the student is distilled by, a name in `nemo_distill.kd.losses.LOSSES`: `forward_kl`, as in the study."""
    temperature: float | None = None
    """What both models' logits are divided by before they are compared, 1 in the study; the loss is multiplied by its
    square, so that gradients keep their size (Hinton et al., arXiv:1503.02531)."""
    intermediate_layers: tuple[tuple[str, str], ...] | None = None
    """Pairs of a student's and a teacher's layer, `decoder.final_norm` or `decoder.layers.N` from 0, whose outputs are
    compared as well (NeMo: cosine distance, through a trained projection where widths differ); none in the study."""
    cross_entropy: float | None = None
    """Weight of next-token cross-entropy in the loss, from 0 to 1, with the rest for what the student is distilled by;
    0 in the study."""
    loss_on: str | None = None
    """What the loss is taken on: `all` tokens, as in the study, or in chats the assistant's `answers` alone; all of a
    plain text counts either way."""
    reset_at_documents: bool | None = None
    """Whether attention, convolution and Mamba's state begin anew at each document of a sequence, in teacher and
    student; in the study they go on."""
    deterministic: bool | None = None
    """Whether everything adds up in one order: the run repeated, or cut and resumed, is the same bit for bit on as many
    GPUs of the same kind, for some speed."""
    fused_loss: bool | None = None
    """Whether the loss is taken from hidden states, chunk by chunk, rather than by NeMo from whole logits
    (`nemo_distill.kd`); the value is the same, the memory is not."""
    fused_kernels: bool | None = None
    """On a GPU, whether Mamba layers and norms compute in our own kernels (`nemo_distill.nemotron_h`) rather than in
    mamba-ssm's and Transformer Engine's; values differ by rounding."""
    fp8: str | None = None
    """Whose matrix products are in FP8: `none`, `teacher`, or `both` teacher and student."""
    gradients: str | None = None
    """What gradients are added up, kept and exchanged in: `float32` or `bfloat16`, which takes half the memory and half
    the time between the copies of the model."""
    held_out_every: int | None = None
    """Iterations between two measurements on held-out documents, besides those at milestones; 0: at milestones only;
    None: as often as `held_out_time` allows. Like that in no fingerprint."""
    held_out_time: float | None = None
    """Share of the training's time, of 1, that these measurements take at most (`nemo_distill.config.held_out`)."""

    def __post_init__(self):
        check_fields(self, "distill")
        if self.held_out_every is not None and self.held_out_every < 0:
            raise UserError(f"distill.held_out_every={self.held_out_every} is a number of iterations: 0 for none.")
        if self.held_out_time is not None and not 0 < self.held_out_time <= 1:
            raise UserError(f"distill.held_out_time={self.held_out_time:g} is a share of the time: above 0, at most 1.")
        _one_of(self, "gradients", GRADIENTS)
        _one_of(self, "loss_on", LOSS_ON)
        _one_of(self, "fp8", FP8)
        _share(self, "cross_entropy")
        for pair in self.intermediate_layers or ():
            if len(pair) != 2 or not all(_LAYER.fullmatch(str(name)) for name in pair):
                raise UserError(
                    f"distill.intermediate_layers cannot have {pair!r}: a pair is a layer of the student and one of "
                    "the teacher, each 'decoder.final_norm' or 'decoder.layers.N'."
                )
        if self.temperature is not None and not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise UserError(
                f"distill.temperature={self.temperature} has to lie from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}."
            )
        _positive(self, "max_iterations", "global_batch_size", "micro_batch_size", "seq_length", "learning_rate")
        if self.learning_rate is not None and not MIN_RATE <= self.learning_rate <= MAX_RATE:
            near = min(max(self.learning_rate, MIN_RATE), MAX_RATE)
            raise UserError(
                f"distill.learning_rate={self.learning_rate:g} is about how far each step of Adam moves every weight, "
                f"and weights are some hundredths: the nearest that trains is distill.learning_rate={near:g}."
            )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How every milestone is judged (`evaluator.suites.suite`)."""

    suite: str | None = None
    """Name of the suite of benchmarks."""
    repeats: int | None = None
    """Answers drawn per question, each with its own seed; None: the suite's number for each benchmark."""
    max_new_tokens: int | None = None
    """The most tokens of an answer; None: the suite's number."""
    datasets: Annotated[str, NOT_EMPTY] | None = None
    """Folder of the hub's data sets, for suites that are asked in a sandbox, without a network
    (`evaluator.suites.datasets`)."""
    execute_generated_code: bool = False
    """Whether code that the model writes may be executed, in a sandbox (`evaluator.harness.bubblewrap`)."""
    max_unasked: float = 0.05
    """Most of a benchmark's answers, as a share from 0 to 1, that may be missing since their prompts are longer than
    the context. They count as wrong; no score depends on the bound, so it is in no fingerprint."""
    pruned: str | None = None
    """What the pruned student is asked before it is distilled: `all`, or what is `cheap` even where it never ends an
    answer (`evaluator.harness.budget`)."""
    benchmarks: tuple[Declared, ...] = ()
    """What is asked beside the suite: `Questions(...)` of the recipe's own and nemo-evaluator's tasks,
    `Benchmark(...)` (`nemo_distill.config.benchmarks`)."""
    tasks: tuple[str, ...] | None = None
    """The part of all these that is asked, by task, title or name, e.g. `ifeval,my_quiz`; None: all."""
    engine: str | None = None
    """What serves a checkpoint to the suites of this machine: `transformers`, our own server on CPUs, or `vllm`, on the
    GPUs that the step is given (`evaluator.serve.vllm`)."""
    vllm: Annotated[str, NOT_EMPTY] | None = None
    """Executable of vLLM, or the folder of the environment that it lies in; None: beside this Python, or in PATH."""
    measured_in: tuple[Annotated[str, NOT_EMPTY], ...] = ()
    """Other runs folders whose finished evaluations the preview goes by, beside those of this one
    (`nemo_distill.outcome.measured`). In no fingerprint."""

    def __post_init__(self):
        for name in ("tasks", "measured_in"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
        check_fields(self, "evaluate")
        check_declared(self.benchmarks)
        _positive(self, "repeats", "max_new_tokens")
        if self.repeats is not None and self.repeats > MAX_REPEATS:
            raise UserError(
                f"evaluate.repeats={self.repeats} asks every question so often that no evaluation ends; the most is "
                f"evaluate.repeats={MAX_REPEATS}."
            )
        _share(self, "max_unasked")
        _one_of(self, "pruned", PRUNED)
        _one_of(self, "engine", ENGINES)


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """What students are exported in besides their own precision, by ModelOpt (`nemo_distill.quantize`)."""

    format: str | None = None
    """Format of the quantised export: `none`, `fp8` (E4M3, a scale per matrix and one for its inputs) or `nvfp4`, which
    no Hopper serves, so that it is exported and not evaluated."""
    recipe: str | None = None
    """What is quantised: `aggressive`, as in the study, Mamba's projections and the MLP; `conservative`, the MLP alone.
    Attention, convolution, embedding and output layer stay as they are in both."""
    milestones: str | None = None
    """Which are quantised: the `last`, or `all`."""
    calibration_sequences: int | None = None
    """Sequences over which the range of inputs is taken, of the text that ranks activations for pruning."""
    evaluate: bool | None = None
    """Whether the quantised student is asked what the others are; None: where what is served here can compute it."""

    def __post_init__(self):
        check_fields(self, "quantize")
        _one_of(self, "format", QUANTISED)
        _one_of(self, "recipe", QUANTISE_RECIPES)
        _one_of(self, "milestones", QUANTISE_MILESTONES)
        _positive(self, "calibration_sequences")
        if self.format == "nvfp4" and self.evaluate:
            raise UserError(
                "quantize.evaluate=true with quantize.format=nvfp4: Hopper has no FP4, nor the server on a CPU, and "
                "nothing else is asked here: say quantize.evaluate=false, or quantize.format=fp8."
            )


@dataclass(frozen=True, kw_only=True)
class ServeBench:
    """What is measured of checkpoints that vLLM serves, in turn on one GPU (`evaluator.serve.bench`). No score depends
    on it."""

    settings: tuple[str, ...] | None = None
    """Loads, each INPUT/OUTPUTxIN_FLIGHT in tokens and requests, and :REQUESTS behind it where there are more of them:
    `32768/1024x16,512/4096x128`; without one, and without `contexts`, nothing is measured."""
    contexts: tuple[int, ...] | None = None
    """Contexts in tokens at which rates of decoding are taken with 128 in flight: `1024,8192,15360`."""
    checkpoints: tuple[str, ...] | None = None
    """Which, by their labels, the first being what ratios are to: `teacher,80B,80B-fp8`; None: the teacher, the last
    milestone, and what that is quantised to."""

    def __post_init__(self):
        for name in ("settings", "contexts", "checkpoints"):
            if isinstance(getattr(self, name), str | int):
                object.__setattr__(self, name, (getattr(self, name),))
        check_fields(self, "serve_bench")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the distillation is spread over. Outputs are the same up to rounding, so it is in no fingerprint."""

    gpu: str | None = None
    """Kind of GPU: a name in `nemo_distill.plan.gpus.GPUS`."""
    nodes: Annotated[int, at_most(MAX_NODES)] | None = None
    """Number of machines."""
    gpus_per_node: Annotated[int, at_most(MAX_GPUS)] | None = None
    """GPUs of each that the job uses."""
    tensor_parallel: int | None = None
    """GPUs that share each layer of a copy of the model; times `context_parallel`, all others share the batch."""
    context_parallel: int | None = None
    """GPUs that share each sequence: for sequences whose activations do not fit one GPU. Up to as many as Mamba's heads
    and groups divide among; it has not run on GPUs."""
    recompute: str = "none"
    """What the student computes again in the backward pass rather than keep it: `none` or `mlp`, its MLP layers, which
    takes some time and spares 5.5 to 7 GiB at the study's shapes (`docs/guides/gpu.md`)."""
    overlap_saves: bool = False
    """Whether checkpoints are written by processes beside the ranks while the training goes on, which takes as much of
    the machine's memory as its part of a checkpoint; it has not run on GPUs."""
    keep_process: bool = True
    """Whether a process that has finished a segment goes on with the next, models and data as they are, rather than end
    and have another load them again. A milestone is exported and evaluated as soon, and kept whatever becomes of the
    next segment."""

    def __post_init__(self):
        check_fields(self, "layout")
        _one_of(self, "recompute", RECOMPUTE)
        _positive(self, "nodes", "gpus_per_node", "tensor_parallel", "context_parallel")


@dataclass(frozen=True, kw_only=True)
class Health:
    """When a distillation is stopped early (`nemo_distill.train.health`). No output depends on it, so it is in no
    fingerprint: a run that was stopped goes on where it was under other limits."""

    grace_iterations: int = 50
    """Iterations after which the loss has to be below where it began."""
    loss_above_start: float = 1.0
    """How many times the loss at the start it may be from then on."""
    window: int = 50
    """Iterations whose gradient norms make the running median."""
    spike: float = 10.0
    """How many times that median a gradient norm is called a spike."""
    spikes: int = 3
    """As many within a window stop the run."""
    teacher_loss: float = 0.7
    """The teacher's own next-token loss on the blend at most, as a part of what a guess among all tokens has."""
    stall_seconds: float = 600.0
    """Seconds without progress of any rank after which a step that stands still is ended."""
    stall_iterations: float = 20.0
    """As many of its own median iterations, where that is longer."""
    stall_phase_seconds: float = 3600.0
    """Seconds in place of both for what is no iteration: loading and the first iteration, a save, a measurement."""

    def __post_init__(self):
        check_fields(self, "health")
        _positive(self, *(field.name for field in dataclasses.fields(self)))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a recipe says and a command may change; on the command line its fields are the first part of a key."""

    blend: Blend
    """The data."""
    prepare: Prepare = Prepare()
    prune: Prune = Prune()
    distill: Distill = Distill()
    evaluate: Evaluate = Evaluate()
    quantize: Quantize = Quantize()
    serve_bench: ServeBench = ServeBench()
    layout: Layout = Layout()
    health: Health = Health()
    scale: str = ""
    """`full`, `middle` or `debug`; empty for the one that the executor stands for."""
    runs: str = "runs"
    """The folder of all runs."""
    seed: int = 1234
    """Seed of the sample order and of the answers."""
    track: Annotated[str | None, Keeps(("none",))] = None
    """Where the run is shown while it goes on: `tensorboard`, `wandb`, `mlflow`, several with commas between, or `none`
    (`nemo_distill.track`); None: TensorBoard's files in the folder of all runs, where TensorBoard is installed."""
    teacher: str = ""
    """The checkpoint that is pruned and learnt from: a folder, or a model of the hub, `ORG/NAME` or
    `ORG/NAME@REVISION`; empty for the one of the scale."""

    def __post_init__(self):
        check_fields(self)
        if not 0 <= self.seed <= MAX_SEED:
            near = min(max(self.seed, 0), MAX_SEED)
            raise UserError(f"seed={self.seed} is none that numpy takes: 0 to {MAX_SEED}; the nearest is seed={near}.")
