"""WebSocket (RFC 6455): wsproto's handshake and frames behind one state machine.

HANDSHAKE -> OPEN (accept) | DENIAL (an HTTP response of the application's) | CLOSED (refused);
OPEN -> CLOSING (we sent a Close frame) -> CLOSED; OPEN -> CLOSED (we answered the peer's).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError as WSLocalProtocolError
from wsproto.utilities import RemoteProtocolError as WSRemoteProtocolError

from gunicorn_asgi.protocol.errors import LocalProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.headers import bad_field_name, bad_field_value
from gunicorn_asgi.protocol.machine import Machine

__all__ = ["TRANSITIONS", "WebSocketConnection", "WebSocketEvent", "WebSocketState"]

# RFC 6455 7.4.1: codes that stand for "no frame" and never travel in one.
ABNORMAL_CLOSURE = 1006

# What RFC 6455 4.2.1 asks of the opening handshake.
_HANDSHAKE_FIELDS = frozenset(
    {
        b"connection",
        b"host",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"upgrade",
    }
)


# RFC 6455 4.1: "a nonce consisting of a randomly selected 16-byte value that has been
# base64-encoded": 22 characters, of which the last carries two bits, and the padding.
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==\Z")


class WebSocketState(IntEnum):
    """The words of RFC 6455 section 4 and 7, and DENIAL for an HTTP answer of the application."""

    HANDSHAKE = 0
    OPEN = 1
    DENIAL = 2
    CLOSING = 3
    CLOSED = 4


class WebSocketEvent(IntEnum):
    """What happens to a connection. LOST is the end of the transport, SHUT of both halves."""

    ACCEPT = 0
    DENY = 1
    CLOSE = 2
    SHUT = 3
    LOST = 4


TRANSITIONS: dict[WebSocketState, dict[WebSocketEvent, WebSocketState]] = {
    WebSocketState.HANDSHAKE: {
        WebSocketEvent.ACCEPT: WebSocketState.OPEN,
        WebSocketEvent.DENY: WebSocketState.DENIAL,
        WebSocketEvent.LOST: WebSocketState.CLOSED,
    },
    WebSocketState.DENIAL: {
        WebSocketEvent.SHUT: WebSocketState.CLOSED,
        WebSocketEvent.LOST: WebSocketState.CLOSED,
    },
    WebSocketState.OPEN: {
        WebSocketEvent.CLOSE: WebSocketState.CLOSING,
        WebSocketEvent.SHUT: WebSocketState.CLOSED,
        WebSocketEvent.LOST: WebSocketState.CLOSED,
    },
    WebSocketState.CLOSING: {
        WebSocketEvent.SHUT: WebSocketState.CLOSED,
        WebSocketEvent.LOST: WebSocketState.CLOSED,
    },
    WebSocketState.CLOSED: {WebSocketEvent.LOST: WebSocketState.CLOSED},
}


class WebSocketConnection(Machine[WebSocketState, WebSocketEvent]):
    """One WebSocket, without a transport.

    Attributes:
        state: its WebSocketState.
        close_code: what the application is told: the peer's code, 1005 if its Close frame had
            none, 1006 if no Close frame came (RFC 6455 section 7.1.5), or the code of ours.
        close_reason: the reason that came with it.
    """

    __slots__ = (
        "_head",
        "_max_message",
        "_parts",
        "_size",
        "_wsproto",
        "close_code",
        "close_reason",
    )

    transitions = TRANSITIONS

    def __init__(self, head: RequestHead, max_message: int) -> None:
        """``max_message`` (bytes) bounds a message; 0 is no limit."""
        super().__init__(WebSocketState.HANDSHAKE)
        self._head = head
        self._max_message = max_message
        self._wsproto = WSConnection(ConnectionType.SERVER)
        self._parts: list[str | bytes] = []
        self._size = 0
        self.close_code = ABNORMAL_CLOSURE
        self.close_reason = ""

    @property
    def closing(self) -> bool:
        """Whether we have sent a Close frame and wait for the peer's."""
        return self.state is WebSocketState.CLOSING

    def handshake(self) -> list[str]:
        """Check the opening handshake (RFC 6455 section 4.2.1) and return the subprotocols offered.

        Raises:
            RemoteProtocolError: it is none; ``status_hint`` is 400, 405 or 426.
        """
        head = self._head
        if head.method != "GET":
            raise RemoteProtocolError("WebSocket handshake is no GET", 405)
        keys = [value for name, value in head.headers if name == b"sec-websocket-key"]
        if any(_KEY.match(key) is None for key in keys):
            raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
        try:
            # Only these: h11, inside wsproto, has its own complaints about all others.
            fields = [pair for pair in head.headers if pair[0] in _HANDSHAKE_FIELDS]
            self._wsproto.initiate_upgrade_connection(fields, head.target)
            (request,) = self._wsproto.events()
        except WSRemoteProtocolError as exc:
            status = getattr(exc.event_hint, "status_code", 400)
            raise RemoteProtocolError(str(exc), status) from None
        except (WSLocalProtocolError, UnicodeError) as exc:
            # Odd bytes in Host or in a list of tokens: h11 and wsproto decode them strictly.
            raise RemoteProtocolError(f"WebSocket handshake is malformed: {exc}") from None
        return list(request.subprotocols) if isinstance(request, Request) else []

    def accept(self, subprotocol: str | None, headers: Iterable[Iterable[bytes]]) -> bytes:
        """The 101 response (RFC 6455 section 4.2.2).

        Raises:
            LocalProtocolError: not in HANDSHAKE, a subprotocol that was not offered, or a field
                that cannot be sent.
        """
        checked = []
        for name, value in headers:
            if not (isinstance(name, bytes) and isinstance(value, bytes)):
                raise LocalProtocolError(f"header is not made of bytes: {name!r}: {value!r}")
            if bad_field_name(name) or bad_field_value(value):
                raise LocalProtocolError(f"header cannot be sent: {name!r}: {value!r}")
            if name.lower() == b"sec-websocket-protocol":
                raise LocalProtocolError("sec-websocket-protocol is set by `subprotocol`")
            # RFC 9110 8.6, RFC 9112 6.1: neither is sent with a 1xx.
            if name.lower() not in (b"content-length", b"transfer-encoding"):
                checked.append((name, value.strip(b" \t")))
        event = AcceptConnection(subprotocol=subprotocol, extra_headers=checked)
        if self.state is not WebSocketState.HANDSHAKE:
            self.fire(WebSocketEvent.ACCEPT)  # raises, and says in which state we are
        data = self._send(event)
        self.fire(WebSocketEvent.ACCEPT)
        return data

    def message(self, data: str | bytes) -> bytes:
        """One whole message as a frame.

        Raises:
            LocalProtocolError: not OPEN.
        """
        if self.state is not WebSocketState.OPEN:
            raise LocalProtocolError(f"can't send a message while {self.state.name}")
        return self._send(TextMessage(data) if isinstance(data, str) else BytesMessage(data))

    def close(self, code: int, reason: str) -> bytes:
        """Our Close frame; the state is CLOSING until the peer's comes.

        Raises:
            LocalProtocolError: not OPEN, or a code that must not travel (RFC 6455 section 7.4).
        """
        registered = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
        if not (registered or 3000 <= code <= 4999):
            raise LocalProtocolError(f"close code cannot be sent: {code!r}")
        if self.state is not WebSocketState.OPEN:
            self.fire(WebSocketEvent.CLOSE)  # raises, and says in which state we are
        data = self._send(CloseConnection(code=code, reason=reason or None))
        self.fire(WebSocketEvent.CLOSE)
        self.close_code, self.close_reason = code, reason
        return data

    def feed(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        """Parse ``data``: the messages completed by it, and the bytes to answer with.

        A broken rule or a too large message becomes a Close frame among these bytes (RFC 6455
        section 7.1.7); look at ``state`` afterwards.
        """
        if self.state is not WebSocketState.OPEN and not self.closing:
            return [], b""
        messages: list[str | bytes] = []
        answer = b""
        self._wsproto.receive_data(data)
        for event in self._wsproto.events():
            if isinstance(event, CloseConnection):
                answer += self._closed(event)
                break
            if self.closing:
                continue  # RFC 6455 1.4: what comes behind our Close frame is discarded
            if isinstance(event, Message):
                answer += self._collect(event, messages)
            elif isinstance(event, Ping):
                answer += self._send(event.response())
        return messages, answer

    def _collect(self, event: Message[Any], messages: list[str | bytes]) -> bytes:
        part = event.data
        if isinstance(part, str):
            self._size += len(part) if part.isascii() else len(part.encode())
        else:
            self._size += len(part)
        if 0 < self._max_message < self._size:
            self._parts.clear()
            return self.close(1009, "message too big")
        if part:  # empty fragments would grow the list, and no limit would see them
            self._parts.append(part)
        if event.message_finished:
            parts, self._parts, self._size = self._parts, [], 0
            if isinstance(event, TextMessage):
                messages.append("".join(parts))  # type: ignore[arg-type]  # one kind a message
            else:
                messages.append(b"".join(parts))  # type: ignore[arg-type]
        return b""

    def _closed(self, event: CloseConnection) -> bytes:
        """A Close frame of the peer's, or wsproto's verdict on a broken frame."""
        if self.state is WebSocketState.CLOSING:
            self.fire(WebSocketEvent.SHUT)
            return b""
        self.close_code, self.close_reason = int(event.code), event.reason or ""
        answer = self._send(event.response())
        self.fire(WebSocketEvent.SHUT)
        return answer

    def _send(self, event: Event) -> bytes:
        try:
            return self._wsproto.send(event)
        except (WSLocalProtocolError, UnicodeError) as exc:
            raise LocalProtocolError(str(exc)) from None
