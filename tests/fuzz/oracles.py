"""Second opinions: small decoders of their own, and h11, to hold what protocol/ says against."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import h11

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import RequestHead

__all__ = ["First", "allowed", "chunks", "clean", "first_by_h11", "pieces", "serialised"]


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut at these places; every byte counts, and none of the pieces is empty."""
    edges = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def clean(error: RemoteProtocolError, *statuses: int) -> None:
    """A refusal is answered with one of these."""
    assert error.status_hint in statuses, error.status_hint


# -- chunked bodies --------------------------------------------------------------------------------

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")


def chunks(data: bytes) -> tuple[bytes, bytes] | None:
    """The content of a whole chunked body and what is behind it, None if it is none.

    RFC 9112 section 7.1, with one look at all of it and without limits.
    """
    body, at = b"", 0
    while True:
        match = _CHUNK.match(data, at)
        if match is None:
            return None
        at, size = match.end(), int(match[1], 16)
        if not size:
            break
        body += data[at : at + size]
        at += size
        if data[at : at + 2] != b"\r\n":
            return None
        at += 2
    while match := _TRAILER.match(data, at):
        at = match.end()
    return (body, data[at + 2 :]) if data[at : at + 2] == b"\r\n" else None


# -- requests --------------------------------------------------------------------------------------


def serialised(head: RequestHead, body: bytes) -> bytes:
    """The request once more, as somebody would pass it on who has understood it so."""
    line = b"%b %b HTTP/%b" % (head.method.encode(), head.target, head.version.encode())
    lines = [line, *(b"%b: %b" % field for field in head.headers), b"", b""]
    if (b"transfer-encoding", b"chunked") in [
        (name, value.lower()) for name, value in head.headers
    ]:
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return b"\r\n".join(lines) + body


class First(NamedTuple):
    """The first request of a stream, and where it ends."""

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    end: int


def first_by_h11(data: bytes) -> First | None:
    """What h11 makes of it; None if it takes no whole request out of it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    request: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                break
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    end = len(data) - len(connection.trailing_data[0])
    fields = [(bytes(name), bytes(value)) for name, value in request.headers]
    return First(request.method, request.target, request.http_version, fields, body, end)


# -- values ----------------------------------------------------------------------------------------


def allowed(value: object) -> bool:
    """Whether a scope may hold it (ASGI 3.0, Events)."""
    if isinstance(value, dict):
        return all(type(key) is str and allowed(each) for key, each in value.items())
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return all(map(allowed, value))
    return value is None or type(value) in (str, bytes, int, bool)
