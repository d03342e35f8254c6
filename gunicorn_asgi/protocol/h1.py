"""HTTP/1.1, the reading half: bytes to request heads and bodies, on httptools (llhttp).

Theory of operation
-------------------
llhttp reads ahead: one ``feed()`` may hold several pipelined requests, and all of them are
parsed before the first is answered. So there is no single state of a connection; each
request has an ``Exchange`` with two machines, Reading and Writing (hyper's split), and the
connection keeps the exchanges in a queue. Keep-alive is a third machine that only goes from
True to False; it lives with the connection.

The joint rules, the only ones, are applied where the connection looks at its oldest exchange:

- DONE x DONE x keep-alive: the next exchange begins;
- DONE x DONE x no keep-alive: close, and linger where the peer may still be sending;
- BODY x DONE: the rest of the body is discarded up to ``Limits.discard_body``, else close;
- CLOSED: the application gets ``http.disconnect``.

What llhttp cannot do, and how it is done here
----------------------------------------------
A request with ``Connection: upgrade`` makes llhttp stop in front of the body and declare the
rest of the stream foreign. For WebSocket that is what we want. Any other upgrade (h2c) has to
be ignored (RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field"), body
and all: the head is then fed once more to a fresh parser without its Upgrade field. The head
of the first pass is kept and delivered, the second pass only supplies the framing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import httptools

from gunicorn_asgi.protocol.errors import LocalProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.headers import tokens
from gunicorn_asgi.protocol.limits import Limits

__all__ = [
    "READING",
    "WRITING",
    "Exchange",
    "ExchangeEvent",
    "Reading",
    "RequestHead",
    "RequestParser",
    "RequestSink",
    "Writing",
]


class Reading(IntEnum):
    """How far the request has been read; it exists from its complete head on."""

    BODY = 0
    DONE = 1
    CLOSED = 2


class Writing(IntEnum):
    """How far the response has been written. In HEAD it is begun, but its head is held back
    until the first body message, so that an error in between can still become a 500."""

    WAIT = 0
    HEAD = 1
    BODY = 2
    DONE = 3
    CLOSED = 4


class ExchangeEvent(IntEnum):
    """What happens to an exchange. READ is the request's end, LOST the end of the connection."""

    READ = 0
    START = 1
    BODY = 2
    END = 3
    LOST = 4


READING: dict[Reading, dict[ExchangeEvent, Reading]] = {
    Reading.BODY: {ExchangeEvent.READ: Reading.DONE, ExchangeEvent.LOST: Reading.CLOSED},
    # A complete request stays complete when the client leaves: it may still be read.
    Reading.DONE: {ExchangeEvent.LOST: Reading.DONE},
    Reading.CLOSED: {ExchangeEvent.LOST: Reading.CLOSED},
}

WRITING: dict[Writing, dict[ExchangeEvent, Writing]] = {
    Writing.WAIT: {ExchangeEvent.START: Writing.HEAD, ExchangeEvent.LOST: Writing.CLOSED},
    Writing.HEAD: {
        ExchangeEvent.BODY: Writing.BODY,
        ExchangeEvent.END: Writing.DONE,
        ExchangeEvent.LOST: Writing.CLOSED,
    },
    Writing.BODY: {
        ExchangeEvent.BODY: Writing.BODY,
        ExchangeEvent.END: Writing.DONE,
        ExchangeEvent.LOST: Writing.CLOSED,
    },
    Writing.DONE: {ExchangeEvent.LOST: Writing.DONE},
    Writing.CLOSED: {ExchangeEvent.LOST: Writing.CLOSED},
}


class Exchange:
    """One request and its response: the two machines and their gate.

    Attributes:
        reading: the request's state.
        writing: the response's state.
    """

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        self.reading = Reading.BODY
        self.writing = Writing.WAIT

    def fire(self, event: ExchangeEvent) -> None:
        """Take ``event``; the only writer of the two states.

        Raises:
            LocalProtocolError: the event is not allowed in this state.
        """
        if event is ExchangeEvent.LOST:
            self.reading = READING[self.reading][event]
            self.writing = WRITING[self.writing][event]
            return
        try:
            if event is ExchangeEvent.READ:
                self.reading = READING[self.reading][event]
            else:
                self.writing = WRITING[self.writing][event]
        except KeyError:
            raise LocalProtocolError(
                f"can't {event.name} while {self.reading.name}/{self.writing.name}"
            ) from None


