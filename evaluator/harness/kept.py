"""Keeps every answer of a served model as it comes, so that an evaluation which was cut asks only what is missing.

    with keeping(server, folder / KEPT, model_id="80B-0123456789ab", by={"vllm": "0.23.0"}, probed=probed) as kept:
        requests.post(kept.url, json=body, headers=kept.headers)      # asked of `server`, or known already

It stands between whoever asks and the server, for our own tasks and for every harness alike, and knows a question by
what is sent: the whole body, which holds the seed of the answer. A body that is sent several times has several answers,
each of which is given out once. What is kept is an answer as it came, whole; what was refused, broken off or is no
answer is not. A line that was cut, as the last one of a process that was killed may be, is left out.

Answers of two models are never mixed. The file begins with who answers: what it is served as, by which version with
which options, and its log-probabilities of eight fixed texts (`evaluator.serve.probe`), which a server that is started
anew has to have, too. A reply in another model's name ends the evaluation.
"""

import contextlib
import dataclasses
import hashlib
import hmac
import json
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from evaluator.harness.asking import is_answer
from evaluator.harness.gateway import LARGEST_REQUEST, PASSED_BACK, in_thread
from evaluator.serve.probe import check_alike
from evaluator.serve.server import HOST, Server

KEPT = "kept.jsonl"
"""Answers of an evaluation that has not ended, in its folder."""
CHAT = "/v1/chat/completions"
PATHS = (CHAT, "/v1/completions")
"""What can be asked for; what is said besides is said of the first."""
MISDIRECTED = 421
"""Status of a reply in another model's name; it is not asked again."""
logger = logging.getLogger(__name__)


class Answers:
    """The answers in a file, each to be given out once, and those that come.

    They stay in the file: a suite's are hundreds of megabytes.
    """

    def __init__(self, file: Path):
        """Reads where in `file` which answers are, if there are any."""
        self.head: dict[str, Any] = {}
        """What the file begins with: who answered."""
        self._left: dict[str, deque[tuple[int, int]]] = defaultdict(deque)
        self._end = 0
        self._number = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with open(self._number, "rb", closefd=False) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError, AttributeError):
                    self._place(json.loads(line), len(line))
                self._end += len(line)

    def _place(self, record: dict, length: int) -> None:
        if "head" in record:
            self.head = dict(record["head"])
        elif is_answer(record["reply"].encode()):
            self._left[record["key"]].append((self._end, length))

    @property
    def left(self) -> int:
        """Number of answers that have not been given out."""
        return sum(map(len, self._left.values()))

    def begin(self, head: Mapping[str, Any]) -> None:
        """Have new answers follow those that there are; where nobody knows whose these are, begin anew with `head`."""
        if self.head:
            os.ftruncate(self._number, self._end)  # a line that was cut would have the next one in it
            return
        os.ftruncate(self._number, 0)
        self._left.clear()
        self._write({"head": dict(head)})

    def close(self) -> None:
        """Close the file."""
        os.close(self._number)

    def take(self, key: str) -> str | None:
        """One of the answers to the request `key` that have not been given out; None where there is none."""
        left = self._left.get(key)
        if not left:
            return None
        start, length = left.popleft()
        return json.loads(os.pread(self._number, length, start))["reply"]

    def keep(self, key: str, reply: str) -> None:
        """Write an answer down."""
        self._write({"key": key, "reply": reply})

    def _write(self, record: dict) -> None:
        line = (json.dumps(record) + "\n").encode()
        while line:
            line = line[os.write(self._number, line) :]


def key_of(path: str, body: bytes) -> str:
    """What a request is known by: its path and all that it says, in whatever order.

    >>> key_of("/v1/completions", b'{"a": 1, "b": 2}') == key_of("/v1/completions", b'{"b":2,"a":1}')
    True
    """
    with contextlib.suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    return hashlib.sha256(path.encode() + b"\n" + body).hexdigest()


