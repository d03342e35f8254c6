"""access_log_format, compiled: a function that makes the line, and only what is named in it.

For each line Gunicorn's ``Logger.access`` makes every atom, of every field and variable too,
escapes them all and has ``logging`` pick out a few. Here the format is read once, and becomes a
function of its own. The lines are the same to the last byte: tests/worker/test_accessform.py holds
both ways against each other.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.accesslog import FIELDS, AccessRecord, Value, atom_of, variables_of
from gunicorn_asgi.worker.atoms import printable

__all__ = ["MakeLine", "compiled"]

MakeLine = Callable[[AccessRecord], str]

# Those of the request's fields that the format needs, as they came.
_Fields = Sequence[tuple[bytes, bytes]]

# What Python's % takes, as far as a mapping makes sense of it; "*" and a name in brackets do not.
_CONVERSION = re.compile(
    r"%(?:%|\((?P<name>[^()]*)\)(?P<how>[-#0 +]*\d*(?:\.\d*)?)(?P<kind>[diouxXeEfFgGcrsa]))"
)

# A text is kept as it is shown if it is that short, and so many are: most come again.
_SHORT = 256
_KEPT = 512

# A variable of n words is spelled in 2 ** (n - 1) ways as a field.
_MANY_WORDS = 8

# Gunicorn's atoms as expressions; `s` and `b` are text, which "%s" makes of numbers.
_ATOMS = {
    "h": "client(record.scope)",
    "l": "'-'",
    "u": "user(fields) if fields else '-'",
    "t": "now()",
    "r": """shown(f"{head.method} {head.target.decode('latin-1')} HTTP/{head.version}")""",
    "s": "record.status",
    "m": "shown(head.method)",
    "U": "shown(record.scope.get('path', ''))",
    "q": "shown(record.scope.get('query_string', b'').decode('latin-1'))",
    "H": "shown('HTTP/' + head.version)",
    "b": "record.sent",
    "B": "record.sent",
    "T": "record.microseconds // 1_000_000",
    "D": "record.microseconds",
    "M": "record.microseconds // 1_000",
    "L": "'%d.%06d' % divmod(record.microseconds, 1_000_000)",
    "p": "process",
}
_NUMBERS_AS_TEXT = frozenset({"s", "b"})
_FIELD_ATOMS = {"f": "HTTP_REFERER", "a": "HTTP_USER_AGENT"}
_AUTHORIZATION = frozenset({b"authorization"})

_SOURCE = """
def line(record):
    head = record.head
    fields = []
    for field in head.headers:
        if field[0] in wanted:
            fields.append(field)
    return template % ({})
