r"""Knows which values are secret by where they come from, and stars them in what is written down.

>>> from nemo_distill.run.secrets import remember, scope, star
>>> star('+os.environ["WANDB_API_KEY"] = "0123abcd"')
'+os.environ["WANDB_API_KEY"] = "***"'
>>> star("url: https://me:pass@mirror.example/data, max_new_tokens: 48")
'url: https://***@mirror.example/data, max_new_tokens: 48'
>>> with scope():
...     remember({"ANY_NAME": "correct horse"})
...     star("asked with correct horse, Y29ycmVjdCBob3JzZQ== or correct%20horse")
'asked with ***, *** or ***'

Secret are: what a site or a command says below `env_vars` and `setup_lines` (`remember` in the command; for a step
their names stand in `NAMES`), variables with a secret's name, passwords in addresses, the logins that libraries keep in
files, and tokens of a known form. Each is found in the forms that programs print: quoted, escaped, percent-encoded,
base64, hex. What is none of these cannot be told from any other text, nor can a value under `SHORTEST` characters.

This file is also loaded by itself, without the package (`nemo_distill.run.starred`).
"""

import binascii
import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar

NAMES = "NEMO_DISTILL_SECRETS"
"""Environment variable with the names of variables that are secret whatever they are called, with commas between."""
SECRET_KEY = re.compile(
    r"token(?!i[sz])|secret|passw|passphrase|credential|api_?key|access_?key|private", re.IGNORECASE
)
"""In the name of a setting or variable: its value may be a secret."""
STARS = "***"
SHORTEST = 8
"""Characters from which on a value is starred wherever it occurs; fewer would star plain words."""
SHORTEST_NAMED = 4
"""The same of a value under a secret's name, which is starred where it is a word of its own."""

