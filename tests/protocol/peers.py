"""What the tests of protocol/websocket.py share: wsproto, in client mode, as the peer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Request
from wsproto.extensions import Extension

from gunicorn_asgi.protocol.deflate import Agreement
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.websocket import WebSocketConnection, WebSocketState

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "HANDSHAKE",
    "PING",
    "PONG",
    "TEXT",
    "Fields",
    "HeadSink",
    "Pair",
    "agreement",
    "asked",
    "with_field",
]

Fields = list[tuple[bytes, bytes]]

HANDSHAKE: Fields = [
    (b"host", b"h"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def with_field(name: bytes, value: bytes | None) -> Fields:
    """The handshake with another value of that field, or without it."""
    fields = [pair for pair in HANDSHAKE if pair[0] != name]
    return fields if value is None else [*fields, (name, value)]


def asked(fields: Fields = HANDSHAKE, method: str = "GET") -> WebSocketConnection:
    """A server that was asked for a WebSocket."""
    return WebSocketConnection(RequestHead(method, b"/chat", "1.1", fields, True), Limits())


def agreement(
    *, server_takeover: bool = True, client_takeover: bool = True, bits: int = 15
) -> Agreement:
    """What both sides have agreed upon about compression."""
    return Agreement(not server_takeover, not client_takeover, bits, bits, "")


class HeadSink:
    """Keeps the one head of a stream."""

    def on_head(self, head: RequestHead) -> None:
        """Keep it."""
        self.head = head

    def on_body(self, data: bytes) -> None:
        """Not here."""
        raise AssertionError(data)

    def on_message_complete(self) -> None:
        """It was no upgrade."""


class Pair:
    """A client (wsproto) and a server (ours), with the bytes carried by hand.

    The server's application has always received what has come in.
    """

    def __init__(
        self,
        offers: Iterable[str] = (),
        max_message: int = 0,
        *,
        accept: bool = True,
        extensions: Iterable[Extension] = (),
        **limits: Any,
    ) -> None:
        self.client = WSConnection(ConnectionType.CLIENT)
        sink = HeadSink()
        request = self.client.send(
            Request(host="h", target="/", subprotocols=list(offers), extensions=list(extensions))
        )
        assert RequestParser(sink, Limits(), KnownLines(Limits())).feed(request) == b""
        self.server = WebSocketConnection(
            sink.head, Limits(websocket_message=max_message, **limits)
        )
        self.offered = self.server.handshake()
        self.answer = b""
        if accept:
            self.accept()

    def accept(
        self, subprotocol: str | None = None, headers: Iterable[Iterable[bytes]] = ()
    ) -> AcceptConnection:
        """Let the server accept, and the client see it."""
        (event,) = self.to_client(self.server.accept(subprotocol, headers))
        assert isinstance(event, AcceptConnection)
        return event

    def to_client(self, data: bytes) -> list[Event]:
        """Carry ``data``; what the client makes of it."""
        self.client.receive_data(data)
        return list(self.client.events())

    def state(self) -> WebSocketState:
        """Ask the server."""
        return self.server.state

    def send(self, *events: Event) -> list[str | bytes]:
        """Let the client send; the messages that the server makes of it."""
        return self.feed(b"".join(self.client.send(event) for event in events))

    def feed(self, data: bytes) -> list[str | bytes]:
        """Carry bytes to the server; its answer is in ``answer``."""
        messages, self.answer = self.server.feed(data)
        self.answer += self.server.fail()
        return messages
