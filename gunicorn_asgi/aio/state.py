"""What the connections of one worker share, and what they may call above them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from gunicorn_asgi.aio.deadlines import Deadlines
from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.aio.totals import Totals
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.headers import DateField
from gunicorn_asgi.protocol.identity import RequestIds
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.proxy import ProxyPolicy
from gunicorn_asgi.protocol.scope import Scopes

__all__ = [
    "ASGIApp",
    "Connection",
    "Log",
    "Message",
    "Meter",
    "Owner",
    "Policy",
    "RequestTable",
    "Scope",
    "ServerState",
]

Scope = dict[str, Any]
Message = dict[str, Any]
ASGIApp = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Log(Protocol):
    """The part of Gunicorn's Logger that is used here."""

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log at DEBUG."""

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log at INFO."""

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log at WARNING."""

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log at ERROR."""


class Connection(Protocol):
    """What the server needs of a connection, whatever it speaks."""

    deadline: float

    def flush(self) -> None:
        """Hand what was gathered to the transport."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self, code: int) -> None:
        """End as soon as what was begun is over; ``code`` closes a WebSocket."""

    def tell(self) -> None:
        """Let a running application know that the end is near."""

    def abort(self) -> None:
        """Close at once, whatever is lost."""


class Owner(Protocol):
    """What runs an application's task.

    Attributes:
        head: the request; scope: its ASGI scope.
        place: where ``RequestTable`` shows it.
    """

    head: RequestHead
    scope: Scope
    place: int


class RequestTable(Protocol):
    """Where the requests that are being worked on can be seen from outside."""

    def begin(self, owner: Owner) -> int:
        """Show a request; its place, for ``end()``."""

    def end(self, place: int) -> None:
        """It is over."""


class Meter(Protocol):
    """Counts finished requests."""

    def request(self, status: int, seconds: float) -> None:
        """A request is over, with that status, after so many seconds."""


@dataclass(frozen=True)
class Policy:
    """What a worker believes of its peers, and what it offers its application.

    Attributes:
        forwarded: whose forwarded fields count, and which.
        proxy: whose PROXY headers count.
        root_path: the setting.
        sendfile: whether files go out by sendfile(2); Gunicorn's ``sendfile``.
        request_id_response: field name for the request's id in responses, b"" for none.
    """

    forwarded: ForwardedPolicy = field(default_factory=ForwardedPolicy)
    proxy: ProxyPolicy = field(default_factory=ProxyPolicy)
    root_path: str = ""
    sendfile: bool = True
    request_id_response: bytes = b""


# What every HTTP scope offers (ASGI: extensions).
_EXTENSIONS = (
    "http.response.early_hint",
    "http.response.pathsend",
    "http.response.trailers",
    "http.response.zerocopysend",
)


_DEFAULT_POLICY = Policy()


class ServerState:
    """Shared by the server and its connections. One for each worker.

    Attributes:
        app, log, limits: as handed in.
        policy: whose forwarded fields count; proxy: whose PROXY headers.
        sendfile, request_id_response: as in ``Policy``.
        scopes: makes the scopes.
        known: what has been read before.
        refusals: for lines that clients can cause as often as they like.
        sheds: whether ``overloaded()`` has to be asked.
        websocket_tasks: how many of ``tasks`` are WebSockets' applications.
        woken: how many of these have been woken by a message and have not run since.
        dirty: who has something to write at the end of this turn of the loop.
        lifespan_state: what the lifespan left in ``scope["state"]``; None without lifespan.
        on_request: called with each request before the application; None costs nothing.
        on_complete: called with each finished exchange; None costs nothing.
        meter: counts finished exchanges; table: shows running ones. None costs nothing.
        totals: everything else that is counted.
        clock: for durations; uvloop's own has milliseconds and stands still within a turn.
        count_request: called at the start of every request and WebSocket handshake.
        connections: all that are open.
        tasks: the application's running tasks, background work behind a response included, and
            whose they are; None for what is no client's.
        keep_alive: whether a connection may be promised another request; one bit for the whole
            worker, which only goes from True to False.
        draining: the worker leaves.
        drain_code: what a WebSocket is closed with, once the drain has begun; 0 before.
        told: the drain nears its end; whoever has read its request gets ``http.disconnect``.
        on_below_cap: called when a connection is gone, while accepting is braked by the cap.
    """

    __slots__ = (
        "_base_context",
        "app",
        "clock",
        "connections",
        "count_request",
        "date",
        "deadlines",
        "dirty",
        "drain_code",
        "draining",
        "idle",
        "keep_alive",
        "known",
        "lifespan_state",
        "limits",
        "log",
        "loop",
        "meter",
        "on_below_cap",
        "on_complete",
        "on_request",
        "policy",
        "proxy",
        "refusals",
        "request_id_response",
        "scopes",
        "sendfile",
        "sheds",
        "table",
        "tasks",
        "told",
        "totals",
        "websocket_tasks",
        "woken",
    )

    def __init__(
        self, app: ASGIApp, log: Log, limits: Limits, policy: Policy = _DEFAULT_POLICY
    ) -> None:
        # Process
        self.app = app
        self.log = log
        self.limits = limits
        self.policy = policy.forwarded
        self.proxy = policy.proxy
        self.sendfile = policy.sendfile
        self.request_id_response = policy.request_id_response
        ids = RequestIds(os.urandom(8).hex()) if policy.forwarded.request_id_field else None
        self.known = KnownLines(limits, policy.forwarded.noted)
        self.scopes = Scopes(policy.forwarded, policy.root_path, _EXTENSIONS, ids)
        self.lifespan_state: dict[str, Any] | None = None
        self.on_request: Callable[[RequestHead, Scope], None] | None = None
        self.on_complete: Callable[[AccessRecord], None] | None = None
        self.meter: Meter | None = None
        self.table: RequestTable | None = None
        self.totals = Totals()
        self.count_request: Callable[[], None] = _nothing
        self.loop = asyncio.get_running_loop()
        self.date = DateField()
        self.clock = time.perf_counter
        self.refusals = RateLimitedLog(log, self.loop.time)
        self.sheds = bool(limits.shed_requests or limits.shed_lag)
        self._base_context = contextvars.copy_context()
        # Connections
        self.connections: set[Connection] = set()
        self.deadlines = Deadlines(self.loop, self.connections)
        self.on_below_cap: Callable[[], None] | None = None
        self.dirty: list[Connection] = []
        # Requests
        self.tasks: dict[asyncio.Task[None], Owner | None] = {}
        self.websocket_tasks = 0
        self.woken = 0
        self.keep_alive = limits.keep_alive > 0
        self.draining = False
        self.drain_code = 0
        self.told = False
        self.idle: asyncio.Event | None = None

    def date_line(self) -> bytes:
        """The Date field line of now."""
        return self.date.line(time.time())

    def gather(self, connection: Connection) -> None:
        """Have ``connection`` flushed at the end of this turn of the loop.

        One write for all that an application sends without suspension: 8 times the throughput
        for a stream of small messages.
        """
        if not self.dirty:
            self.loop.call_soon(self._flush_all)
        self.dirty.append(connection)

    def _flush_all(self) -> None:
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            connection.flush()

    def start_task(
        self, coroutine: Coroutine[Any, Any, None], owner: Owner | None = None
    ) -> asyncio.Task[None]:
        """Run an application's coroutine in a Task and a fresh context of its own.

        The context is a copy of the worker's, never of whoever happens to run now: the next
        pipelined request is started from inside the one before, and must not inherit from it.

        The coroutine of an ``owner`` ends with ``end_task()``: a callback of the Task for it would
        take another turn of the loop.
        """
        context = self._base_context.copy()
        if sys.version_info >= (3, 11):
            task = self.loop.create_task(coroutine, context=context)
        else:
            task = context.run(self.loop.create_task, coroutine)
        self.tasks[task] = owner
        if owner is None:
            task.add_done_callback(self.end_task)
        elif self.table is not None:
            owner.place = self.table.begin(owner)
        return task

    def end_task(self, task: asyncio.Task[None]) -> None:
        """``task`` is over, or will be with its next step; idempotent."""
        owner = self.tasks.pop(task, None)
        if owner is not None and self.table is not None:
            self.table.end(owner.place)
        if self.idle is not None:
            self._check_idle()

    def cancel_tasks(self) -> None:
        """Cancel all that runs, and what was about to."""
        for task in list(self.tasks):
            task.add_done_callback(self.end_task)  # one that has not begun has no end either
            task.cancel()

    def overloaded(self) -> bool:
        """Whether the next request is to be shed; only worth asking if ``sheds``."""
        limits = self.limits
        in_flight = len(self.tasks) - self.websocket_tasks
        if asyncio.current_task() in self.tasks:
            in_flight -= 1  # it has just sent its last, and is followed by a pipelined request
        if not (
            0 < limits.shed_requests <= in_flight or 0.0 < limits.shed_lag <= self.deadlines.lag
        ):
            return False
        self.totals.shed_requests += 1
        self.refusals.tell(
            "Overloaded: %d requests in flight, %.3f s of lag", in_flight, self.deadlines.lag
        )
        return True

    def begin_drain(self) -> None:
        """From now on every answer is the last on its connection; idempotent."""
        self.keep_alive = False
        self.draining = True

    def end_drain(self) -> None:
        """The worker serves on after all; what was told already stays told."""
        self.keep_alive = self.limits.keep_alive > 0
        self.draining = False
        self.told = False
        self.drain_code = 0

    def add(self, connection: Connection) -> None:
        """A connection was made."""
        self.connections.add(connection)
        self.deadlines.wake()

    def discard(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        if self.on_below_cap is not None:
            self.on_below_cap()
        self._check_idle()

    def _check_idle(self) -> None:
        if self.idle is not None and not self.connections and not self.tasks:
            self.idle.set()


def _nothing() -> None:
    """The default of a callback that nobody set."""
