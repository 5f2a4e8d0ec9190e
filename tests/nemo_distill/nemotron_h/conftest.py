"""Transformers by itself, for what compares a model with it."""

import pytest

from benchmarks.in_transformers import InTransformers


@pytest.fixture(scope="session")
def in_transformers():
    """Transformers in a process of its own."""
    with InTransformers() as theirs:
        yield theirs
