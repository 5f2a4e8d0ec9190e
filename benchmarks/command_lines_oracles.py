"""Whether what a preview took can work: asked of the steps' own code and of the libraries that they call.

    cannot_work(taken)          # a sentence that begins with who says so; None: nobody objects

None of these ask the code by which the preview refuses. What a step would find out after hours (the order of sequences,
micro batches, the first step of Adam, the watch over the losses, where the runs are kept) is tried here on what that
step would be told.
"""

import dataclasses
import functools
import itertools
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_distill.config.recipe import Recipe
from nemo_distill.config.settings import Health
from nemo_distill.run.manifest import Run
from nemo_distill.train.health import Watch

MEMORY = 64 << 30
"""Bytes of a machine that indexes a blend."""
YEARS = 10 * 365 * 86_400
"""Seconds that nobody waits."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a preview made of a command."""

    recipe: Recipe
    """The recipe with a value for everything."""
    run: Run
    """The run with its steps."""
    said: str
    """All that was printed."""
    teacher: Any
    """What is known of the teacher (`plan.teacher.Known`)."""
    asked: Any
    """What every checkpoint is asked (`outcome.suites.Asked`)."""
    executor: Any
    """What would launch it."""


def cannot_work(taken: Taken) -> str | None:
    """Who objects, and to what; None: nobody."""
    for oracle in ORACLES:
        try:
            objection = oracle(taken)
        except Exception as error:  # as the step would end
            objection = repr(error)
        if objection:
            return f"{(oracle.__doc__ or '').partition(':')[0]}: {objection}"
    return None


def _configs(taken: Taken, kind: str) -> list[dict[str, Any]]:
    return [dict(spec.config) for spec in taken.run.specs.values() if spec.module.endswith(f".{kind}")]


def numpys_seed(taken: Taken) -> str | None:
    """NumPy: the order of sequences is drawn with this seed."""
    for config in _configs(taken, "index"):
        try:
            np.random.RandomState(config["seed"])
        except (ValueError, TypeError) as error:
            return str(error)
    return None


def megatrons_order(taken: Taken) -> str | None:
    """Megatron: of each sequence a document's place, an offset and a turn are held in memory, all at once."""
    for config in _configs(taken, "index"):
        size = config["max_iterations"] * config["global_batch_size"] * (4 + 2 * 4 + 8)
        if size > MEMORY:
            return f"an order of {size:,} bytes"
    return None


def megatrons_micro_batches(taken: Taken) -> str | None:
    """Megatron's ConstantNumMicroBatchesCalculator: the batch is shared out."""
    from megatron.core.num_microbatches_calculator import ConstantNumMicroBatchesCalculator

    layout = taken.run.facts.beside.layout
    for config in _configs(taken, "distill"):
        course, copies = config["course"], layout.ranks / layout.tensor_parallel
        try:
            assert copies == int(copies), f"{layout.ranks} ranks and tensor parallel {layout.tensor_parallel}"
            ConstantNumMicroBatchesCalculator(
                course["global_batch_size"], course["micro_batch_size"], int(copies), False, 0
            )
        except AssertionError as error:
            return str(error)
    return None


def megatrons_shards(taken: Taken) -> str | None:
    """Megatron's TransformerConfig and MambaMixer: what tensor parallelism deals out comes out whole."""
    shape, parallel = taken.teacher.shape, taken.run.facts.beside.layout.tensor_parallel
    if shape is None or parallel == 1:
        return None
    dealt = (shape.num_attention_heads, shape.num_query_groups, shape.mamba_num_heads, shape.mamba_num_groups)
    odd = [part for part in (*dealt, shape.ffn_hidden_size, shape.vocab_size) if part % parallel]
    return f"{odd[0]} among {parallel}" if odd else None


def a_step_of_adam(taken: Taken) -> str | None:
    """PyTorch's Adam: a few steps over weights of some hundredths, to a target that is there."""
    for config in _configs(taken, "distill")[:1]:
        found = _trained(config["course"]["learning_rate"])
        if found:
            return found
    return None


