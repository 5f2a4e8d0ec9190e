"""Chats as the world writes them, made into the messages that a chat template takes.

>>> from nemo_distill.data.chats import chat_of
>>> chat_of({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]})
[{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': '4'}]
>>> chat_of({"prompt": "2 + 2?", "completion": "4", "reasoning": "two and two"})[1]
{'role': 'assistant', 'content': '4', 'reasoning_content': 'two and two'}

A schema is an entry of `SCHEMAS`: the columns that it needs, and a function of the row that gives its messages as they
stand there. Whatever the schema, a message may then have its content in parts, its reasoning under any name of
`REASONING_NAMES` or as a part, and its tool calls flat, as text, or as one `function_call`. What comes out has
`content` as text, `reasoning_content` as text, and `tool_calls` as a list of {"type", "function"}; a message that has
all that already comes out as it is. `MalformedError` says what is wrong with a row of which it is not known what it
means.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nemo_distill.errors import UserError

REASONING_NAMES = ("reasoning_content", "reasoning", "thinking")
"""What the reasoning of a message may be called: by the API of DeepSeek, of vLLM, of gpt-oss."""
ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function_response": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""The role that ShareGPT's `from` stands for, where it is not called so there as well."""
_OWN_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("thinking", "reasoning")
_INLINE = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_UNTOLD = ("", "on", "off")
"""What a column `reasoning` beside a prompt says when it is a switch."""


class MalformedError(UserError):
    """A row that holds no document; says what is wrong with it."""


@dataclass(frozen=True)
class Schema:
    """One way to write a chat into a row."""

    columns: tuple[str, ...]
    """Columns without which a row is of another schema."""
    messages: Callable[[dict], list]
    """Messages of a row, as they stand there."""
    also: tuple[str, ...] = ()
    """Columns that it reads where a row has them."""


def _listed(column: str) -> Schema:
    return Schema((column,), lambda row: _list(row[column], column))


def _answered(answer: str) -> Schema:
    return Schema(
        ("prompt", answer),
        lambda row: [*_said(row, "prompt", "user"), *_said(row, answer, "assistant")],
        also=REASONING_NAMES,
    )


SCHEMAS: tuple[Schema, ...] = (
    _listed("messages"),
    _listed("conversations"),
    _listed("conversation"),
    _answered("completion"),
    _answered("response"),
)
"""Every schema of a chat, the first that a row has is taken."""
COLUMNS = tuple(
    dict.fromkeys([*(name for schema in SCHEMAS for name in (*schema.columns, *schema.also)), "system", "tools"])
)
"""Columns that a chat may be read from."""


def chat_of(row: dict, *, column: str | None = None, names: Iterable[str] = ()) -> list[dict]:
    """The messages of `row`.

    Args:
        row: Columns by name.
        column: The one that holds the messages; None: whichever schema the row has.
        names: Of the file's columns, where `row` has a part of them.

    Raises `MalformedError` for a row that holds none.
    """
    if column is not None:
        if row.get(column) is None:
            raise MalformedError(f"no field {column!r}" if column not in row else f"{column!r} is null")
        return _chat(_list(row[column], column), row)
    for schema in SCHEMAS:
        if all(row.get(name) is not None for name in schema.columns):
            return _chat(schema.messages(row), row)
    there = ", ".join(sorted(map(str, names or row))[:8])
    raise MalformedError(f"no chat in a schema that is known; it has {there or 'no field'}")


def text_of(content) -> str | None:
    """The text of a message's content, which may be in parts; None when it is no text.

    Raises `MalformedError` for a part that is none.
    """
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list) or not parts:
        return None
    return "".join(text for part in parts if (text := _part(part)) is not None)


def thoughts(messages: Iterable[dict]) -> Iterator[str]:
    """The reasoning of each message that has some, in a field of its own or in front of its content."""
    for message in messages:
        told = next((v for name in REASONING_NAMES if isinstance(v := message.get(name), str) and v.strip()), None)
        if told is None and isinstance(content := message.get("content"), str) and (found := _INLINE.match(content)):
            told = found.group(1)
        if told and told.strip():
            yield told.strip()


def texts(messages: Iterable[dict]) -> Iterator[str]:
    """All that is said in `messages`, reasoning included."""
    for message in messages:
        for name in ("content", *REASONING_NAMES):
            if isinstance(text := message.get(name), str):
                yield text


