"""Clients that count what they got, for servers that count what they gave.

Each request says what it wants to be answered with; the application below does as it is told.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from kit.message import request
from kit.wire import WebSocketWire, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["OBEDIENT", "Counted", "CountingLoad", "status_class"]

# GET /STATUS/MILLISECONDS
OBEDIENT = """
import asyncio

async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": kind + ".complete"})
        if kind == "lifespan.shutdown":
            return

async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": "pong"})

async def http(scope, send):
    _, status, milliseconds = scope["path"].split("/")
    await asyncio.sleep(int(milliseconds) / 1000)
    fields = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": int(status), "headers": fields})
    await send({"type": "http.response.body", "body": b"done"})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await http(scope, send)
"""

# What is asked for: status, milliseconds, how often of a hundred.
_MIX = ((200, 30, 60), (200, 300, 15), (404, 35, 10), (302, 35, 5), (503, 60, 10))
_PATIENCE = 20.0


class Counted(NamedTuple):
    """One answer, and how long it took (seconds) from the last byte out to the last byte in."""

    status: int
    seconds: float


def status_class(status: int) -> str:
    """As metrics name it."""
    return f"{status // 100}xx"


class CountingLoad:
    """A number of clients, each with a connection that it keeps, from ``with`` until its end.

    Attributes:
        answers: what has come.
        failures: what has not, and why.
    """

    def __init__(
        self, connect: Callable[[float], socket.socket], *, http: int = 6, websocket: int = 2
    ) -> None:
        """``connect``: opens a connection with a given timeout, as ``Master.connect`` does."""
        self.answers: list[Counted] = []
        self.failures: list[str] = []
        self._connect = connect
        self._stopping = threading.Event()
        kinds = [self._http] * http + [self._websocket] * websocket
        self._threads = [threading.Thread(target=each, daemon=True) for each in kinds]

    def __enter__(self) -> CountingLoad:
        """Start all clients."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let every client finish its request, and end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_PATIENCE + 5)
            assert not thread.is_alive(), "a client does not end"

    def classes(self) -> Counter[str]:
        """How many answers of each class."""
        return Counter(status_class(each.status) for each in list(self.answers))

    def _http(self) -> None:
        wire: Wire | None = None
        while not self._stopping.is_set():
            (wanted,) = random.choices(_MIX, weights=[each[2] for each in _MIX])
            try:
                if wire is None or wire.closed():
                    wire = Wire(self._connect(_PATIENCE))
                begun = time.perf_counter()
                wire.send(request("GET", f"/{wanted[0]}/{wanted[1]}"))
                response = wire.recv_response()
                seconds = time.perf_counter() - begun
                assert response.status == wanted[0], response.raw
                self.answers.append(Counted(response.status, seconds))
                if response.keeps_alive:
                    continue
            except (OSError, WireError) as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")
            if wire is not None:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()

    def _websocket(self) -> None:
        """A handshake is a request; what is said then is none, and a drain may cut it short."""
        while not self._stopping.is_set():
            try:
                with WebSocketWire(self._connect(_PATIENCE)) as ws:
                    begun = time.perf_counter()
                    response = ws.connect("/")
                    seconds = time.perf_counter() - begun
                    assert response.status == 101, response.raw
                    self.answers.append(Counted(101, seconds))
                    with suppress(OSError, WireError, LocalProtocolError):
                        ws.send_text("ping")
                        ws.recv()
                        ws.close()
                        ws.recv_close()
            except (OSError, WireError, RemoteProtocolError) as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")
            self._stopping.wait(0.05)
