"""A training run and what listens to it, whichever framework trains: its losses, its health, its checkpoints.

`course` is the whole of a run, `events` what happens in it; `loss_log`, `health_gate`, `checkpoints` and `autotuning`
are listeners. `nemo_distill.backends` trains.
"""
