"""What the connections of one worker share, and what they may call above them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import IntEnum
from typing import Any, Protocol

from gunicorn_asgi.aio.deadlines import Deadlines
from gunicorn_asgi.aio.overload import RateLimitedLog
from gunicorn_asgi.aio.spawn import CAN_START_AT_ONCE, created, new_task
from gunicorn_asgi.aio.totals import Totals
from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead
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
    "Progress",
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
    """What the server needs of a connection, whatever it speaks.

    Attributes:
        deadline: when to call ``expire()``, by the loop's time; 0 for never.
        pipelining: whether a request was begun that had waited for the answer before it.
    """

    deadline: float
    pipelining: bool

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
        task: that task; None while it is being started.
    """

    head: RequestHead
    scope: Scope
    task: asyncio.Task[None] | None


class Progress(IntEnum):
    """How far a running request is, as far as it is shown: see ``RequestTable``."""

    WAITING = 0
    RESPONDING = 1
    WEBSOCKET = 2


class RequestTable(Protocol):
    """Where the requests that are being worked on can be seen from outside."""

    def begin(self, owner: Owner) -> int:
        """Show a request, WAITING; its place, for the other two."""

    def note(self, place: int, progress: Progress) -> None:
        """It has got that far."""

    def end(self, place: int) -> None:
        """It is over."""


class Meter(Protocol):
    """Counts finished requests."""

    def request(self, status: int, seconds: float) -> None:
        """A request is over, with that status, after so many seconds."""

    def settle(self) -> None:
        """What was counted is to be kept, whatever becomes of the worker."""


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
        before_flush: called before what a connection has gathered goes out; None costs nothing.
        keeps_headers: whether ``on_complete`` looks at the headers of responses.
        meter: counts finished exchanges; table: shows running ones. None costs nothing.
        totals: everything else that is counted.
        answered: when the last answer was written whole, by ``clock``.
        clock: for durations; uvloop's own has milliseconds and stands still within a turn.
        requests: how many requests and WebSocket handshakes have begun.
        enough: at how many ``on_enough`` is called; 0 for never.
        connections: all that are open.
        tasks: the application's running tasks, background work behind a response included, and
            whose they are; None for what is no client's.
        starting: whose application takes its first step before it has a place in ``tasks``.
        keep_alive: whether a connection may be promised another request; one bit for the whole
            worker, which only goes from True to False.
        draining: the worker leaves.
        drain_code: what a WebSocket is closed with, once the drain has begun; 0 before.
        told: the drain nears its end; whoever has read its request gets ``http.disconnect``.
        on_below_cap: called when a connection is gone, while accepting is braked by the cap.
    """

    __slots__ = (
        "_base_context",
        "_date",
        "_date_due",
        "_new_task",
        "_task_factory",
        "answered",
        "app",
        "before_flush",
        "clock",
        "connections",
        "deadlines",
        "dirty",
        "drain_code",
        "draining",
        "enough",
        "idle",
        "keep_alive",
        "keeps_headers",
        "known",
        "lifespan_state",
        "limits",
        "log",
        "loop",
        "meter",
        "on_below_cap",
        "on_complete",
        "on_enough",
        "on_request",
        "policy",
        "proxy",
        "refusals",
        "request_id_response",
        "requests",
        "scopes",
        "sendfile",
        "sheds",
        "starting",
        "table",
        "tasks",
        "told",
        "totals",
        "vectored",
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
        self.scopes = Scopes(policy.forwarded, policy.root_path, ids)
        self.lifespan_state: dict[str, Any] | None = None
        self.on_request: Callable[[RequestHead, Scope], None] | None = None
        self.on_complete: Callable[[AccessRecord], None] | None = None
        self.before_flush: Callable[[], None] | None = None
        self.keeps_headers = False
        self.meter: Meter | None = None
        self.table: RequestTable | None = None
        self.totals = Totals()
        self.requests = 0
        self.enough = 0
        self.on_enough: Callable[[], None] = _nothing
        self.loop = asyncio.get_running_loop()
        self.vectored = type(self.loop).__module__ == "uvloop"
        self._new_task = new_task(self.loop)
        self._task_factory = self.loop.get_task_factory
        self.answered = 0.0
        self._date, self._date_due = b"", 0.0
        self.clock = time.monotonic
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
        self.starting: Owner | None = None
        self.websocket_tasks = 0
        self.woken = 0
        self.keep_alive = limits.keep_alive > 0
        self.draining = False
        self.drain_code = 0
        self.told = False
        self.idle: asyncio.Event | None = None

    def date_line(self, now: float = 0.0) -> bytes:
        """The Date field line (RFC 9110 section 6.6.1); ``now``, if it is known, is of ``clock``.

        Made anew once a second, and late by as much if somebody sets the time.
        """
        now = now or self.clock()
        if now >= self._date_due:
            wall = time.time()
            self._date_due = now + 1.0 - wall % 1.0
            self._date = b"date: %b\r\n" % formatdate(wall, usegmt=True).encode("ascii")
        return self._date

    def count_request(self) -> None:
        """A request, or a WebSocket handshake, begins."""
        self.requests += 1
        if self.requests == self.enough:
            self.on_enough()

    def gather(self, connection: Connection) -> None:
        """Have ``connection`` flushed at the end of this turn of the loop.

        One write for all that an application sends without suspension: 8 times the throughput
        for a stream of small messages.
        """
        if not self.dirty:
            self.loop.call_soon(self._flush_all)
        self.dirty.append(connection)

    def _flush_all(self) -> None:
        if self.meter is not None:
            self.meter.settle()
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            if connection.pipelining:
                # The next answer comes in this turn, unless its application waits for something.
                connection.pipelining = False
                self.gather(connection)
            else:
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
        if self._task_factory() is None:
            task = self._new_task(coroutine, context=self._base_context.copy())
        else:
            task = created(self.loop, coroutine, self._base_context.copy())
        self.tasks[task] = owner
        if owner is None:
            task.add_done_callback(self.end_task)
        else:
            owner.task = task
        return task

    def start_at_once(self, coroutine: Coroutine[Any, Any, None], owner: Owner) -> None:
        """The same, and the first step of ``coroutine`` is done when this returns.

        Where Python can, and not from inside of a Task: stacks would grow with each request that
        is pipelined.
        """
        if (
            not CAN_START_AT_ONCE
            or self._task_factory() is not None
            or asyncio.current_task() is not None
        ):
            self.start_task(coroutine, owner)
            return
        self.starting = owner
        try:
            task = self._new_task(coroutine, context=self._base_context.copy(), eager_start=True)
        finally:
            self.starting = None
        if not task.done():
            owner.task = task
            self.tasks[task] = owner

    def end_task(self, task: asyncio.Task[None]) -> None:
        """``task`` is over, or will be with its next step; idempotent."""
        self.tasks.pop(task, None)
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
