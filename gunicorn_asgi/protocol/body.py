"""The framing of a request body (RFC 9112 section 6): by length, or chunked.

Why not llhttp: it puts no bound on chunk extensions, trailers and leading zeros, and hands trailer
fields on like those of the head. And it reads on behind the end of a message, where nobody sees
any more what belongs to which request. So llhttp parses heads, and bodies are counted here.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Protocol

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.limits import Limits

__all__ = ["Body", "BodySink", "ChunkedBody", "SizedBody"]

# RFC 9112 7.1: chunk-size = 1*HEXDIG, here at most what 64 bits hold; what follows a semicolon is
# not interpreted. No white space in front of the CRLF: others have taken it for a part of the size.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
# The same while its end has not come in.
_SIZE_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,16}(?:[ \t]+|[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r?\Z")

# RFC 9112 7.1.2: trailer-section = *( field-line CRLF ).
_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\Z")

# What a chunk may cost beside its data without counting as overhead, as in Go's net/http.
_FAIR_CHUNK = 16


class BodySink(Protocol):
    """Who gets the body."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, without its framing."""


class Body(Protocol):
    """A request body that comes in.

    Attributes:
        complete: whether its end has come in.
    """

    complete: bool

    def feed(self, data: bytes) -> bytes:
        """Take ``data``, and return what of it lies behind the end of the body.

        Raises:
            RemoteProtocolError: the framing is broken, or a limit was passed.
        """


class SizedBody:
    """A body of ``size`` bytes (RFC 9112 section 6.2); see ``Body``."""

    __slots__ = ("_remaining", "_sink", "complete")

    def __init__(self, sink: BodySink, size: int) -> None:
        self._sink = sink
        self._remaining = size
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """See ``Body.feed``; there is nothing to go wrong."""
        rest = b""
        if len(data) > self._remaining:
            rest = data[self._remaining :]
            data = data[: self._remaining]
        self._remaining -= len(data)
        self.complete = not self._remaining
        self._sink.on_body(data)
        return rest


class _Part(IntEnum):
    """What of a chunked body comes next."""

    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1); see ``Body``. Trailer fields are dropped."""

    __slots__ = (
        "_limit",
        "_line",
        "_max_overhead",
        "_overhead",
        "_part",
        "_remaining",
        "_sink",
        "_size",
        "complete",
    )

    def __init__(self, sink: BodySink, limits: Limits) -> None:
        self._sink = sink
        self._limit = limits.request_body
        self._max_overhead = limits.chunk_overhead
        self._part = _Part.SIZE
        self._line = b""  # what has come in of a line that is not complete
        self._remaining = 0  # of this chunk's data
        self._size = 0
        self._overhead = 0
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """See ``Body.feed``."""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.complete:
            if self._part is _Part.DATA:
                piece = data[at : at + self._remaining]
                at += len(piece)
                self._remaining -= len(piece)
                pieces.append(piece)
                if not self._remaining:
                    self._part = _Part.DATA_END
            elif self._part is _Part.DATA_END:
                at = self._take_data_end(data, at)
            else:
                at = self._take_line(data, at)
        if pieces:
            self._sink.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return data[at:]

    def _take_data_end(self, data: bytes, at: int) -> int:
        """The CRLF behind a chunk's data (CVE-2025-43859: it has to be one)."""
        expected = b"\r\n"[len(self._line) :]
        piece = data[at : at + len(expected)]
        if not expected.startswith(piece):
            raise RemoteProtocolError("no CRLF behind chunk data")
        self._line += piece
        if self._line == b"\r\n":
            self._line = b""
            self._part = _Part.SIZE
        return at + len(piece)

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        line = self._line + data[at : end or len(data)]
        if self._overhead + len(line) > self._max_overhead:
            raise RemoteProtocolError("chunk extensions or trailers are too long")
        if not end:
            if self._part is _Part.SIZE and not _SIZE_SO_FAR.match(line):
                raise RemoteProtocolError("malformed chunk size")
            self._line = line
            return len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise RemoteProtocolError("bare LF in a chunked body")
        if self._part is _Part.SIZE:
            self._begin_chunk(line)
        else:
            self._trailer(line)
        return end

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.match(line[:-2])
        if match is None:
            raise RemoteProtocolError("malformed chunk size")
        size = int(match[1], 16)
        self._overhead = max(0, self._overhead + len(line) - _FAIR_CHUNK - 2 * size)
        self._size += size
        if 0 < self._limit < self._size:
            raise RemoteProtocolError("request body is too large", 413)
        self._remaining = size
        self._part = _Part.DATA if size else _Part.TRAILER

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.complete = True
            return
        if not _FIELD.match(line[:-2]):
            raise RemoteProtocolError("malformed trailer field")
        self._overhead += len(line)