@contextmanager
def keeping(
    server: Server, file: Path, *, model_id: str, by: Mapping[str, Any], probed: Sequence[Sequence[float]]
) -> Iterator[Server]:
    """A server in front of `server`, with the same token, that gives out what `file` holds and keeps what comes.

    `by` is what else the model answers by, plain JSON data; what it calls `request` is said in every chat. Raises
    ValueError where what is kept is another model's.
    """
    answers, told = Answers(file), {"model": model_id, **by}
    try:
        if answers.head:
            _check_same(answers.head, told, probed, file)
            logger.info("%s answers are kept; what is missing is asked.", f"{answers.left:,}")
        answers.begin({**told, "probed": list(map(list, probed))})
        runners: list[web.AppRunner] = []

        def site(runner: web.AppRunner) -> web.BaseSite:
            runners.append(runner)
            return web.TCPSite(runner, HOST, 0, backlog=2048)

        def application(session: aiohttp.ClientSession) -> web.Application:
            return _application(session, server, answers, model_id, by.get("request") or {})

        end = in_thread(application, site, name="kept answers")
        try:
            yield dataclasses.replace(server, root=f"http://{HOST}:{runners[0].addresses[0][1]}")
        finally:
            end()
    finally:
        answers.close()


def _check_same(head: Mapping[str, Any], told: Mapping[str, Any], probed: Sequence, file: Path) -> None:
    """Raise ValueError where what is kept in `file` is not of the model that is served now."""
    anew = f"remove '{file}' to have all questions asked again"
    if {name: value for name, value in head.items() if name != "probed"} != told:
        raise ValueError(f"answers by {_named(head)} are kept, and it is {_named(told)} that is asked now: {anew}.")
    try:
        check_alike(head["probed"], probed, "the model that answered before", "the one that is served now")
    except ValueError as error:
        raise ValueError(f"the answers that are kept are another model's: {str(error).rstrip('.')}; {anew}.") from None


def _named(told: Mapping[str, Any]) -> str:
    """Who answers, in a sentence."""
    return ", ".join(f"{name} {value}" for name, value in told.items() if name != "probed")


def with_said(body: bytes, said: Mapping[str, Any]) -> bytes:
    """A chat's `body` with what is `said` besides where it says nothing else.

    >>> with_said(b'{"seed": 1, "n": 2}', {"n": 1, "skip": False})
    b'{"n": 2, "skip": false, "seed": 1}'
    """
    try:
        asked = json.loads(body)
        return json.dumps({**said, **asked}).encode()
    except (ValueError, RecursionError, TypeError):
        return body  # which the server refuses


def _application(
    session: aiohttp.ClientSession, server: Server, answers: Answers, model_id: str, said: Mapping[str, Any]
) -> web.Application:
    count, waiting = [0], [0]
    since = [0.0]  # when the last answer came or, where nothing was asked then, the first of those that wait was asked

    @web.middleware
    async def only_with_the_token(request: web.Request, handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="replace")
        if not hmac.compare_digest(given, server.headers["Authorization"].encode()):
            return web.json_response({"error": {"message": "the request brings no token of this server."}}, status=401)
        return await handler(request)

    async def ask(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        body = with_said(body, said) if request.path == CHAT else body
        key = key_of(request.path, body)
        if (known := answers.take(key)) is not None:
            count[0] += 1
            return web.Response(text=known, content_type="application/json")
        sent = {"Content-Type": request.content_type, **server.headers}
        since[0] = since[0] if waiting[0] else time.monotonic()
        waiting[0] += 1
        try:
            url = server.root + request.path
            async with session.post(url, data=body, headers=sent, allow_redirects=False) as reply:
                replied = await reply.read()
                status, headers = reply.status, reply.headers
        except aiohttp.ClientError:  # who asked sees the connection end, as it would without this
            assert request.transport
            request.transport.abort()
            return web.Response()
        finally:
            waiting[0] -= 1
        since[0] = time.monotonic()
        if status == 200 and is_answer(replied):
            if (name := json.loads(replied).get("model")) != model_id:
                why = f"the server answers as {str(name)[:60]!r}, not as '{model_id}'."
                return web.json_response({"error": {"message": why}}, status=MISDIRECTED)
            answers.keep(key, replied.decode("utf-8", errors="replace"))
            count[0] += 1
        back = {name: headers[name] for name in PASSED_BACK if name in headers}
        return web.Response(status=status, body=replied, headers=back)

    async def health(_: web.Request) -> web.Response:
        silent = time.monotonic() - since[0] if waiting[0] else 0.0
        return web.json_response({"status": "ok", "answered": count[0], "silent": silent})

    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[only_with_the_token])
    for path in PATHS:
        app.router.add_post(path, ask)
    app.router.add_get("/health", health)
    return app
