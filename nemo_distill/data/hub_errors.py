"""What the Hugging Face hub refuses, and how it fails, as sentences that say what to do.

with refusals("nvidia/Nemotron-Science-v1"):
    hf_hub_download(...)
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from nemo_distill.errors import PassingError, UserError, nearest

MIRROR = "NEMO_DISTILL_MIRROR"
"""Environment variable: the mirror's folder. Where bytes come from is a site's affair and in no fingerprint."""

DATA_SET, MODEL = "data set", "model"
"""Kinds of repositories."""


def endpoint() -> str | None:
    """Address of the hub that the environment names; None: the public one."""
    return os.environ.get("HF_ENDPOINT")


@contextlib.contextmanager
def refusals(name: str, revision: str | None = None, *, kind: str = DATA_SET) -> Iterator[None]:
    """Turn what `huggingface_hub` raises for the repository `name` into sentences that say what to do."""
    from huggingface_hub import constants, errors, get_token

    from nemo_distill.config.sources import SOURCES

    site = (endpoint() or constants.ENDPOINT).rstrip("/")
    page = f"datasets/{name}" if kind == DATA_SET else name
    try:
        yield
    except errors.GatedRepoError as error:
        state = (
            "the token that is set has no access to it"
            if get_token()
            else "no token is set (HF_TOKEN, or `hf auth login`)"
        )
        raise UserError(
            f"the {kind} {name} is gated and {state}: ask for access at {site}/{page} and set "
            "HF_TOKEN to a token of that account that may read it."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"the {kind} {name} has no revision {revision!r}.") from error
    except errors.EntryNotFoundError as error:
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise UserError(f"the {kind} {name} has no such file any more: {error}.") from error
        raise _unreachable(site, f"the {kind} {name}", error) from error
    except errors.HfHubHTTPError as error:
        # An anonymous client is told 401 for a name that does not exist, so that private names do not leak.
        if not isinstance(error, errors.RepositoryNotFoundError) and error.response.status_code not in (401, 404):
            raise _unreachable(site, f"the {kind} {name}", error) from error
        known = {source.dataset for source in SOURCES.values() if source.dataset} - {name} if kind == DATA_SET else ()
        hint = "" if get_token() else " If it is private, set HF_TOKEN."
        near = f" {nearest(name, known)}" if known else ""
        raise UserError(f"there is no {kind} {name} at {site}.{near}{hint}") from error
    except errors.HFValidationError as error:
        raise UserError(f"{name!r} is no name of a {kind}, which is ORG/NAME.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _unreachable(site, f"the {kind} {name}", error) from error
    except (errors.HTTPError, errors.XetDownloadError, RuntimeError) as error:
        if f"os error {errno.ENOSPC}" in str(error):  # as hf_xet says it, which is written in Rust
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise _unreachable(site, f"the {kind} {name}", error) from error


def _unreachable(site: str, what: str, error: Exception) -> PassingError:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
    return PassingError(
        f"{site} could not be reached for {what} ({reason}): run again to go on, or, where there is no network, set "
        f"{MIRROR} to a folder that holds it as `hf download` leaves it."
    )
