"""Relays the ways out of the sandbox: a port inside for each, a socket in the file system behind it.

    python relay.py PORT=SOCKET [PORT=SOCKET ...] -- COMMAND...     # PORT leads to SOCKET while COMMAND runs

What listens at the socket, outside, is `evaluator.harness.gateway`. Standard library only, and a file that runs by
itself: inside the sandbox it is the first thing to start. It also sets the limit on the number of processes, which has
to be set in the sandbox's own user namespace: outside it would count whatever else the user runs.
"""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys

TASKS = "NEMO_DISTILL_TASKS"
"""Environment variable with the most processes and threads that there may be at a time."""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # either side may hang up at any time
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _leading_to(socket: str):
    """What a server does with a connection: opens one to `socket` and passes on what either side says."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_unix_connection(socket)
        except OSError:  # nobody is there: who asked sees the connection end, as it would without a relay
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, other_writer), _pass_on(other_reader, writer))

    return answer


async def _run(ways: dict[int, str], command: list[str]) -> int:
    servers = [await asyncio.start_server(_leading_to(to), "127.0.0.1", port) for port, to in ways.items()]
    process = await asyncio.to_thread(subprocess.run, command)
    for server in servers:
        server.close()
    return process.returncode


def main() -> None:
    """The command line, see above; ends as the command ends."""
    dashes = sys.argv.index("--")
    ways = dict(argument.split("=", 1) for argument in sys.argv[1:dashes])
    if most := os.environ.pop(TASKS, ""):
        resource.setrlimit(resource.RLIMIT_NPROC, (int(most), int(most)))
    sys.exit(asyncio.run(_run({int(port): to for port, to in ways.items()}, sys.argv[dashes + 1 :])))


if __name__ == "__main__":
    main()
