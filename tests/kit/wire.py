"""Raw socket clients: exact bytes out, exact bytes in.

``Wire`` parses framing strictly and leaves what follows a response for the next call.
``WebSocketWire`` is wsproto as a client on such a socket.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from kit.message import (
    Fields,
    Response,
    Text,
    WireError,
    chunked,
    field_pairs,
    parse_fields,
    parse_head,
    request,
    to_bytes,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Response",
    "WebSocketWire",
    "Wire",
    "WireError",
    "chunked",
    "request",
    "websocket_frame",
]

End = Literal["eof", "reset"]

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)")
_READ = 65536


def websocket_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    """Build one frame by hand, for those that wsproto refuses to send (RFC 6455, 5.2)."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    flag = mask << 7
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


class Wire:
    """A connection, read byte by byte exactly. Timeouts are those of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self.sock = sock
        self._buffer = bytearray()
        self._ended: End | None = None

    def __enter__(self) -> Wire:
        """Use as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the socket."""
        self.close()

    # -- writing ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def request(
        self,
        method: Text = "GET",
        path: Text = "/",
        headers: Fields = (),
        body: bytes = b"",
        version: str = "1.1",
    ) -> Response:
        """Send one request and read its (final) response."""
        self.send(request(method, path, headers, body, version))
        while True:
            response = self.recv_response(head=to_bytes(method) == b"HEAD")
            if response.status >= 200 or response.status == 101:
                return response

    def shutdown_write(self) -> None:
        """Half close: we send no more, but read on."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in an orderly way (FIN, unless unread data makes the kernel send RST)."""
        self.sock.close()

    def abort(self) -> None:
        """Close with RST, as a crashed or impatient client does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- reading bytes ---------------------------------------------------------------------------

    @property
    def buffered(self) -> bytes:
        """What has been received and not yet asked for."""
        return bytes(self._buffer)

    def recv_exact(self, count: int) -> bytes:
        """Read that many bytes."""
        while len(self._buffer) < count:
            self._more(f"{count} bytes")
        return self._take(count)

    def recv_until(self, delimiter: bytes) -> bytes:
        """Read up to the delimiter, and with it."""
        start = 0
        while (found := self._buffer.find(delimiter, start)) < 0:
            start = max(0, len(self._buffer) - len(delimiter) + 1)
            self._more(f"{delimiter!r}")
        return self._take(found + len(delimiter))

    def recv_some(self) -> bytes:
        """Read what there is, at least one byte."""
        if not self._buffer:
            self._more("any byte")
        return self._take(len(self._buffer))

    def recv_eof(self) -> None:
        """Assert that the peer closes now, in an orderly way and without another byte."""
        if not self._buffer:
            self._read()
        if self._buffer:
            raise WireError(f"expected EOF, got {bytes(self._buffer[:200])!r}")
        if self._ended != "eof":
            raise WireError("expected EOF, got a reset")

    def wait_end(self) -> End:
        """Read and drop until the connection ends; tell how."""
        while self._ended is None:
            self._read()
            self._buffer.clear()
        self._buffer.clear()
        return self._ended

    def closed(self) -> bool:
        """Whether the peer has closed (or reset) by now; consumes nothing, does not wait."""
        while self._ended is None:
            before = self.sock.gettimeout()
            self.sock.settimeout(0)
            try:
                self._read()
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                return False
            finally:
                self.sock.settimeout(before)
        return True

    def assert_silent(self, seconds: float) -> None:
        """Assert that for this time nothing arrives and the connection stays open."""
        deadline = time.monotonic() + seconds
        before = self.sock.gettimeout()
        try:
            while not self._buffer and self._ended is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self.sock.settimeout(left)
                try:
                    self._read()
                except TimeoutError:
                    return
        finally:
            self.sock.settimeout(before)
        raise WireError(f"expected silence, got {bytes(self._buffer[:200])!r} {self._ended or ''}")

    # -- reading responses -----------------------------------------------------------------------

    def recv_response(self, *, head: bool = False) -> Response:
        """Read exactly one response, interim ones (1xx) included; ``head``: it answers HEAD."""
        response = self.recv_head(head=head)
        if response.framing == "length":
            length = int(response.all(b"content-length")[0])
            response.body = self.recv_exact(length)
            response.raw += response.body
        elif response.framing == "chunked":
            while (chunk := self.recv_chunk(response)) is not None:
                response.chunks.append(chunk)
            response.body = b"".join(response.chunks)
        elif response.framing == "close":
            while self._ended is None:
                self._read()
            if self._ended == "reset":
                raise WireError(f"reset instead of EOF after a body of {bytes(self._buffer)!r}")
            response.body = self._take(len(self._buffer))
            response.raw += response.body
        return response

    def recv_head(self, *, head: bool = False) -> Response:
        """Read a status line and header fields, and leave the body where it is."""
        raw = self.recv_until(b"\r\n\r\n")
        return parse_head(raw, head=head)

    def recv_chunk(self, response: Response | None = None) -> bytes | None:
        """Read one chunk of a chunked body; None is the last one, whose trailers are read too."""
        line = self.recv_until(b"\r\n")
        size = _CHUNK_LINE.fullmatch(line[:-2])
        if size is None:
            raise WireError(f"not a chunk size: {line!r}")
        length = int(size[1], 16)
        if length:
            data = self.recv_exact(length + 2)
            if not data.endswith(b"\r\n"):
                raise WireError(f"a chunk of {length} bytes is followed by {data[-2:]!r}")
            if response is not None:
                response.raw += line + data
            return data[:-2]
        trailers = []
        while (trailer := self.recv_until(b"\r\n")) != b"\r\n":
            trailers.append(trailer)
        if response is not None:
            response.raw += line + b"".join(trailers) + b"\r\n"
            response.trailers = parse_fields([trailer[:-2] for trailer in trailers])
        return None

    # -- inside ----------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._ended is not None:
            return
        try:
            data = self.sock.recv(_READ)
        except (ConnectionResetError, BrokenPipeError):
            self._ended = "reset"
            return
        if not data:
            self._ended = "eof"
        self._buffer += data

    def _more(self, wanted: str) -> None:
        if self._ended is None:
            self._read()
        else:
            raise WireError(f"{self._ended} instead of {wanted}; so far {bytes(self._buffer)!r}")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


class WebSocketWire:
    """A WebSocket client: wsproto on a raw socket.

    Pings are answered and a close frame is echoed, as a well-behaved client does, unless that is
    switched off.
    """

    def __init__(
        self, sock: socket.socket | Wire, *, auto_pong: bool = True, auto_close: bool = True
    ) -> None:
        """Take over a connected socket; ``connect`` does the handshake."""
        self.wire = sock if isinstance(sock, Wire) else Wire(sock)
        self.connection = WSConnection(ConnectionType.CLIENT)
        self.auto_pong = auto_pong
        self.auto_close = auto_close
        self.subprotocol: str | None = None
        self._events: list[Event] = []
        self._text: list[str] = []
        self._binary: list[bytes] = []

    def __enter__(self) -> WebSocketWire:
        """Use as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the socket, without a word."""
        self.wire.close()

    def connect(
        self,
        path: str = "/",
        subprotocols: Iterable[str] = (),
        headers: Fields = (),
        *,
        host: str = "kit",
        deflate: bool = False,
    ) -> Response:
        """Do the handshake; status 101 means open, anything else is the server's denial."""
        extensions = [PerMessageDeflate()] if deflate else []
        event = Request(
            host=host,
            target=path,
            subprotocols=list(subprotocols),
            extra_headers=field_pairs(headers),
            extensions=list(extensions),
        )
        self.wire.send(self.connection.send(event))
        response = self.wire.recv_response()
        if response.status == 101:
            # Here wsproto checks Sec-WebSocket-Accept and subprotocol: RemoteProtocolError.
            self.connection.receive_data(response.raw)
            accepted = next(iter(self.connection.events()))
            assert isinstance(accepted, AcceptConnection), accepted
            self.subprotocol = accepted.subprotocol
            if self.wire.buffered:
                self.connection.receive_data(self.wire.recv_some())
        return response

    def send(self, event: Event) -> None:
        """Send any event of wsproto."""
        self.wire.send(self.connection.send(event))

    def send_raw(self, data: bytes) -> None:
        """Send bytes past wsproto: see ``websocket_frame``."""
        self.wire.send(data)

    def send_text(self, data: str, *, final: bool = True) -> None:
        """Send a text message, or a fragment of one."""
        self.send(TextMessage(data=data, message_finished=final))

    def send_bytes(self, data: bytes, *, final: bool = True) -> None:
        """Send a binary message, or a fragment of one."""
        self.send(BytesMessage(data=data, message_finished=final))

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping."""
        self.send(Ping(payload=payload))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Send a close frame; ``recv_close`` reads the answer."""
        self.send(CloseConnection(code=code, reason=reason))

    def abort(self) -> None:
        """Close the connection with RST, without a close frame."""
        self.wire.abort()

    def recv(self) -> Event:
        """Read the next event; fragments are put together to one message.

        Raises:
            WireError: the connection ended without a close frame (what clients call 1006).

        """
        while True:
            for event in self._next_events():
                whole = self._whole(event)
                if whole is not None:
                    return whole
            self.connection.receive_data(self.wire.recv_some())

    def recv_text(self) -> str:
        """Read the next message, which has to be text."""
        event = self._recv_message()
        if not isinstance(event, TextMessage):
            raise WireError(f"expected a text message, got {event!r}")
        return event.data

    def recv_bytes(self) -> bytes:
        """Read the next message, which has to be binary."""
        event = self._recv_message()
        if not isinstance(event, BytesMessage):
            raise WireError(f"expected a binary message, got {event!r}")
        return bytes(event.data)

    def recv_close(self) -> tuple[int, str]:
        """Drop messages until the close frame arrives; return its code and reason."""
        while True:
            event = self.recv()
            if isinstance(event, CloseConnection):
                return int(event.code), event.reason or ""

    def recv_eof(self) -> None:
        """Assert that the server closes the connection now, in an orderly way."""
        self.wire.recv_eof()

    def _recv_message(self) -> Event:
        while True:
            event = self.recv()
            if not isinstance(event, Ping | Pong):
                return event

    def _next_events(self) -> Iterable[Event]:
        self._events += self.connection.events()
        while self._events:
            yield self._events.pop(0)

    def _whole(self, event: Event) -> Event | None:
        # wsproto's state is that after everything received: nothing may follow a close frame.
        state = self.connection.state
        if isinstance(event, Ping) and self.auto_pong and state is ConnectionState.OPEN:
            self.send(event.response())
        if isinstance(event, CloseConnection) and self.auto_close:
            # CLOSED already when it is the answer to ours.
            if state is ConnectionState.REMOTE_CLOSING:
                self.send(event.response())
        if not isinstance(event, Message):
            return event
        if isinstance(event, TextMessage):
            self._text.append(event.data)
        else:
            self._binary.append(bytes(event.data))
        if not event.message_finished:
            return None
        text, binary = "".join(self._text), b"".join(self._binary)
        self._text.clear()
        self._binary.clear()
        return (
            TextMessage(data=text) if isinstance(event, TextMessage) else BytesMessage(data=binary)
        )
