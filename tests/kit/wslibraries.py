"""The WebSocket client libraries for Python, and the list of all: see ``kit.wsclients``."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import websocket
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from kit.wire import WebSocketWire, WireError
from kit.wsclients import PATIENCE, Closed, Library, LoopLibrary, Message, Refused, Talker
from kit.wsnode import Node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from wsproto.events import BytesMessage, Event

__all__ = [
    "LIBRARIES",
    "Aiohttp",
    "AsyncWebsockets",
    "SyncWebsockets",
    "WebSocketClient",
    "Wsproto",
]

_EXTENSIONS = "Sec-WebSocket-Extensions"
_DEFLATE = "permessage-deflate"


def _trusting(authority: str) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=authority) if authority else None


def _parse_close(payload: bytes) -> Closed:
    if not payload:
        return Closed(1005)
    return Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())


# -- websockets ------------------------------------------------------------------------------------


def _of_websockets(error: ConnectionClosed) -> Closed:
    return Closed(error.rcvd.code, error.rcvd.reason) if error.rcvd else Closed(1006)


def _options(subprotocols: Sequence[str], deflate: bool, authority: str) -> dict[str, Any]:
    return {
        "subprotocols": list(subprotocols) or None,
        "compression": "deflate" if deflate else None,
        "ssl": _trusting(authority),
        "proxy": None,
        "max_size": None,
        "open_timeout": PATIENCE,
    }


def _deflates(headers: Any) -> bool:  # noqa: ANN401 - its own class
    return _DEFLATE in (headers.get(_EXTENSIONS) or "")


class AsyncWebsockets(LoopLibrary):
    """websockets, with asyncio."""

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""

        async def opened() -> websockets.asyncio.client.ClientConnection:
            options = _options(subprotocols, deflate, authority)
            return await websockets.asyncio.client.connect(url, **options)

        try:
            return _AsyncWebsocket(self, self.run(opened()))
        except InvalidStatus as error:
            response = error.response
            raise Refused(response.status_code, response.headers, bytes(response.body)) from None


class _AsyncWebsocket(Talker):
    def __init__(
        self, library: AsyncWebsockets, ws: websockets.asyncio.client.ClientConnection
    ) -> None:
        self._run = library.run
        self._ws = ws
        self.subprotocol = ws.subprotocol
        assert ws.response is not None
        self.deflate = _deflates(ws.response.headers)

    def send(self, message: Message) -> None:
        self._run(self._ws.send(message))

    def send_fragments(self, parts: Sequence[str]) -> None:
        self._run(self._ws.send(parts))

    def recv(self) -> Message:
        try:
            return self._run(self._ws.recv())
        except ConnectionClosed as error:
            raise _of_websockets(error) from None

    def ping(self, payload: bytes) -> None:
        async def asked() -> None:
            await (await self._ws.ping(payload))

        self._run(asked())

    def close(self, code: int, reason: str) -> Closed:
        self._run(self._ws.close(code, reason))
        seen = self._ws.protocol.close_rcvd
        return Closed(seen.code, seen.reason) if seen else Closed(1006)

    def drop(self) -> None:
        async def dropped() -> None:
            self._ws.transport.abort()
            await self._ws.wait_closed()

        self._run(dropped())


class SyncWebsockets(Library):
    """websockets, with threads."""

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""
        try:
            options = _options(subprotocols, deflate, authority)
            return _SyncWebsocket(websockets.sync.client.connect(url, **options))
        except InvalidStatus as error:
            response = error.response
            raise Refused(response.status_code, response.headers, bytes(response.body)) from None


class _SyncWebsocket(Talker):
    def __init__(self, opening: AbstractContextManager[Any]) -> None:
        # Since websockets 17.1 only the block may use it; there, connect() connects on entering.
        self._block = contextlib.ExitStack()
        ws: websockets.sync.client.ClientConnection = self._block.enter_context(opening)
        self._ws = ws
        self.subprotocol = ws.subprotocol
        assert ws.response is not None
        self.deflate = _deflates(ws.response.headers)

    def send(self, message: Message) -> None:
        self._ws.send(message)

    def send_fragments(self, parts: Sequence[str]) -> None:
        self._ws.send(parts)

    def recv(self) -> Message:
        try:
            return self._ws.recv(PATIENCE)
        except ConnectionClosed as error:
            raise _of_websockets(error) from None

    def ping(self, payload: bytes) -> None:
        assert self._ws.ping(payload).wait(PATIENCE)

    def close(self, code: int, reason: str) -> Closed:
        self._ws.close(code, reason)
        seen = self._ws.protocol.close_rcvd
        return Closed(seen.code, seen.reason) if seen else Closed(1006)

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._ws.socket.shutdown(socket.SHUT_RDWR)
        self._block.close()


# -- aiohttp ---------------------------------------------------------------------------------------


class Aiohttp(LoopLibrary):
    """aiohttp: no fragments, no body of a refusal, no reason behind its own close()."""

    fragments = False
    shows_body = False

    def __init__(self) -> None:
        """Start the thread, and a session in it."""
        super().__init__()
        self._session = self.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    def stop(self) -> None:
        """End the session too."""
        self.run(self._session.close())
        super().stop()

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""

        async def opened(autoping: bool) -> aiohttp.ClientWebSocketResponse[Any]:
            return await self._session.ws_connect(
                url,
                protocols=subprotocols,
                compress=15 if deflate else 0,
                max_msg_size=0,
                ssl=_trusting(authority) or True,
                autoping=autoping,
            )

        try:
            ws = self.run(opened(True))
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(error.status, error.headers or {}, None) from None
        return _AiohttpWebsocket(self, ws, opened)


class _AiohttpWebsocket(Talker):
    def __init__(self, library: Aiohttp, ws: aiohttp.ClientWebSocketResponse, again: Any) -> None:  # noqa: ANN401 - a coroutine function
        self._run = library.run
        self._ws = ws
        self._again = again
        self.subprotocol = ws.protocol
        self.deflate = bool(ws.compress)

    def send(self, message: Message) -> None:
        text = isinstance(message, str)
        self._run(self._ws.send_str(message) if text else self._ws.send_bytes(message))  # type: ignore[arg-type]

    def recv(self) -> Message:
        message = self._run(self._ws.receive())
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            data: Message = message.data
            return data
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise Closed(message.data, message.extra)
        raise Closed(self._ws.close_code or 1006, None)

    def ping(self, payload: bytes) -> None:
        """On a connection of its own: the other one keeps Pongs to itself."""

        async def asked() -> None:
            async with await self._again(False) as ws:
                await ws.ping(payload)
                answer = await ws.receive()
                assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, payload)

        self._run(asked())

    def close(self, code: int, reason: str) -> Closed:
        self._run(self._ws.close(code=code, message=reason.encode()))
        return Closed(self._ws.close_code or 1006, None)

    def drop(self) -> None:
        async def dropped() -> None:
            self._ws._response.close()

        self._run(dropped())


# -- websocket-client ------------------------------------------------------------------------------


class WebSocketClient(Library):
    """websocket-client, which knows no compression."""

    deflates = False

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""
        assert not deflate
        try:
            ws = websocket.create_connection(
                url,
                timeout=PATIENCE,
                subprotocols=list(subprotocols) or None,
                sslopt={"context": _trusting(authority)} if authority else None,
                http_no_proxy=["*"],
            )
        except websocket.WebSocketBadStatusException as error:
            raise Refused(error.status_code, error.resp_headers or {}, error.resp_body) from None
        return _WebSocketClient(ws)


class _WebSocketClient(Talker):
    def __init__(self, ws: websocket.WebSocket) -> None:
        self._ws = ws
        self.subprotocol = ws.subprotocol
        self.deflate = _DEFLATE in (ws.getheaders() or {}).get(_EXTENSIONS.lower(), "")

    def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._ws.send(message)
        else:
            self._ws.send_binary(message)

    def send_fragments(self, parts: Sequence[str]) -> None:
        abnf = websocket.ABNF
        for number, part in enumerate(parts):
            opcode = abnf.OPCODE_CONT if number else abnf.OPCODE_TEXT
            last = number == len(parts) - 1
            self._ws.send_frame(abnf.create_frame(part.encode(), opcode, int(last)))

    def recv(self) -> Message:
        while True:
            opcode, data = self._next()
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return data.decode()
            if opcode == websocket.ABNF.OPCODE_BINARY:
                return data

    def _next(self) -> tuple[int, bytes]:
        try:
            opcode, data = self._ws.recv_data(control_frame=True)
        except websocket.WebSocketConnectionClosedException:
            raise Closed(1006) from None
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise _parse_close(data)
        return opcode, data

    def ping(self, payload: bytes) -> None:
        self._ws.ping(payload)
        while self._next() != (websocket.ABNF.OPCODE_PONG, payload):
            pass

    def close(self, code: int, reason: str) -> Closed:
        self._ws.send_close(code, reason.encode())
        while True:
            # recv_data() would send a second Close frame.
            frame = self._ws.recv_frame()  # type: ignore[no-untyped-call]
            if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
                return _parse_close(frame.data)

    def drop(self) -> None:
        self._ws.shutdown()  # type: ignore[no-untyped-call]


# -- wsproto ---------------------------------------------------------------------------------------


class Wsproto(Library):
    """wsproto on a blocking socket."""

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""
        to = urlsplit(url)
        assert to.hostname is not None
        sock = socket.create_connection((to.hostname, to.port or 80), timeout=PATIENCE)
        context = _trusting(authority)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=to.hostname)
        wire = WebSocketWire(sock)
        target = f"{to.path}?{to.query}" if to.query else to.path
        answer = wire.connect(target, subprotocols, host=to.netloc, deflate=deflate)
        if answer.status != 101:
            wire.wire.close()
            fields = {name.decode(): value.decode() for name, value in answer.headers}
            raise Refused(answer.status, fields, answer.body)
        return _Wsproto(wire, _DEFLATE in (answer.header(_EXTENSIONS) or b"").decode())


class _Wsproto(Talker):
    def __init__(self, wire: WebSocketWire, deflate: bool) -> None:
        self._wire = wire
        self.subprotocol = wire.subprotocol
        self.deflate = deflate

    def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._wire.send_text(message)
        else:
            self._wire.send_bytes(message)

    def send_fragments(self, parts: Sequence[str]) -> None:
        for number, part in enumerate(parts, 1):
            self._wire.send_text(part, final=number == len(parts))

    def recv(self) -> Message:
        while True:
            event = self._next()
            if not isinstance(event, Ping | Pong):
                return event.data if isinstance(event, TextMessage) else bytes(event.data)

    def _next(self) -> TextMessage | BytesMessage | Ping | Pong:
        try:
            event: Event = self._wire.recv()
        except WireError:
            raise Closed(1006) from None
        if isinstance(event, CloseConnection):
            raise Closed(int(event.code), event.reason or "")
        return event  # type: ignore[return-value]

    def ping(self, payload: bytes) -> None:
        self._wire.ping(payload)
        while True:
            event = self._next()
            if isinstance(event, Pong):
                assert bytes(event.payload) == payload
                return

    def close(self, code: int, reason: str) -> Closed:
        self._wire.close(code, reason)
        return Closed(*self._wire.recv_close())

    def drop(self) -> None:
        self._wire.wire.close()


# By the names under which one installs them.
LIBRARIES: dict[str, type[Library]] = {
    "websockets": AsyncWebsockets,
    "websockets.sync": SyncWebsockets,
    "aiohttp": Aiohttp,
    "websocket-client": WebSocketClient,
    "wsproto": Wsproto,
    "ws": Node,
}