@functools.cache
def _trained(rate: float) -> str | None:
    draw = torch.Generator().manual_seed(1)
    inputs, target = torch.randn(256, 32, generator=draw), torch.randn(32, 16, generator=draw) * 0.02
    weights = torch.nn.Parameter(torch.randn(32, 16, generator=draw) * 0.02)
    before = weights.detach().clone()
    optimizer = torch.optim.Adam([weights], lr=rate, betas=(0.9, 0.95))

    def loss() -> torch.Tensor:
        return (inputs @ (weights - target)).square().mean()

    start = float(loss())
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_([weights], 1.0)
        optimizer.step()
    end = float(loss())
    if not math.isfinite(end):
        return f"a loss of {end}"
    if torch.equal(weights, before):
        return "no weight has moved after 20 steps"
    # With a hundred times the loss of the start nothing that the teacher knew is left.
    return f"the loss rises from {start:.2g} to {end:.2g}" if end > 1e6 * start else None


def the_steps_own_watch(taken: Taken) -> str | None:
    """train.health.Watch: a course without a fault, whose loss falls to an eighth within its first tenth."""
    limits = taken.recipe.health
    return _watched(limits) or _gated(limits)


@functools.cache
def _watched(limits: Health) -> str | None:
    watch, draw = Watch(limits), np.random.default_rng(1)
    for iteration in range(1, 1_001):
        loss = 4 * max(0.125, 1 - iteration / 55) * (1 + 0.01 * draw.standard_normal())
        norm = math.exp(0.3 * draw.standard_normal()) * (2 if iteration % 100 == 0 else 1)
        if reason := watch.look({"iteration": iteration, "loss": loss, "grad_norm": norm, "learning_rate": 1e-4}):
            return reason
    return None


def _gated(limits: Health) -> str | None:
    """Shannon (1951): English has 0.6 bits a letter at least; four letters to a token, of 131,072, is 0.14 of a guess.
    Code and solutions repeat themselves, to a third of that."""
    least = 0.6 * 4 / 17 / 3
    return f"no teacher has less than {least:.3f} of a guess" if limits.teacher_loss < least else None


def modelopts_grid(taken: Taken) -> str | None:
    """ModelOpt's grid of sizes: some student of it is smaller than the teacher, and within the target."""
    shape, asked = taken.teacher.shape, taken.recipe.prune
    if shape is None:
        return None
    if asked.export_config is not None:
        sizes = dict(asked.export_config)
        layers = sizes.pop("num_layers", shape.num_layers)
        whole = layers == shape.num_layers and all(getattr(shape, name) == size for name, size in sizes.items())
        return "the student is the teacher" if whole or layers > shape.num_layers else None
    bounds = []  # (most, what the teacher has, what the smallest has)
    narrow, layers = _smallest(
        shape, tuple(asked.divisors.items()), asked.max_width, asked.max_depth, tuple(asked.skip)
    )
    if asked.parameters is not None:
        most = asked.parameters * shape.parameters() if asked.parameters <= 1 else asked.parameters
        bounds.append((most, shape.parameters(), _least(narrow, layers, narrow.layer_parameters)))
    if asked.memory_mb is not None:
        width = {"fp8": 1, "bf16": 2, "float32": 4}[asked.memory_precision]

        def held(one: Any, kind: str) -> int:
            """Bytes of a layer: its weights, and what it keeps of the sequences."""
            kept = {
                "*": 2 * one.num_query_groups * one.kv_channels * asked.memory_seq_length * width,
                "M": (one.mamba_inner_size * one.mamba_state_dim + 3 * one.mamba_conv_size) * max(width, 2),
            }
            return width * one.layer_parameters(kind) + asked.memory_batch_size * kept.get(kind, 0)

        whole = width * (shape.parameters() - sum(map(shape.layer_parameters, shape.pattern)))
        whole += sum(held(shape, kind) for kind in shape.pattern)
        outer = (1 - width) * (narrow.parameters() - sum(map(narrow.layer_parameters, narrow.pattern)))
        least = _least(narrow, layers, lambda kind: held(narrow, kind)) - outer
        bounds.append((asked.memory_mb * 2**20, whole, least))
    if all(most >= whole for most, whole, _ in bounds):
        return f"at most {bounds[0][0]:,.0f} of {bounds[0][1]:,}"
    found = [(most, least) for most, _, least in bounds if most < least]
    return f"at most {found[0][0]:,.0f}, and the smallest has {found[0][1]:,}" if found else None


