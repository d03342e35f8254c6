"""aio/server.py: suspend, drain and stop, with a schedule in real time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.protocol.limits import DrainSchedule
from kit.fakes import FakeLog
from kit.loopback import Serving, anonymous_tls, serving
from kit.message import request
from kit.rig import (
    Client,
    Receive,
    Rig,
    Scope,
    Send,
    both_loops,
    hello,
    parse_responses,
    respond,
    turns,
    until,
)
from kit.ws import frames, handshake, parse_frames

__all__: list[str] = []

# Too late to be what ended a test: its time limit comes first.
NEVER = 3600.0
PATIENT = DrainSchedule(NEVER, NEVER, NEVER, NEVER)


class Stubborn:
    """An application that listens to nobody until it is let go."""

    def __init__(self, *, answer_first: bool = False) -> None:
        self.answer_first = answer_first
        self.running = asyncio.Event()
        self.over = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Swallow cancellations."""
        if self.answer_first:
            await hello(scope, receive, send)
        self.running.set()
        while not self.over.is_set():
            await self.wait()

    async def wait(self) -> None:
        """Wait, and do not let go."""
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            self.cancelled += 1


async def until_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when the server says that it is time."""
    while (await receive())["type"] != "http.disconnect":
        pass
    await respond(send, b"bye")


async def for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def end(served: Serving, schedule: DrainSchedule) -> None:
    """Suspend, and end as the worker does."""
    served.server.suspend()
    await served.server.end(schedule, 1012)


@both_loops
async def test_idle_server_ends_at_once() -> None:
    """Nothing to wait for."""
    async with serving() as served:
        await end(served, PATIENT)
        assert served.log.lines() == []


@pytest.mark.slow
@both_loops
async def test_idle_connections_end_within_their_bound() -> None:
    """Limits.drain_linger, in real time, and the end is noticed when the last one is gone."""
    async with serving(drain_linger=0.01, keep_alive=NEVER) as served:
        used, fresh = await served.connect(), await served.connect()
        await used.get()
        await until(lambda: len(served.state.connections) == 2)
        await end(served, PATIENT)
        assert not served.state.connections
        await until(lambda: used.ended and fresh.ended)
        assert served.log.lines() == []


@both_loops
async def test_request_in_flight_is_waited_for() -> None:
    """It gets its answer, with Connection: close."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await respond(send, b"finished")

    async with serving(app) as served:
        peer = await served.connect()
        peer.send(request())
        await until(lambda: served.state.tasks)
        ending = asyncio.ensure_future(end(served, PATIENT))
        await turns(200)
        assert not ending.done()
        go_on.set()
        await until(lambda: peer.ended)
        await peer.close()
        await ending
        (response,) = parse_responses(peer.received)
        assert (response.body, response.keeps_alive) == (b"finished", False)


@both_loops
async def test_background_work_is_waited_for() -> None:
    """Its connection is gone already."""
    app = Stubborn(answer_first=True)
    async with serving(app, drain_linger=0.01) as served:
        peer = await served.connect()
        await peer.get()
        await peer.close()
        await until(lambda: not served.state.connections)
        ending = asyncio.ensure_future(end(served, PATIENT))
        await turns(200)
        assert not ending.done()
        app.over.set()
        await ending


@both_loops
async def test_stream_that_listens_is_told() -> None:
    """DrainSchedule.tell: http.disconnect, and the rest is up to the application."""
    async with serving(until_disconnect) as served:
        peer = await served.connect()
        peer.send(request())
        await until(lambda: served.state.tasks)
        ending = asyncio.ensure_future(end(served, DrainSchedule(0.01, NEVER, NEVER, NEVER)))
        await until(lambda: peer.ended)
        await peer.close()
        await ending
        assert parse_responses(peer.received)[0].body == b"bye"
        assert served.log.lines() == []


@both_loops
async def test_application_that_does_not_listen_is_cancelled() -> None:
    """DrainSchedule.cancel: the client gets 503, the log a warning."""
    async with serving(for_ever) as served:
        peer = await served.connect()
        peer.send(request())
        await until(lambda: served.state.tasks)
        ending = asyncio.ensure_future(end(served, DrainSchedule(0, 0.01, NEVER, NEVER)))
        await until(lambda: peer.ended)
        await peer.close()
        await ending
        assert parse_responses(peer.received)[0].status == 503
        (line,) = served.log.lines()
        assert line.startswith("Cancelled at the end of the drain: GET '/'")


