"""Puts a run's checkpoint with its card on the Hugging Face hub: `nemo-run push RUN --milestone M --to org/name`.

    parcel = pack(find("distill_v1v3-full", runs=Path("runs")), milestone="80B")
    parcel.files                        # name on the hub -> file here or the card's text
    parcel.send("org/name", private=True)

All files arrive in one commit, or none. What the hub has already, of an upload that was cut, is not sent again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from nemo_distill.errors import PassingError, UserError
from nemo_distill.outcome.card import FILE, card_of
from nemo_distill.run.manifest import Run
from nemo_distill.run.step import why_damaged


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A checkpoint with its card, ready to be sent."""

    title: str
    """Name of the run and title of the checkpoint."""
    files: Mapping[str, Path | bytes]
    """What lies where on the hub."""

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: len(f) if isinstance(f, bytes) else f.stat().st_size for name, f in self.files.items()}

    def send(self, repository: str, *, private: bool) -> str:
        """Make the repository where there is none, send all, and return the commit's address.

        Raises `UserError` for what the hub refuses, and when it does not answer.
        """
        api = HfApi()
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=file if isinstance(file, bytes) else str(file))
            for name, file in self.files.items()
        ]
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.create_commit(repository, operations, commit_message=f"{self.title} of nemo-distill")
        except LocalTokenNotFoundError:
            raise UserError(f"{api.endpoint} wants to know who you are: hf auth login, or HF_TOKEN.") from None
        except HfHubHTTPError as error:
            if error.response.status_code == 401:
                raise UserError(f"{api.endpoint} takes no such token: hf auth login, or HF_TOKEN.") from None
            kind = PassingError if error.response.status_code >= 500 else UserError
            raise kind(f"{api.endpoint} refused {repository}: {_first_line(error)}.") from None
        except (HTTPError, OSError) as error:
            raise PassingError(
                f"{api.endpoint} could not be reached ({_first_line(error)}), and {repository} has nothing of this: "
                "the same command goes on."
            ) from None
        return done.commit_url


def pack(run: Run, **chosen: Any) -> Parcel:
    """The exported checkpoint of a milestone, by default where to stop, and its card, as `chosen` by `card_of`.

    Raises `UserError` for a run without report, a checkpoint that there is not, and one that is damaged.
    """
    card = card_of(run, **chosen)
    export = run.specs[card.step]
    if not export.done:
        raise UserError(f"{export.name} of {run.name} is not done: give the run's command again.")
    if damaged := why_damaged(f"the output of {export.name}", export.folder, again="give the run's command again"):
        raise UserError(damaged)
    folder = export.folder / "hf"
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return Parcel(title=f"{run.name} {card.title}", files={**files, FILE: card.text.encode()})


def check_repository(name: str) -> None:
    """Raise `UserError` for what is no repository of a user or an organisation."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--to '{name}' is no repository: {_first_line(error).rstrip('.')}.") from None
    if name.count("/") != 1:
        raise UserError(f"--to '{name}' is no repository: say whose it is, as in ORG/{name or 'NAME'}.")


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
