"""Takes back what a refused command has written.

    with undone_if_refused([run.path, *folders]):
        run.save()
        raise UserError("Slurm refused the job")        # the file is again as it was, or gone

Whether Slurm takes a job is known once it has been asked, and by then there are scripts to ask with.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from nemo_distill.errors import UserError
from nemo_distill.run.inside import text_of
from nemo_distill.run.progress import write_atomically
from nemo_distill.run.step import SUCCESS


@contextlib.contextmanager
def undone_if_refused(paths: Iterable[Path]) -> Iterator[None]:
    """On a `UserError` in the block, put the files among `paths` back and remove what was not there before.

    A folder that was there before keeps what it has, and one that a job has finished meanwhile stays.
    """
    before = {path: text for path in paths if (text := _text(path)) is not None}
    new = [path for path in paths if not path.exists()]
    made_in = {above for path in new for above in path.parents if not above.exists()}
    try:
        yield
    except UserError:
        for path, text in before.items():
            if _text(path) != text:
                write_atomically(path, text)
        for path in new:
            if not (path / SUCCESS).exists():
                _remove(path)
        for folder in sorted(made_in, reverse=True):  # the innermost first
            with contextlib.suppress(OSError):  # another command has put something there
                folder.rmdir()
        raise


def _text(path: Path) -> str | None:
    """What a file says; None where it is none that was written here: of a link, say, it would be put back for all to
    read."""
    with contextlib.suppress(OSError, ValueError):
        return text_of(path)
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
