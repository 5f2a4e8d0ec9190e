"""What a run shows elsewhere while it goes on: TensorBoard's files, Weights & Biases, MLflow.

A run is one tracked run: its segments, requeues and milestones append to it, and what a tracker missed while it was
down is sent later. A process beside the first rank does it, so a tracker that hangs or fails costs the training
nothing (`nemo_distill.track.follow`).
"""
