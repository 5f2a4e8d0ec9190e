"""Prune and distil Nemotron-H models, one data blend at a time. `nemo-run --help` is the way in."""

__version__ = "0.1.0"
