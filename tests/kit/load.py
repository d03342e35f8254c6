"""Load: an application to be deployed again and again, and clients that forgive nothing.

Each client is a thread with a connection of its own. It never tries a request again: what was
not answered has failed. Only a connection that was closed while nobody used it is opened anew
before the next request, as every client does.

    with Master("app:app", files={"app.py": source("one")}) as m, Load(m.connect, fresh=2) as load:
        load.wait(100)
        m.signal(SIGHUP)
    load.check()
"""

from __future__ import annotations

import os
import random
import socket
import textwrap
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from kit.waiting import wait_until
from kit.wire import WebSocketWire, Wire, WireError, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["GOING_AWAY", "Answer", "Load", "Refused", "source"]

# RFC 6455 7.4.1 and IANA: "going away", "service restart". After both a client comes back.
GOING_AWAY = frozenset({1001, 1012})
_UPLOAD = bytes(1024 * 1024)
# A request that takes longer has failed.
_PATIENCE = 20.0
# How long (seconds) a phase of load lasts at least: nothing in the suite, which has to be quick,
# and KIT_LOAD_SECONDS=20 whenever reload is touched.
LOAD_SECONDS = float(os.environ.get("KIT_LOAD_SECONDS", "0"))

_APP = """
import asyncio, os
{first}
VERSION = {version!r}

async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.startup":
{startup}
        await send({{"type": kind + ".complete"}})
        if kind == "lifespan.shutdown":
            return

async def websocket(receive, send):
    await receive()
    await send({{"type": "websocket.accept"}})
    while (await receive())["type"] == "websocket.receive":
        await send({{"type": "websocket.send", "text": VERSION}})

async def stream(send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    while True:
        await send({{"type": "http.response.body", "body": b"tick", "more_body": True}})
        await asyncio.sleep(0.05)

async def read(receive):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))  # http.disconnect has none
        more = message.get("more_body", False)
    return size

async def http(scope, receive, send):
    size, status = await read(receive), 200
    headers = dict(scope["headers"])
    if size != int(headers.get(b"content-length", b"0")):
        status = 400
{answer}
    length = str(len(VERSION)).encode()
    fields = [(b"content-length", length)]
    await send({{"type": "http.response.start", "status": status, "headers": fields}})
    await send({{"type": "http.response.body", "body": VERSION.encode()}})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    elif scope["path"] == "/stream":
        await stream(send)
    else:
        await http(scope, receive, send)
"""


def source(version: str, *, first: str = "", startup: str = "pass", answer: str = "pass") -> str:
    """Write an ``app.py`` that answers everything with ``version``.

    ``first`` runs while it is imported, ``startup`` in lifespan.startup, ``answer`` before each
    answer (``scope`` and ``status`` are at hand).
    """
    return _APP.format(
        version=version,
        first=textwrap.dedent(first),
        startup=textwrap.indent(textwrap.dedent(startup), " " * 12),
        answer=textwrap.indent(textwrap.dedent(answer), " " * 4),
    )


class Refused(Exception):
    """A connection that no worker has taken: the server is gone, as ``until_gone`` expects."""


class Answer(NamedTuple):
    """One request: who, when (monotonic), and what came back; ``failure`` is empty if it did."""

    kind: str
    begun: float
    ended: float
    body: str
    failure: str

    @property
    def seconds(self) -> float:
        """How long it took, the opening of a connection included."""
        return self.ended - self.begun


class _Client(threading.Thread):
    """One client; subclasses know one kind of request."""

    kind = ""
    pause = (0.0, 0.03)

    def __init__(self, load: Load) -> None:
        super().__init__(name=f"load-{self.kind}", daemon=True)
        self.load = load
        # Whether a worker is known to have taken this connection: it has answered on it before.
        self.known = False

    def run(self) -> None:
        while not self.load.stopping.wait(random.uniform(*self.pause)):
            begun, body, failure = time.monotonic(), "", ""
            try:
                body = self.ask()
            except Refused:
                self.load.gone.append(begun)
                break
            except (OSError, WireError, RemoteProtocolError, AssertionError) as exc:
                failure = f"{type(exc).__name__}: {exc}"
                self.close()
            self.load.answers.append(Answer(self.kind, begun, time.monotonic(), body, failure))
        self.close()

    def ask(self) -> str:
        """Send one request and return the body of its answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Close whatever is open."""

    def connect(self) -> socket.socket:
        """Open a connection."""
        self.known = False
        try:
            return self.load.connect(_PATIENCE)
        except (ConnectionRefusedError, FileNotFoundError) as exc:
            if self.load.until_gone:
                raise Refused from exc
            raise


class _HTTPClient(_Client):
    """GET on a connection that is kept."""

    kind = "keep-alive"
    pause = (0.0, 0.2)
    data = request("GET", "/")
    keeps = True

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.wire: Wire | None = None

    def ask(self) -> str:
        wire = self.wire
        if wire is None or wire.closed():
            self.close()
            wire = self.wire = Wire(self.connect())
        try:
            self.send(wire)
            response = wire.recv_response()
        except (ConnectionResetError, BrokenPipeError, WireError) as exc:
            if self.load.until_gone and not self.known and not wire.buffered:
                raise Refused from exc  # it was still in the backlog of a closed listener
            raise
        assert response.status == 200, response.raw[:300]
        self.known = True
        if not self.keeps or not response.keeps_alive:
            self.close()
        return response.body.decode()

    def send(self, wire: Wire) -> None:
        """Send the request."""
        wire.send(self.data)

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None


