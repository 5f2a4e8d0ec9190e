r"""Stars secrets in what is written down: values under a secret's name, tokens of a known form, the environment's own.

>>> from nemo_distill.run.secrets import star
>>> star('+os.environ["WANDB_API_KEY"] = "0123abcd"')
'+os.environ["WANDB_API_KEY"] = "***"'
>>> star("url: https://me:pass@mirror.example/data, max_new_tokens: 48")
'url: https://***@mirror.example/data, max_new_tokens: 48'

A value that has neither a telling name nor a known form, and is no variable's, cannot be told from any other text.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping

SECRET_KEY = re.compile(r"token|secret|passw|credential|api_?key|private", re.IGNORECASE)
"""In the name of a setting or variable: its value may be a secret."""
STARS = "***"

_NAME = (
    r"(?:\w*(?:secret|passw|passphrase|credential|api_?key|access_?key|private_?key|authorization)\w*"
    r"|(?:\w*_)?token(?:_\w*)?|\w*(?<=[a-z])Token)"
)
"""A secret's name in a line of text. `tokens` and `tokenizer` are none, which source code here is full of."""
_NAMED = re.compile(
    rf"""(\b{_NAME}["']?\]?\s*[:=]\s*)"""
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:bearer|basic)\s+[^\s"',;]+|[^\s"',;)\]}]+)""",
    re.IGNORECASE,
)
_INNOCENT = re.compile(r"none|null|true|false|str|int|bytes|\d{1,5}|\*+", re.IGNORECASE)
"""Values under such a name that give nothing away: `token_id=2`, `token: str`."""
_KNOWN = re.compile(
    r"\b(?:(?:hf_|gh[pousr]_|nvapi-|AKIA|AIza)[A-Za-z0-9]{12,}[\w-]*|(?:github_pat_|glpat-|sk-|xox[abprs]-)[\w-]{12,}"
    r"|eyJ[\w-]{12,}\.[\w-]{4,}\.[\w-]*)"
)
"""Tokens that can be told by their form: Hugging Face, GitHub, GitLab, NVIDIA, OpenAI, AWS, Google, Slack, JWT."""
_IN_URL = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SHORTEST = 8
"""Characters from which on a variable's value is starred wherever it occurs; fewer would star plain words."""


def star(text: str) -> str:
    """`text` with every secret in it replaced by three stars."""
    text = star_values(text)
    return _NAMED.sub(_without_value, text)


def star_values(text: str) -> str:
    """`text` with what is a secret by itself starred, whatever it is called: known tokens, secret variables' values."""
    for value in sorted(secret_variables(), key=len, reverse=True):
        text = text.replace(value, STARS)
    text = _PRIVATE_KEY.sub(STARS, text)
    return _KNOWN.sub(STARS, _IN_URL.sub(STARS, text))


def secret_variables(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Values of the environment's variables that have a secret's name; a path to a file that is there is none."""
    named = {value.strip() for name, value in environment.items() if SECRET_KEY.search(name)}
    return {value for value in named if len(value) >= _SHORTEST and not (value[0] == "/" and os.path.exists(value))}


def secrets_within(data: object, key: str = "") -> Iterator[str]:
    """The dotted keys in `data`, plain JSON or dataclasses, whose text holds what is a secret by itself."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from secrets_within(value, f"{key}.{name}" if key else str(name))
    elif isinstance(data, list | tuple):
        for value in data:
            yield from secrets_within(value, key)
    elif isinstance(data, str) and star_values(data) != data:
        yield key


def _without_value(match: re.Match) -> str:
    name, value = match.groups()
    quote = value[0] if value[0] in "\"'" else ""
    inner = value.strip(quote) if quote else value
    return match[0] if not inner or _INNOCENT.fullmatch(inner) else f"{name}{quote}{STARS}{quote}"
