"""What all tests share: Ctrl-C that children hear, and tests of GPU code skipped where there is no GPU."""

import signal

import pytest

# A shell starts what it runs in the background with SIGINT ignored, and so are the children's.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
