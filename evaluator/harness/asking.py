r"""Decides what is done about each reply of an endpoint: take it, ask again after a pause, or give up in one sentence.

    asking = Asking("question offline_math-003, repeat 2")
    while isinstance(outcome := asking.judge(*send(body)), float):
        time.sleep(outcome)
    outcome["choices"][0]["message"]["content"]          # a text, whatever the endpoint made of it

It sends nothing itself: our own tasks ask with aiohttp (`core_evals.nemo_distill.runner`), the adapter in front of the
study's harnesses with requests (`evaluator.harness.interceptor`), and both go by the rules here. A rate limit, a
failing server, a lost connection and a reply that is none (a page in place of JSON, no choices) are asked again, after
what Retry-After says or after pauses that grow; so often and so long as `Patience` says. A prompt that is longer than
the model's context cannot be asked at all: its answer is empty and its finish_reason `UNASKED`, so that it is counted.

>>> asking = Asking("question 7", Patience(first_pause=8, jitter=0))
>>> asking.judge(503, {}, b"loading"), asking.judge(429, {"Retry-After": "3"}, b"")
(8.0, 3.0)
>>> asking.judge(200, {}, b'{"choices": [{"message": {"content": "62"}}]}')["choices"][0]["message"]["content"]
'62'
>>> asking.judge(404, {}, b"no such model")
Traceback (most recent call last):
    ...
evaluator.harness.asking.NotAnswered: question 7 is refused: 404 no such model
"""

import email.utils
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from evaluator.text import valid_unicode

ASKING = "asking"
"""Name of the adapter's interceptor that asks by these rules."""
NOT_ANSWERED = "not_answered.txt"
"""Where it says which question was given up, as our own tasks do, in the evaluation's folder."""
UNASKED = "unasked"
"""Finish reason of a question that could not be asked."""
PASSING = {408, 409, 425, 429}
"""Client errors that pass, as all 5xx do: time-out, conflict, too early, too many requests."""
CUT = {"length", "max_tokens", "max_output_tokens", "model_length"}
"""What endpoints call the end of an answer at the token limit."""
INTERRUPTED = {"abort", "error"}
"""What they call that of an answer which they themselves broke off."""
OVER_CONTEXT = re.compile(
    r"context_length_exceeded|context (length|window|size)|model's context|max_model_len|maximum model length"
    r"|(maximum|max) (input|sequence|prompt) length|prompt (is |was )?too long|longer than the (model|maximum)",
    re.IGNORECASE,
)
"""How our server, vLLM, SGLang, llama.cpp and OpenAI say that a prompt, or it and the answer, is over the context."""
SHOWN = 200
"""Characters of a reply that a sentence quotes."""


class NotAnswered(Exception):
    """An endpoint refused a question, or answered it too late, or not at all; the text is a sentence."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long one question is asked."""

    retries: int = 10
    """Times it is asked again."""
    malformed: int = 3
    """Times it is asked again after a reply that is none, which seldom passes."""
    seconds: float = 3_600
    """Time in seconds, from when it is first asked, after which it is not asked again."""
    first_pause: float = 1
    """Least pause in seconds; each is twice the last."""
    longest_pause: float = 60
    """Most that a pause grows to in seconds; Retry-After may ask for more."""
    jitter: float = 0.5
    """Share of a pause, from 0 to 1, that chance decides, so that requests which failed together are spread."""
    second: float = 1
    """Length of a second in seconds, for tests."""


class Asking:
    """One question, from when it is first asked until it is answered."""

    def __init__(self, name: str, patience: Patience | None = None):
        """`name` is what sentences call the question."""
        self.name = name
        self.patience = patience or Patience()
        self.began = time.monotonic()
        self.reasons: list[str] = []
        """Why it was asked again, a reply each."""

    def judge(self, status: int, headers: Mapping[str, str], body: bytes) -> dict | float:
        """The reply, its content a text; or the pause in seconds after which to ask again.

        `headers` are told apart by letter case as HTTP does, so not at all. Raises `NotAnswered` when no answer is to
        be had.
        """
        text = body.decode("utf-8", errors="replace")
        if status == 200:
            reply = _read(text)
            if (reason := _fault(reply, text)) is None:
                return _with_text(reply)
            none = sum(again.startswith("200") for again in self.reasons)
            if reason == _NULL and none == self.patience.malformed:
                return _with_text(reply)  # the endpoint means it: an empty answer, as which it is counted
            return self._again(reason, last=none >= self.patience.malformed)
        reason = f"{status} {_quoted(text)}".strip()
        if status == 413 or (status >= 400 and OVER_CONTEXT.search(text)):
            return unasked(reason)
        if status in PASSING or status >= 500:
            return self._again(reason, headers.get("Retry-After"))
        raise NotAnswered(f"{self.name} is refused: {reason}")

    def failed(self, error: BaseException) -> float:
        """The pause in seconds after which to ask again, when the connection failed or nothing came in time."""
        return self._again(f"{type(error).__name__} {_quoted(str(error))}".strip())

    def _again(self, reason: str, retry_after: str | None = None, *, last: bool = False) -> float:
        self.reasons.append(reason)
        patience, tries = self.patience, len(self.reasons)
        waited = (time.monotonic() - self.began) / patience.second
        if last or tries > patience.retries:
            raise NotAnswered(f"{self.name} was asked {tries} times, without an answer: {reason}")
        pause = min(patience.first_pause * 2 ** (tries - 1), patience.longest_pause)
        pause *= 1 - patience.jitter * random.random()
        if (told := seconds_of(retry_after)) is not None:
            pause = told + patience.jitter * patience.first_pause * random.random()
        if waited + pause > patience.seconds:
            raise NotAnswered(
                f"{self.name} was asked {tries} times in {waited:,.0f} s, without an answer, and the next pause of "
                f"{pause:,.0f} s is beyond the {patience.seconds:,.0f} s that it has: {reason}"
            )
        return float(pause * patience.second)


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds from now that a Retry-After header names, in seconds or as a date; None where it names none.

    >>> seconds_of("1.5"), seconds_of("Wed, 21 Oct 2015 07:28:00 GMT"), seconds_of("soon")
    (1.5, 0.0, None)
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def unasked(why: str) -> dict:
    """The reply that stands for a question which could not be asked: no text, and `why` in its own field."""
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": UNASKED}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {"object": "chat.completion", "choices": [choice], "usage": usage, UNASKED: valid_unicode(why)}