@both_loops
async def test_application_that_cannot_be_cancelled_is_left_behind() -> None:
    """DrainSchedule.stop: the connections are closed, whatever is lost."""
    app = Stubborn()
    async with serving(app) as served:
        peer = await served.connect()
        peer.send(request())
        await app.running.wait()
        await end(served, DrainSchedule(0, 0.01, 0.05, NEVER))
        assert app.cancelled == 1
        await until(lambda: peer.ended and not served.state.connections)
        assert peer.received == b""
        assert served.log.lines() == ["Closing 1 connections with 1 running requests"]
        app.over.set()


@both_loops
async def test_websockets_are_closed_with_the_code() -> None:
    """1012 or 1001, as the worker says; the client's half is waited for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(app) as served:
        peer = await served.connect()
        peer.send(handshake())
        await until(lambda: peer.received)
        ending = asyncio.ensure_future(end(served, PATIENT))
        await until(lambda: peer.received.partition(b"\r\n\r\n")[2])
        (frame,) = parse_frames(peer.received.partition(b"\r\n\r\n")[2])
        assert frame.code == 1012
        assert not ending.done()
        await peer.close()
        await ending


@both_loops
async def test_end_can_be_hastened() -> None:
    """TERM, and then QUIT: cancelled, and called again with a quicker schedule."""
    async with serving(for_ever) as served:
        peer = await served.connect()
        peer.send(request())
        await until(lambda: served.state.tasks)
        slow = asyncio.ensure_future(end(served, PATIENT))
        await turns()
        slow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slow
        assert slow.cancelled()
        quick = asyncio.ensure_future(served.server.end(DrainSchedule(0, 0, NEVER, NEVER), 1012))
        await until(lambda: peer.ended)
        await peer.close()
        await quick
        assert parse_responses(peer.received)[0].status == 503


@both_loops
async def test_handshake_of_tls_is_waited_for_and_bounded() -> None:
    """It is neither a connection nor a request yet, and holds a socket all the same."""
    async with serving(tls=anonymous_tls()) as served:
        silent = await served.connect()  # says nothing, so its TLS handshake does not end
        await turns(200)
        ending = asyncio.ensure_future(end(served, DrainSchedule(NEVER, NEVER, 0.05, NEVER)))
        await ending
        await until(lambda: silent.ended)
        assert served.log.lines("warning", "error") == []
        assert served.log.lines("debug")[0] == "Closing 1 connections with 0 running requests"


@pytest.mark.slow
@both_loops
async def test_connection_that_opens_during_the_drain_is_served() -> None:
    """Accepted before, it gets its answer, the last on this connection."""
    # The server closes first: sslproto of Python 3.10 warns of one that leaves it to the client.
    async with serving(tls=anonymous_tls(), linger=0.01) as served:
        connecting = asyncio.ensure_future(served.connect(tls=True))
        await until(lambda: served.server._opening)
        ending = asyncio.ensure_future(end(served, PATIENT))
        peer = await connecting
        response = await peer.get()
        assert (response.status, response.keeps_alive) == (200, False)
        await until(lambda: peer.ended)
        await ending


@pytest.mark.parametrize("running", [False, True])
@both_loops
async def test_stop_says_what_is_lost(running: bool) -> None:
    """A warning if requests are cut off, else nobody's business."""
    async with serving(for_ever) as served:
        peer = await served.connect()
        await until(lambda: served.state.connections and not served.server._opening)
        if running:
            peer.send(request())
            await until(lambda: served.state.tasks)
        served.server.stop()
        await until(lambda: peer.ended)
        lines = served.log.lines("warning" if running else "debug")
        assert lines[0] == f"Closing 1 connections with {int(running)} running requests"


def test_log_of_these_tests_remembers_levels() -> None:
    """An error must not pass for a debug line."""
    log = FakeLog()
    log.info("a")
    log.error("b %d", 1)
    assert log.lines("error") == ["b 1"]
    assert log.lines() == ["a", "b 1"]


