"""Serves a checkpoint on 127.0.0.1 with the chat completions API of OpenAI, requests answered in batches.

    with serving(Path("hf"), model_id="pruned", log=Path("server.log")) as server:
        body = {"model": "pruned", "messages": [...], "seed": 0, "max_tokens": 48}
        requests.post(server.url, json=body, headers=server.headers)

or, on the command line, `python -m evaluator.serve hf --model-id pruned --port-file port.json`.

Requests that arrive together are answered together; what a request is answered depends on the request alone
(`evaluator.serve.engine`). A request that asks for something not done here is refused with one sentence: an option that
is ignored would change scores in silence. The port is chosen by the system and written to the port file before the
checkpoint is in memory: who connects early is answered once it is.

Any user of a machine reaches its loopback. Every request therefore has to bring a token, made anew by each server and
written beside the port into a file that its owner alone may read. The chat template is the checkpoint's: a request may
say whether to think, and nothing else of it.
"""

import argparse
import asyncio
import gc
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from evaluator.serve.batcher import Batcher
from evaluator.serve.checkpoint import verify_checkpoint
from evaluator.serve.processes import ProgramFailed, die_with_parent

HOST = "127.0.0.1"
BAD_CHECKPOINT = 2
"""Exit code when the checkpoint is refused."""
DEFAULTS = {"seed": 0, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256}
NEUTRAL = {"n": 1, "stream": False, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0}
"""Options that are not done here, with the value that asks for nothing."""
TEMPLATE_SETTINGS = ("enable_thinking", "thinking")
"""What `chat_template_kwargs` may hold, true or false each. Others, `chat_template` say, decide the prompt itself."""
KNOWN = {"model", "messages", "max_completion_tokens", "chat_template_kwargs", "user", "stop", *DEFAULTS, *NEUTRAL}


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    root: str
    """Scheme, host and port."""
    process: subprocess.Popen
    """The process behind it."""
    token: str = field(repr=False)
    """What a request has to bring."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that is answered."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def url(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.root}/v1/chat/completions"

    @property
    def completions(self) -> str:
        """Where a text's continuation is asked for, of a server that has it."""
        return f"{self.root}/v1/completions"


@contextmanager
def serving(
    checkpoint: Path, *, model_id: str, log: Path, threads: int = 1, context: int | None = None
) -> Iterator[Server]:
    """Serve `checkpoint` as `model_id` in a process of its own until the block ends, on `threads` CPU threads.

    `context` is the most tokens of a prompt and its answer; None is what the checkpoint's config says.
    Raises ValueError when the checkpoint is not whole, ProgramFailed with the log's end when the server fails.
    """
    verify_checkpoint(checkpoint, quantised=True)
    port_file = log.with_suffix(".port")
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "evaluator.serve", str(checkpoint), "--model-id", model_id]
    command += ["--port-file", str(port_file), "--threads", str(threads)]
    command += ["--context", str(context)] if context else []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, preexec_fn=die_with_parent()
        )
    try:
        while not port_file.exists():
            if process.poll() is not None:
                raise ProgramFailed(f"the server of '{checkpoint}' ended with {process.returncode}: {tail(log)}")
            time.sleep(0.02)
        told = json.loads(port_file.read_text())
        port_file.unlink()
        yield Server(root=f"http://{HOST}:{told['port']}", process=process, token=told["token"])
        if process.poll() is not None:
            raise ProgramFailed(f"the server of '{checkpoint}' ended with {process.returncode}: {tail(log)}")
    finally:
        process.terminate()
        process.wait()
        port_file.unlink(missing_ok=True)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def read_request(body: dict, engine, *, model_id: str):
    """The engine's request for the JSON `body` of an HTTP request; ValueError, in one sentence, for one not done."""
    from evaluator.serve.engine import Request

    if not isinstance(body, dict):
        raise ValueError("the body is no JSON object.")
    if body.get("model") != model_id:
        raise ValueError(f"the model served here is '{model_id}', not {body.get('model')!r}.")
    for name, value in body.items():
        if name not in KNOWN:
            raise ValueError(f"the option {name!r} is not supported.")
        if name in NEUTRAL and value is not None and value != NEUTRAL[name]:
            raise ValueError(f"the option {name!r} is not supported, only {NEUTRAL[name]!r}.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        raise ValueError("'messages' must be a list of objects with the texts 'role' and 'content'.")
    if body.get("max_completion_tokens") is not None:
        body = body | {"max_tokens": body["max_completion_tokens"]}
    values = DEFAULTS | {name: body[name] for name in DEFAULTS if body.get(name) is not None}
    for name, kinds, least, most in (
        ("seed", int, 0, 2**63 - 1),
        ("temperature", (int, float), 0, 100),
        ("top_p", (int, float), 0, 1),
        ("max_tokens", int, 1, engine.context),
    ):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            raise ValueError(f"{name!r} is {value!r}; it must be a number from {least} to {most}.")
    read_stops(body)
    prompt = engine.encode(messages, **template_settings(body))
    if len(prompt) + values["max_tokens"] > engine.context:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens and the answer may have {values['max_tokens']}, "
            f"more than the model's context of {engine.context}."
        )
    return Request(prompt=prompt, **values)


