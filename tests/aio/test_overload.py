"""aio/overload.py: 503 for what is too much, and a log that cannot be flooded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gunicorn_asgi.aio.overload import RateLimitedLog
from kit.fakes import FakeClock, FakeLog
from kit.rig import Client, Receive, Rig, Scope, Send, both_loops, request, respond, turns, until
from kit.wire import websocket_frame
from kit.ws import half_closed

__all__: list[str] = []

# What the module promises: lines at once, and lines per second after that.
BURST = 20
RATE = 5

HANDSHAKE = request(
    "GET",
    "/ws",
    {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
)


# -- the log ---------------------------------------------------------------------------------------


class Told:
    """A RateLimitedLog and what it has let through."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = FakeLog()
        self.limited = RateLimitedLog(self.log, self.clock)

    def flood(self, count: int) -> list[str]:
        """Tell so often; return what was logged of it."""
        before = len(self.log.lines())
        for number in range(count):
            self.limited.tell("Refused %s for %d", "a", number)
        return self.log.lines("warning")[before:]


def test_a_few_lines_are_all_told() -> None:
    """As warnings, with their arguments."""
    told = Told()
    assert told.flood(3) == ["Refused a for 0", "Refused a for 1", "Refused a for 2"]


def test_a_flood_is_cut() -> None:
    """CVE-2025-47287: the log is on a disk, and the disk has an end."""
    told = Told()
    assert len(told.flood(100_000)) == BURST
    assert len(told.log.lines()) == BURST


@pytest.mark.parametrize("seconds", [1, 2, 3, 3600])
def test_a_flood_goes_on_slowly(seconds: int) -> None:
    """So many lines a second, but never more at once than at the beginning."""
    told = Told()
    told.flood(1000)
    told.clock.advance(seconds)
    assert len(told.flood(1000)) == min(BURST, RATE * seconds)


def test_a_steady_stream_within_the_rate_is_all_told() -> None:
    """An operator who looks for one client finds it."""
    told = Told()
    for _ in range(1000):
        told.clock.advance(1 / RATE + 0.001)
        assert len(told.flood(1)) == 1


def test_what_was_left_out_is_counted_once() -> None:
    """In the next line that is written, whichever that is."""
    told = Told()
    told.flood(BURST + 7)
    assert told.flood(3) == []
    told.clock.advance(0.5)
    assert told.flood(2) == [
        "Refused a for 0 (10 such lines before it were left out)",
        "Refused a for 1",
    ]


def test_a_line_without_arguments_is_counted_too() -> None:
    """Formatting has to hold."""
    told = Told()
    told.flood(BURST + 1)
    told.clock.advance(1.0)
    told.limited.tell("Overloaded")
    assert told.log.lines()[-1] == "Overloaded (1 such lines before it were left out)"


# -- shedding --------------------------------------------------------------------------------------


class Busy:
    """An application that works until it is told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold whatever comes; a WebSocket is accepted first, and closed by its client."""
        self.begun += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        await self.over.wait()
        await respond(send)


async def busy(running: int, **limits: Any) -> tuple[Rig, Busy, list[Client]]:
    """Have so many requests in flight."""
    app = Busy()
    rig = Rig(app, **limits)
    clients = [rig.connect() for _ in range(running)]
    for client in clients:
        client.get("/running")
    await until(lambda: app.begun == running)
    return rig, app, clients


@pytest.mark.parametrize("limit", [1, 3, 10])
@both_loops
async def test_requests_beyond_so_many_in_flight_get_503(limit: int) -> None:
    """asgi_shed_requests; RFC 9110 15.6.4 and 10.2.3: it says when to come back."""
    rig, app, clients = await busy(limit, shed_requests=limit)
    client = rig.connect()
    client.get("/shed")
    response = await client.response()
    assert (response.status, response.header("retry-after")) == (503, b"1")
    assert response.body == b"Service Unavailable\n"
    assert app.begun == limit
    assert [record.status for record in rig.records] == [503]
    assert rig.records[0].head.target == b"/shed"
    assert rig.complaints == [f"Overloaded: {limit} requests in flight, 0.000 s of lag"]
    app.over.set()
    assert {(await each.response()).status for each in clients} == {200}


@both_loops
async def test_connection_of_a_request_that_was_shed_is_kept() -> None:
    """The next request on it has its chance."""
    rig, app, _ = await busy(1, shed_requests=1)
    client = rig.connect()
    for number in (1, 2):
        client.get()
        response = await client.response(number)
        assert (response.status, response.keeps_alive) == (503, True)
    app.over.set()
    await until(lambda: not rig.state.tasks)
    client.get()
    assert (await client.response(3)).status == 200


@both_loops
async def test_body_of_a_request_that_was_shed_is_discarded() -> None:
    """Limits.discard_body, as for any application that does not read."""
    rig, _, _ = await busy(1, shed_requests=1)
    client = rig.connect()
    client.send(request("POST", "/", body=b"x" * 10_000))
    client.get()
    assert (await client.response(2)).status == 503
    assert [response.status for response in client.responses()] == [503, 503]