def _least(narrow: Any, layers: int, cost: Any) -> int:
    """With so many of the cheapest layers."""
    outer = narrow.parameters() - sum(map(narrow.layer_parameters, narrow.pattern))
    return outer + sum(sorted(map(cost, narrow.pattern))[:layers])


@functools.cache
def _smallest(shape: Any, divisors: tuple, max_width: float, max_depth: float, skip: tuple[str, ...]) -> Any:
    """The narrowest, with all its layers, and how few of them it may have.

    By ModelOpt's `mcore_minitron`: choices ascend, and it keeps those from int((1 - limit) * count).
    """
    steps = {"hidden_size": 256, "ffn_hidden_size": 512, "mamba_head_dim": 8, "num_layers": 2}
    steps |= {name.removesuffix("_divisor"): step for name, step in divisors}
    steps |= {"mamba_num_heads": shape.mamba_num_groups, "num_attention_heads": shape.num_query_groups}
    sizes = {}
    for name, step in steps.items():
        own = getattr(shape, name)
        choices = sorted({*range(step, own + 1, step), own})
        limit = max_depth if name == "num_layers" else max_width
        sizes[name] = own if name in skip else choices[int((1 - limit) * len(choices))]
    layers = sizes.pop("num_layers")
    narrow = dataclasses.replace(shape, **sizes)
    return narrow, layers


def the_debug_worlds_text(taken: Taken) -> str | None:
    """prune.calibration: text is there for all the sequences that rank activations."""
    for config in _configs(taken, "prune"):
        asked, world = config["calibration"], taken.recipe.scale.world
        tokens = asked["sequences"] * asked["seq_length"]
        if world and tokens > (most := _world_tokens(world["seed"], world["documents"]["sft-general"])):
            return f"{tokens:,} tokens of {most:,}"
    return None


@functools.cache
def _world_tokens(seed: int, count: int) -> int:
    import nemo_distill
    from nemo_distill.data.tokenizer import Tokenizer
    from nemo_distill.debug.corpora import documents

    tokenizer = Tokenizer(Path(nemo_distill.__file__).parent / "debug/teacher")
    texts = [row["text"].replace("\n", " ") for row in documents("sft-general", seed=seed, count=count)]
    return sum(len(ids) + 1 for ids in tokenizer.encode(texts, special=True))


def what_is_held_out(taken: Taken) -> str | None:
    """data.held_out: of each source some documents are held out, of those that the debug world has."""
    from nemo_distill.data.held_out import is_held_out, number_of

    share, world = taken.recipe.prepare.held_out, taken.recipe.scale.world
    if not (share and world):
        return None
    count = max(world["documents"].values())
    found = any(is_held_out(number_of(f"document {place}"), share) for place in range(count))
    return None if found else f"none of {count:,} documents at a share of {share:g}"


def room_for_an_answer(taken: Taken) -> str | None:
    """The checkpoint's config: a prompt and its answer fit its positions."""
    shape = taken.teacher.shape
    context = taken.asked.context or (shape.max_position_embeddings if shape else None)
    longest = max((load.max_new_tokens or 0 for load in taken.asked.loads), default=0)
    if context and longest >= context:
        return f"{longest} new tokens in a context of {context}"
    if shape and taken.recipe.distill.seq_length > shape.max_position_embeddings:
        return f"sequences of {taken.recipe.distill.seq_length} tokens and {shape.max_position_embeddings} positions"
    return None


