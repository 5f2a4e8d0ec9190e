"""The same step with two GPUs."""

from gpu_steps_for_tests import main

VERSION = 1
GPUS = 2
__all__ = ["main"]