def finish_reason(reply: dict, *, max_tokens: int | None = None) -> str:
    """`stop`, `length`, `UNASKED`, or whatever else the endpoint calls the end of its answer.

    Where it calls it nothing, the number of tokens decides, with the most that there may be; empty without both.

    >>> finish_reason({"choices": [{}], "usage": {"completion_tokens": 48}}, max_tokens=48)
    'length'
    """
    said = reply["choices"][0].get("finish_reason")
    if isinstance(said, str) and said:
        return said
    tokens = completion_tokens(reply)
    return "" if tokens is None or max_tokens is None else "length" if tokens >= max_tokens else "stop"


def is_final(reply: dict, *, max_tokens: int | None = None) -> bool:
    """Whether a content without tags of reasoning is an answer: it ended by itself, or its reasoning is kept apart.

    Nothing shows that an answer ended by itself where neither a finish reason nor a number of tokens is given.
    """
    message = reply["choices"][0].get("message") or {}
    if message.get("reasoning_content") or message.get("reasoning"):
        return True
    return finish_reason(reply, max_tokens=max_tokens) not in ("", "length", UNASKED)


def completion_tokens(reply: dict) -> int | None:
    """Length of the answer in tokens; None where the endpoint does not say."""
    usage = reply.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None


def is_answer(body: bytes) -> bool:
    """Whether the body of a reply with status 200 holds an answer, and not what is asked for again.

    >>> is_answer(b'{"choices": [{"message": {"content": "62"}}]}'), is_answer(b"<html>")
    (True, False)
    """
    text = body.decode("utf-8", errors="replace")
    return _fault(_read(text), text) is None


_NULL = "200 with an answer whose content is null"


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _fault(reply: Any, text: str) -> str | None:
    """Why a reply with status 200 is none, in half a sentence; None where it is one."""
    if not isinstance(reply, dict):
        return f"200 with no JSON object: {_quoted(text)}"
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return f"200 without choices: {_quoted(text)}"
    choice = choices[0]
    if choice.get("finish_reason") in INTERRUPTED:
        return f"200 with an answer that the endpoint broke off: {_quoted(text)}"
    if isinstance(choice.get("text"), str):  # of a completions endpoint
        return None
    message = choice.get("message")
    if not isinstance(message, dict):
        return f"200 without a message: {_quoted(text)}"
    content = message.get("content")
    if isinstance(content, str) or (isinstance(content, list) and all(isinstance(part, dict) for part in content)):
        return None
    if content is not None:
        return f"200 with a content that is no text: {_quoted(text)}"
    # Cut while thinking where the endpoint keeps the reasoning apart, or a call of a tool: an answer, an empty one.
    own = [message.get(name) for name in ("reasoning_content", "reasoning", "tool_calls")]
    return None if str(choice.get("finish_reason")).lower() in CUT or any(own) else _NULL


def _with_text(reply: dict) -> dict:
    """The reply with a valid text as the content of every message, and one name for the end at the token limit."""
    for choice in reply["choices"]:
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(choice, dict) and str(choice.get("finish_reason")).lower() in CUT:
            choice["finish_reason"] = "length"
        if isinstance(message, dict):
            content = message.get("content") or ""
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
            message["content"] = valid_unicode(str(content))
        elif isinstance(choice, dict) and isinstance(choice.get("text"), str):
            choice["text"] = valid_unicode(choice["text"])
    return reply


def _quoted(text: str) -> str:
    """The beginning of a reply, on one line."""
    line = valid_unicode(" ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
