"""aio/fairness.py: at worker_connections, whoever holds a place without using it makes room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.aio.state import ASGIApp, Policy
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.protocol.proxy import ProxyPolicy
from kit.loopback import Peer, listen
from kit.message import request
from kit.rig import Receive, Rig, Scope, Send, both_loops, hello, respond, turns, until
from kit.ws import handshake

__all__: list[str] = []

TICK = 0.25
NEVER = 3600.0


class Crowd:
    """A server on a real socket, with a clock set by hand, and those who come."""

    def __init__(self, app: ASGIApp, sock: socket.socket, cap: int) -> None:
        self.rig = Rig(app, connections=cap, keep_alive=NEVER, first_byte=NEVER)
        self.sock = sock
        self.server = Server(self.rig.state, [Listener(sock)])
        self.peers: list[Peer] = []

    async def come(self, count: int = 1, path: str = "") -> list[Peer]:
        """Let so many connect, and send a request if there is a path."""
        fresh = []
        for _ in range(count):
            peer = Peer(*await asyncio.open_connection(*self.sock.getsockname()))
            if path:
                peer.send(request("GET", path))
            fresh.append(peer)
        self.peers += fresh
        return fresh

    async def idle(self, count: int, apart: float = 0.0) -> list[Peer]:
        """Let so many come, get their answer and keep their connection."""
        fresh = []
        for _ in range(count):
            (peer,) = await self.come(path="/")
            await until(lambda peer=peer: peer.received)  # type: ignore[misc]
            await turns()
            self.rig.clock.now += apart  # nothing is due meanwhile, only the deadlines differ
            fresh.append(peer)
        return fresh

    async def tick(self, count: int = 1) -> None:
        """Let it be looked so many times, and what follows from it happen."""
        for _ in range(count):
            self.rig.clock.advance(TICK)
            await turns(100)

    def gone(self) -> int:
        """How many were closed."""
        return sum(peer.ended for peer in self.peers)


@contextlib.asynccontextmanager
async def crowd(app: ASGIApp = hello, cap: int = 2) -> AsyncIterator[Crowd]:
    """Serve at most ``cap``."""
    sock = listen(("127.0.0.1", 0))
    one = Crowd(app, sock, cap)
    one.server.start()
    try:
        yield one
    finally:
        one.server.suspend()
        await turns()
        one.server.stop()
        for task in list(one.rig.state.tasks):
            task.cancel()
        for peer in one.peers:
            await peer.close()
        await until(lambda: not (one.rig.state.connections or one.rig.state.tasks))
        sock.close()


class Held:
    """An application that answers when it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for /held, else answer."""
        if scope["path"] == "/held":
            await self.go_on.wait()
        await respond(send)


@both_loops
async def test_an_idle_connection_makes_room_for_whoever_waits() -> None:
    """CVE-2019-16770: keep-alive connections must not shut everybody else out."""
    async with crowd(cap=2) as c:
        await c.idle(2)
        (late,) = await c.come(path="/late")
        await turns(100)
        assert late.received == b""
        await c.tick()
        await until(lambda: late.received.endswith(b"/late"))
        assert c.gone() == 1


@both_loops
async def test_whoever_would_have_gone_next_goes_first() -> None:
    """The one nearest to its deadline."""
    async with crowd(cap=3) as c:
        first, second, third = await c.idle(3, apart=0.01)
        assert (await first.get()).status == 200  # it has the latest deadline now
        await c.come(path="/")
        await c.tick()
        assert [peer.ended for peer in (first, second, third)] == [False, True, False]


@both_loops
async def test_while_nobody_waits_nobody_has_to_go() -> None:
    """To be full is no reason."""
    async with crowd(cap=2) as c:
        await c.idle(2)
        await c.tick(10)
        assert c.gone() == 0


@both_loops
async def test_below_the_cap_nothing_is_looked_for() -> None:
    """It costs a timer only while the worker is full."""
    async with crowd(cap=2) as c:
        await c.idle(1)
        below = c.rig.clock.pending
        (second,) = await c.idle(1)
        assert c.rig.clock.pending == below + 1
        await second.close()
        await until(lambda: len(c.rig.state.connections) == 1)
        assert c.rig.clock.pending == below


@pytest.mark.parametrize(("cap", "each"), [(3, 1), (19, 1), (40, 2)])
@both_loops
async def test_a_few_go_at_a_time(cap: int, each: int) -> None:
    """5 of 100, and one at the least: those who just wait for their next page stay."""
    async with crowd(cap=cap) as c:
        await c.idle(cap)
        waiting = await c.come(3 * each, path="/")
        for count in (1, 2, 3):
            await c.tick()
            await until(lambda count=count: c.gone() == count * each)  # type: ignore[misc]
        await until(lambda: all(peer.received for peer in waiting))
        await c.tick()
        assert c.gone() == 3 * each


@both_loops
async def test_a_silent_connection_is_idle_too() -> None:
    """Accepted, and not a byte came."""
    async with crowd(cap=2) as c:
        await c.come(2)
        await until(lambda: len(c.rig.state.connections) == 2)
        (late,) = await c.come(path="/late")
        await c.tick()
        await until(lambda: late.received.endswith(b"/late"))


@both_loops
async def test_whoever_is_served_gets_its_answer_and_then_makes_room() -> None:
    """CVE-2021-29509: a client that keeps its connection busy, request after request."""
    app = Held()
    async with crowd(app, cap=1) as c:
        (busy,) = await c.come(path="/held")
        await until(lambda: c.rig.state.tasks)
        (late,) = await c.come(path="/late")
        await c.tick(3)
        assert (busy.received, late.received) == (b"", b"")
        app.go_on.set()
        await until(lambda: busy.ended)
        assert b"connection: close" in busy.received.lower()
        await busy.close()  # until then the server lingers
        await until(lambda: late.received)


@both_loops
async def test_each_is_told_once() -> None:
    """Whoever is told and still busy does not stand in the way of the next."""
    app = Held()
    async with crowd(app, cap=3) as c:
        await c.come(3, path="/held")
        await until(lambda: len(c.rig.state.tasks) == 3)
        await c.come(path="/late")
        await c.tick(2)
        app.go_on.set()
        await until(lambda: sum(bool(peer.received) for peer in c.peers) == 3)
        await turns(100)
        assert c.gone() == 2


@both_loops
async def test_idle_ones_go_before_busy_ones() -> None:
    """To close them costs nobody an answer."""
    app = Held()
    async with crowd(app, cap=2) as c:
        (busy,) = await c.come(path="/held")
        await until(lambda: c.rig.state.tasks)
        await c.idle(1)
        (late,) = await c.come(path="/late")
        await c.tick()
        await until(lambda: late.received)
        app.go_on.set()
        await until(lambda: busy.received)
        assert b"connection: close" not in busy.received.lower()


@both_loops
async def test_websockets_stay() -> None:
    """They were made to last."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async with crowd(app, cap=1) as c:
        (websocket,) = await c.come()
        websocket.send(handshake())
        await until(lambda: websocket.received)
        before = websocket.received
        (late,) = await c.come(path="/late")
        await c.tick(5)
        assert (websocket.received, websocket.ended, late.received) == (before, False, b"")


