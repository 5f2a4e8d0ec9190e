"""Imports everything of this backend, ahead of its use (`backends.prepared`)."""

from nemo_distill.backends.nemo import indices, model, trainer

__all__ = ["indices", "model", "trainer"]