_PART = re.compile(r"(?:^|_)(?:KEY|AUTH|PASS|PW|PWD|PAT|CREDS?|DSN|JWT|COOKIE)(?:_|$)", re.IGNORECASE)
"""In the name of a variable, as a word of it: WANDB_KEY, NGC_AUTH."""
_NO_SECRETS = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY", NAMES})
"""Variables that only look so."""
_NAME = (
    r"(?:\w*(?:secret|passw|passphrase|credential|api_?key|access_?key|private_?key|authorization)\w*"
    r"|(?:\w*_)?token(?:_\w*)?|\w*(?<=[a-z])Token|(?-i:(?:[A-Z0-9]+_)+(?:KEY|AUTH|PASS|PW|PAT|CREDS?)))"
)
"""A secret's name in a line of text. `tokens` and `tokenizer` are none, which source code here is full of."""
_NAMED = re.compile(
    rf"""(\b{_NAME}["']?\]?\s*[:=]\s*)"""
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:bearer|basic)\s+[^\s"',;]+|[^\s"',;)\]}]+)""",
    re.IGNORECASE,
)
_INNOCENT = re.compile(r"none|null|true|false|yes|no|str|int|bytes|[\d.]{1,5}|\*+", re.IGNORECASE)
"""Values under such a name that give nothing away: `token_id=2`, `token: str`."""
_NUMBER = re.compile(r"[-+]?[\d_.,]+(?:e[-+]?\d+)?", re.IGNORECASE)
_KNOWN = re.compile(
    r"\b(?:(?:hf_|gh[pousr]_|nvapi-|AKIA|ASIA|AIza)[A-Za-z0-9]{12,}[\w-]*"
    r"|(?:github_pat_|glpat-|sk-|xox[abprs]-)[\w-]{12,}|eyJ[\w-]{12,}\.[\w-]{4,}\.[\w-]*)"
)
"""Tokens that can be told by their form: Hugging Face, GitHub, GitLab, NVIDIA, OpenAI, AWS, Google, Slack, JWT."""
_IN_URL = re.compile(r"(?<=://)[^\s/@\"'<>]+(?=@)")
_HEADER = re.compile(r"""(\bauthorization["']?\s*[:=]\s*["']?(?:bearer|basic|token)\s+)[^\s"',;]+""", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
"""Bytes that no address has percent-encoded."""

_remembered: ContextVar[dict[str, str] | None] = ContextVar("remembered", default=None)


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Within the block, what is given to `remember` is secret."""
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def remember(values: Mapping[str, str]) -> None:
    """Have these values, by the names of their variables, starred until the `scope` ends."""
    known = _remembered.get()
    assert known is not None, "secrets are remembered within a scope"
    known.update(values)


def star(text: str) -> str:
    """`text` with every secret in it replaced by three stars."""
    return _NAMED.sub(_without_value, star_values(text))


def star_values(text: str) -> str:
    """`text` with what is a secret by itself starred, whatever it is called: known values and tokens, passwords."""
    values = _environments(os.environ) | _logins()
    for name, value in (_remembered.get() or {}).items():
        values |= _parts(name, value)
    return _star_forms(_starred(text, values))


def secrets_within(data: object, key: str = "") -> Iterator[str]:
    """The dotted keys in `data`, plain JSON or dataclasses, whose text holds what is a secret for certain.

    That is by its form or under a secret's name: below `env_vars` there is also what settings may well repeat.
    """
    fields = getattr(data, "__dataclass_fields__", None)
    if fields is not None and not isinstance(data, type):
        data = {name: getattr(data, name) for name in fields}
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from secrets_within(value, f"{key}.{name}" if key else str(name))
    elif isinstance(data, list | tuple):
        for value in data:
            yield from secrets_within(value, key)
    elif isinstance(data, str) and _star_forms(_starred(data, _certain())) != data:
        yield key


def held_in(text: str) -> bool:
    """Whether there is a secret in `text`, a file of code: a value, a known token or a private key, but no address."""
    return _KNOWN.search(text) is not None or _starred(text, _certain()) != text


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name is taken to hold a secret.

    >>> [is_secret_name(name) for name in ("WANDB_KEY", "NGC_AUTH", "TOKENIZERS_PARALLELISM", "PWD", "KEYBOARD")]
    [True, True, False, False, False]
    """
    return name not in _NO_SECRETS and bool(SECRET_KEY.search(name) or _PART.search(name))


def worth_hiding(name: str, value: str) -> bool:
    """Whether the value of a variable that is secret by where it comes from would give anything away.

    >>> [worth_hiding("A", value) for value in ("hunter22", "1", "/shared/you/hf", "true", "1048576")]
    [True, False, False, False, False]
    """
    return bool(_parts(name, value))


def named(hidden: Mapping[str, str]) -> dict[str, str]:
    """The variable by which a step's process knows which of its variables are secret: these, and what they are made of.

    A site's `${oc.env:MINE}` is a variable here, which the process has under that name as well.
    """
    values = {value for name, value in hidden.items() if worth_hiding(name, value)}
    names = {name for name, value in os.environ.items() if value in values}
    return {NAMES: ",".join(sorted({*filter(None, os.environ.get(NAMES, "").split(",")), *hidden, *names}))}


def assigned(lines: str) -> dict[str, str]:
    """The variables that lines for a shell set, by name.

    >>> assigned("module load x\\nexport A='b c' D=e")
    {'A': 'b c', 'D': 'e'}
    """
    found = re.findall(r"""(?:^|[\s;&])([A-Za-z_]\w*)=("(?:[^"\\]|\\.)*"|'[^']*'|[^\s;&|]*)""", lines)
    return {name: value[1:-1] if value[:1] in ("'", '"') else value for name, value in found}


def beginning_of_one(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a secret value."""
    longest = 0
    for form in _forms(frozenset(_environments(os.environ) | _logins())):
        most = min(len(form) - 1, len(text))
        lengths = range(most, longest, -1)
        longest = next((length for length in lengths if text.endswith(form[:length])), longest)
    return longest


def _environments(environment: Mapping[str, str]) -> set[str]:
    """Secret values of the environment's variables."""
    listed, found = environment.get(NAMES, "").split(","), set()
    for name, value in environment.items():
        if is_secret_name(name) or name in listed:
            found |= _parts(name, value)
        elif _KNOWN.search(value):
            found |= _with_decoded({value.strip()})
        elif "://" in value:
            found |= _with_decoded(_passwords(value))
    return found


def _certain() -> set[str]:
    """Of the values that are known those that nothing innocent is like: under a secret's name, or in an address."""
    known = {**os.environ, **(_remembered.get() or {})}
    found = (_parts(name, value) if is_secret_name(name) else _passwords(value) for name, value in known.items())
    return {part for parts in found for part in parts if len(part) >= SHORTEST}


def _parts(name: str, value: str) -> set[str]:
    """What is starred of a secret variable's value: all of it, its lines, and passwords in it."""
    value, telling = value.strip(), bool(SECRET_KEY.search(name))
    lines = [line.strip() for line in value.splitlines()]
    found = {one for one in (value, *lines) if len(one) >= (SHORTEST_NAMED if telling and one == value else SHORTEST)}
    if _is_path(value, certain=is_secret_name(name)):
        return set()
    numbers = telling and "tokens" not in name.lower()  # of which there may be a number
    found = {one for one in found if not (_INNOCENT.fullmatch(one) or (not numbers and _NUMBER.fullmatch(one)))}
    return _with_decoded(found | _passwords(value))


def _with_decoded(values: set[str]) -> set[str]:
    """The values, and what they say where they are encoded themselves."""
    return values | {one for value in values for one in _decoded(value) if len(one) >= SHORTEST}


def _is_path(value: str, *, certain: bool) -> bool:
    """Whether a value is a path, or several; for a variable with a secret's name one has to be there."""
    parts = [part for part in value.split(":") if part]
    if not parts or "\n" in value or not all(part[0] in "/~." for part in parts):
        return False
    return not certain or any(os.path.exists(os.path.expanduser(part)) for part in parts)


def _passwords(value: str) -> set[str]:
    """The logins in addresses: `me:password`, and the password by itself."""
    logins = {login for login in re.findall(r"://([^\s/]+)@", value) if len(login) >= SHORTEST_NAMED}
    passwords = {login.partition(":")[2] or login for login in logins}
    return {one for one in logins | passwords if len(one) >= SHORTEST_NAMED}


def _logins() -> set[str]:
    """The tokens that the Hub's library and .netrc keep for this user."""
    home = os.path.expanduser("~")
    hub = os.environ.get("HF_TOKEN_PATH") or os.path.join(
        os.environ.get("HF_HOME") or os.path.join(home, ".cache", "huggingface"), "token"
    )
    netrc = os.environ.get("NETRC") or os.path.join(home, ".netrc")
    found = re.findall(r"\bpassword\s+(\S+)", _text_of(netrc)) + [_text_of(hub).strip()]
    return {one for one in found if len(one) >= SHORTEST}


def _text_of(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16)
    return ""


def _starred(text: str, values: Iterable[str]) -> str:
    for form in _forms(frozenset(values)):
        if form in text:
            short = len(form) < SHORTEST
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", STARS, text) if short else text.replace(form, STARS)
    return text


def _star_forms(text: str) -> str:
    """`text` without what is a secret by its form."""
    text = _KNOWN.sub(STARS, _IN_URL.sub(STARS, _PRIVATE_KEY.sub(STARS, text)))
    return _HEADER.sub(rf"\1{STARS}", text)


@functools.lru_cache(maxsize=8)
def _forms(values: frozenset[str]) -> tuple[str, ...]:
    """The values in all forms that are looked for, the longest first: none is a part of what comes later."""
    found = {form for value in values for form in _forms_of(value)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _forms_of(value: str) -> Iterator[str]:
    yield value
    if len(value) < SHORTEST:
        return
    raw = value.encode(errors="surrogateescape")
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    ascii_only = "".join(one if ord(one) < 127 else f"\\u{ord(one):04x}" for one in escaped)
    yield from (escaped, escaped.replace('"', '\\"'), escaped.replace("'", "\\'"), ascii_only.replace('"', '\\"'))
    yield from (value.replace("'", "'\"'\"'"), value.replace("'", "'\\''"), re.sub(r'([$`"\\!])', r"\\\1", value))
    marked = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield from (marked, marked.replace('"', "&#34;").replace("'", "&#39;"))
    yield marked.replace('"', "&quot;").replace("'", "&#x27;")
    for left in (b"", b"/", b"/:@", b"/:@!$&'()*,;="):
        quoted = "".join(chr(one) if one in _PLAIN or one in left else f"%{one:02X}" for one in raw)
        yield from (quoted, quoted.replace("%20", "+"), re.sub("%..", lambda found: found[0].lower(), quoted))
    yield raw.hex()
    yield from (one for one in _in_base64(raw) if len(one) >= SHORTEST)


def _in_base64(raw: bytes) -> Iterator[str]:
    """What base64 makes of it; where it is a part of what is encoded, the letters that no neighbour has a part in."""
    whole = binascii.b2a_base64(raw, newline=False).decode()
    yield from (whole, whole.rstrip("="), whole.replace("+", "-").replace("/", "_"))
    for before in range(3):
        text = binascii.b2a_base64(b"\0" * before + raw, newline=False).decode()
        first, bits = (0, 2, 3)[before], 8 * (before + len(raw))
        inner = text[first : bits // 6]
        yield from (inner, inner.replace("+", "-").replace("/", "_"))


def _decoded(value: str) -> Iterator[str]:
    """What it says where it is percent-encoded or base64 itself, and the password in that."""
    if "%" in value:
        yield re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), value)
    if _BASE64.fullmatch(value):
        with contextlib.suppress(ValueError):
            padded = value.replace("-", "+").replace("_", "/").rstrip("=")
            text = binascii.a2b_base64(padded + "=" * (-len(padded) % 4)).decode()
            if text.isprintable():
                yield from (text, text.partition(":")[2])


def _without_value(match: re.Match) -> str:
    name, value = match.groups()
    quote = value[0] if value[0] in "\"'" else ""
    inner = value.strip(quote) if quote else value
    return match[0] if not inner or _INNOCENT.fullmatch(inner) else f"{name}{quote}{STARS}{quote}"
