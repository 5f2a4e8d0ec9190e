"""What a checkpoint's folder lacks, from names, sizes and headers, before anything is run with it.

check_weights("/models/mine")           # UserError: teacher=/models/mine: the checkpoint lacks ...
"""

from pathlib import Path

from evaluator.serve.checkpoint import verify_checkpoint
from nemo_distill.errors import UserError


def check_weights(folder: str) -> None:
    """Raise `UserError` for a teacher's folder that is no whole checkpoint."""
    try:
        verify_checkpoint(Path(folder))
    except ValueError as error:
        raise UserError(f"teacher={folder}: {error}") from None
