"""Measures who answers: the log-probabilities that a served model gives to eight fixed texts.

    first = probe(server, "80B-0123456789ab")
    check_alike(first, probe(restarted, "80B-0123456789ab"), "the server now", "the one that answered before")

A name is what a server was told to be called. The log-probabilities of a text's tokens come of the weights alone: no
sampling is in them, and one checkpoint has them again, up to the rounding of bf16, on another GPU and after a restart.
"""

import http.client
import json
import math
from collections.abc import Sequence
from contextlib import closing

from evaluator.serve.server import HOST, Server

TEXTS = (
    "The capital of France is Paris, and the capital of Japan is Tokyo.",
    "def add(a, b):\n    return a + b\n",
    "12 + 30 = 42, and 7 * 6 = 42 as well.",
    "Water boils at 100 degrees Celsius at sea level.",
    "Once upon a time there was a king who had three daughters.",
    "Let x be a real number with x^2 = 2. Then x is irrational.",
    "for i in range(10):\n    print(i, i * i)\n",
    "To be, or not to be, that is the question.",
)
"""What is asked, as it stands: no chat template."""
ALIKE = 0.05
"""Most that the log-probability of a token may differ by, in nats, on average over all tokens: some times what eight
bits of mantissa leave."""
SECONDS = 300.0
"""What one text may take; the first has kernels compiled."""


def probe(server: Server, model_id: str, *, rank: int = 0) -> list[list[float]]:
    """Log-probabilities of the tokens of each text, all but its first, by the data parallel rank `rank`.

    Raises ValueError for a server that does not give them.
    """
    connection = http.client.HTTPConnection(HOST, int(server.root.rpartition(":")[2]), timeout=SECONDS)
    headers = server.headers | {"Content-Type": "application/json", "X-data-parallel-rank": str(rank)}
    found = []
    with closing(connection):
        for text in TEXTS:
            # The one new token is not looked at. Without it some versions answer as if nothing had been asked.
            body = {"model": model_id, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
            try:
                connection.request("POST", "/v1/completions", json.dumps(body), headers)
                reply = connection.getresponse()
                said = reply.read()
                given = json.loads(said)["choices"][0]["logprobs"]["token_logprobs"][1:-1]
                found.append([float(one) for one in given])
            except (OSError, http.client.HTTPException) as error:
                raise ValueError(f"it gave no log-probabilities of a text: {error}.") from None
            except (ValueError, LookupError, TypeError):
                shown = " ".join(said.decode(errors="replace").split())[:200]
                raise ValueError(f"it gave no log-probabilities of a text: {reply.status} {shown}") from None
    if not all(found) or not all(math.isfinite(one) for text in found for one in text):
        raise ValueError("it gave log-probabilities that are none.")
    return found


def difference(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference per token in nats; infinite where they are of other tokens.

    >>> difference([[-1.0, -2.0]], [[-1.5, -2.0]]), difference([[-1.0]], [[-1.0, -2.0]])
    (0.25, inf)
    """
    if [len(text) for text in one] != [len(text) for text in other]:
        return math.inf
    pairs = [pair for texts in zip(one, other, strict=True) for pair in zip(*texts, strict=True)]
    return sum(abs(first - second) for first, second in pairs) / len(pairs)


def check_alike(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], name: str, beside: str) -> None:
    """Raise ValueError where the two are of different models; `name` and `beside` say whose they are."""
    apart = difference(one, other)
    if apart > ALIKE:
        by = "are of other tokens than" if apart == math.inf else f"differ by {apart:.3f} nats a token from"
        raise ValueError(
            f"the log-probabilities of eight fixed texts by {name} {by} those by {beside}, and one model's differ by "
            f"{ALIKE} at most."
        )
