"""Relays the one way out of the sandbox: a port inside, a socket in the file system, the endpoint outside.

    python relay.py PORT SOCKET -- COMMAND...     # inside: PORT leads to SOCKET while COMMAND runs

Standard library only, and a file that runs by itself: inside the sandbox it is the first thing to start.
"""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _connecting(connect: Callable[[], Awaitable[Stream]]):
    """What a server does with a connection: opens one with `connect` and passes on what either side says."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await connect()
        except OSError:  # nobody is there: who asked sees the connection end, as it would without a relay
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, other_writer), _pass_on(other_reader, writer))

    return answer


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # either side may hang up at any time
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def serve_in_thread(socket: Path, host: str, port: int) -> Callable[[], None]:
    """Lead connections to `socket` to `host` and `port`, in a thread; returns, once listening, what ends it."""
    listening = threading.Event()
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(ended.set))
        server = await asyncio.start_unix_server(_connecting(lambda: asyncio.open_connection(host, port)), path=socket)
        listening.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="relay", daemon=True)
    thread.start()
    listening.wait()

    def end() -> None:
        ends[0]()
        thread.join()

    return end


async def _run(port: int, socket: str, command: list[str]) -> int:
    answer = _connecting(lambda: asyncio.open_unix_connection(socket))
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    process = await asyncio.to_thread(subprocess.run, command)
    server.close()
    return process.returncode


def main() -> None:
    """The command line, see above; ends as the command ends."""
    port, socket, dashes, *command = sys.argv[1:]
    assert dashes == "--", sys.argv
    sys.exit(asyncio.run(_run(int(port), socket, command)))


if __name__ == "__main__":
    main()
