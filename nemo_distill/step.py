"""Runs one step: `python -m nemo_distill.step RUNS/NAME/FINGERPRINT/spec.json` (`nemo_distill.run.process`)."""

import sys

# Nothing is imported before this line, so that a child that multiprocessing spawns, which imports this file again,
# loads nothing.
if __name__ == "__main__":
    from nemo_distill.run.process import main

    sys.exit(main(sys.argv[1:]))
