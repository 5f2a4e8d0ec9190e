"""Whether what lies elsewhere can be had from this node: sources, the teacher, the judge.

    sources(entries, teacher="nvidia/NVIDIA-Nemotron-Nano-9B-v2", elsewhere=False)
    judge(["MATH-500"], url="http://host:8000/v1", model="judge", key="...")

A gated data set shows its files to everybody and their content to who was let in, so one file of each is asked for
(HTTP HEAD, nothing is fetched), with the token that the environment has.
"""

import functools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.data.entry import Entry
from nemo_distill.data.files import HubFile
from nemo_distill.data.find import find_files
from nemo_distill.data.hub import mirrored
from nemo_distill.data.hub_errors import MIRROR, MODEL, endpoint, refusals
from nemo_distill.data.models import CONFIG, split_revision
from nemo_distill.errors import PassingError, UserError
from nemo_distill.preflight.results import Check

SECONDS = 60
"""How long a judge may take for one token."""


def sources(entries: Sequence[Mapping[str, Any]], *, teacher: str, prepared: bool, elsewhere: bool) -> Check:
    """Whether every source that is still to be read, and the `teacher` on the hub, if there is one, can be had here.

    Args:
        entries: Sources as the config of `prepare` has them.
        teacher: Name on the hub of a teacher that is not imported yet; empty: none.
        prepared: Whether they are tokens already.
        elsewhere: Whether they are read on other nodes than this one.
    """
    found = [] if prepared else [Entry.of(entry) for entry in entries]
    outside = [entry for entry in found if entry.dataset or entry.path]
    if not (outside or teacher):
        made = "They are prepared already." if prepared else "The run makes its own."
        return Check.unchecked("sources", made)
    asking = {entry.name: functools.partial(_ask, entry) for entry in outside}
    if teacher:
        asking["teacher"] = functools.partial(_ask_for_model, teacher)
    problems: dict[str, UserError] = {}
    for name, ask in asking.items():
        try:
            ask()
        except PassingError as error:  # the hub is out of reach, for all others as well
            problems[name] = error
            break
        except UserError as error:
            problems[name] = error
    if problems and elsewhere and all(isinstance(error, PassingError) for error in problems.values()):
        reason = next(iter(problems.values()))
        return Check.unchecked("sources", f"These nodes do not see the hub, and prepare runs on others: {reason}")
    if problems:
        return Check.failed("sources", " ".join(f"{name}: {error}" for name, error in problems.items()))
    return Check.ok(
        "sources", "Each can be had from here, with the token that the job has.", f"{len(asking)} asked for"
    )


def _ask(entry: Entry) -> None:
    """Raise `UserError` where the source cannot be had."""
    found = find_files(entry, {})
    if not found.files:
        raise UserError(f"source {entry.name!r} has no file.")
    file = found.files[0]
    if not isinstance(file, HubFile):
        with file.open() as opened:
            opened.read(1)
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with refusals(file.dataset, file.revision):
        get_hf_file_metadata(
            hf_hub_url(
                file.dataset, file.name, repo_type="dataset", revision=file.revision, endpoint=endpoint()
            )
        )  # fmt: skip


def _ask_for_model(name: str) -> None:
    model, revision = split_revision(name)
    if mirror := os.environ.get(MIRROR):
        mirrored(Path(mirror), model, kind=MODEL)
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with refusals(model, revision, kind=MODEL):
        get_hf_file_metadata(hf_hub_url(model, CONFIG, revision=revision, endpoint=endpoint()))


def judge(titles: Sequence[str], *, url: str, model: str, key: str, unready: str = "") -> Check:
    """Whether the model that judges the benchmarks of these `titles` answers, by one token of it.

    `unready` is the sentence on what the site has not said, empty where it has said all.
    """
    if not titles:
        return Check.unchecked("judge", "No benchmark of the suite is judged by a model.")
    if unready or not (url and model):
        return Check.failed("judge", unready or f"{titles[0]} is judged by a model, and none is named.")
    said = {"model": model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}
    address = f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        request = urllib.request.Request(address, data=json.dumps(said).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            answered = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return Check.failed("judge", f"{url} answers {error.code} {error.reason} for {model}.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check.failed("judge", f"{url} does not answer: {reason}.")
    if not (isinstance(answered, dict) and answered.get("choices")):
        return Check.failed("judge", f"{url} answers, but with no choices of {model}.")
    return Check.ok("judge", f"{model} at {url} answers; it judges {', '.join(titles)}.")
