"""What all tests share: Ctrl-C that children hear, small steps, and tests of GPU code skipped where there is no GPU."""

import os
import signal

import pytest

# A shell starts what it runs in the background with SIGINT ignored, and so are the children's.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Modules of small steps, which are not the package's own.
os.environ["NEMO_DISTILL_STEPS"] = ",".join(
    f"{kind}steps_for_tests"
    for kind in ("", "one_rank_", "forked_", "watched_", "gpu_", "wide_gpu_", "going_on_", "ending_")
)


def pytest_collection_modifyitems(items):
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
