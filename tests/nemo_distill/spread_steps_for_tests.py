"""The step of `steps_for_tests`, spread over the ranks of a layout as a segment of the distillation is."""

from steps_for_tests import main

__all__ = ["main"]
VERSION = 1
MANY_RANKS = True
