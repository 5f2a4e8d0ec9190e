"""One process that has imported NeMo, for all tests of a session: the steps that they start are forked from it."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from nemo_distill.launch.local.executor import made
from nemo_distill.run.forkserver import imports_of, serving

STEPS = ("import_teacher", "prune", "index", "distill", "export")
HERE = Path(__file__).parent / "nemo_distill"
"""Where the modules of steps for tests are."""
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "x",
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    **made().env_vars,
    "COLUMNS": "160",
    "NEMORUN_HOME": tempfile.mkdtemp(prefix="nemo-run-"),
}
"""As a command starts its steps, and of commands that are given it, so that all their steps can be forked."""
atexit.register(shutil.rmtree, ENVIRONMENT["NEMORUN_HOME"], ignore_errors=True)


@functools.cache
def forks() -> dict[str, str]:
    """The variables by which steps, started with `ENVIRONMENT`, find the process."""
    wanted = dict.fromkeys(name for step in STEPS for name in imports_of(f"nemo_distill.steps.{step}"))
    server = serving(tuple(wanted), ENVIRONMENT)
    variables = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return variables
