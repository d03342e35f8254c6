"""WebSocket (RFC 6455): wsproto's handshake, our frames, behind one state machine.

HANDSHAKE -> OPEN (accept) | DENIAL (an HTTP response of the application's) | CLOSED (refused);
OPEN -> CLOSING (we sent a Close frame) -> CLOSED; OPEN -> CLOSED (we answered the peer's).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import LocalProtocolError as WSLocalProtocolError
from wsproto.utilities import RemoteProtocolError as WSRemoteProtocolError

from gunicorn_asgi.protocol.deflate import Deflater, Inflater, negotiate
from gunicorn_asgi.protocol.errors import LocalProtocolError, RemoteProtocolError
from gunicorn_asgi.protocol.frames import Control, FrameError, FrameReader, Opcode, frame
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.headers import bad_field_name, bad_field_value
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.machine import Machine

__all__ = ["TRANSITIONS", "WebSocketConnection", "WebSocketEvent", "WebSocketState", "close_frame"]

# RFC 6455 7.4.1: codes that stand for "no code" and "no frame", and never travel in one.
NO_STATUS = 1005
ABNORMAL_CLOSURE = 1006

# What RFC 6455 4.2.1 asks of the opening handshake. Upgrade and Connection were looked at by the
# HTTP parser, in all their field lines; wsproto sees the last of each only.
_HANDSHAKE_FIELDS = frozenset(
    {b"host", b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version"}
)
# What a client takes for an agreement, so only we write it.
_OURS = frozenset({b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol"})
_UPGRADE = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]

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


# Before Python 3.12 a member that is looked up costs seven times a name.
_OPEN = WebSocketState.OPEN
_CLOSING = WebSocketState.CLOSING
_TEXT = Opcode.TEXT
_BINARY = Opcode.BINARY


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
        controls: how many control frames have come in; whoever counts resets it.
        failure: the rule or the limit that the peer has broken; what it sends on cannot be read.
        failed: whether ``fail()`` was called for it.
    """

    __slots__ = (
        "_deflater",
        "_head",
        "_limits",
        "_reader",
        "_wsproto",
        "close_code",
        "close_reason",
        "controls",
        "failed",
        "failure",
    )

    transitions = TRANSITIONS

    def __init__(self, head: RequestHead, limits: Limits) -> None:
        super().__init__(WebSocketState.HANDSHAKE)
        self._head = head
        self._limits = limits
        self._wsproto: WSConnection | None = None  # only while the handshake is under way
        self._reader = FrameReader(limits.websocket_message)
        self._deflater: Deflater | None = None
        self.close_code = ABNORMAL_CLOSURE
        self.close_reason = ""
        self.controls = 0
        self.failure: FrameError | None = None
        self.failed = False

    @property
    def broken(self) -> bool:
        """Whether the peer has broken a rule or a limit."""
        return self.failure is not None

    def listens(self) -> bool:
        """Whether frames of the peer mean anything."""
        state = self.state
        return self.failure is None and (state is _OPEN or state is _CLOSING)

    @property
    def over(self) -> bool:
        """Whether no Close frame is to be sent any more for what the peer has done."""
        return self.failed or self.state is WebSocketState.CLOSED

    def handshake(self) -> list[str]:
        """Check the opening handshake (RFC 6455 section 4.2.1) and return the subprotocols offered.

        Raises:
            RemoteProtocolError: it is none; ``status_hint`` is 400, 405 or 426.
        """
        head = self._head
        if head.method != "GET":
            raise RemoteProtocolError("WebSocket handshake is no GET", 405)
        for once in (b"sec-websocket-key", b"sec-websocket-version"):  # RFC 6455 11.3.1, 11.3.5
            values = [value for name, value in head.headers if name == once]
            if len(values) > 1:
                raise RemoteProtocolError(f"{once.decode()} is there {len(values)} times")
            if once == b"sec-websocket-key" and values and not _KEY.match(values[0]):
                raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
        wsproto = self._wsproto = WSConnection(ConnectionType.SERVER)
        try:
            # Only these: h11, inside wsproto, has its own complaints about all others.
            fields = [pair for pair in head.headers if pair[0] in _HANDSHAKE_FIELDS]
            wsproto.initiate_upgrade_connection([*_UPGRADE, *fields], head.target)
            (request,) = wsproto.events()
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
            if name.lower() in _OURS:
                raise LocalProtocolError(f"{name.decode()} is set by the server")
            # RFC 9110 8.6, RFC 9112 6.1: neither is sent with a 1xx.
            if name.lower() not in (b"content-length", b"transfer-encoding"):
                checked.append((name, value.strip(b" \t")))
        wsproto = self._wsproto
        if wsproto is None or self.state is not WebSocketState.HANDSHAKE:
            raise LocalProtocolError(f"can't ACCEPT while {self.state.name}")
        extension = self._agree()
        if extension:
            checked.append((b"sec-websocket-extensions", extension))
        event = AcceptConnection(subprotocol=subprotocol, extra_headers=checked)
        try:
            data = wsproto.send(event)
        except (WSLocalProtocolError, UnicodeError) as exc:
            raise LocalProtocolError(str(exc)) from None
        self.fire(WebSocketEvent.ACCEPT)
        self._wsproto = None  # 6 KiB that nobody needs any more
        return data

    def _agree(self) -> bytes:
        """Negotiate permessage-deflate (RFC 7692 section 7); the answer, empty without it."""
        limits = self._limits
        if not limits.websocket_deflate_level:
            return b""
        values = [v for name, v in self._head.headers if name == b"sec-websocket-extensions"]
        agreement = negotiate(values, limits.websocket_window_bits)
        if agreement is None:
            return b""
        self._reader = FrameReader(limits.websocket_message, Inflater(agreement))
        self._deflater = Deflater(agreement, limits.websocket_deflate_level)
        return agreement.answer.encode("ascii")

    def message(self, data: str | bytes) -> bytes:
        """One whole message as a frame.

        Raises:
            LocalProtocolError: not OPEN.
        """
        if self.state is not _OPEN:
            raise LocalProtocolError(f"can't send a message while {self.state.name}")
        if isinstance(data, str):
            opcode = _TEXT
            try:
                payload = data.encode()
            except UnicodeEncodeError as exc:
                raise LocalProtocolError(f"text cannot be sent: {exc}") from None
        else:
            opcode, payload = _BINARY, data
        if self._deflater is not None and len(payload) >= self._limits.websocket_deflate_minimum:
            return frame(opcode, self._deflater.deflate(payload), compressed=True)
        return frame(opcode, payload)

    def ping(self, payload: bytes) -> bytes:
        """A Ping frame (RFC 6455 section 5.5.2)."""
        return frame(Opcode.PING, payload)

    def close(self, code: int, reason: str) -> bytes:
        """Our Close frame; the state is CLOSING until the peer's comes.

        Raises:
            LocalProtocolError: not OPEN, or a code or reason that must not travel (RFC 6455
                sections 5.5 and 7.4).
        """
        if not _may_travel(code):
            raise LocalProtocolError(f"close code cannot be sent: {code!r}")
        try:
            reason.encode()
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"close reason cannot be sent: {exc}") from None
        self.fire(WebSocketEvent.CLOSE)
        self.close_code, self.close_reason = code, reason
        return close_frame(code, reason)

    def feed(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        """Parse ``data``: the messages completed by it, and the bytes to answer with.

        Look at ``state`` and ``failure`` afterwards. Behind a ``failure`` nothing is parsed.
        """
        if not self.listens():
            return [], b""
        failure = None
        reader = self._reader
        try:
            items: list[Any] = reader.feed(data)
        except FrameError as exc:
            failure = exc
            items = exc.args[1]
        if self.state is _OPEN and not reader.controls:
            self.failure = failure
            return items, b""
        messages: list[str | bytes] = []
        answers: list[bytes] = []
        for item in items:
            if isinstance(item, Control):
                self.controls += 1
                answers.append(self._control(item))
                if not self.listens():
                    break  # what is behind it is nothing
            elif self.state is WebSocketState.OPEN:
                messages.append(item)  # RFC 6455 1.4: what comes behind our Close is discarded
        else:
            self.failure = failure
        return messages, b"".join(answers)

    def fail(self) -> bytes:
        """Fail the connection for ``failure`` (RFC 6455 section 7.1.7); our Close frame.

        Nothing if one was sent before.
        """
        failure = self.failure
        if failure is None or self.over:
            return b""
        self.failed = True
        if self.state is WebSocketState.CLOSING:
            return b""
        return self.close(failure.code, failure.args[0])

    def _control(self, control: Control) -> bytes:
        if control.opcode is Opcode.CLOSE:
            return self._closed(control.payload)
        if control.opcode is Opcode.PING and self.state is WebSocketState.OPEN:
            return frame(Opcode.PONG, control.payload)
        return b""

    def _closed(self, payload: bytes) -> bytes:
        """A Close frame of the peer's (RFC 6455 sections 5.5.1 and 7.1.5)."""
        code, reason = NO_STATUS, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not _may_travel(code):
                self.failure = FrameError(1002, "malformed close code")
                return b""
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                self.failure = FrameError(1007, "close reason is not UTF-8")
                return b""
        if self.state is WebSocketState.CLOSING:
            self.fire(WebSocketEvent.SHUT)
            return b""
        self.close_code, self.close_reason = code, reason
        self.fire(WebSocketEvent.SHUT)
        return frame(Opcode.CLOSE, payload)


def _may_travel(code: int) -> bool:
    """RFC 6455 section 7.4 and the IANA registry: whether ``code`` may be in a Close frame."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999


def close_frame(code: int, reason: str) -> bytes:
    """A Close frame; of the reason what fits, in whole characters (RFC 6455 section 5.5)."""
    text = reason.encode()[:123].decode("utf-8", "ignore").encode()
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + text)
