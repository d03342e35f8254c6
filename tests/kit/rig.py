"""A rig for the connections of aio/: fake transports and a clock set by hand, on a real loop.

@both_loops
async def test_promise() -> None:
    rig = Rig(app)
    client = rig.connect()
    client.send(request())
    await until(lambda: client.received)
    assert client.responses()[0].status == 200
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gunicorn_asgi.aio.deadlines import Deadlines
from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.aio.state import ASGIApp, Message, Policy, Scope, ServerState
from gunicorn_asgi.protocol.limits import Limits
from kit import fakes
from kit.fakes import FakeClock, FakeLog, LoopKind, PeerTransport
from kit.message import Response, WireError, parse_fields, parse_head, request

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from gunicorn_asgi.protocol.accesslog import AccessRecord

__all__ = [
    "ASGIApp",
    "Client",
    "Message",
    "Receive",
    "Rig",
    "Scope",
    "Script",
    "Send",
    "body",
    "both_loops",
    "hello",
    "listener",
    "parse_responses",
    "pathsend",
    "read_all",
    "request",
    "respond",
    "scripted",
    "start",
    "turns",
    "until",
    "zerocopy",
]

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Enough turns of the loop for anything that waits for nothing but turns.
_TURNS = 30


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on asyncio's loop and on uvloop's."""

    @functools.wraps(test)
    def on_a_loop(*args: Any, loop_kind: LoopKind, **kwargs: Any) -> None:
        fakes.run(test(*args, **kwargs), loop_kind)

    signature = inspect.signature(test)
    kind = inspect.Parameter("loop_kind", inspect.Parameter.KEYWORD_ONLY)
    parameters = [*signature.parameters.values(), kind]
    del on_a_loop.__wrapped__  # what pytest would look at instead
    on_a_loop.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return on_a_loop


async def turns(count: int = _TURNS) -> None:
    """Let the loop turn: everything that waits for nothing but turns happens."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(predicate: Callable[[], object], what: str = "", timeout: float = 8.0) -> None:
    """Let the loop turn, and then wait, until the answer is true.

    Raises:
        AssertionError: the answer was still false after ``timeout`` seconds.

    """
    deadline = time.monotonic() + timeout
    turn = 0
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what or 'the condition'}")
        turn += 1
        await asyncio.sleep(0 if turn < 10 * _TURNS else 0.002)


# -- what applications do ------------------------------------------------------------------------


def start(status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    """Build ``http.response.start``."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> Message:
    """Build ``http.response.body``."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def pathsend(path: object) -> Message:
    """Build ``http.response.pathsend``."""
    return {"type": "http.response.pathsend", "path": path}


def zerocopy(file: object, **more: Any) -> Message:
    """Build ``http.response.zerocopysend``; ``more`` is its offset, count and more_body."""
    return {"type": "http.response.zerocopysend", "file": file, **more}


async def respond(
    send: Send, data: bytes = b"ok", status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send a whole response."""
    await send(start(status, headers))
    await send(body(data))


async def read_all(receive: Receive) -> bytes | None:
    """Read a request body to its end; None when the client left before."""
    data = b""
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece: bytes = message["body"]
        data += piece
        if not message["more_body"]:
            return data


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, without reading."""
    await respond(send, scope["path"].encode())


class Script:
    """An application that the test drives by hand: it waits until it is told to go on."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.receive: Receive
        self.send: Send
        self.task: asyncio.Task[Any] | None = None
        self.over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lend receive and send to the test."""
        self.scope, self.receive, self.send = scope, receive, send
        self.task = asyncio.current_task()
        await self.over.wait()

    async def respond(self, data: bytes = b"ok") -> None:
        """Send a whole response."""
        await respond(self.send, data)


async def scripted(data: bytes, **limits: Any) -> tuple[Rig, Client, Script]:
    """Connect, send ``data`` and wait for the application to run."""
    app = Script()
    rig = Rig(app, **limits)
    client = rig.connect()
    client.send(data)
    await until(lambda: app.task)
    return rig, client, app


# -- the rig ---------------------------------------------------------------------------------------


class _ClockedLoop:
    """The running loop, except for its clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: FakeClock) -> None:
        self._loop = loop
        self.time = clock.time
        self.call_later = clock.call_later
        self.call_at = clock.call_at

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the loop has
        return getattr(self._loop, name)


def listener(path: str | bytes | None = None) -> Listener:
    """Make a Listener of a socket that only has a name."""
    sock = SimpleNamespace(family=socket.AF_INET)
    if path is not None:
        sock = SimpleNamespace(family=socket.AF_UNIX, getsockname=lambda: path)
    return Listener(cast("socket.socket", sock))


