"""NeMo-Run's experiment, whose records hold no secret."""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import nemo_run as run

from nemo_distill.compat.nemo_run import keep_records_in
from nemo_distill.errors import UserError
from nemo_distill.run.secrets import STARS
from nemo_distill.run.sharing import records_of

QUIET = {
    "clean_mode": True,
    "enable_goodbye_message": False,
    "skip_status_at_exit": True,
    "serialize_metadata_for_scripts": False,
}
"""Arguments of an experiment that leaves it to us to say how it goes."""


_FOLDERS, _FILES = ("", "experiments", "experiments/{run}"), (".slurm_jobs", ".local_jobs.json")
"""What NeMo-Run has of many launches in its folder."""


def keep_records(runs: Path, name: str) -> None:
    """Have NeMo-Run keep the records of the run `name` where `records_of` says, unless NEMORUN_HOME says otherwise.

    Raises `UserError` where what others have put there would have it write elsewhere, or wait, or where they can.
    """
    home = records_of(runs)
    keep_records_in(home)
    if "NEMORUN_HOME" in os.environ:
        return
    if home.parent != runs:
        _check_home(Path.home())
        for folder in (home.parent, home):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            check_own(str(folder))
    kinds = {home / folder.format(run=name): stat.S_ISDIR for folder in _FOLDERS}
    kinds |= {home / file: stat.S_ISREG for file in _FILES}
    for path, is_kind in kinds.items():
        if os.path.lexists(path) and not is_kind(path.lstat().st_mode):
            what = "folder" if is_kind == stat.S_ISDIR else "file"
            raise UserError(f"{path} is no {what}, and NeMo-Run would write there: remove it.")


def check_own(folder: str) -> None:
    """Raise `UserError` where others could change what NeMo-Run writes into `folder`, made just now perhaps."""
    there = os.lstat(folder)
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o022:
        raise UserError(f"{folder} was made by somebody else: give the command again.")


def _check_home(home: Path) -> None:
    """Raise `UserError` where others than root may write this user's home."""
    there = os.stat(home)
    group = stat.S_IWGRP if _called(grp.getgrgid, there.st_gid) != _called(pwd.getpwuid, os.geteuid()) else 0
    if there.st_uid not in (0, os.geteuid()) or there.st_mode & (stat.S_IWOTH | group):
        raise UserError(
            f"others may write your home, {home}, in which the job scripts of a shared runs folder are kept: set "
            "NEMORUN_HOME to a folder that nobody else may write."
        )


def _called(lookup: Callable, number: int) -> str:
    """The name of a user or group; of one that has none its number."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


class Experiment(run.Experiment):
    """`run.Experiment` whose records hold no value of the steps' environment and no copy of the recipe.

    They lie in a folder of their owner's: logs, and on Slurm scripts with the values of the environment.
    """

    def _prepare(self, exist_ok: bool = False) -> None:
        self.make_folder()
        super()._prepare(exist_ok=True)

    def make_folder(self) -> Path:
        """The folder of this experiment's records."""
        os.makedirs(self._exp_dir, mode=0o700, exist_ok=True)
        check_own(self._exp_dir)
        return Path(self._exp_dir)

    def _save_config(self) -> None:
        with _values_hidden([self.executor]):
            super()._save_config()

    def _save_jobs(self) -> None:
        with _values_hidden([job.executor for job in self._jobs]):
            super()._save_jobs()
        # Its copy of `__main__`, which is the recipe where that was started by itself; our tasks are modules.
        Path(self._exp_dir, "__main__.py").unlink(missing_ok=True)


@contextlib.contextmanager
def _values_hidden(executors: Iterable[run.Executor]) -> Iterator[None]:
    """Within the block the executors' environment has names only, and they have no lines for the shell."""
    kept = [(executor, executor.env_vars, getattr(executor, "setup_lines", None)) for executor in executors]
    try:
        for executor, values, lines in kept:
            executor.env_vars = dict.fromkeys(values, STARS)
            if lines is not None:
                executor.setup_lines = None
        yield
    finally:
        for executor, values, lines in kept:
            executor.env_vars = values
            if lines is not None:
                executor.setup_lines = lines
