"""A distillation microbatch at the study's shapes on one GPU: NeMo's path and ours, in turn, in one process.

    python benchmarks/kd_step.py [--seq-length 8192] [--micro-batch-size 1] [--breakdown] [--documents 8]
        [--train 5]

Teacher forward, student forward and backward; random weights, bf16, Transformer Engine's layers. Needs an H100 or H200;
what does not fit its memory is said to. Each line changes one thing more than the line above:

- NeMo: `LogitsKLLoss` on whole logits, squared ReLU as PyTorch differentiates it;
- the loss from hidden states (`nemo_distill.kd.divergence`);
- squared ReLU that keeps its output only (`nemo_distill.nemotron_h.activation`);
- norms in front of linear layers in our own kernels (`nemo_distill.nemotron_h.kernels.norm`);
- Mamba's scan with fewer states in memory, and the gate and norm behind it in one
  (`nemo_distill.nemotron_h.kernels.mixer`);
- the teacher's matrix products in FP8, then the student's too (`nemo_distill.kd.precision`);
- the student's MLP layers computed again in the backward pass, for the memory (`nemo_distill.nemotron_h.model`).

No optimizer runs, but with `--train`: then the last line's model is trained on its one microbatch for so many
iterations, Adam and its float32 weights and moments on the host (84 GB), since no single card has room for them.

With `--documents N` every line is measured again beside steps whose sequences are N documents kept apart
(`distill.reset_at_documents`), which begin at random, at other places in each step; the two kinds take turns.

Medians of `--times` steps after two others, of microbatches that follow another of their iteration: the first, for
which a student in FP8 quantises its weights, takes longer. Rates count 2 FLOPs per parameter and token for a forward
pass and 4 for a backward pass, and stand beside a matrix product of 8192 x 8192 x 8192 measured in the same run.
"""

import argparse
import dataclasses
import datetime
import functools
import gc
import importlib.metadata
import json
import os
import time
from collections.abc import Callable

import torch
from breakdown import broken_down, spans_of
from converted import converted
from gpu_time import in_turn, median

from nemo_distill.compat import device, registry
from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2, Shape

GIB = 2**30
LINES = ("nemo", "hidden", "activation", "norms", "mixer", "fp8-teacher", "fp8-both", "recompute")


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seq-length", type=int, default=8192, help="tokens")
    parser.add_argument("--micro-batch-size", type=int, default=1, help="sequences")
    parser.add_argument("--heads", type=int, help="Mamba heads of the student, in place of the study's 120")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--breakdown", action="store_true", help="of every line's GPU time, by what kernels are for")
    parser.add_argument(
        "--no-gradient-buffer",
        action="store_true",
        help="drop gradients before every step: on 80 GB, 13 GiB of them leave no room for a student in FP8",
    )
    parser.add_argument("--train", type=int, default=0, metavar="ITERATIONS", help="of the last line, with Adam")
    parser.add_argument("--documents", type=int, default=0, metavar="N", help="of each sequence, kept apart")
    parser.add_argument("--json", action="store_true", help="of every line its figures as well")
    parser.add_argument("--lines", default=",".join(LINES), help="which lines are measured, separated by commas")
    options = parser.parse_args()
    if unknown := set(options.lines.split(",")) - set(LINES):
        parser.error(f"there is no line {unknown.pop()!r}; choose from {','.join(LINES)}")
    if not torch.cuda.is_available():
        parser.error("needs a GPU, and there is none here")
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}.items():
        os.environ.setdefault(name, value)
    student = dataclasses.replace(NANO_7B_PRUNED, **({"mamba_num_heads": options.heads} if options.heads else {}))
    bench = Bench(NANO_9B_V2, student, options)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformer_engine", "megatron_core")}
    print(f"{torch.cuda.get_device_name()}, {datetime.date.today()}, {versions}")
    print(f"teacher {bench.teacher_parameters / 1e9:.3f}B, student {bench.student_parameters / 1e9:.3f}B parameters")
    print(f"matrix product: {bench.peak / 1e12:.0f} TFLOP/s in bf16, {bench.peak_fp8 / 1e12:.0f} in FP8\n")
    print("| | ms | tokens/s | TFLOP/s | of the matrix product | peak GiB | loss |\n|---|---|---|---|---|---|---|")
    wanted = options.lines.split(",")
    breakdowns, overheads = {}, []
    for name, title, change in bench.lines():
        change()
        if name in wanted:
            made = bench.measured()
            print(bench.line(title, made), flush=True)
            if options.json and made:
                rates = {"rate": bench.peak, "fp8_rate": bench.peak_fp8, "tokens": bench.tokens}
                print(json.dumps({"line": name, "gpu": torch.cuda.get_device_name(), **made, **rates}), flush=True)
            if options.documents:
                overheads.append(bench.overhead(title))
            if options.breakdown:
                breakdowns[title] = bench.breakdown()
    for title, parts in breakdowns.items():
        print(f"\n{title}, ms of GPU time: " + ", ".join(f"{kind} {ms:.1f}" for kind, ms in parts.items()))
    if overheads:
        print(
            f"\n| {options.documents} documents a sequence | as one, ms | kept apart, ms | ratio |\n|---|---|---|---|"
        )
        print("\n".join(overheads), flush=True)
    bench.loss_alone()
    if options.train:
        bench.train(options.train)