@both_loops
async def test_pipelined_request_is_shed_in_its_turn() -> None:
    """What counts is how much there is to do then."""
    rig, app, clients = await busy(1, shed_requests=2)
    (client,) = clients
    client.get("/behind")
    other = rig.connect()
    other.get()
    await until(lambda: app.begun == 2)
    app.over.set()
    assert (await client.response(2)).status == 200


@both_loops
async def test_handshake_is_shed_too() -> None:
    """WebSocket denial response, and the end of the connection."""
    rig, app, _ = await busy(2, shed_requests=2)
    client = rig.connect()
    client.send(HANDSHAKE)
    response = await client.response()
    assert (response.status, response.header("retry-after")) == (503, b"1")
    assert not response.keeps_alive
    assert app.begun == 2
    assert [record.status for record in rig.records] == [503]
    await half_closed(client)


@both_loops
async def test_open_websockets_do_not_count() -> None:
    """They mostly wait."""
    app = Busy()
    rig = Rig(app, shed_requests=2)
    sockets = [rig.connect() for _ in range(5)]
    for client in sockets:
        client.send(HANDSHAKE)
    await until(lambda: all(b" 101 " in client.received for client in sockets))
    client = rig.connect()
    client.get()
    await until(lambda: app.begun == 6)
    for each in sockets:
        each.send(websocket_frame(8, b"\x03\xe8"))
    await until(lambda: len(rig.state.tasks) == 1)
    # And those that are gone are not counted either.
    await until(lambda: rig.state.websocket_tasks == 0)
    second, third = rig.connect(), rig.connect()
    second.get()
    await until(lambda: app.begun == 7)
    third.get()
    assert (await third.response()).status == 503


# -- lag -------------------------------------------------------------------------------------------


def stall(rig: Rig, seconds: float) -> None:
    """Let the loop be stuck: the next sweep is late by so much."""
    rig.clock.now += 0.25 + seconds
    rig.clock.advance(0)


@both_loops
async def test_requests_get_503_while_the_loop_is_late() -> None:
    """asgi_shed_lag: whoever waits would wait for what is late already."""
    rig = Rig(shed_lag=0.5)
    client = rig.connect()
    stall(rig, 0.49)
    client.get()
    assert (await client.response()).status == 200
    stall(rig, 0.51)
    client.get()
    assert (await client.response(2)).status == 503
    assert rig.complaints == ["Overloaded: 0 requests in flight, 0.510 s of lag"]
    rig.clock.advance(0.25)
    client.get()
    assert (await client.response(3)).status == 200


@both_loops
async def test_lag_of_long_ago_sheds_nobody() -> None:
    """Without connections nobody measures; what was measured last is no news."""
    rig = Rig(shed_lag=0.5)
    client = rig.connect()
    client.leave()
    stall(rig, 2.0)
    await turns()
    assert rig.clock.pending == 0
    client = rig.connect()
    client.get()
    assert (await client.response()).status == 200


@both_loops
async def test_without_limits_nothing_is_shed() -> None:
    """The default: how many are too many only the application knows."""
    rig, app, clients = await busy(200)
    assert not rig.state.sheds
    stall(rig, 10.0)
    client = rig.connect()
    client.get()
    await until(lambda: app.begun == 201)
    app.over.set()
    assert {(await each.response()).status for each in [*clients, client]} == {200}


# -- making room -----------------------------------------------------------------------------------


@both_loops
async def test_idle_connection_that_has_to_go_is_closed() -> None:
    """Before its first request, and after it."""
    for before in (0, 1):
        rig = Rig()
        client = rig.connect()
        if before:
            client.get()
            await client.response()
        assert client.http.idle
        client.http.retire()
        await until(lambda client=client: client.ended)  # type: ignore[misc]
        assert rig.complaints == []


@pytest.mark.parametrize("half", [b"G", b"GET / HTTP/1.1\r\n"])
@both_loops
async def test_connection_that_has_to_go_gets_the_answer_that_it_asks_for(half: bytes) -> None:
    """Half a request is a request: it is served, with Connection: close."""
    rig = Rig()
    client = rig.connect()
    client.send(half)
    assert not client.http.idle
    client.http.retire()
    client.send(request()[len(half) :])
    response = await client.response()
    assert (response.status, response.keeps_alive) == (200, False)


@both_loops
async def test_connection_that_has_to_go_is_closed_behind_the_answer_that_runs() -> None:
    """And what is pipelined behind it is not served."""
    rig, app, (client,) = await busy(1)
    client.get("/next")
    client.http.retire()
    await turns()
    assert not client.ended
    app.over.set()
    response = await client.response()
    assert (response.status, response.keeps_alive) == (200, False)
    await until(lambda: client.transport.eof_written)
    assert (app.begun, rig.counted) == (1, 1)


@pytest.mark.parametrize("how", ["lingering", "running", "discarding"])
@both_loops
async def test_connection_with_something_to_do_is_not_idle(how: str) -> None:
    """Whoever makes room takes those first that hold a place for nothing."""
    app = Busy()
    client = Rig(app).connect()
    if how == "lingering":
        client.send(b"nonsense\r\n\r\n")
        await until(lambda: client.transport.eof_written)
    else:
        client.send(request("POST", "/", {"Content-Length": "9"}))
        await until(lambda: app.begun)
        if how == "discarding":
            app.over.set()
            await client.response()
    assert not client.http.idle