def an_evaluation_that_ends(taken: Taken) -> str | None:
    """Arithmetic: a thousand answers a second, and ten years."""
    answers = sum(load.questions * load.repeats for load in taken.asked.loads)
    return f"{answers:,} answers" if answers / 1000 > YEARS else None


def files_of_the_run(taken: Taken) -> str | None:
    """The operating system: the run's file and folders can be made."""
    runs, name = taken.run.runs, f"{taken.run.name}.json.lock"
    there = next(parent for parent in (runs, *runs.parents) if parent.exists())
    try:
        if len(os.fsencode(name)) > os.pathconf(there, "PC_NAME_MAX"):
            return f"a name of {len(name)} characters"
        parts = [part for part in runs.relative_to(there).parts if part]
        made = list(itertools.accumulate(parts, lambda path, part: path / part, initial=there))[1:]
        for folder in made:
            folder.mkdir()
        for folder in reversed(made):
            folder.rmdir()
    except OSError as error:
        return f"{error.strerror}: {runs}"
    return None


def who_runs_it(taken: Taken) -> str | None:
    """The executor: what keeps it from starting is said in the preview."""
    try:
        taken.executor.check(taken.run, dryrun=False, detach=False)
    except Exception as error:
        return None if " ".join(str(error).split()) in " ".join(taken.said.split()) else f"unsaid: {error}"
    return None


_TIMES = (r"\d+", r"\d+:\d\d?", r"\d+:\d\d?:\d\d?", r"\d+-\d\d?", r"\d+-\d\d?:\d\d?", r"\d+-\d\d?:\d\d?:\d\d?")


def sbatchs_manual(taken: Taken) -> str | None:
    """man sbatch: times, memory, counts, and one word for a name on a line of the job script."""
    executor = taken.executor
    if executor.name != "slurm":
        return None
    if not any(re.fullmatch(form, executor.time) for form in _TIMES):
        return f"--time={executor.time}"
    for name in ("mem", "mem_per_gpu", "mem_per_cpu"):
        size = getattr(executor, name)
        if size is not None and not (
            re.fullmatch(r"\d+[KMGT]?B?", size, re.I) and int(re.sub(r"\D", "", size)) < 1 << 50
        ):
            return f"--{name}={size}"
    for name in ("cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task", "segment"):
        if not 0 < (getattr(executor, name) or 1) < 1 << 16:  # Slurm keeps cores of a task in 16 bits
            return f"--{name}={getattr(executor, name)}"
    for name in ("account", "partition", "qos", "gres", "constraint", "exclude", "network", "container_image"):
        said = getattr(executor, name)
        if said is not None and len(said.split()) != 1:
            return f"--{name}={said}"
    nested = [key for key, value in (executor.additional_parameters or {}).items() if isinstance(value, (dict, list))]
    return f"--{nested[0]} has parts" if nested else None


def the_launchers_cluster(taken: Taken) -> str | None:
    """nemo-evaluator-launcher: an address is one, names are words, counts are of a cluster."""
    cluster = taken.executor.evaluation
    if cluster.judge_url and not re.match(r"https?://[^\s/]+", cluster.judge_url):
        return f"judge_url={cluster.judge_url}"
    for name in ("hostname", "username", "account", "partition", "gres", "image"):
        said = getattr(cluster, name)
        if said and len(said.split()) != 1:
            return f"{name}={said}"
    for name in ("gpus_per_node", "data_parallel_size", "parallelism"):
        if (getattr(cluster, name) or 1) > 10**6:
            return f"{name}={getattr(cluster, name)}"
    return None


ORACLES: tuple[Callable[[Taken], str | None], ...] = (
    numpys_seed, megatrons_order, megatrons_micro_batches, megatrons_shards, a_step_of_adam, the_steps_own_watch,
    modelopts_grid, the_debug_worlds_text, what_is_held_out, room_for_an_answer, an_evaluation_that_ends,
    files_of_the_run, who_runs_it, sbatchs_manual, the_launchers_cluster,
)  # fmt: skip
"""Each is asked of every preview that was taken."""
