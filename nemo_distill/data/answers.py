"""Which part of a chat the assistant says: what `distill.loss_on=answers` takes the loss on.

    spans, lost = answers(render, messages, text)   # [(61, 94)] characters of text, and how many turns have no place
    loss_on(spans, offsets)                         # array([0, 0, 1, 1, ...]) of the tokens at these offsets

Where the chat template marks what is generated (`{% generation %}`), that is it. Else a turn of the assistant is what
the template writes behind the messages before it and the prompt to go on, up to where it writes the next one: from the
difference of two renderings. A template that writes earlier turns otherwise once there are later ones, without their
reasoning say, has no such place for them: they are left out of the loss, and counted.
"""

from collections.abc import Callable, Sequence

import numpy as np

Render = Callable[..., str]
"""Messages, and whether the prompt to go on follows, to text; raises for messages that the template does not take."""


def answers(render: Render, messages: Sequence[dict], text: str) -> tuple[list[tuple[int, int]], int]:
    """(first, behind the last) characters of each turn of the assistant in `text`, and how many turns have no place.

    Args:
        render: The chat template.
        messages: As they were rendered.
        text: What they became.
    """
    spans: list[tuple[int, int]] = []
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    for at in turns:
        try:
            before = render(messages[:at]) if at else ""
            prompt = render(messages[:at], add_generation_prompt=True) if at else ""
            until = text if at + 1 == len(messages) else render(messages[: at + 1])
        except Exception:  # of a template that takes whole chats only
            continue
        # A template may prompt for reasoning that this turn does not have: what both say is the prompt.
        if at and text.startswith(before) and text.startswith(until):
            ours, theirs = prompt[len(before) :], text[len(before) : len(until)]
            same = next(
                (place for place, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs))
            )
            if prompt.startswith(before) and same:
                spans.append((len(before) + same, len(until)))
    return spans, len(turns) - len(spans)


def loss_on(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """1 for each token that begins within one of `spans`, by where tokens begin and end; else 0.

    >>> loss_on([(4, 8)], [(0, 2), (2, 4), (4, 7), (7, 8), (8, 9)]).tolist()
    [0, 0, 1, 1, 0]
    """
    marked = np.zeros(len(offsets), np.uint8)
    starts = np.fromiter((start for start, _ in offsets), np.int64, len(offsets))
    for first, behind in spans:
        marked[(starts >= first) & (starts < behind)] = 1
    return marked
