from pathlib import Path

import pytest

import nemo_distill


@pytest.fixture
def tokenizer_folder() -> Path:
    """Any tokenizer will do where only tensors are compared: the debug world's."""
    return Path(nemo_distill.__file__).parent / "debug" / "teacher"