"""


def compiled(form: str, log: Logger, generation: int) -> MakeLine | None:
    """Runs in: worker. What makes a line of ``form`` for a record.

    Args:
        form: Gunicorn's ``access_log_format``.
        log: whose clock is asked, and who reads Authorization fields.
        generation: the worker's.

    Returns:
        None for a format with something in it that is better left to Gunicorn. What the function
        raises, Gunicorn's logger would have met too.
    """
    parts: list[str] = []
    source = _Source(log, generation)
    end = 0
    for match in _CONVERSION.finditer(form):
        parts.append(form[end : match.start()])
        end = match.end()
        if match["name"] is None:
            parts.append("%%")
        elif source.add(match["name"], match["kind"]):
            parts.append(f"%{match['how']}{match['kind']}")
        else:
            return None
    parts.append(form[end:])
    if any("%" in each for each in parts[::2]):
        return None  # nothing that a mapping can fill, or no format at all
    return source.function("".join(parts))


class _Source:
    """The function in the making: an expression for each atom, and what these refer to."""

    def __init__(self, log: Logger, generation: int) -> None:
        self._expressions: list[str] = []
        self._wanted: set[bytes] = set()
        self._names: dict[str, Any] = {
            "client": _client,
            "generation": generation,
            "now": _clock(log),
            "process": f"<{os.getpid()}>",
            "shown": _shown,
            "user": _reader(log),
        }

    def add(self, name: str, kind: str) -> bool:
        """Runs in: worker. One conversion more; False: Gunicorn shall do it."""
        found = self._named(name.lower()) if name.startswith("{") else self._atom(name)
        if found is None:
            return False
        text = name in _NUMBERS_AS_TEXT and kind != "s"
        self._expressions.append(f"str({found})" if text else found)
        return True

    def function(self, template: str) -> MakeLine:
        """Runs in: worker. All of it, to be filled into ``template``."""
        names = {**self._names, "template": template, "wanted": frozenset(self._wanted)}
        source = _SOURCE.format("".join(f"{each}, " for each in self._expressions))
        # One call instead of one for each atom, which would take as long again. As in namedtuple,
        # nothing of the format itself is in the source.
        exec(source, names)  # noqa: S102
        return cast("MakeLine", names["line"])

    def _atom(self, name: str) -> str | None:
        if name in _FIELD_ATOMS:
            return self._variable(_FIELD_ATOMS[name])
        if name == "u":
            self._wanted |= _AUTHORIZATION
        if name in FIELDS:
            return f"{self._name(_field_of_ours(FIELDS[name]))}(record)"
        return _ATOMS.get(name, "generation" if name == "generation" else "'-'")

    def _named(self, name: str) -> str | None:
        """``{name}i`` and the like, in lower case as SafeAtoms reads them."""
        inner, end = name[1:-2], name[-2:]
        if not name.isascii():
            return None
        if end == "}i":
            self._wanted.add(inner.encode())
            return f"{self._name(_last(inner.encode()))}(fields) if fields else '-'"
        if end == "}o":
            return f"{self._name(_last(inner.encode()))}(record.headers)"
        if end == "}e":
            return self._variable(inner if inner == "wsgi.url_scheme" else inner.upper())
        return "'-'"

    def _variable(self, key: str) -> str | None:
        """One of ``environ_of``."""
        name = key.removeprefix("HTTP_").lower()
        without_prefix = name in ("content_type", "content_length")
        if without_prefix is key.startswith("HTTP_"):
            # HTTP_CONTENT_TYPE and the like, which there is not, or nothing of a field's.
            return f"{self._name(_variable(key))}(record)"
        words = name.split("_")
        if len(words) > _MANY_WORDS:
            return None
        spellings = frozenset(_spellings(words))
        self._wanted |= spellings
        return f"{self._name(_all(spellings))}(fields) if fields else '-'"

    def _name(self, value: object) -> str:
        """What the source calls ``value``."""
        name = f"value{len(self._names)}"
        self._names[name] = value
        return name


# -- what the expressions call ---------------------------------------------------------------------


def _shown(value: object) -> object:
    """As PrintableAtoms shows it."""
    if isinstance(value, str):
        if not value.isprintable():
            value = printable(value)
        if '"' in value:
            value = value.replace('"', '\\"')
    return value


_address = lru_cache(maxsize=_KEPT)(_shown)


def _client(scope: dict[str, Any]) -> object:
    client = scope.get("client")
    return "-" if client is None else _address(client[0])


def _clock(log: Logger) -> Callable[[], str]:
    """One text for all lines of a second."""
    clock, second, text = time.time, 0.0, ""

    def now() -> str:
        nonlocal second, text
        if not 0.0 <= clock() - second < 1.0:
            second, text = clock() // 1.0, str(_shown(log.now()))
        return text

    return now


def _reader(log: Logger) -> Callable[[_Fields], object]:
    def user(fields: _Fields) -> object:
        given = _gathered(fields, _AUTHORIZATION)
        if not given:
            return "-"
        return _shown(log._get_user({"HTTP_AUTHORIZATION": given.decode("latin-1")}) or "-")

    return user


def _field_of_ours(make: Callable[[AccessRecord], Value]) -> Callable[[AccessRecord], object]:
    return lambda record: _shown(atom_of(make(record)))


def _variable(key: str) -> Callable[[AccessRecord], object]:
    def variable(record: AccessRecord) -> object:
        return _shown(variables_of(record.head, record.scope, record.figures).get(key, "-"))

    return variable


def _last(wanted: bytes) -> Callable[[_Fields], object]:
    """The last one of that name, as ``dict.update`` leaves it."""

    def last(fields: _Fields) -> object:
        for name, value in reversed(fields):
            if name.lower() == wanted:
                return _text(value)
        return "-"

    return last


def _all(names: frozenset[bytes]) -> Callable[[_Fields], object]:
    def values(fields: _Fields) -> object:
        found = _gathered(fields, names)
        return "-" if found is None else _text(found)

    return values


def _gathered(fields: _Fields, names: frozenset[bytes]) -> bytes | None:
    """The values of all fields of these names, as ``environ_of`` joins them."""
    found = None
    for name, value in fields:
        if name in names:
            found = value if found is None else found + b"," + value
    return found


def _text(raw: bytes) -> object:
    return _short_text(raw) if len(raw) <= _SHORT else _shown(raw.decode("latin-1"))


@lru_cache(maxsize=_KEPT)
def _short_text(raw: bytes) -> object:
    return _shown(raw.decode("latin-1"))


def _spellings(words: list[str]) -> Iterator[bytes]:
    """``words`` with "-" or "_" between them."""
    for between in itertools.product("-_", repeat=len(words) - 1):
        yield (words[0] + "".join(map(str.__add__, between, words[1:]))).encode()