def without_inline_reasoning(messages: list[dict]) -> list[dict]:
    """`messages` with the `<think>...</think>` left out that an assistant's content begins with.

    >>> without_inline_reasoning([{"role": "assistant", "content": "<think>2 + 2</think>4"}])
    [{'role': 'assistant', 'content': '4'}]

    Raises `MalformedError` for reasoning that does not end.
    """
    return [
        message | {"content": _after_reasoning(message["content"])}
        if message["role"] == "assistant" and isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def with_arguments(messages: list[dict], kind: str) -> list[dict]:
    """`messages` with the arguments of tool calls as `text` or as the `object` that it is of; `either` leaves them."""
    if kind == "either" or not any(message.get("tool_calls") for message in messages):
        return messages
    return [
        message | {"tool_calls": [_with_arguments(call, kind) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _with_arguments(call: dict, kind: str) -> dict:
    function = call["function"]
    arguments = function.get("arguments")
    if kind == "text" and isinstance(arguments, dict | list):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if kind == "object" and isinstance(arguments, str):
        arguments = _json(arguments) if arguments.strip() else {}
        if not isinstance(arguments, dict):
            raise MalformedError("a tool call whose arguments are no JSON object")
    return call | {"function": function | {"arguments": arguments}} if "arguments" in function else call


def _after_reasoning(content: str) -> str:
    if content.lstrip().startswith("<think>") and "</think>" not in content:
        raise MalformedError("reasoning without an end")
    return _INLINE.sub("", content, count=1) if _INLINE.match(content) else content


def _chat(given: list, row: dict) -> list[dict]:
    messages = [_message(message) for message in given]
    system = row.get("system")
    if isinstance(system, str) and system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _list(value, column: str) -> list:
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, list) or not value:
        raise MalformedError(f"{column!r} is no list of messages")
    return value


def _said(row: dict, column: str, role: str) -> list:
    """What a column says in `role`, a text, or messages with roles of their own."""
    value = row[column]
    if isinstance(value, list) and value:
        return value
    if not isinstance(value, str):
        raise MalformedError(f"{column!r} is neither a text nor a list of messages")
    message = {"role": role, "content": value}
    if role == "assistant":
        message |= {name: row[name] for name in REASONING_NAMES if row.get(name) is not None and not _switch(row[name])}
    return [message]


def _switch(value) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in _UNTOLD)


def _message(given) -> dict:
    if not isinstance(given, dict):
        raise MalformedError("a message without a role")
    message = dict(given)
    if message.get("role") is None and isinstance(message.get("from"), str):
        message.pop("role", None)
        role = message.pop("from")
        if role not in ROLES and role not in _OWN_ROLES:
            raise MalformedError(f"a message from {role!r:.40}")
        message = {"role": role, "content": message.pop("value", message.pop("content", None)), **message}
        if role == "function_call":
            calls = _json(message["content"])
            message |= {"content": None, "tool_calls": calls if isinstance(calls, list) else [calls]}
    if "value" in message and "content" not in message:
        message["content"] = message.pop("value")
    if not isinstance(message.get("role"), str):
        known = "content" in message or not message
        there = "" if known else f"; it has {', '.join(sorted(map(str, message))[:8])}"
        raise MalformedError(f"a message without a role{there}")
    message["role"] = ROLES.get(message["role"], message["role"])
    _call_tools(message)
    _tell_reasoning(message)
    return message


def _call_tools(message: dict) -> None:
    calls = message.get("tool_calls")
    if isinstance(calls, str):
        calls = _json(calls) if calls.strip() else None
    if message.get("function_call"):
        calls = [*(calls or []), message.pop("function_call")]
    if not calls:
        return
    if not isinstance(calls, list):
        raise MalformedError("tool calls that are no list")
    message["tool_calls"] = [_call(call) for call in calls]


def _call(call) -> dict:
    if isinstance(call, dict) and "function" not in call and "name" in call:
        call = {"type": "function", "function": {key: call[key] for key in ("name", "arguments") if key in call}}
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise MalformedError("a tool call without a name")
    return call


def _tell_reasoning(message: dict) -> None:
    """Make the content of `message` a text, and its reasoning `reasoning_content`."""
    content = message.get("content")
    if isinstance(content, str) and not any(message.get(name) for name in REASONING_NAMES):
        for name in REASONING_NAMES:
            message.pop(name, None)
        return
    told = {}
    for name in REASONING_NAMES:
        if value := message.pop(name, None):
            told[_reasoning(value, name).strip()] = _reasoning(value, name)
    parts = [content] if isinstance(content, dict) else content
    if isinstance(parts, list):
        for part in parts:
            if isinstance(part, dict) and part.get("type") in _REASONING_PARTS:
                value = next((part[name] for name in (part["type"], "text", "thinking") if part.get(name)), "")
                told[_reasoning(value, "reasoning").strip()] = _reasoning(value, "reasoning")
    text = text_of(content)
    if text is None and not (not content and message.get("tool_calls")):
        raise MalformedError("a message whose content is no text")
    if text is not None:
        message["content"] = text
    told.pop("", None)
    if len(told) > 1:
        raise MalformedError("a message with two reasonings that differ")
    inline = _INLINE.match(text or "")
    if inline and inline.group(1).strip() and told:
        if inline.group(1).strip() not in told:
            raise MalformedError("a message with reasoning in its content and other reasoning beside it")
        return
    if told:
        message["reasoning_content"] = next(iter(told.values()))


def _reasoning(value, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        told = [next((part[key] for key in ("text", *_REASONING_PARTS) if part.get(key)), None) for part in value]
        texts = [text for text in told if isinstance(text, str)]
        if len(texts) == len(told):
            return "".join(texts)
    raise MalformedError(f"a message whose {name!r} is a {type(value).__name__}")


def _part(part) -> str | None:
    """The text of a part; None for reasoning, which is no content."""
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    if kind in _REASONING_PARTS:
        return None
    if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
        raise MalformedError(f"a message with a part of the type {kind!r:.40}")
    return part["text"]


def _json(text):
    """What `text` holds; None when it is no JSON."""
    try:
        return json.loads(text)
    except (TypeError, json.JSONDecodeError):
        return None
