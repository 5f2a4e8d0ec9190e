"""Loopback endpoints with the chat completions API, whose answers a test decides."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """What an endpoint sends."""

    content: object
    """JSON data, or bytes as they are."""
    status: int = 200
    """The status of HTTP."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers beside the type of the content."""
    after: float = 0
    """Seconds after which it is sent."""


def said(text: object, finish_reason: str = "stop", *, model: str = "debug", **message) -> dict:
    """A reply of the chat completions API."""
    message = {"role": "assistant", "content": text} | message
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    record = {"id": "1", "object": "chat.completion", "created": 0, "model": model}
    return record | {"choices": [choice], "usage": usage}


@contextmanager
def replying(reply: Callable[[dict], Reply | None]) -> Iterator[str]:
    """The base URL of an endpoint that sends `reply(body)`, and closes the connection where that is None."""

    async def chat(request: web.Request) -> web.Response:
        sent = reply(await request.json())
        if sent is None:
            assert request.transport
            request.transport.abort()
            return web.Response()
        await asyncio.sleep(sent.after)
        if isinstance(sent.content, bytes):
            return web.Response(body=sent.content, status=sent.status, headers=sent.headers)
        return web.json_response(sent.content, status=sent.status, headers=sent.headers)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/health", health)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def answering(reply: Callable[[dict], str | None], *, model: str = "debug") -> Iterator[str]:
    """The base URL of an endpoint that answers a body with the text `reply(body)`, or with 500 where that is None."""

    def send(body: dict) -> Reply:
        text = reply(body)
        if text is None:
            return Reply({"error": {"message": "out of order"}}, status=500)
        return Reply(said(text, model=model))

    with replying(send) as url:
        yield url