def template_settings(body: dict) -> dict[str, bool]:
    """What `body` sets of the checkpoint's own chat template; ValueError for anything but `TEMPLATE_SETTINGS`."""
    settings = body.get("chat_template_kwargs") or {}
    if not isinstance(settings, dict):
        raise ValueError(f"'chat_template_kwargs' is {str(settings)[:40]}; it must be an object.")
    for name, value in settings.items():
        if name not in TEMPLATE_SETTINGS:
            known = " and ".join(map(repr, TEMPLATE_SETTINGS))
            raise ValueError(f"'chat_template_kwargs' holds {name[:40]!r}; only {known} are taken.")
        if not isinstance(value, bool):
            raise ValueError(f"{name!r} is {str(value)[:40]!r}; it must be true or false.")
    return settings


def read_stops(body: dict) -> list[str]:
    """The texts at which an answer to `body` ends; ValueError for what is neither a text nor a list of texts."""
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"'stop' is {body['stop']!r}; it must be a text or a list of texts.")
    return stops


def cut_at(text: str, stops: list[str]) -> tuple[str, bool]:
    """`text` before the first of `stops` in it, and whether there was one."""
    end = min((position for stop in stops if (position := text.find(stop)) >= 0), default=None)
    return (text, False) if end is None else (text[:end], True)


def _is_message(message) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def application(engine, *, model_id: str, token: str) -> web.Application:
    """The HTTP application around `engine`, which answers who brings `token`."""
    batcher = Batcher(engine)

    @web.middleware
    async def only_with_the_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not hmac.compare_digest(
            request.headers.get("Authorization", "").encode(errors="replace"), f"Bearer {token}".encode()
        ):
            return _refusal(401, "the request brings no token of this server.", "authentication_error")
        return await handler(request)

    async def chat(http: web.Request) -> web.Response:
        try:
            body = await http.json()
            request = read_request(body, engine, model_id=model_id)
        except RecursionError:
            return _refusal(400, "the body is nested too deeply.")
        except ValueError as error:
            return _refusal(400, str(error))
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        batcher.submit(request, lambda answer: loop.call_soon_threadsafe(_settle, answered, answer))
        answer = await answered
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": answer.tokens}
        usage["total_tokens"] = sum(usage.values())
        text, stopped = cut_at(answer.text, read_stops(body))  # written to its end first, so it costs what it would
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if stopped else answer.finish_reason}
        record = {"id": f"chatcmpl-{request.seed}", "object": "chat.completion", "created": int(time.time())}
        return web.json_response(record | {"model": model_id, "choices": [choice], "usage": usage})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model_id, "object": "model"}]})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "answered": batcher.answered})

    async def stop(_: web.Application) -> None:
        await asyncio.to_thread(batcher.stop)

    app = web.Application(client_max_size=16 * 2**20, middlewares=[only_with_the_token])
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/health", health)
    app.on_shutdown.append(stop)
    return app


def _refusal(status: int, message: str, kind: str = "invalid_request_error") -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind}}, status=status)


def _settle(future: asyncio.Future, answer) -> None:
    if future.done():  # the client has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


async def _serve(arguments: argparse.Namespace, listener: socket.socket, token: str) -> None:
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)

    def load():
        from evaluator.serve.engine import Engine

        loaded = Engine.load(arguments.checkpoint, threads=arguments.threads)
        loaded.context = arguments.context or loaded.context  # nothing else depends on it: there are no positions
        return loaded

    engine = await asyncio.to_thread(load)
    gc.freeze()
    gc.enable()  # which `python -m evaluator.serve` has left out so far
    runner = web.AppRunner(
        application(engine, model_id=arguments.model_id, token=token), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    """The command line: `python -m evaluator.serve CHECKPOINT --model-id NAME --port-file FILE`."""
    parser = argparse.ArgumentParser(prog="python -m evaluator.serve", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder of a Hugging Face Nemotron-H checkpoint")
    parser.add_argument("--model-id", required=True, help="what clients call the model")
    parser.add_argument("--port-file", type=Path, required=True, help="file to write the port and the token into")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--context", type=int, help="tokens of prompt and answer; left out: the checkpoint's own")
    arguments = parser.parse_args()
    try:
        verify_checkpoint(arguments.checkpoint, quantised=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CHECKPOINT)
    listener = socket.create_server((HOST, 0), backlog=2048)
    token = secrets.token_urlsafe(32)
    scratch = arguments.port_file.with_suffix(".tmp")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"port": listener.getsockname()[1], "token": token}, file)
    os.replace(scratch, arguments.port_file)
    asyncio.run(_serve(arguments, listener, token))
