"""A case: bytes that a client sends, what has to become of them, and who says so.

A name is a promise in plain English, and a source is a section of an RFC, a CVE or an advisory, or
the thread in which others have paid for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = [
    "CHUNKED",
    "POST",
    "Case",
    "Seen",
    "chunks",
    "dropped",
    "get",
    "post",
    "refused",
    "served",
]

POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """What the application has to see of one request; text is ISO 8859-1, paths are decoded.

    Attributes:
        has: fields that have to be there, as they have to be there.
        lacks: names of fields that must not be there.
        raw: the raw path, where that differs from what the path says.
    """

    path: str = "/"
    method: str = "GET"
    query: str = ""
    body: bytes = b""
    version: str = "1.1"
    has: tuple[Pair, ...] = ()
    lacks: tuple[str, ...] = ()
    raw: str | None = None


@dataclass(frozen=True)
class Case:
    """One connection.

    Attributes:
        raw: everything that the client sends.
        seen: the requests that are served, in their order.
        statuses: with which of these it is refused behind them; none: it is not.
        closes: whether the connection ends, in an orderly way, behind the last of them.
        half_closes: whether the client ends its half behind its bytes.
    """

    name: str
    source: str
    raw: bytes = field(repr=False)
    seen: tuple[Seen, ...] = ()
    statuses: frozenset[int] = frozenset()
    closes: bool = False
    half_closes: bool = False

    @property
    def slug(self) -> str:
        """The name as the id of a test."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def served(name: str, source: str, raw: bytes, *seen: Seen, closes: bool = False) -> Case:
    """All of it is answered with 200; without ``seen`` it is one GET of "/"."""
    return Case(name, source, raw, seen or (Seen(),), closes=closes)


def refused(
    name: str, source: str, raw: bytes, *statuses: int, after: tuple[Seen, ...] = ()
) -> Case:
    """It is refused with one of the statuses, behind the requests ``after``.

    More than one status is for what two rules forbid, each with its own.
    """
    return Case(name, source, raw, after, frozenset(statuses or (400,)), closes=True)


def dropped(name: str, source: str, raw: bytes) -> Case:
    """The client leaves in the middle of it, and nothing of it is answered."""
    return Case(name, source, raw, closes=True, half_closes=True)


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"kit") -> bytes:
    """A request head."""
    lines = [line] if host is None else [line, b"Host: " + host]
    return b"\r\n".join([*lines, *fields, b"", b""])


def post(*fields: bytes, body: bytes = b"", line: bytes = POST) -> bytes:
    """A request with fields that frame it, and what follows them."""
    return get(*fields, line=line) + body


def chunks(body: bytes, *fields: bytes) -> bytes:
    """A request with a chunked body, which the caller spells."""
    return get(CHUNKED, *fields, line=POST) + body