class Bench:
    """Both models, and a step that trains on one random microbatch."""

    def __init__(self, teacher: Shape, student: Shape, options: argparse.Namespace):
        registry.prepare()
        from megatron.core import parallel_state
        from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

        from nemo_distill.backends.nemo.model import config
        from nemo_distill.nemotron_h.model import Runtime

        self.options = options
        self.tokens = options.seq_length * options.micro_batch_size
        torch.cuda.set_device(0)
        torch.distributed.init_process_group("nccl")
        parallel_state.initialize_model_parallel()
        model_parallel_cuda_manual_seed(1)
        self.peak = self._rate(torch.bfloat16)
        self.peak_fp8 = self._rate(torch.float8_e4m3fn)
        runtime = Runtime(precision="bf16-mixed", layer_spec="transformer_engine", seq_length=options.seq_length)

        def built(shape: Shape):
            return config(shape, runtime).configure_model(tokenizer=None).cuda()

        made = built(student)
        self.student_parameters = sum(weight.numel() for weight in made.parameters())
        self.model = converted(made, lambda: built(teacher))
        self.model.train()
        self.teacher_parameters = sum(weight.numel() for weight in self.model.teacher_model.parameters())
        draw = torch.Generator("cuda").manual_seed(0)
        size = (options.micro_batch_size, options.seq_length)
        self.batch = torch.randint(0, student.vocab_size, size, device="cuda", generator=draw)
        self.mask = torch.ones(size, device="cuda")
        self.reduction = None

    def lines(self) -> list[tuple[str, str, Callable[[], None]]]:
        """Name, title and the change to the model of every line, each to be made after those before."""
        from nemo_distill.backends.nemo.distillation import fuse_loss
        from nemo_distill.kd import precision
        from nemo_distill.kd.options import Options
        from nemo_distill.nemotron_h.activation import squared_relu
        from nemo_distill.nemotron_h.kernels import mixer, norm
        from nemo_distill.nemotron_h.model import recompute_mlp

        def activation(function):
            for module in self.model.modules():
                if hasattr(module, "linear_fc1"):
                    module.activation_func = function

        def hidden():
            fuse_loss(self.model, Options())
            self.reduction = None

        return [
            ("nemo", "NeMo", lambda: activation(lambda x: torch.pow(torch.relu(x), 2))),
            ("hidden", "+ loss from hidden states", hidden),
            ("activation", "+ squared ReLU from its output", lambda: activation(squared_relu)),
            ("norms", "+ our own norms", norm.install),
            ("mixer", "+ our own Mamba mixer", mixer.install),
            ("fp8-teacher", "+ teacher in FP8", lambda: precision.teacher_in_fp8(self.model.teacher_model)),
            ("fp8-both", "+ student in FP8", lambda: precision.student_in_fp8(self.model)),
            ("recompute", "+ MLP layers computed again", lambda: recompute_mlp(self.model)),
        ]

    def step(self) -> torch.Tensor:
        """Gradients of a microbatch, as NeMo's trainer takes them."""
        from nemo_distill.backends.nemo.distillation import loss_reduction

        if self.reduction is None:
            self.reduction = loss_reduction(self.model)
        positions = torch.arange(self.batch.shape[1], device="cuda").expand_as(self.batch)
        output = self.model(self.batch, positions, None, labels=self.batch)
        loss, _ = self.reduction.forward({"loss_mask": self.mask, "labels": self.batch}, output)
        loss.backward()
        return loss.detach()

    def measured(self) -> dict | None:
        """Median seconds of a step, its loss, and peak memory in bytes; None where it does not fit."""
        self._clear()
        try:
            self.step()  # in which kernels are tuned
            device.release_local_memory()
            self._clear()
            torch.cuda.reset_peak_memory_stats()
            seconds, loss = self._median(self.step)
        except torch.OutOfMemoryError:
            self._clear()
            return None
        return {"seconds": seconds, "loss": loss.item(), "memory": torch.cuda.max_memory_allocated()}

    def line(self, title: str, made: dict | None) -> str:
        """A row of the table."""
        if made is None:
            return f"| {title} | does not fit {torch.cuda.mem_get_info()[1] / GIB:.0f} GiB | | | | | |"
        seconds = made["seconds"]
        rate = (2 * self.teacher_parameters + 6 * self.student_parameters) * self.tokens / seconds
        return (
            f"| {title} | {1e3 * seconds:.0f} | {self.tokens / seconds:,.0f} | {rate / 1e12:.0f} | "
            f"{rate / self.peak:.0%} | {made['memory'] / GIB:.1f} | {made['loss']:.5f} |"
        )

    def overhead(self, title: str) -> str:
        """A row of the table of documents kept apart."""
        from nemo_distill.nemotron_h import documents

        documents.install()
        rows, length = self.batch.shape
        draw = torch.Generator().manual_seed(0)

        def kept_apart():
            with documents.kept_apart(documents.Documents.of(starts.pop(), length=length)):
                self.step()

        def begins() -> torch.Tensor:
            inside = 1 + torch.randperm(length - 1, generator=draw)[: self.options.documents - 1].sort().values
            return torch.cat([torch.zeros(1, dtype=inside.dtype), inside]).cuda()

        starts = [[begins() for _ in range(rows)] for _ in range(2 + self.options.times)]
        self._clear()
        try:
            as_one, apart = in_turn([self.step, kept_apart], self.options.times, before=self._drop_gradients)
        except torch.OutOfMemoryError:
            self._clear()
            return f"| {title} | does not fit | | |"
        return f"| {title} | {1e3 * as_one:.1f} | {1e3 * apart:.1f} | {apart / as_one:.4f} |"

    def breakdown(self) -> dict[str, float]:
        """Milliseconds of a step's kernels by what they are for, most first, and how long the GPU waited for work."""
        from torch.profiler import ProfilerActivity, profile

        try:
            self._drop_gradients()
            with profile(activities=[ProfilerActivity.CUDA]) as profiled:
                self.step()
                torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            self._clear()
            return {}
        found = broken_down(spans_of(profiled.events()))
        return {**found["kinds"], "waiting": found["waiting"]}

    def loss_alone(self) -> None:
        """The loss and its gradients without the models, beside the matrix products in it."""
        from nemo_distill.kd.divergence import masked_divergence

        student, teacher = self.model.output_layer.weight, self.model.teacher_model.output_layer.weight.detach()
        self._clear()
        draw = torch.Generator("cuda").manual_seed(0)
        hidden, target = (
            torch.randn(self.tokens, weight.shape[1], generator=draw, device="cuda", dtype=torch.bfloat16)
            for weight in (student, teacher)
        )
        hidden.requires_grad_()
        mask = torch.ones(self.tokens, device="cuda")

        def whole():
            masked_divergence(hidden, student, target, teacher, mask).backward()
            hidden.grad = student.grad = None

        def products():
            with torch.no_grad():
                logits = hidden @ student.t()
                _ = target @ teacher.t()
                _ = logits @ student
                _ = logits.t() @ hidden

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds, _ = self._median(whole)
        extra = (torch.cuda.max_memory_allocated() - before) / GIB
        gradients = 2 * (hidden.numel() + student.numel()) / GIB
        alone, _ = self._median(products)
        print(
            f"\nloss alone: {1e3 * seconds:.1f} ms, of which its four matrix products {1e3 * alone:.1f} ms; "
            f"{extra:.2f} GiB, of which its two gradients {gradients:.2f} GiB"
        )

    def train(self, iterations: int) -> None:
        """Adam's iterations on the one microbatch, its state on the host, and how the loss falls."""
        from megatron.core.optimizer.cpu_offloading.hybrid_optimizer import HybridDeviceOptimizer

        self._clear()
        optimizer = HybridDeviceOptimizer(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            offload_fraction=1.0,
            cpu_optimizer_cls=functools.partial(torch.optim.AdamW, fused=True),
            param_update_in_fp32=True,
            lr=1e-4,
            betas=(0.9, 0.95),
            weight_decay=0.1,
        )
        torch.cuda.reset_peak_memory_stats()
        print("\n| iteration | loss | forward and backward, s | Adam on the host, s | peak GiB |\n" + "|---" * 5 + "|")
        for iteration in range(1, iterations + 1):
            self.model.set_is_first_microbatch()  # as Megatron's schedules do: FP8 weights are quantised anew
            begin = time.perf_counter()
            loss = self.step().item()
            torch.cuda.synchronize()
            middle = time.perf_counter()
            optimizer.step()
            torch.cuda.synchronize()
            end = time.perf_counter()
            self.model.zero_grad(set_to_none=True)
            peak = torch.cuda.max_memory_allocated() / GIB
            print(f"| {iteration} | {loss:.5f} | {middle - begin:.2f} | {end - middle:.2f} | {peak:.1f} |", flush=True)

    def _median(self, call: Callable):
        return median(call, self.options.times, before=self._drop_gradients)

    def _drop_gradients(self) -> None:
        if self.options.no_gradient_buffer and hasattr(self, "model"):
            self.model.zero_grad(set_to_none=True)

    def _rate(self, dtype: torch.dtype) -> float:
        """FLOP/s of a large matrix product."""
        size = 8192
        left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16).to(dtype) for _ in range(2))
        scale = torch.ones((), device="cuda")

        def product():
            if dtype == torch.bfloat16:
                return left @ right
            return torch._scaled_mm(left, right.t(), scale, scale, out_dtype=torch.bfloat16, use_fast_accum=True)

        seconds, _ = self._median(product)
        return 2 * size**3 / seconds

    def _clear(self) -> None:
        self.model.zero_grad(set_to_none=True)
        for layer in (self.model.output_layer, self.model.teacher_model.output_layer):
            layer._intermediate_output = None
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
