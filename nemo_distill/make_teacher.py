"""Make the debug world's teacher: corpora, tokenizer, training, a Hugging Face checkpoint.

    python -m nemo_distill.make_teacher --work WORK --to nemo_distill/debug/teacher
    python -m nemo_distill.make_teacher --work WORK --to teachers/middle --size middle      # needs a GPU

What is shipped in ``teacher/`` was made by this script on one H200 in a few minutes; on a CPU it takes hours.
Everything is drawn from `SEED`.  Every stage is the package's own: the corpora of ``corpora.py``, the documents as the
prepare step renders and tokenises them, the model, data and optimizer of the distillation, with plain
cross-entropy in place of a teacher.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_distill.data.documents import with_inline_reasoning
from nemo_distill.debug import corpora, tokenizer
from nemo_distill.nemotron_h.shape import NANO_9B_V2, Shape

SHIPPED = Path(__file__).resolve().parent / "debug" / "teacher"
"""Where the package keeps the teacher."""
SEED = 20251
TOKENIZER_DOCUMENTS_PER_SOURCE = 3_000
SEQ_LENGTH = 256

SHAPE = Shape(
    pattern="M-M*-M*-",
    hidden_size=128,
    ffn_hidden_size=512,
    mamba_num_heads=8,
    mamba_head_dim=32,
    mamba_state_dim=16,
    mamba_num_groups=2,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=32,
    vocab_size=tokenizer.VOCAB_SIZE,
    max_position_embeddings=SEQ_LENGTH,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
"""1.08M parameters in few layers, three of them Mamba: the scan is what takes most of the time on a CPU."""

MIDDLE_SHAPE = dataclasses.replace(
    NANO_9B_V2,
    hidden_size=1280,
    ffn_hidden_size=4480,
    mamba_num_heads=32,
    num_attention_heads=8,
    num_query_groups=4,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
"""0.98B parameters: the layers and the vocabulary of the study's teacher, of which the tokenizer uses the first ids."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A teacher's shape and how it is trained."""

    shape: Shape
    runtime: dict
    """Fields of `nemotron_h.model.Runtime`."""
    iterations: int
    batch: int
    """Sequences per iteration."""
    micro_batch: int
    """Sequences per forward pass."""
    learning_rate: float
    documents: int
    """Of every source."""


SIZES = {
    "debug": Size(
        shape=SHAPE,
        runtime={"precision": "32", "layer_spec": "local", "seq_length": SEQ_LENGTH},
        iterations=2_300,
        batch=128,
        micro_batch=128,
        learning_rate=3e-3,
        documents=20_000,
    ),
    "middle": Size(
        shape=MIDDLE_SHAPE,
        runtime={"precision": "bf16-mixed", "layer_spec": "transformer_engine", "seq_length": 1024},
        iterations=60,
        batch=32,
        micro_batch=16,
        learning_rate=6e-4,
        documents=1_000,
    ),
}

SHARES = {
    "sft-code": 6, "sft-general": 15, "sft-math": 6, "math-v2-part00": 12, "math-v2-part01": 12,
    "competitive-python": 12, "competitive-cpp": 6, "stem": 9, "science-mcq": 6, "science-rqa": 4,
    "instruction-reasoning-on": 7, "instruction-reasoning-off": 5,
}  # fmt: skip
"""Percent of the tokens by source: the study's blend, drawn towards equal shares so that no skill is left thin."""


def texts() -> Iterator[str]:
    """The documents that the tokenizer is trained on, as the prepare step would render them."""
    import jinja2

    template = jinja2.Template(tokenizer.CHAT_TEMPLATE)
    for source in SHARES:
        for row in corpora.documents(source, seed=SEED, count=TOKENIZER_DOCUMENTS_PER_SOURCE):
            if "text" in row:
                yield row["text"].replace("\n", " ")
            else:
                yield template.render(messages=with_inline_reasoning(row["messages"]))


def make_tokenizer(folder: Path) -> None:
    """Train the tokenizer and save it in ``folder`` as Hugging Face files."""
    made = tokenizer.train(texts())
    made.model_max_length = SEQ_LENGTH
    made.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    # transformers 5 writes a class name of its own; this one is known to every version that has fast tokenizers
    config = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(config, indent=1) + "\n")
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


def make_data(work: Path, tokenizer_folder: Path, documents: int) -> dict[str, str]:
    """Write the corpora and tokenise them with the prepare step; returns the prefix of each source's token files."""
    from nemo_distill.data.prepared import read_sources
    from nemo_distill.run.step import Step, place
    from nemo_distill.steps import debug_world, prepare

    counts = dict.fromkeys(SHARES, documents)
    world = Step("world", debug_world.__name__, {"seed": SEED, "documents": counts})
    sources = [
        {"name": name, "field": corpora.STAND_INS[name].field, "files": [f"world:corpora/{name}.jsonl"]}
        for name in SHARES
    ]
    config = {"tokenizer": str(tokenizer_folder), "sources": sources, "max_document_tokens": SEQ_LENGTH}
    specs = place([world, Step("prepare", prepare.__name__, config, upstream=("world",))], runs=work)
    for spec in specs.values():
        spec.folder.mkdir(parents=True, exist_ok=True)
        (debug_world if spec.name == "world" else prepare).main(spec)
    return {name: source["prefix"] for name, source in read_sources(specs["prepare"].folder).items()}


