"""Imports everything of this backend, for a process that steps are forked from (`backends.preload`)."""

from nemo_distill.backends.nemo import indices, model, trainer

__all__ = ["indices", "model", "trainer"]
