"""aio/opening.py: how a plain connection is opened, without a Task. TLS: test_server_proxy.py."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from gunicorn_asgi.aio.opening import PlainOpening
from kit.loopback import anonymous_tls, serving
from kit.message import request
from kit.rig import both_loops, turns, until

if TYPE_CHECKING:
    from kit.loopback import Serving

__all__: list[str] = []


def knock(served: Serving) -> socket.socket:
    """Connect to the first socket, without the loop."""
    client = socket.create_connection(served.socks[0].getsockname(), timeout=5.0)
    client.setblocking(False)
    return client


class Failing:
    """The running loop, which makes no connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the loop has
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, *_args: object, **_options: object) -> None:
        """Fail as it does where the peer is gone already."""
        raise ConnectionResetError("gone")


@both_loops
async def test_a_plain_connection_is_opened_without_a_task() -> None:
    """A Task would be half of what accepting costs."""
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:  # noqa: ANN401
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **more)

    async with serving() as served:
        served.state.loop.set_task_factory(factory)
        with knock(served):
            await until(lambda: served.state.connections)
        served.state.loop.set_task_factory(None)
        assert made == []
        assert served.state.totals.accepted == 1
        await until(lambda: not served.server._opening)


@both_loops
async def test_what_cannot_be_opened_is_closed_and_counted() -> None:
    """The client sees the end, and the next one is served."""
    async with serving() as served:
        loop = served.state.loop
        failing: Any = Failing(loop)
        served.state.loop = failing
        with knock(served) as client:
            await until(lambda: served.state.totals.refused_connections == 1)
            assert client.recv(1) == b""
        served.state.loop = loop
        assert not served.server._opening
        assert served.log.lines("warning", "error") == []
        assert (await (await served.connect()).get()).status == 200


@both_loops
async def test_an_opening_can_be_given_up() -> None:
    """Server.stop(): who was accepted in this very turn is no connection yet."""
    async with serving() as served:
        served.server.suspend()
        with knock(served) as client:
            served.server.take_waiting()
            assert len(served.server._opening) == 1
            assert isinstance(next(iter(served.server._opening)), PlainOpening)
            for opening in list(served.server._opening):
                opening.cancel()
            await until(lambda: not served.server._opening)
            assert served.state.totals.refused_connections == 1
            await turns()
            assert client.recv(1) == b""
        served.state.connections.clear()  # on uvloop it is never told that it is lost


@both_loops
async def test_an_opening_that_is_over_cannot_be_given_up() -> None:
    """Fairness and stop() may come a moment late."""
    async with serving() as served:
        served.server.suspend()
        with knock(served) as client:
            served.server.take_waiting()
            (opening,) = served.server._opening
            await until(lambda: not served.server._opening)
            opening.cancel()
            client.sendall(request())
            await until(lambda: served.state.totals.bytes_sent)
            await turns()  # what is gathered goes out in the next
            assert client.recv(16).startswith(b"HTTP/1.1 200 OK")
            assert served.state.totals.refused_connections == 0


@both_loops
async def test_with_tls_a_task_waits_for_the_handshake() -> None:
    """It takes as long as the client likes, and asks for more than the next turn."""
    async with serving(tls=anonymous_tls()) as served:
        with knock(served):
            await until(lambda: served.server._opening)
            assert isinstance(next(iter(served.server._opening)), asyncio.Task)
        await until(lambda: not served.server._opening)
