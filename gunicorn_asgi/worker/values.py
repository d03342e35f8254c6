"""What the value of a setting may be: from whatever it was written as to the right type.

Each takes a value, a str if it comes from the environment, and raises ValueError with a text that
completes "... is not ".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gunicorn_asgi.protocol.peer import Networks

__all__ = [
    "FORWARDED_FIELDS",
    "choice",
    "count",
    "field",
    "flag",
    "forwarded_fields",
    "is_field_name",
    "level",
    "listener",
    "mount",
    "networks",
    "path",
    "rate",
    "seconds",
    "size",
    "window",
]

# What asgi_forwarded_fields may name: the fields that not every proxy overwrites.
FORWARDED_FIELDS = ("forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")

# RFC 9110 5.6.2: token.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")

# Fields that frame a message, or that the server and the application write: an id in one of them
# would change what the response is.
_OF_HTTP = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "date", "expect"),
        *("host", "keep-alive", "proxy-connection", "server", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)


def is_field_name(name: str) -> bool:
    """Runs in: master. Whether a field of HTTP can have that name."""
    return _TOKEN.match(name) is not None


def choice(*allowed: str) -> Callable[[object], str]:
    """Runs in: master. One of these words, in any case."""

    def validate(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError(f"one of {', '.join(allowed)}")

    return validate


def _number(value: object) -> float:
    """``value`` as a number, a negative one if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return -1.0
    try:
        return float(value)
    except (ValueError, OverflowError):
        return -1.0


def seconds(value: object) -> float:
    """Runs in: master. A number of seconds, 0 or more."""
    number = _number(value)
    if not 0 <= number < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return number


def size(value: object) -> int:
    """Runs in: master. A whole number of bytes, 0 or more."""
    number = _number(value)
    if number < 0 or not number.is_integer():
        raise ValueError("a whole number of bytes, 0 or more")
    return int(number)


def flag(value: object) -> bool:
    """Runs in: master. True or False, or a word for one of them."""
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def path(value: object) -> str:
    """Runs in: master. A path of a URL that begins with "/", or nothing."""
    text = value.strip() if isinstance(value, str) else "?"
    if text and not text.startswith("/"):
        raise ValueError('a path that begins with "/", or nothing')
    return text


def mount(value: object) -> str:
    """Runs in: master. A path without a slash at its end, or nothing."""
    return path(value).rstrip("/")


def count(value: object) -> int:
    """Runs in: master. A whole number, 0 or more."""
    number = _number(value)
    if number < 0 or not number.is_integer():
        raise ValueError("a whole number, 0 or more")
    return int(number)


def _within(lowest: int, highest: int) -> Callable[[object], int]:
    def validate(value: object) -> int:
        number = _number(value)
        if number.is_integer() and lowest <= number <= highest:
            return int(number)
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return validate


level = _within(0, 9)
window = _within(9, 15)


def rate(value: object) -> int:
    """Runs in: master. A whole number of bytes per second, 0 or more."""
    number = _number(value)
    if number < 0 or not number.is_integer():
        raise ValueError("a whole number of bytes per second, 0 or more")
    return int(number)


def field(value: object) -> str:
    """Runs in: master. A field name, in small letters, or nothing."""
    name = value.strip().lower() if isinstance(value, str) else "?:"
    if name and (not is_field_name(name) or name in _OF_HTTP):
        raise ValueError("a field name that HTTP itself has no use for, or nothing")
    return name


def _texts(value: object, allowed: str) -> tuple[str, ...]:
    """A list, or a text with commas, as texts that are not empty."""
    parts = value.split(",") if isinstance(value, str) else value
    if not (isinstance(parts, (list, tuple)) and all(isinstance(each, str) for each in parts)):
        raise ValueError(allowed)
    return tuple(each.strip() for each in parts if each.strip())


def forwarded_fields(value: object) -> tuple[str, ...]:
    """Runs in: master. Some of ``FORWARDED_FIELDS``."""
    allowed = f"a list of {', '.join(FORWARDED_FIELDS)}"
    names = tuple(each.lower() for each in _texts(value, allowed))
    if not set(names) <= set(FORWARDED_FIELDS):
        raise ValueError(allowed)
    return names


def networks(value: object) -> tuple[str, ...]:
    """Runs in: master. IP addresses and networks, or "*"."""
    allowed = "a list of IP addresses and networks, or *"
    names = _texts(value, allowed)
    try:
        Networks.parse(names)
    except ValueError as exc:
        raise ValueError(f"{allowed}: {exc}") from None
    return names


def listener(value: object) -> str:
    """Runs in: master. ``HOST:PORT``, ``unix:PATH``, or nothing."""
    text = value.strip() if isinstance(value, str) else "?"
    if not text or (text.startswith("unix:") and len(text) > len("unix:")):
        return text
    host, colon, port = text.rpartition(":")
    if host and colon and port.isdecimal() and int(port) < 65536:
        return text
    raise ValueError("HOST:PORT or unix:PATH, or nothing")
