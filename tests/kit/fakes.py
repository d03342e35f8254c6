"""Fakes, not mocks: small stand-ins that behave, and remember.

A transport that records, a clock that is set by hand, an app that is a script, and a loop to run
coroutines on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

__all__ = [
    "FakeApp",
    "FakeClock",
    "FakeLog",
    "FakeTimer",
    "FakeTransport",
    "LoopKind",
    "PeerTransport",
    "new_loop",
    "run",
]

T = TypeVar("T")
LoopKind = Literal["asyncio", "uvloop"]
Scope = dict[str, Any]
Message = dict[str, Any]


class FakeTransport(asyncio.Transport):
    """A transport that records what it is told, and calls back only when the test says so.

    ``close`` and ``abort`` call ``connection_lost`` of the protocol at once unless ``deferred``;
    the real ones do so in the next turn of the loop, which a test without a loop does not have.
    """

    def __init__(
        self,
        protocol: asyncio.BaseProtocol | None = None,
        *,
        peername: tuple[str, int] | str | None = ("192.0.2.1", 50000),
        sockname: tuple[str, int] | str | None = ("192.0.2.2", 80),
        extra: dict[str, Any] | None = None,
        deferred: bool = False,
    ) -> None:
        """Stand in for a connection from ``peername`` to ``sockname``."""
        super().__init__({"peername": peername, "sockname": sockname, **(extra or {})})
        self.protocol = protocol
        self.deferred = deferred
        self.writes: list[bytes] = []
        self.reading = True
        self.pauses = 0
        self.resumes = 0
        self.eof_written = False
        self.closing = False
        self.aborted = False
        self.lost = False
        self.limits: tuple[int, int] = (65536, 16384)
        self.buffer_size = 0

    # -- what a test asks and does ---------------------------------------------------------------

    @property
    def data(self) -> bytes:
        """Everything written so far."""
        return b"".join(self.writes)

    def take(self) -> bytes:
        """Everything written since the last take."""
        data = self.data
        self.writes.clear()
        return data

    def lose(self, error: Exception | None = None) -> None:
        """Tell the protocol, once, that the connection is lost."""
        self.closing = True
        if not self.lost:
            self.lost = True
            if self.protocol is not None:
                self.protocol.connection_lost(error)

    def fill(self) -> None:
        """Behave as if the peer had stopped reading: the protocol has to pause writing."""
        self.buffer_size = self.limits[0] + 1
        assert self.protocol is not None
        self.protocol.pause_writing()

    def drain(self) -> None:
        """Behave as if the peer had read everything."""
        self.buffer_size = 0
        assert self.protocol is not None
        self.protocol.resume_writing()

    # -- what a protocol calls -------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Record; writing after the end is a mistake that the real ones only log."""
        assert not self.eof_written, "write after write_eof"
        if not self.closing:
            self.writes.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Record as one write, as the real ones send it."""
        self.write(b"".join(bytes(data) for data in list_of_data))

    def write_eof(self) -> None:
        """Record."""
        self.eof_written = True

    def can_write_eof(self) -> bool:
        """TCP can, TLS cannot: set ``extra={"sslcontext": ...}`` for the latter."""
        return self.get_extra_info("sslcontext") is None

    def close(self) -> None:
        """Record, and lose the connection unless deferred."""
        if not self.closing:
            self.closing = True
            if not self.deferred:
                self.lose()

    def abort(self) -> None:
        """Record, and lose the connection unless deferred."""
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        """Whether close or abort was called, or the connection is lost."""
        return self.closing

    def is_reading(self) -> bool:
        """Whether reading is not paused."""
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        """Record; idempotent as since Python 3.7."""
        self.pauses += self.reading
        self.reading = False

    def resume_reading(self) -> None:
        """Record; idempotent as since Python 3.7."""
        self.resumes += not self.reading
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Switch protocols, as an upgrade does."""
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the present protocol."""
        assert self.protocol is not None
        return self.protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Record as (high, low), with asyncio's defaults for what is not given."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        self.limits = (high, high // 4 if low is None else low)

    def get_write_buffer_size(self) -> int:
        """Return what the test has set."""
        return self.buffer_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high): asyncio's order here differs from that of the setter."""
        high, low = self.limits
        return low, high