class RequestHead:
    """The request line and the fields of one request, as they came in.

    Attributes:
        method: as received, which llhttp ensures to be upper case.
        target: the request target as received.
        version: "1.0" or "1.1".
        headers: pairs of lower-cased name and value, in order, duplicates kept.
        keep_alive: whether the client lets the connection live on (RFC 9112 section 9.3).
        expect_continue: whether it waits for a 100 (RFC 9110 section 10.1.1).
        websocket: whether it asks for an upgrade to WebSocket.
        received: when the head was complete, by the clock of whoever feeds the parser.
    """

    __slots__ = (
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "received",
        "target",
        "version",
        "websocket",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.expect_continue = False
        self.websocket = False
        self.received = 0.0


class RequestSink(Protocol):
    """Who is told what the parser found."""

    def on_head(self, head: RequestHead) -> None:
        """A head is complete."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, de-chunked."""

    def on_message_complete(self) -> None:
        """The request is complete."""


# Fields that mean something to the server itself; everything else is only passed on.
_NOTED = frozenset({b"host", b"expect", b"transfer-encoding", b"upgrade"})


class RequestParser:
    """Bytes in, calls to a ``RequestSink`` out. One for each connection."""

    __slots__ = (
        "_head_seen",
        "_head_size",
        "_headers",
        "_held",
        "_in_head",
        "_limits",
        "_max_head",
        "_noted",
        "_parser",
        "_sink",
        "_target",
        "_upgrading",
        "on_body",
    )

    def __init__(self, sink: RequestSink, limits: Limits) -> None:
        self._sink = sink
        self._limits = limits
        self._max_head = limits.head_size
        self._held: RequestHead | None = None
        self._upgrading = False
        self._head_size = 0
        self._head_seen = False
        self._begin()
        # httptools looks the callbacks up once, here; on_body goes straight to the sink.
        self.on_body = sink.on_body
        self._parser = httptools.HttpRequestParser(self)

    @property
    def idle(self) -> bool:
        """Whether no byte of a next request has come in."""
        return self._in_head and not self._target and self._head_size == 0

    def feed(self, data: bytes) -> bytes | None:
        """Parse ``data``.

        Returns:
            The bytes behind a WebSocket handshake, after which the parser is spent; else None.

        Raises:
            RemoteProtocolError: the request is malformed or too large.
        """
        self._head_seen = False
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                rest = data[exc.args[0] :]
                if self._held is None:
                    return rest
                data = self._without_upgrade(self._held) + rest
                self._begin()
                self._parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserCallbackError as exc:
                # What the callback raised; without it, this parser has failed before.
                raise exc.__context__ or RemoteProtocolError(str(exc)) from None
            except httptools.HttpParserError as exc:
                raise RemoteProtocolError(str(exc) or type(exc).__name__) from None
            break
        if self._in_head:
            self._count_head(len(data))
        return None

    def close(self) -> None:
        """Break the reference cycles with httptools and the sink; nothing is fed any more."""
        del self._parser, self._sink, self.on_body

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request target."""
        self._target += url
        # The whole line counts, as with Gunicorn: " HTTP/1.1" and a space are 10 more.
        line = len(self._parser.get_method()) + len(self._target) + 10
        if 0 < self._limits.request_line < line:
            raise RemoteProtocolError("request line is too long", 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a complete field, of the head or of the trailers."""
        if not self._in_head:
            return  # RFC 9112 7.1.2: trailers are not merged into the header section
        name = name.lower()
        value = value.rstrip(b" \t")  # RFC 9110 5.5: no part of it; llhttp strips the front only
        headers = self._headers
        headers.append((name, value))
        if len(headers) > self._limits.request_fields:
            raise RemoteProtocolError("too many header fields", 431)
        if 0 < self._limits.request_field_size < len(name) + len(value) + 2:
            raise RemoteProtocolError("header field is too long", 431)
        if name in _NOTED:
            self._noted.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools: the head is complete."""
        self._in_head = False
        self._head_seen = True
        self._head_size = 0
        if self._held is not None:
            self._sink.on_head(self._held)
            self._held = None
            return
        parser = self._parser
        head = RequestHead(
            parser.get_method().decode("ascii"),
            self._target,
            parser.get_http_version(),
            self._headers,
            parser.should_keep_alive(),
        )
        self._check(head)
        if parser.should_upgrade():
            self._upgrading = True
            if not head.websocket:
                self._held = head
                return
        self._sink.on_head(head)

    def on_message_complete(self) -> None:
        """httptools: the message is complete; a refused or an accepted upgrade is not."""
        if self._upgrading:
            self._upgrading = False
            return
        self._begin()
        self._head_seen = True  # what comes behind it in this feed is not told apart from it
        self._sink.on_message_complete()

    def _begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._noted: list[tuple[bytes, bytes]] = []

    def _count_head(self, fed: int) -> None:
        """Bound a head that does not end; llhttp itself buffers without limit."""
        if self._head_seen:
            return  # these bytes belonged, for the most part, to a request before
        self._head_size += fed
        if 0 < self._max_head < self._head_size:
            raise RemoteProtocolError("request head is too large", 431)

    def _check(self, head: RequestHead) -> None:
        """Refuse what llhttp accepts and a server must not (RFC 9112 sections 2.3, 3.2, 6.1)."""
        if head.version not in ("1.1", "1.0"):
            raise RemoteProtocolError(f"HTTP version {head.version} is not supported", 505)
        if head.method == "CONNECT":
            raise RemoteProtocolError("CONNECT is not supported", 501)
        hosts = 0
        for name, value in self._noted:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                self._check_transfer_encoding(head, value)
            elif name == b"expect":
                self._check_expect(head, value)
            elif name == b"upgrade" and b"websocket" in tokens(value):
                # RFC 9110 7.8: "MUST ignore an Upgrade header field [...] in an HTTP/1.0 request"
                head.websocket = self._parser.should_upgrade() and head.version == "1.1"
        if hosts != 1 and (hosts or head.version == "1.1"):
            raise RemoteProtocolError(f"{hosts} Host fields")

    @staticmethod
    def _check_transfer_encoding(head: RequestHead, value: bytes) -> None:
        if head.version == "1.0":
            raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
        if value.lower() != b"chunked":
            raise RemoteProtocolError("unknown transfer coding", 501)

    @staticmethod
    def _check_expect(head: RequestHead, value: bytes) -> None:
        if head.version == "1.0":
            return  # RFC 9110 10.1.1: MUST ignore the 100-continue expectation
        if value.lower() != b"100-continue":
            raise RemoteProtocolError("unknown expectation", 417)
        head.expect_continue = True

    @staticmethod
    def _without_upgrade(head: RequestHead) -> bytes:
        fields = b"".join(b"%b: %b\r\n" % pair for pair in head.headers if pair[0] != b"upgrade")
        line = b"%b %b HTTP/%b\r\n" % (
            head.method.encode("ascii"),
            head.target,
            head.version.encode("ascii"),
        )
        return line + fields + b"\r\n"
