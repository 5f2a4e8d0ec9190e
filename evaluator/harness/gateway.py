"""Leads requests out of the sandbox to one endpoint, and to one path of it only, with a key that stays outside.

    with gateway("http://127.0.0.1:40123/v1/chat/completions", headers=server.headers) as socket:
        ...                                            # POST /v1/chat/completions at `socket` is answered from there

The sandbox has no network: `evaluator.harness.relay` makes a port inside of the socket, a file. What comes through is
posted to that address and nowhere else, whatever path or host it asks for, and of its headers none but the type of its
content is passed on. So neither a harness nor what a model wrote needs, or finds, the token of the served model or the
key of the judge; a judge's requests may also ask for that judge alone.
"""

import asyncio
import json
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from evaluator.harness.apart import ENDPOINT

LARGEST_REQUEST = 2**26
"""Bytes of a request's body."""
PASSED_BACK = ("Content-Type", "Retry-After")
"""Headers of a reply that whoever asked is given."""


@contextmanager
def gateway(url: str, *, headers: Mapping[str, str], model: str = "", proxied: bool = False) -> Iterator[Path]:
    """A socket, in a folder of its own, at which `url` can be asked until the block ends.

    `headers` are sent with every request. `model` is the only one that may be asked for; empty: whichever. What is not
    on this machine may be `proxied`, as the environment says.
    """
    with tempfile.TemporaryDirectory(prefix=ENDPOINT) as folder:  # short: a socket's path has at most 107 bytes
        path = Path(folder) / "socket"

        def application(session: aiohttp.ClientSession) -> web.Application:
            app = web.Application(client_max_size=LARGEST_REQUEST)
            app.router.add_post(urllib.parse.urlsplit(url).path or "/", _forwarding(session, url, headers, model))
            return app

        def site(runner: web.AppRunner) -> web.BaseSite:
            return web.UnixSite(runner, str(path))

        try:
            end = in_thread(application, site, name="gateway", proxied=proxied)
        except OSError as error:
            raise RuntimeError(f"the sandbox gets no way to '{url}': {error}") from error
        try:
            yield path
        finally:
            end()


def in_thread(
    application: Callable[[aiohttp.ClientSession], web.Application],
    site: Callable[[web.AppRunner], web.BaseSite],
    *,
    name: str,
    proxied: bool = False,
) -> Callable[[], None]:
    """Serve `application` at `site` in a thread of its own; returns, once it listens, what ends it.

    The session, with which it asks elsewhere, waits as long as whoever asks. Raises what keeps it from listening.
    """
    listening = threading.Event()
    ends: list[Callable[[], object]] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        unlimited = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=unlimited, trust_env=proxied) as session:
            runner = web.AppRunner(application(session), access_log=None, shutdown_timeout=0)
            await runner.setup()
            await site(runner).start()
            ends.append(lambda: loop.call_soon_threadsafe(ended.set))
            listening.set()
            await ended.wait()
            await runner.cleanup()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            listening.set()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    listening.wait()
    if failed:
        raise failed[0]

    def end() -> None:
        ends[0]()
        thread.join()

    return end


def _forwarding(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], model: str):
    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if model and (asked := _model_of(body)) != model:
            why = f"the model to be asked here is {model!r}, not {str(asked)[:60]!r}."
            return web.json_response({"error": {"message": why, "type": "invalid_request_error"}}, status=403)
        sent = {"Content-Type": request.content_type, **headers}
        try:
            async with session.post(url, data=body, headers=sent, allow_redirects=False) as reply:
                back = {name: reply.headers[name] for name in PASSED_BACK if name in reply.headers}
                return web.Response(status=reply.status, body=await reply.read(), headers=back)
        except aiohttp.ClientError:  # nobody is there: who asked sees the connection end, as it would without a gateway
            assert request.transport
            request.transport.abort()
            return web.Response()

    return forward


def _model_of(body: bytes) -> object:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return asked.get("model") if isinstance(asked, dict) else None