class Rig:
    """A ServerState with a clock set by hand and a log that remembers.

    ``records`` are the AccessRecords so far.
    """

    def __init__(
        self,
        app: ASGIApp = hello,
        *,
        root_path: str = "",
        policy: Policy | None = None,
        **limits: Any,
    ) -> None:
        """Serve ``app`` within ``Limits(**limits)``; ``policy`` is for more than a root_path."""
        self.clock = FakeClock()
        self.log = FakeLog()
        policy = policy or Policy(root_path=root_path)
        self.state = ServerState(app, self.log, Limits(**limits), policy)
        loop = _ClockedLoop(self.state.loop, self.clock)
        self.state.loop = cast("asyncio.AbstractEventLoop", loop)
        self.state.clock = self.clock.time
        self.state.refusals = RateLimitedLog(self.log, self.clock.time)
        self.state.deadlines = Deadlines(self.state.loop, self.state.connections)
        self.records: list[AccessRecord] = []
        self.state.on_complete = self.records.append
        self.state.keeps_headers = True

    @property
    def counted(self) -> int:
        """How many requests and handshakes have begun."""
        return self.state.requests

    @property
    def complaints(self) -> list[str]:
        """What was logged as a warning or an error."""
        return self.log.lines("warning", "error")

    def named(self, name: str = "GET '/'") -> str:
        """Call the first recorded request as the log does, by its id too."""
        return f"{name} (request {self.records[0].head.request_id})"

    def connect(self, *, unix: str | bytes | None = None, **options: Any) -> Client:
        """Open a connection; the options are those of FakeTransport."""
        return Client(self, listener(unix), options)

    def drain(self, code: int = 1001) -> None:
        """Do what ``Server.drain`` does."""
        self.state.begin_drain()
        self.state.drain_code = code
        for connection in list(self.state.connections):
            connection.drain(code)


class Client:
    """The peer of one connection."""

    def __init__(self, rig: Rig, at: Listener, options: dict[str, Any]) -> None:
        """Connect."""
        self.rig = rig
        self.http = HTTP1Protocol(rig.state, at)
        self.transport = PeerTransport(self.http, **options)
        self.http.connection_made(self.transport)

    @property
    def received(self) -> bytes:
        """Everything that has arrived."""
        return self.transport.data

    @property
    def ended(self) -> bool:
        """Whether the server has closed the connection."""
        return self.transport.lost

    def send(self, data: bytes) -> None:
        """Send."""
        self.transport.feed(data)

    def get(self, path: str = "/", *headers: tuple[str, str], version: str = "1.1") -> None:
        """Send a GET."""
        self.send(request("GET", path, headers, version=version))

    def eof(self) -> None:
        """Send no more."""
        self.transport.feed_eof()

    def leave(self) -> None:
        """Be gone, as by a reset."""
        self.transport.lose(ConnectionResetError())

    def responses(self, *methods: str) -> list[Response]:
        """Parse what has arrived, strictly; ``methods`` as requested, GET where not given."""
        return parse_responses(self.received, *methods)

    async def response(self, count: int = 1) -> Response:
        """Wait until that many responses are complete, and return the last."""

        def complete() -> bool:
            try:
                return len(self.responses()) >= count
            except WireError:
                return False

        await until(complete, f"{count} responses in {self.received!r}")
        return self.responses()[-1]


def parse_responses(data: bytes, *methods: str) -> list[Response]:
    """Parse all of ``data`` as responses.

    Raises:
        WireError: it is not that, or the last one is incomplete.

    """
    found: list[Response] = []
    while data:
        if b"\r\n\r\n" not in data:
            raise WireError(f"incomplete head: {data!r}")
        raw, _, data = data.partition(b"\r\n\r\n")
        is_head = methods[len(found) : len(found) + 1] == ("HEAD",)
        response = parse_head(raw + b"\r\n\r\n", head=is_head)
        data = _parse_body(response, data)
        found.append(response)
    return found


def _parse_body(response: Response, data: bytes) -> bytes:
    if response.framing == "length":
        length = int(response.all(b"content-length")[0])
        if len(data) < length:
            raise WireError(f"{len(data)} of {length} bytes")
        response.body, data = data[:length], data[length:]
    elif response.framing == "close":
        response.body, data = data, b""
    while response.framing == "chunked":
        line, _, data = data.partition(b"\r\n")
        if not line:
            raise WireError("no last chunk")
        size = int(line, 16)
        if size == 0:
            data = _parse_trailers(response, data)
            break
        if data[size : size + 2] != b"\r\n":
            raise WireError(f"bad chunk: {line!r} {data!r}")
        response.chunks.append(data[:size])
        response.body += data[:size]
        data = data[size + 2 :]
    return data


def _parse_trailers(response: Response, data: bytes) -> bytes:
    lines: list[bytes] = []
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            raise WireError(f"no end of the trailers: {line!r}")
        if not line:
            response.trailers = parse_fields(lines)
            return data
        lines.append(line)
