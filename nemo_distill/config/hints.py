"""What was meant by a setting that there is not: a slip, the same name in another group, or a name used elsewhere.

>>> from nemo_distill.config.hints import hint_for
>>> hint_for("lr", ["distill.learning_rate", "seed"])
"Did you mean 'distill.learning_rate'?"
>>> hint_for("evaluate.whatever", ["evaluate.suite", "evaluate.repeats", "seed"])
"Known: 'evaluate.repeats', 'evaluate.suite'."
"""

from collections.abc import Iterable

from nemo_distill.errors import nearest, slip_of

ALIASES = {
    "distill.learning_rate": ("lr", "max_lr", "peak_lr", "rate"),
    "distill.min_learning_rate": ("min_lr", "lr_min", "final_lr", "end_lr"),
    "distill.warmup_iterations": ("warmup", "warmup_steps", "warmup_iters", "lr_warmup"),
    "distill.max_iterations": ("max_steps", "train_iters", "max_iters", "steps", "iters", "iterations", "num_steps"),
    "distill.milestones": ("checkpoints", "tokens", "train_tokens", "save_steps", "stages"),
    "distill.global_batch_size": ("batch_size", "batch", "gbs", "bs"),
    "distill.micro_batch_size": ("mbs", "microbatch", "micro_batch", "per_device_batch_size"),
    "distill.seq_length": ("seq_len", "sequence_length", "max_seq_len", "max_length", "context_length", "seqlen"),
    "distill.schedule": ("lr_schedule", "scheduler", "lr_scheduler"),
    "distill.fp8": ("precision", "dtype"),
    "distill.temperature": ("kd_temperature", "temp"),
    "blend.shares": ("data", "sources", "weights", "datasets", "mix", "mixture", "dataset"),
    "prune.parameters": ("params", "size", "target", "sparsity", "ratio", "num_params", "student"),
    "prune.memory_mb": ("memory", "max_memory", "vram"),
    "prune.export_config": ("student_config", "sizes", "shape"),
    "evaluate.suite": ("benchmarks", "benchmark", "evals", "tasks", "metrics"),
    "evaluate.repeats": ("num_repeats", "samples", "n_samples", "seeds"),
    "evaluate.max_new_tokens": ("max_tokens", "max_gen_toks"),
    "layout.tensor_parallel": ("tp", "tp_size", "tensor_model_parallel_size", "tensor_parallel_size"),
    "layout.context_parallel": ("cp", "cp_size", "context_parallel_size", "ulysses", "ring_attention"),
    "layout.nodes": ("num_nodes", "nnodes", "nodes"),
    "layout.gpus_per_node": (
        "gpus",
        "num_gpus",
        "gpus_per_node",
        "ntasks_per_node",
        "devices",
        "nproc_per_node",
        "ngpus",
    ),
    "layout.gpu": ("gpu_type", "device", "accelerator"),
    "layout.recompute": ("recomputation", "activation_checkpointing", "gradient_checkpointing"),
    "track": ("tracker", "wandb", "tensorboard", "mlflow", "logger", "logging", "report_to"),
    "runs": ("output", "out", "output_dir", "run_dir", "outdir", "results", "folder", "runs_dir"),
    "teacher": ("model", "base_model", "teacher_model", "checkpoint", "model_name_or_path"),
    "seed": ("random_seed", "rng"),
    "executor.account": ("account",),
    "executor.partition": ("partition", "queue"),
    "executor.time": ("time", "walltime", "time_limit"),
    "executor.container_image": ("image", "container"),
    "executor.container_mounts": ("mounts", "volumes", "binds"),
    "executor.env_vars": ("env", "environment", "environ"),
    "executor.parallel_steps": ("jobs", "workers", "parallel"),
}
"""What a setting is called elsewhere."""
SENTENCES = {
    "epochs": "How often a source repeats follows from its share and from distill.milestones: --dryrun shows it.",
    "epoch": "How often a source repeats follows from its share and from distill.milestones: --dryrun shows it.",
    "name": "--name names a run.",
    "dryrun": "Say --dryrun.",
    "until": "Say --until STEP.",
    "active_params": "Of a dense model all parameters are active: say prune.parameters.",
    "active_parameters": "Of a dense model all parameters are active: say prune.parameters.",
    "resume": "The same command goes on where a run was cut.",
}
"""What to say where no setting is meant."""
UNSAID = ("blend.provenance", "blend.sources")
"""What a recipe says, and no command is meant to."""
MOST = 24
"""Names that are listed where none is near."""
SURE = 0.9
"""Share of letters that a slip anywhere in a dotted name leaves alone."""


def hint_for(key: str, names: Iterable[str]) -> str:
    """A hint that follows the refusal of the setting `key`, of those in `names`; empty where nothing would help."""
    known = sorted(name for name in set(names) if not name.startswith(UNSAID))
    group, _, leaf = key.strip().lower().replace("-", "_").rpartition(".")
    within = [name for name in known if name.startswith(f"{group}.")] if group else []
    meant = list(_called_so(leaf, group, known))
    same_group = [name for name in meant if name.rpartition(".")[0] == group]
    if near := next(iter(same_group), slip_of(key, known, alike=SURE)):
        return f"Did you mean '{near}'?"
    if not within and leaf in SENTENCES:
        return SENTENCES[leaf]
    if meant:
        return f"Did you mean '{meant[0]}'?"
    if leaf in SENTENCES:
        return SENTENCES[leaf]
    for some in (within, [] if within else known):
        leaves = {name.rpartition(".")[2]: name for name in reversed(some)}
        if near := slip_of(leaf, list(leaves)):
            return f"Did you mean '{leaves[near]}'?"
    inside = within or [name for name in known if name.startswith(f"{key}.")]
    if inside:
        depth = (group if within else key).count(".") + 2
        parts = dict.fromkeys(".".join(name.split(".")[:depth]) for name in inside)
        return nearest("", parts, most=MOST) if len(parts) <= MOST else ""
    groups = dict.fromkeys(name.partition(".")[0] for name in known)
    return f"Settings begin with {', '.join(groups)}." if len(groups) > 1 else ""


def _called_so(leaf: str, group: str, known: list[str]) -> Iterable[str]:
    """Settings whose last word is `leaf`, then those that are called so elsewhere."""
    for name in known:
        if name.rpartition(".")[2] == leaf:
            yield name
    for name, aliases in ALIASES.items():
        # A command's settings and its executor's are known apart.
        other = name.startswith("executor.") if not group else group == "executor" and not name.startswith("executor.")
        if leaf in aliases and (name in known or other):
            yield name
        elif leaf in aliases and any(one.startswith(f"{name}.") for one in known):
            yield f"{name}.SOURCE"
