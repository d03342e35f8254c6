"""aio/http1.py: what connections see of a worker that leaves."""

from __future__ import annotations

import pytest

from kit.rig import Rig, body, both_loops, request, scripted, start, turns, until

__all__: list[str] = []


@both_loops
async def test_idle_connection_is_kept_for_a_while() -> None:
    """Limits.drain_linger: a request that is on its way is not met by a closed door."""
    rig = Rig(keep_alive=75.0, drain_linger=5.0)
    client = rig.connect()
    client.get("/1")
    assert (await client.response()).keeps_alive
    rig.drain()
    rig.clock.advance(4.9)
    await turns()
    assert not client.ended
    rig.clock.advance(0.5)
    await until(lambda: client.ended)
    assert len(client.responses()) == 1


@both_loops
async def test_request_on_an_idle_connection_is_served_and_is_the_last() -> None:
    """RFC 9112 section 9.6: Connection: close with the answer."""
    rig = Rig(keep_alive=75.0)
    client = rig.connect()
    client.get("/1")
    await client.response()
    rig.drain()
    rig.clock.advance(3)
    client.send(request("GET", "/2") + request("GET", "/3"))
    response = await client.response(2)
    assert (response.body, response.keeps_alive) == (b"/2", False)
    client.eof()
    await until(lambda: client.ended)
    assert rig.counted == 2


@both_loops
async def test_idle_connection_keeps_a_deadline_that_is_nearer() -> None:
    """keepalive goes on as it was."""
    rig = Rig(keep_alive=2.0, drain_linger=5.0)
    client = rig.connect()
    client.get("/1")
    await client.response()
    rig.clock.advance(1.0)
    rig.drain()
    rig.clock.advance(1.5)
    await until(lambda: client.ended)


@both_loops
async def test_connection_that_is_made_while_draining_is_bounded_too() -> None:
    """Accepted just before: served, but not waited for."""
    rig = Rig(request_head=30.0, drain_linger=5.0)
    rig.drain()
    idle, late = rig.connect(), rig.connect()
    late.get("/late")
    response = await late.response()
    assert (response.status, response.keeps_alive) == (200, False)
    rig.clock.advance(5.5)
    await until(lambda: idle.ended)
    assert idle.received == b""


@both_loops
async def test_partial_head_is_answered_with_408_when_time_is_up() -> None:
    """Its client sees an answer, and that it was not processed."""
    rig = Rig(request_head=30.0, drain_linger=5.0)
    client = rig.connect()
    client.send(b"GET /slow")
    rig.drain()
    rig.clock.advance(5.5)
    await until(lambda: client.received)
    assert client.responses()[0].status == 408


@both_loops
async def test_request_in_flight_is_finished_with_connection_close() -> None:
    """Whatever has not been promised yet is not promised; what waits behind is not begun."""
    rig, client, app = await scripted(request("GET", "/1") + request("GET", "/2"))
    rig.drain()
    rig.clock.advance(20)
    await turns()
    assert not client.ended
    await app.respond(b"1")
    response = await client.response()
    assert (response.body, response.keeps_alive) == (b"1", False)
    await turns()
    assert rig.counted == 1
    assert client.transport.eof_written


@pytest.mark.parametrize("waiting", [False, True])
@both_loops
async def test_promise_that_was_given_is_kept(waiting: bool) -> None:
    """A response that has begun with keep-alive: one more request is served, if it comes soon."""
    rig, client, app = await scripted(request("GET", "/1"))
    await app.send(start())
    await app.send(body(b"begun,", True))
    if waiting:
        client.send(request("GET", "/2"))
    rig.drain()
    await app.send(body(b"ended"))
    assert (await client.response()).keeps_alive
    if not waiting:
        rig.clock.advance(1.0)
        client.send(request("GET", "/2"))
    await until(lambda: app.scope["path"] == "/2")
    await app.respond(b"2")
    assert not (await client.response(2)).keeps_alive
    client.eof()
    await until(lambda: client.ended)


@both_loops
async def test_promise_that_was_given_is_not_kept_for_ever() -> None:
    """Limits.drain_linger bounds the keepalive of a connection that becomes idle in the drain."""
    rig, client, app = await scripted(request(), keep_alive=75.0, drain_linger=5.0)
    await app.send(start())
    await app.send(body(b"begun,", True))
    rig.drain()
    await app.send(body(b"ended"))
    await client.response()
    rig.clock.advance(5.5)
    await until(lambda: client.ended)


@both_loops
async def test_lingering_connection_keeps_its_own_deadline() -> None:
    """It has given its last answer already."""
    rig = Rig(linger=5.0, drain_linger=1.0)
    client = rig.connect()
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: client.transport.eof_written)
    rig.drain()
    rig.clock.advance(4.5)
    await turns()
    assert not client.ended
    rig.clock.advance(1.0)
    await until(lambda: client.ended)


@both_loops
async def test_tell_reaches_the_application_that_runs() -> None:
    """Near the end of the drain a stream gets http.disconnect."""
    rig, client, app = await scripted(request())
    await app.receive()
    rig.connect().http.tell()  # an idle one has nobody to tell
    rig.state.told = True
    client.http.tell()
    assert await app.receive() == {"type": "http.disconnect"}


@both_loops
async def test_abort_writes_what_was_gathered_and_closes() -> None:
    """The end of the schedule."""
    _, client, app = await scripted(request())
    await app.send(start())
    await app.send(body(b"begun", True))
    client.http.abort()
    await until(lambda: client.ended)
    assert client.received.endswith(b"begun\r\n")
    assert client.transport.aborted
