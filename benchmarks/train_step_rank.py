"""One rank of `train_step.py`, whose ranks torchrun starts: trains with a layout and says what it took."""

import dataclasses
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from train_step import SETTINGS, Layout, note

POLL_SECONDS = 0.1


def main(record: dict[str, Any]) -> None:
    """Import, wait, train, say."""
    started, folder = float(os.environ["STARTED"]), Path(record["folder"])
    from nemo_distill import backends

    backend = backends.prepared()
    imported = time.time()
    import torch

    from nemo_distill.backends.nemo import trainer
    from nemo_distill.compat.device import on_gpu
    from nemo_distill.config.settings import Health
    from nemo_distill.kd.options import Options
    from nemo_distill.make_teacher import SHAPE as DEBUG
    from nemo_distill.nemotron_h.model import Runtime
    from nemo_distill.nemotron_h.shape import NANO_7B_PRUNED, NANO_9B_V2
    from nemo_distill.preflight.iterations import TOKENIZER, Trial, write_tokens
    from nemo_distill.run.ranks import Ranks
    from nemo_distill.train.autotuning import Autotuning
    from nemo_distill.train.course import Course
    from nemo_distill.train.events import Iteration, Listener, View
    from nemo_distill.train.health_gate import HealthGate

    class Clock(Listener):
        """When what was over, of this rank, and the iterations; profiles one behind the last that is measured."""

        def __init__(self, last: int):
            self.last, self.made, self.ends = last, [], []
            self.parts: dict = {}

        def start(self, view: View) -> None:
            super().start(view)
            self.stands = time.time()

        def iteration_done(self, iteration: Iteration) -> None:
            if iteration.number > self.last:
                from breakdown import broken_down, spans_of

                torch.cuda.synchronize()
                self.profiler.__exit__(None, None, None)
                self.parts = broken_down(spans_of(self.profiler.events()))
                return
            self.ends.append(time.perf_counter())
            if len(self.ends) == 1:
                self.first = time.time()
            self.made.append(iteration)
            if ranks.first:
                line = {"number": iteration.number, "loss": iteration.loss, "grad_norm": iteration.grad_norm}
                since = {"seconds": self.ends[-1] - self.ends[-2]} if len(self.ends) > 1 else {}
                note(to, {"layout": layout.name, "event": "iteration", **line, **since, "memory": iteration.memory})
            if iteration.number == self.last and options["breakdown"]:
                from torch.profiler import ProfilerActivity, profile

                activity = ProfilerActivity.CUDA if on_gpu() else ProfilerActivity.CPU
                self.profiler = profile(activities=[activity])
                self.profiler.__enter__()

    layout, options, to = Layout(**record["layout"]), record["options"], Path(record["to"])
    ranks = dataclasses.replace(
        Ranks.here(), tensor_parallel=layout.tensor_parallel, context_parallel=layout.context_parallel
    )
    ranks.agree("go", lambda: _wait_for(folder / "go"))
    begun = time.time()
    study, last = options["shape"] == "study", options["warm_up"] + options["iterations"]
    teacher, student = NANO_9B_V2, NANO_7B_PRUNED
    if not study:
        teacher, student = DEBUG, dataclasses.replace(DEBUG, ffn_hidden_size=384)
    fp8, gpu = layout.fp8 if on_gpu() else "none", on_gpu()
    course = Course(
        max_iterations=last + 1,
        global_batch_size=options["sequences"] * layout.data_parallel,
        micro_batch_size=int(layout.changes.get("micro_batch_size", 1)),
        seq_length=options["seq_length"],
        learning_rate=1e-4,
        min_learning_rate=1e-5,
        warmup_iterations=2,
        weight_decay=0.1,
        clip_grad=1.0,
        seed=1234,
        precision="bf16-mixed" if gpu else "32",
        gradients=layout.changes.get("gradients", "bfloat16") if gpu else "float32",
    )
    layer_spec = "transformer_engine" if gpu else "local"
    trial = Trial(
        iterations=last, course=course, kd={}, intermediate_layers=(), teacher=teacher, student=student,
        layer_spec=layer_spec,
    )  # fmt: skip
    runtime = Runtime(precision=course.precision, layer_spec=layer_spec, seq_length=course.seq_length)
    ranks.agree("tokens", lambda: write_tokens(folder / "data" / "tokens", trial))
    if ranks.first:
        said = {"gpu": torch.cuda.get_device_name() if gpu else None, "ranks": ranks.size, "fp8": fp8}
        note(to, {"layout": layout.name, "event": "setup", **said, "course": dataclasses.asdict(course)})
    _change_strategy(trainer, layout.changes)
    clock = Clock(last)
    fresh = {"runtime": runtime, "tokenizer": TOKENIZER, "seed": course.seed}
    backend.train(
        backends.Training(
            student=backends.Fresh(shape=student, **fresh),
            teacher=backends.Fresh(shape=teacher, **fresh),
            course=course,
            until=last + bool(options["breakdown"]),
            blend=["100.0", str(folder / "data" / "tokens")],
            index_folder=folder / "index",
            folder=folder,
            kd=Options(fp8=fp8),
            recompute=layout.changes.get("recompute", "none"),
            ranks=ranks,
            listeners=[
                *([Autotuning(to / ".tuned")] if gpu else []),
                HealthGate(Health(teacher_loss=30.0), [], vocabulary=teacher.vocab_size, folder=folder),
                clock,
            ],
        )
    )
    memory = ranks.gather("memory", clock.made[-1].memory)
    parts = ranks.gather("breakdown", clock.parts)
    if not ranks.first:
        return
    warm = clock.ends[options["warm_up"] - 1 :] if options["warm_up"] else clock.ends
    note(
        to,
        {
            "layout": layout.name,
            "event": "measured",
            "ranks": ranks.size,
            "fp8": fp8,
            "tokens": course.tokens_per_iteration,
            "teacher": teacher.parameters(),
            "student": student.parameters(),
            "seconds": [after - before for before, after in itertools.pairwise(warm)],
            "losses": [one.loss for one in clock.made],
            "memory": memory,
            "start": {
                "import": imported - started,
                "building": clock.stands - begun,
                "first iteration": clock.first - clock.stands,
            },
        },
    )
    if options["breakdown"]:
        note(to, {"layout": layout.name, "event": "breakdown", "ranks": parts})


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(POLL_SECONDS)


def _change_strategy(trainer, changes: dict[str, str]) -> None:
    """Have the training's strategy made with `changes`."""
    wanted = {name: json.loads(value) for name, value in changes.items() if name not in SETTINGS}
    make = trainer.trainer

    def changed(*given, **named):
        made = make(*given, **named)
        for name, value in wanted.items():
            owner = made.strategy if name == "sequence_parallel" else made.strategy.ddp_config
            assert hasattr(owner, name), name
            setattr(owner, name, value)
        return made

    if wanted:
        trainer.trainer = changed


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
