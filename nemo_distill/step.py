"""Runs one step: `python -m nemo_distill.step RUNS/NAME/FINGERPRINT/spec.json` (`nemo_distill.run.process`), or serves
forks of steps (`--serve`, `nemo_distill.run.forkserver`).
"""

import sys

# Nothing is imported before this line, so that a child that multiprocessing spawns, which imports this file again,
# loads nothing.
if __name__ == "__main__":
    from nemo_distill.run import forkserver

    sys.exit(forkserver.serve(sys.argv[2:]) if sys.argv[1] == "--serve" else forkserver.run_step(sys.argv[1:]))
