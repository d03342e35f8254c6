"""The listening sockets of a worker and the set of its connections.

Accepting is done by hand, one connection for each wake-up. It costs little against a loop's own
server, and not reading a listener is the brake: for ``worker_connections``, when descriptors run
out, and in a burst, of which the workers that share a socket are to get the same.

Three verbs end it: ``suspend()`` accepts no more, ``drain()`` lets the last requests end,
``stop()`` closes what is left.
"""

from __future__ import annotations

import asyncio
import errno

from gunicorn_asgi.aio.fairness import Fairness
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.opening import Opening, PlainOpening, open_connection
from gunicorn_asgi.aio.sharing import PAUSE, Share
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.aio.websocket import WebSocketProtocol
from gunicorn_asgi.protocol.limits import DrainSchedule

__all__ = ["Server"]

# accept(2): the connection was gone before we took it, or a neighbour was faster.
_NO_CONNECTION = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ECONNABORTED})


class Server:
    """Accepts on the listeners of one worker."""

    def __init__(
        self, state: ServerState, listeners: list[Listener], *, shared: bool = False
    ) -> None:
        """``shared``: other processes accept from the same sockets, and are to get their share."""
        self._state = state
        self._listeners = listeners
        self._closing: list[asyncio.TimerHandle] = []
        # Who is not a connection yet, and since when.
        self._opening: dict[Opening, float] = {}
        self._fairness = Fairness(state, listeners, self._opening)
        self._share = Share() if shared else None
        self._suspended = True
        self._accepting = False
        self._resume_timer: asyncio.TimerHandle | None = None
        self._told_cap = False

    def start(self) -> None:
        """Begin to accept."""
        self._suspended = False
        self._resume()

    def suspend(self) -> None:
        """Accept no more; idempotent. What was accepted is served."""
        self._suspended = True
        self._state.on_below_cap = None
        self._fairness.stop()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        self._pause()

    def resume(self) -> None:
        """Take ``suspend()`` and ``drain()`` back: accept again, and close no more WebSockets."""
        for timer in self._closing:
            timer.cancel()
        self._closing.clear()
        self._state.end_drain()
        self.start()

    def drain(self, code: int, spread: float) -> None:
        """Let every connection end after what it has begun.

        Whoever is not open yet has ``drain_linger`` seconds for its PROXY header and its TLS
        handshake. WebSockets close with ``code``, one after another over ``spread`` seconds:
        clients that come back at once must not all come back at the same moment.
        """
        state = self._state
        state.begin_drain()
        state.drain_code = code
        websockets: list[WebSocketProtocol] = []
        for connection in list(state.connections):
            if isinstance(connection, WebSocketProtocol):
                websockets.append(connection)
            else:
                connection.drain(code)
        for index, websocket in enumerate(websockets):
            delay = spread * index / len(websockets)
            self._closing.append(state.loop.call_later(delay, websocket.drain, code))
        if self._opening:
            give_up = state.loop.call_later(
                state.limits.drain_linger, self._give_up, list(self._opening)
            )
            self._closing.append(give_up)

    def take_waiting(self) -> None:
        """Accept who is in the backlog, up to the cap, before the listeners are closed."""
        for listener in self._listeners:
            while not self._full() and self._accept(listener):
                pass

    async def end(self, schedule: DrainSchedule, code: int) -> None:
        """Drain, and deal with what is left as ``schedule`` says; returns at its ``stop``.

        May be cancelled and called again with a quicker schedule.
        """
        self.drain(code, min(self._state.limits.close_spread, schedule.tell / 2))
        loop = self._state.loop
        timers = [
            loop.call_later(schedule.tell, self._tell),
            loop.call_later(schedule.cancel, self._cancel),
        ]
        try:
            await asyncio.wait_for(self._idle(), schedule.stop)
        except asyncio.TimeoutError:
            self.stop()
            await asyncio.sleep(0)  # aborted transports report connection_lost in the next turn
        finally:
            for timer in timers:
                timer.cancel()

    def stop(self) -> None:
        """Close every connection at once."""
        state = self._state
        log = state.log.warning if state.tasks else state.log.debug
        log(
            "Closing %d connections with %d running requests",
            len(state.connections) + len(self._opening),
            len(state.tasks),
        )
        self._give_up(list(self._opening))
        for connection in list(state.connections):
            connection.abort()

    @staticmethod
    def _give_up(opening: list[Opening]) -> None:
        """Close who is no connection yet; those that meanwhile are stay."""
        for each in opening:
            each.cancel()

    def _tell(self) -> None:
        """Send ``http.disconnect`` to the applications that still run."""
        self._state.told = True
        for connection in list(self._state.connections):
            connection.tell()

    def _cancel(self) -> None:
        """Cancel the applications that still run."""
        self._state.cancel_tasks()

    async def _idle(self) -> None:
        """Wait until no connection is open and no application runs."""
        state = self._state
        while self._opening or state.connections or state.tasks:
            tasks = [each for each in self._opening if isinstance(each, asyncio.Task)]
            if tasks:
                await asyncio.wait(tasks)
            elif self._opening:
                await asyncio.sleep(0)  # plain ones take a turn
            else:
                state.idle = asyncio.Event()
                await state.idle.wait()

    def _resume(self) -> None:
        self._resume_timer = None
        self._fairness.stop()
        if self._suspended or self._accepting:
            return
        self._accepting = True
        for listener in self._listeners:
            self._state.loop.add_reader(listener.sock.fileno(), self._accept, listener)

    def _pause(self) -> None:
        if not self._accepting:
            return
        self._accepting = False
        for listener in self._listeners:
            self._state.loop.remove_reader(listener.sock.fileno())

    def _accept(self, listener: Listener) -> bool:
        try:
            sock, address = listener.accept()
        except OSError as exc:
            if exc.errno not in _NO_CONNECTION:
                self._exhausted(exc)
            return False
        state = self._state
        state.totals.accepted += 1
        now = state.loop.time()
        if listener.tls is None and not state.proxy.versions:
            plain = PlainOpening(state, listener, sock, self._opened)
            self._opening[plain] = now
            plain.step()
        else:
            task = state.loop.create_task(open_connection(state, listener, sock, address))
            self._opening[task] = now
            task.add_done_callback(self._opened)
        count = len(self._opening) + len(state.connections)
        if 0 < state.limits.connections <= count:
            self._reached_cap(state.limits.connections)
        elif self._share is not None and self._share.is_taken(count, now) and self._accepting:
            self._pause()
            self._resume_timer = state.loop.call_later(PAUSE, self._resume)
        return True

    def _full(self) -> bool:
        cap = self._state.limits.connections
        return 0 < cap <= len(self._opening) + len(self._state.connections)

    def _opened(self, opening: Opening) -> None:
        self._opening.pop(opening, None)
        # Either it has failed, or it was counted twice, as opening and as open, until now.
        if self._state.on_below_cap is not None:
            self._state.on_below_cap()

    def _reached_cap(self, cap: int) -> None:
        """worker_connections: the backlog holds the next ones, or another worker takes them."""
        self._pause()
        self._state.on_below_cap = self._below_cap
        if not self._suspended:
            self._fairness.start()
        if not self._told_cap:
            self._told_cap = True
            self._state.log.warning("worker_connections (%d) reached: not accepting", cap)

    def _below_cap(self) -> None:
        if len(self._opening) + len(self._state.connections) < self._state.limits.connections:
            self._state.on_below_cap = None
            self._resume()

    def _exhausted(self, exc: OSError) -> None:
        """EMFILE, ENFILE, ENOBUFS, ENOMEM: a readable listener would turn into a busy loop."""
        pause = self._state.limits.accept_pause
        self._pause()
        self._resume_timer = self._state.loop.call_later(pause, self._resume)
        self._state.log.error("Not accepting for %g s: %s", pause, exc)
