"""How many ids a tokenizer uses, from its files alone: the rows that a model's embedding has to have.

>>> from pathlib import Path
>>> import nemo_distill.debug
>>> ids_used(Path(nemo_distill.debug.__file__).parent / "teacher")
1024
"""

import json
from pathlib import Path

from nemo_distill.errors import UserError

FILE = "tokenizer.json"
_POINTER = b"version https://git-lfs"


def refuse_pointer(path: Path, content: bytes) -> None:
    """Raise `UserError` where a file's `content` is what Git LFS puts in the place of a large one."""
    if content.startswith(_POINTER):
        raise UserError(f"'{path}' is a pointer of Git LFS, not the file itself: run `git lfs pull` in its folder.")


def ids_used(folder: Path) -> int:
    """One more than the largest id of the tokenizer in `folder`."""
    path = Path(folder) / FILE
    try:
        content = path.read_bytes()
        refuse_pointer(path, content)
        record = json.loads(content.decode("utf-8"))
        known = record["model"]["vocab"]
        ids = known.values() if isinstance(known, dict) else range(len(known))
        return 1 + max([*ids, *(token["id"] for token in record.get("added_tokens") or ())], default=-1)
    except FileNotFoundError:
        raise UserError(f"the checkpoint lacks the file '{path}'.") from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is cut short, or no tokenizer ({type(error).__name__}: {error}).") from None


def check_vocabulary(folder: Path, vocab_size: int, what: str) -> None:
    """Raise `UserError` where the tokenizer in `folder` has ids that the embedding of `what` has no row for."""
    used = ids_used(folder)
    if used > vocab_size:
        raise UserError(
            f"{what}: its tokenizer has ids up to {used - 1:,}, and its embedding {vocab_size:,} rows (vocab_size in "
            f"config.json), so that {used - vocab_size:,} tokens have none: they are not of one model."
        )
