"""Writes the folder of a new study: `files/` as they lie, and the data and questions of `sample`.

write_study(Path("my_study"))       # my_study/recipes/balanced.py, my_study/data/facts.parquet, ...
"""

import os
import shutil
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.run.sharing import nearest_there
from nemo_distill.starter import sample

FILES = Path(__file__).parent / "files"
"""What a study begins with, but for its data."""


def write_study(folder: Path) -> None:
    """Write a study into `folder`, which is made; it appears when all of it is there.

    Raises `UserError` where something of that name is, or it cannot be written.
    """
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already, and nothing is written over. Did you mean '{_free(folder)}'?")
    if not (there := nearest_there(folder.parent)).is_dir():
        raise UserError(f"{folder} cannot be written: {there} is no folder.")
    part = folder.with_name(f".{folder.name}.part{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(FILES, part, ignore=shutil.ignore_patterns("__pycache__"))
        sample.write(part)
        part.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _free(folder: Path) -> Path:
    """The first of `folder`_2, `folder`_3, ... that is not there."""
    number = 2
    while os.path.lexists(free := folder.with_name(f"{folder.name}_{number}")):
        number += 1
    return free
