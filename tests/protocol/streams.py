"""What the tests of protocol/h1.py share: a parser that is fed, and what came out of it."""

from __future__ import annotations

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits

__all__ = [
    "CHUNKED",
    "H2C",
    "POST",
    "TRAILERS",
    "WEBSOCKET",
    "ByLlhttp",
    "Recorder",
    "Stream",
    "again",
    "get",
]


class Recorder:
    """A RequestSink that remembers; the pieces of a body are put together again."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.bodies: list[bytes] = []
        self.complete = 0

    def on_head(self, head: RequestHead) -> None:
        """Remember."""
        assert self.complete == len(self.heads)
        self.heads.append(head)
        self.bodies.append(b"")
        self.complete += head.complete and not head.websocket

    def on_body(self, data: bytes) -> None:
        """Remember."""
        assert self.complete == len(self.heads) - 1
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        """Remember."""
        self.complete += 1
        assert self.complete == len(self.heads)


class Stream:
    """A parser, fed piece by piece, and what came out."""

    def __init__(self, *pieces: bytes, **limits: int) -> None:
        self.sink = Recorder()
        self.known = self.know(Limits(**limits))
        self.parser = RequestParser(self.sink, Limits(**limits), self.known)
        self.rest: bytes | None = None
        self.error: RemoteProtocolError | None = None
        for piece in pieces:
            self.feed(piece)

    def know(self, limits: Limits) -> KnownLines:
        """What is known before anything has come in: nothing."""
        return KnownLines(limits)

    def feed(self, piece: bytes) -> None:
        """As a connection does: behind an upgrade the bytes are the next protocol's."""
        if self.rest is not None:
            self.rest += piece
        elif self.error is None:
            try:
                self.rest = self.parser.feed(piece)
            except RemoteProtocolError as exc:
                self.error = exc

    @property
    def heads(self) -> list[tuple[object, ...]]:
        """The heads in a form that can be compared."""
        return [
            tuple(getattr(head, name) for name in RequestHead.__slots__) for head in self.sink.heads
        ]

    @property
    def seen(self) -> object:
        """All that a connection learns, in a form that can be compared."""
        return self.heads, self.sink.bodies, self.sink.complete, self.rest, self.status

    @property
    def said(self) -> object:
        """What came in, however it was read: without how far llhttp was asked, and for whom."""
        return [
            (
                *(head.method, head.target, head.version, head.headers, head.keep_alive),
                *(head.expect_continue, head.upgrade, head.websocket),
                [field for field in head.noted if b"_" not in field[0]],
            )
            for head in self.sink.heads
        ], *(self.sink.bodies, self.sink.complete, self.rest, self.status)

    @property
    def status(self) -> int | None:
        """With which status the stream is refused."""
        return self.error.status_hint if self.error else None


class _Ignorant(KnownLines):
    def read_request(self, line: bytes) -> None:
        """Nothing."""


class ByLlhttp(Stream):
    """A stream whose parser knows nothing and learns nothing: each head goes to llhttp."""

    def know(self, limits: Limits) -> KnownLines:
        """Nothing, ever."""
        return _Ignorant(limits)


def again(first: Stream, *pieces: bytes, **limits: int) -> Stream:
    """One more stream, which knows what ``first`` has learnt."""

    class Again(Stream):
        def know(self, _limits: Limits) -> KnownLines:
            return first.known

    return Again(*pieces, **limits)


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    """A request head."""
    lines = [line, b"Host: h"] if host else [line]
    return b"\r\n".join([*lines, *fields, b"", b""])


POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
WEBSOCKET = get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
TRAILERS = get(CHUNKED, line=POST) + b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n"
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA")
