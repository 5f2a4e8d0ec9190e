"""Ports for programs that listen later, as nemo-evaluator and vLLM do, seconds after they were told where.

    first, second = free_ports(2)

The system deals out ports of its own to every connection that a program opens, on a busy machine thousands in those
seconds. One that it would deal out may be taken by then, so these lie outside of its range.
"""

import contextlib
import random
import socket
from pathlib import Path

from evaluator.serve.server import HOST

LOWEST, HIGHEST = 10_000, 65_535
"""Between these, those below are many programs' own."""
DEALT_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL = (32_768, 60_999)
"""What Linux deals out where nothing else was set."""


def free_ports(number: int) -> list[int]:
    """So many ports of the loopback that nothing listens on, no two alike, and none that is dealt out."""
    try:
        low, high = map(int, DEALT_OUT.read_text().split())
    except (OSError, ValueError):
        low, high = USUAL
    others = [port for port in range(LOWEST, HIGHEST + 1) if not low <= port <= high]
    random.SystemRandom().shuffle(others)  # a step's own random numbers are left alone
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in [*others, *[0] * number]:  # 0: the system chooses, where nothing else is left
            if len(found) == number:
                break
            with contextlib.suppress(OSError):
                found.append(held.enter_context(socket.create_server((HOST, port))).getsockname()[1])
    return found