class _Fresh(_HTTPClient):
    """GET on a new connection each time."""

    kind = "fresh"
    pause = (0.0, 0.04)
    keeps = False


class _Upload(_HTTPClient):
    """POST of a megabyte on a connection that is kept."""

    kind = "upload"
    pause = (0.05, 0.3)
    data = request("POST", "/", body=_UPLOAD)


class _WebSocket(_Client):
    """Messages and echoes on a WebSocket, opened again when the server says that it leaves."""

    kind = "websocket"
    pause = (0.0, 0.1)

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.ws: WebSocketWire | None = None

    def ask(self) -> str:
        if self.ws is None:
            self.ws = WebSocketWire(self.connect())
            try:
                response = self.ws.connect("/")
            except (ConnectionResetError, BrokenPipeError, WireError) as exc:
                if self.load.until_gone:
                    raise Refused from exc
                raise
            assert response.status == 101, response.raw[:300]
        if self.ws.connection.state is ConnectionState.OPEN:
            self.ws.send_text("?")  # else a Close frame came along with the last echo
        event = self.ws.recv()
        if isinstance(event, TextMessage):
            return event.data
        self.close()
        # The message was not taken, and the client knows it: that is what the code is for.
        assert isinstance(event, CloseConnection), event
        assert event.code in GOING_AWAY, event
        self.load.reconnects.append(time.monotonic())
        return ""

    def close(self) -> None:
        if self.ws is not None:
            self.ws.wire.close()
            self.ws = None


class Load:
    """A number of clients of each kind, from ``with`` until its end.

    Args:
        connect: opens a connection with a given timeout, as ``Master.connect`` does.
        keep_alive, fresh, websocket, upload: how many clients of that kind.
        until_gone: the server is expected to end: a client whose new connection is not taken
            by any worker then ends as well. What fails on a connection that was taken, fails.

    """

    def __init__(
        self,
        connect: Callable[[float], socket.socket],
        *,
        keep_alive: int = 2,
        fresh: int = 2,
        websocket: int = 1,
        upload: int = 1,
        until_gone: bool = False,
    ) -> None:
        """Make the clients; nothing is sent before the ``with`` block is entered."""
        self.connect = connect
        self.until_gone = until_gone
        self.stopping = threading.Event()
        # Lists, because appending to one is atomic: the clients share nothing else.
        self.answers: list[Answer] = []
        self.reconnects: list[float] = []
        self.gone: list[float] = []
        counts = {_HTTPClient: keep_alive, _Fresh: fresh, _WebSocket: websocket, _Upload: upload}
        self._clients = [kind(self) for kind, count in counts.items() for _ in range(count)]

    def __enter__(self) -> Load:
        """Start all clients."""
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let every client finish its request, and end."""
        self.stopping.set()
        for client in self._clients:
            client.join(_PATIENCE + 5)
            assert not client.is_alive(), f"{client.name} does not end"

    @property
    def failures(self) -> list[Answer]:
        """Everything that was not answered, and why."""
        return [each for each in list(self.answers) if each.failure]

    @property
    def slowest(self) -> Answer:
        """The request that took longest."""
        return max(list(self.answers), key=lambda each: each.seconds)

    def counts(self) -> Counter[str]:
        """How many requests of each kind were answered."""
        return Counter(each.kind for each in list(self.answers) if not each.failure)

    def bodies(self, since: float = 0.0) -> set[str]:
        """What the requests that were begun since then were answered with."""
        return {each.body for each in list(self.answers) if each.begun >= since and each.body}

    def wait(self, count: int, timeout: float = 30.0) -> None:
        """Wait for ``count`` more answers, one of each kind at least, and for LOAD_SECONDS."""
        wanted = len(self.answers) + count
        until = time.monotonic() + LOAD_SECONDS

        def enough() -> bool:
            return (
                len(self.answers) >= wanted and time.monotonic() >= until and not self._unanswered()
            )

        wait_until(enough, timeout + LOAD_SECONDS, f"{count} more answers")

    def wait_body(self, body: str, timeout: float = 20.0) -> None:
        """Wait until everything that is begun is answered with ``body`` and nothing else."""
        wait_until(lambda: self._only(body), timeout, f"{body!r} and nothing else")

    def wait_gone(self, timeout: float = 40.0) -> None:
        """Wait until every client has found the server gone."""
        over = lambda: not any(client.is_alive() for client in self._clients)  # noqa: E731
        wait_until(over, timeout, "every client to find the server gone")

    def check(self, *, slowest: float | None = None) -> None:
        """Assert that nothing has failed, every kind of request was answered, and how soon."""
        failures = self.failures
        first = min((each.begun for each in self.answers), default=0.0)
        told = [f"{each.kind} at {each.begun - first:.2f}: {each.failure}" for each in failures]
        assert not failures, f"{len(told)} of {len(self.answers)} failed: {told[:10]}"
        missing = self._unanswered()
        assert not missing, f"no answers at all: {missing}"
        if slowest is not None:
            worst = self.slowest
            assert worst.seconds < slowest, f"{worst} at {worst.begun - first:.2f}"

    def _unanswered(self) -> set[str]:
        """The kinds of request that nobody has answered yet."""
        return {client.kind for client in self._clients} - set(self.counts())

    def _only(self, body: str) -> bool:
        recent = [each.body for each in self.answers[-40:] if each.body]
        return len(recent) >= 20 and set(recent) == {body}