@both_loops
async def test_whoever_does_not_open_makes_room_after_a_while() -> None:
    """A PROXY header, or a TLS handshake, that does not come holds a place too."""
    async with crowd(cap=1) as c:
        state = c.rig.state
        proxy = ProxyPolicy(frozenset({1}), Networks.parse(["127.0.0.1"]))
        state.proxy = Policy(proxy=proxy).proxy
        (silent,) = await c.come()
        await until(lambda: c.server._opening)
        (late,) = await c.come(path="/late")
        await c.tick(7)
        assert not silent.ended
        await c.tick(2)
        await until(lambda: silent.ended and late.received.endswith(b"/late"))


@both_loops
async def test_a_worker_that_leaves_makes_no_room() -> None:
    """Nobody is accepted any more, so nobody has to go for it."""
    async with crowd(cap=2) as c:
        await c.idle(2)
        await c.come(path="/late")
        c.server.suspend()
        await c.tick(10)
        assert c.gone() == 0
        c.server.start()
        await turns(100)
        await c.tick(2)
        await until(lambda: c.peers[-1].received)


@both_loops
async def test_a_worker_that_leaves_full_makes_no_room() -> None:
    """The last ones are taken out of the backlog, up to the cap, and then the listener closes."""
    async with crowd(cap=2) as c:
        c.server.suspend()
        await c.come(3)
        c.server.take_waiting()
        await until(lambda: len(c.rig.state.connections) == 2 and not c.server._opening)
        await c.tick(10)
        assert c.gone() == 0


@both_loops
async def test_whoever_takes_long_to_go_is_not_told_again() -> None:
    """The goodbye of TLS, or a client that does not take the end of its answer."""
    async with crowd(cap=3) as c:
        slow = c.rig.connect()
        slow.transport.buffer_size = 1
        c.rig.clock.now += 0.01
        second = c.rig.connect()
        c.rig.clock.now += 0.01
        await c.come(2, path="/")
        await until(lambda: len(c.rig.state.connections) == 3)
        await c.tick()
        assert (slow.transport.closing, slow.ended, second.ended) == (True, False, False)
        await c.tick()
        assert (slow.ended, second.ended) == (False, True)
        slow.transport.lose()