class PeerTransport(FakeTransport):
    """A FakeTransport with a peer at its other end, on a running loop.

    It behaves as a socket does: what the peer sends waits while reading is paused and comes in
    pieces, the protocol's own bytes wait while the peer does not read, and the end of the
    connection is reported in the next turn of the loop.
    """

    def __init__(self, protocol: asyncio.BaseProtocol | None = None, **options: Any) -> None:
        """Take the options of a FakeTransport."""
        super().__init__(protocol, deferred=True, **options)
        self.loop = asyncio.get_running_loop()
        self.inbound = bytearray()
        self.chunk = 256 * 1024  # what asyncio and uvloop read at once
        self.peer_reads = True
        self.peer_done = False
        self.dropped: list[bytes] = []
        self.unread_at_end = b""

    def feed(self, data: bytes) -> None:
        """Let the peer send."""
        self.inbound += data
        self._deliver()

    def feed_eof(self) -> None:
        """Let the peer say that it sends no more."""
        self.peer_done = True
        self._deliver()

    def _deliver(self) -> None:
        while self.inbound and self.is_reading():
            data = bytes(self.inbound[: self.chunk])
            del self.inbound[: self.chunk]
            assert isinstance(self.protocol, asyncio.Protocol)
            self.protocol.data_received(data)
        if self.peer_done and not self.inbound and self.is_reading():
            self.peer_done = False
            assert isinstance(self.protocol, asyncio.Protocol)
            if not self.protocol.eof_received():
                self.close()

    def stall(self) -> None:
        """Let the peer stop reading: from now on what is written is buffered."""
        self.peer_reads = False

    def catch_up(self) -> None:
        """Let the peer read all, and go on reading."""
        self.peer_reads = True
        if self.buffer_size > self.limits[0]:
            self.drain()
        self.buffer_size = 0
        if self.closing:
            self.loop.call_soon(self.lose)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Record, or lose what comes after the end; call back as the buffer fills."""
        if self.closing:
            self.dropped.append(bytes(data))
        super().write(data)
        if not self.peer_reads and not self.closing:
            before, self.buffer_size = self.buffer_size, self.buffer_size + len(data)
            if before <= self.limits[0] < self.buffer_size:
                assert self.protocol is not None
                self.protocol.pause_writing()

    def resume_reading(self) -> None:
        """Record, and deliver in the next turn what has waited."""
        super().resume_reading()
        self.loop.call_soon(self._deliver)

    def close(self) -> None:
        """Report the end in the next turn, once everything is written."""
        if not self.closing:
            self.closing = True
            if not self.buffer_size:
                self.loop.call_soon(self.lose)

    def abort(self) -> None:
        """Report the end in the next turn."""
        self.aborted = True
        self.closing = True
        self.loop.call_soon(self.lose)

    def lose(self, error: Exception | None = None) -> None:
        """Tell the protocol, once; what it has not read makes a kernel send a reset."""
        self.unread_at_end = bytes(self.inbound)
        super().lose(error)


class FakeLog:
    """A log that remembers: the methods of Gunicorn's that the rooms use."""

    def __init__(self) -> None:
        """Begin empty."""
        self.records: list[tuple[str, str, BaseException | None]] = []

    def lines(self, *levels: str) -> list[str]:
        """Every message of these levels, or of all."""
        return [text for level, text, _ in self.records if not levels or level in levels]

    def _log(self, level: str, msg: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.records.append((level, msg % args if args else msg, kwargs.get("exc_info")))

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Remember."""
        self._log("debug", msg, args, kwargs)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Remember."""
        self._log("info", msg, args, kwargs)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Remember."""
        self._log("warning", msg, args, kwargs)

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Remember."""
        self._log("error", msg, args, kwargs)


class FakeTimer:
    """What ``FakeClock.call_later`` returns."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        """Remember what to call, and when."""
        self._when = when
        self._callback = callback
        self._cancelled = False

    def when(self) -> float:
        """Return the time it is due."""
        return self._when

    def cancel(self) -> None:
        """Never run; idempotent."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Whether cancel was called."""
        return self._cancelled

    def fire(self) -> None:
        """Run, unless cancelled."""
        if not self._cancelled:
            self._callback()


class FakeClock:
    """Time as a number that the test sets; ``clock()`` and ``clock.time()`` tell it.

    It has a loop's ``call_later``, ``call_at`` and ``call_soon``, so it can stand in for one where
    only timers are needed. Timers run in ``advance``, in order, each at its own time.
    """

    def __init__(self, now: float = 1000.0) -> None:
        """Begin at a time which is not zero, as zero would hide mistakes."""
        self.now = now
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._count = itertools.count()

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def time(self) -> float:
        """Tell the time."""
        return self.now

    @property
    def pending(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled() for _, _, timer in self._timers)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeTimer:
        """Run the callback once the clock has been advanced by that much."""
        return self.call_at(self.now + delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> FakeTimer:
        """Run the callback once the clock shows that time."""
        timer = FakeTimer(when, lambda: callback(*args))
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def call_soon(self, callback: Callable[..., object], *args: Any) -> FakeTimer:
        """Run the callback in the next ``advance``, be it by 0."""
        return self.call_at(self.now, callback, *args)

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what becomes due meanwhile, timers set by timers included."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            timer.fire()
        self.now = end


class FakeApp:
    """An ASGI app that keeps every scope and every message, and sends a fixed list of messages."""

    def __init__(self, *messages: Message, reads: bool = True) -> None:
        """Answer with these messages; without any, with an empty 200."""
        self.messages = messages or (
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]},
            {"type": "http.response.body", "body": b""},
        )
        self.reads = reads
        self.scopes: list[Scope] = []
        self.received: list[Message] = []
        self.sent = 0

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Read the whole request (unless told not to), then send the messages."""
        self.scopes.append(scope)
        more = self.reads
        while more:
            message = await receive()
            self.received.append(message)
            more = message["type"] == "http.request" and message.get("more_body", False)
        for message in self.messages:
            await send(message)
            self.sent += 1


def new_loop(kind: LoopKind = "asyncio") -> asyncio.AbstractEventLoop:
    """Make a loop of that kind; the caller closes it."""
    if kind == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def run(coro: Coroutine[Any, Any, T], loop: LoopKind = "asyncio", timeout: float = 10.0) -> T:
    """Run a coroutine on a fresh loop, bounded in time.

    What a loop would only log, such as a callback that raised, fails the test. Tasks that are left
    over are cancelled.
    """
    complaints: list[dict[str, Any]] = []
    own = new_loop(loop)
    own.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        result = own.run_until_complete(asyncio.wait_for(coro, timeout))
    finally:
        _wind_up(own)
    assert not complaints, f"the loop complained: {complaints}"
    return result


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=5))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
