"""A step with a GPU, on the CPU: notes which it was given, and from when to when it had them."""

import json
import os
import time

VERSION = 1
GPUS = 1
MORE_GPUS = True


def main(spec) -> None:
    """Config: `seconds`."""
    begun = time.time()
    notes = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "begun": begun}
    with open(spec.runs.parent / "notes.jsonl", "a") as file:
        file.write(json.dumps({"step": spec.name, "runs": spec.runs.name, **notes}) + "\n")
    time.sleep(spec.config["seconds"])
    (spec.folder / "note.json").write_text(json.dumps({**notes, "ended": time.time()}))