# -- WebSockets, one after another -----------------------------------------------------------------


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, and listen to the end."""
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def websockets(count: int) -> tuple[Rig, Server, list[Client]]:
    """A server, and so many open WebSockets."""
    rig = Rig(echo, websocket_ping_interval=0.0)  # nobody answers Pings here
    server = Server(rig.state, [])
    clients = [rig.connect() for _ in range(count)]
    for client in clients:
        client.send(handshake())
    await until(lambda: all(client.received for client in clients))
    return rig, server, clients


async def closed(clients: list[Client]) -> int:
    """How many have got their Close frame."""
    await turns(3)
    return sum(bool(frames(client)) for client in clients)


@both_loops
async def test_websockets_are_closed_one_after_another_over_the_spread() -> None:
    """Limits.close_spread: clients that come back at once must not all come at one moment."""
    rig, server, clients = await websockets(4)
    server.drain(1012, 2.0)
    told: list[int] = []
    for _ in range(5):
        rig.clock.advance(0.0 if not told else 0.5)
        told.append(await closed(clients))
    assert told == [1, 2, 3, 4, 4]
    assert {frame.code for client in clients for frame in frames(client)} == {1012}


@both_loops
async def test_without_a_spread_they_are_closed_at_once() -> None:
    """A quick stop has no time for it."""
    rig, server, clients = await websockets(3)
    server.drain(1001, 0.0)
    rig.clock.advance(0.0)
    assert await closed(clients) == 3


@both_loops
async def test_one_that_is_gone_before_its_turn_is_no_matter() -> None:
    """Nor one that its application has closed meanwhile."""
    rig, server, clients = await websockets(3)
    server.drain(1012, 3.0)
    for client in clients:
        client.leave()
    rig.clock.advance(10.0)
    await turns()
    assert rig.complaints == []
    assert await closed(clients) == 0


@pytest.mark.parametrize(("tell", "spread"), [(60.0, 2.0), (1.0, 0.5), (0.0, 0.0)])
@both_loops
async def test_the_spread_is_at_most_half_of_the_time_until_the_applications_are_told(
    tell: float, spread: float
) -> None:
    """DrainSchedule.tell: the handshakes of the close have to come to their end before."""
    rig, server, clients = await websockets(2)
    ending = asyncio.ensure_future(server.end(DrainSchedule(tell, NEVER, NEVER, NEVER), 1012))
    await turns()
    rig.clock.advance(0.0)
    assert await closed(clients) == (1 if spread else 2)
    if spread:
        rig.clock.advance(spread / 2 - 0.01)  # the second one's turn: 1 of 2 parts
        assert await closed(clients) == 1
        rig.clock.advance(0.02)
        assert await closed(clients) == 2
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ending


@both_loops
async def test_a_drain_that_is_hastened_closes_those_whose_turn_had_not_come() -> None:
    """TERM, and QUIT within the spread; as the worker does it, without a pause between the two."""
    rig, server, clients = await websockets(3)
    slow = asyncio.ensure_future(server.end(PATIENT, 1001))
    await turns()
    rig.clock.advance(0.0)
    assert await closed(clients) == 1
    slow.cancel()
    quick = asyncio.ensure_future(server.end(DrainSchedule(0, 0, NEVER, NEVER), 1001))
    await turns()
    rig.clock.advance(0.0)
    assert await closed(clients) == 3
    for client in clients:
        client.leave()
    await quick


# -- taken back ------------------------------------------------------------------------------------


@both_loops
async def test_a_drain_that_is_taken_back_spares_those_whose_turn_had_not_come() -> None:
    """The successors are gone: the worker serves on, and so do its WebSockets."""
    rig, server, clients = await websockets(4)
    server.drain(1012, 4.0)
    rig.clock.advance(1.0)
    assert await closed(clients) == 2
    server.resume()
    rig.clock.advance(NEVER)
    assert await closed(clients) == 2
    assert rig.state.drain_code == 0


@both_loops
async def test_a_server_that_is_taken_back_serves_as_before() -> None:
    """New connections, kept connections, WebSockets; nobody is told to close."""
    async with serving(echo_or_hello) as served:
        before = await served.connect()
        await before.get()
        ending = asyncio.ensure_future(end(served, PATIENT))
        await turns(50)
        ending.cancel()
        served.server.resume()
        late = await served.connect()
        for peer in (before, late):
            assert (await peer.get()).keeps_alive
        websocket = await served.connect()
        websocket.send(handshake())
        await until(lambda: websocket.received)
        await turns(50)
        assert parse_frames(websocket.received.partition(b"\r\n\r\n")[2]) == []
        assert not served.state.told


async def echo_or_hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve both."""
    await (echo if scope["type"] == "websocket" else hello)(scope, receive, send)


@both_loops
async def test_a_server_without_keep_alive_is_taken_back_without() -> None:
    """keepalive 0: the drain's bit is not the setting's."""
    async with serving(keep_alive=0) as served:
        served.server.suspend()
        served.server.drain(1012, 0.0)
        served.server.resume()
        peer = await served.connect()
        assert not (await peer.get()).keeps_alive