def train(work: Path, tokenizer_folder: Path, prefixes: dict[str, str], size: Size) -> Path:
    """Train the teacher from scratch; returns a file of Megatron's tensors."""
    import torch
    from safetensors.torch import save_file

    from nemo_distill import backends
    from nemo_distill.compat.device import on_gpu
    from nemo_distill.config.blend import megatron_blend
    from nemo_distill.nemotron_h.model import Runtime
    from nemo_distill.train.autotuning import Autotuning
    from nemo_distill.train.course import Course
    from nemo_distill.train.events import Listener
    from nemo_distill.train.loss_log import LossLog

    backend = backends.prepared()
    torch.backends.cuda.matmul.allow_tf32 = True
    runtime = Runtime(**size.runtime)
    course = Course(
        max_iterations=size.iterations, global_batch_size=size.batch, micro_batch_size=size.micro_batch,
        seq_length=runtime.seq_length, learning_rate=size.learning_rate, min_learning_rate=1e-4,
        warmup_iterations=min(100, size.iterations // 2), weight_decay=0.1, clip_grad=1.0, seed=SEED,
        precision=runtime.precision,
    )  # fmt: skip
    weights = work / "weights.safetensors"
    weights.unlink(missing_ok=True)
    (work / "log.jsonl").unlink(missing_ok=True)

    class KeepWeights(Listener):
        """In place of a checkpoint: Megatron cannot save its optimizer where torch's Adam stands in for TE's."""

        def end(self) -> None:
            save_file({name: tensor.cpu().contiguous() for name, tensor in self.view.state().items()}, weights)

    backend.train(
        backends.Training(
            student=backends.Fresh(shape=size.shape, runtime=runtime, tokenizer=tokenizer_folder, seed=SEED),
            course=course,
            until=size.iterations,
            blend=megatron_blend(SHARES, prefixes),
            index_folder=work / "index",
            folder=work,
            listeners=[
                *([Autotuning(work)] if on_gpu() else []),
                LossLog(work / "log.jsonl", course),
                KeepWeights(),
            ],
        )
    )
    return weights


def ship(weights: Path, work: Path, folder: Path, size: Size) -> None:
    """Write config, weights, thinned log, ``made.json`` and checksums beside the tokenizer in ``folder``."""
    from safetensors.torch import load_file

    from nemo_distill.families.checkpoint import write_hf
    from nemo_distill.nemotron_h import mapping

    exported = work / "hf"
    dtype = "float32" if size.runtime["precision"] == "32" else "bfloat16"
    write_hf(exported, size.shape, mapping.to_hf(load_file(weights), size.shape), dtype=dtype, tokenizer=folder)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(exported / name, folder / name)
    lines = (work / "log.jsonl").read_text().splitlines()
    (folder / "log.jsonl").write_text("".join(line + "\n" for line in [*lines[:-1][::10], lines[-1]]))
    made = {"seed": SEED, "iterations": size.iterations, "sequences_per_iteration": size.batch,
            "seq_length": size.runtime["seq_length"], "documents_per_source": size.documents,
            "shares": SHARES, "parameters": size.shape.parameters(),
            "shape": dataclasses.asdict(size.shape), "final_loss": json.loads(lines[-1])["loss"]}  # fmt: skip
    made |= _where()
    (folder / "made.json").write_text(json.dumps(made, indent=1) + "\n")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in ("SHA256SUMS", "README.md"))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text("".join(sums))


def _where() -> dict:
    """The machine and the versions that the weights depend on."""
    import platform
    from importlib import metadata

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    names = ("torch", "nemo_toolkit", "megatron-core", "transformers", "tokenizers")
    return {"device": device, "versions": {name: metadata.version(name) for name in names}}


def main() -> None:
    """Run all of it from the command line."""
    parser = argparse.ArgumentParser(description="Make the debug world's teacher.")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--to", type=Path, required=True, help="where the teacher goes")
    parser.add_argument("--size", choices=SIZES, default="debug")
    parser.add_argument("--iterations", type=int, help="in place of the size's own")
    parser.add_argument("--batch", type=int, help="sequences per iteration, in place of the size's own")
    parser.add_argument("--keep-tokenizer", action="store_true", help="take the tokenizer that is there")
    options = parser.parse_args()
    size = SIZES[options.size]
    batch = options.batch or size.batch
    size = dataclasses.replace(
        size, iterations=options.iterations or size.iterations, batch=batch, micro_batch=min(size.micro_batch, batch)
    )
    work, folder = options.work.resolve(), options.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not options.keep_tokenizer:
        make_tokenizer(folder)
    prefixes = make_data(work, folder, size.documents)
    weights = train(work, folder, prefixes, size)
    ship(weights, work, folder, size)


if __name__ == "__main__":
    main()
