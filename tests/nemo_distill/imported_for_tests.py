"""What a step for tests wants imported ahead; `IMPORTED_FOR_TESTS` says what that leaves behind."""

import os
import threading
import time

import numpy  # noqa: F401

LEAVES = os.environ.get("IMPORTED_FOR_TESTS", "")
os.environ["SET_BY_IMPORT"] = "yes"
if LEAVES == "thread":
    threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
if LEAVES == "error":
    raise ImportError("not on this machine")
