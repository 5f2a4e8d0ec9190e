"""Loopback endpoints with the chat completions API, whose answers a test decides."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def answering(reply: Callable[[dict], str | None], *, model: str = "debug") -> Iterator[str]:
    """The base URL of an endpoint that answers a body with the text `reply(body)`, or with 500 where that is None."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        text = reply(body)
        if text is None:
            return web.json_response({"error": {"message": "out of order"}}, status=500)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        record = {"id": "1", "object": "chat.completion", "created": 0, "model": model}
        return web.json_response(record | {"choices": [choice], "usage": usage})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/health", health)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
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
