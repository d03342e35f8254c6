"""aio/clocks.py: how long a client may take for what it sends; time is a number that we set."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kit.message import WireError, chunked
from kit.rig import (
    Client,
    Rig,
    Script,
    body,
    both_loops,
    read_all,
    request,
    scripted,
    start,
    turns,
    until,
)

__all__: list[str] = []

# aio/deadlines.py: late by at most this, in seconds.
TICK = 0.25
# Longer than any clock of a test.
FOR_EVER = 3600.0

HEADERS = {"Content-Length": "100000"}
POST = request("POST", "/", HEADERS)
WAITS = request("POST", "/", {**HEADERS, "Expect": "100-continue"})


def ended(client: Client) -> bool:
    """Whether the server has said that it sends no more."""
    return client.ended or client.transport.eof_written


async def runs_out(rig: Rig, client: Client, seconds: float) -> None:
    """Assert that the connection ends ``seconds`` from now, and not before."""
    await goes_on(rig, client, seconds - 0.01)
    rig.clock.advance(0.01 + TICK)
    await until(lambda: ended(client), f"the end after {seconds} s")


async def goes_on(rig: Rig, client: Client, seconds: float) -> None:
    """Assert that the connection lives for so long."""
    rig.clock.advance(seconds)
    await turns()
    assert not ended(client)


def statuses(client: Client) -> list[int]:
    """What was answered."""
    return [response.status for response in client.responses()]


# -- first byte ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 30.0])
@both_loops
async def test_client_that_says_nothing_is_closed_silently(seconds: float) -> None:
    """asgi_first_byte_timeout: there is no request to answer, and nothing to log."""
    rig = Rig(first_byte=seconds)
    client = rig.connect()
    await runs_out(rig, client, seconds)
    assert (client.received, rig.records, rig.complaints) == (b"", [], [])
    assert not rig.state.connections


@both_loops
async def test_blank_lines_are_no_first_byte() -> None:
    """RFC 9112 2.2: they belong to no request."""
    rig = Rig(first_byte=10.0)
    client = rig.connect()
    for _ in range(4):
        await goes_on(rig, client, 2.0)
        client.send(b"\r\n")
    await runs_out(rig, client, 2.0)
    assert client.received == b""


# -- head ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1])
@both_loops
async def test_head_has_its_time_from_its_first_byte(before: int) -> None:
    """asgi_request_head_timeout, and not from the connection or the answer before it."""
    rig = Rig(first_byte=30.0, request_head=20.0, keep_alive=30.0)
    client = rig.connect()
    if before:
        client.get()
        await client.response()
    await goes_on(rig, client, 29.0)
    client.send(b"G")
    await goes_on(rig, client, 10.0)
    client.send(b"ET /")
    await runs_out(rig, client, 10.0)
    assert statuses(client) == [200] * before + [408]


@pytest.mark.parametrize("drained_first", [False, True])
@both_loops
async def test_head_that_drips_does_not_hold_up_a_drain(drained_first: bool) -> None:
    """asgi_drain_linger: no request is running."""
    rig = Rig(request_head=30.0, drain_linger=5.0)
    client = rig.connect()
    for step in range(2):
        if drained_first is (step == 0):
            rig.drain()
        else:
            client.send(b"G")
    await runs_out(rig, client, 5.0)
    assert statuses(client) == [408]


# -- body ------------------------------------------------------------------------------------------


async def upload(**limits: Any) -> tuple[Rig, Client, Script]:
    """Send the head of a request whose body is awaited."""
    rig, client, app = await scripted(POST, **{"body": 10.0, "min_data_rate": 100, **limits})
    app.task = asyncio.ensure_future(read_all(app.receive))
    return rig, client, app


@pytest.mark.parametrize(
    ("rate", "enough", "little"), [(100, 1000, 999), (0, 1, 0), (1, 10, 9), (100, 5000, 0)]
)
@both_loops
async def test_body_has_to_make_progress_in_each_window(
    rate: int, enough: int, little: int
) -> None:
    """asgi_body_timeout and asgi_min_data_rate: RFC 9110 15.5.9, 408."""
    rig, client, app = await upload(min_data_rate=rate)
    for _ in range(3):
        client.send(b"x" * enough)
        await goes_on(rig, client, 10.0 + TICK)
    if little:
        client.send(b"x" * little)
    # The last window has begun with the sweep that found the one before it good.
    rig.clock.advance(10.0 + TICK)
    await until(lambda: ended(client))
    assert statuses(client) == [408]
    assert app.task is not None
    assert await app.task is None
    assert [record.status for record in rig.records] == [408]
    (line,) = rig.complaints
    assert "408" in line


@both_loops
async def test_chunked_body_is_counted_without_its_framing() -> None:
    """What is no body is no progress."""
    head = request("POST", "/", {"Transfer-Encoding": "chunked"})
    rig, client, _ = await scripted(head, body=10.0, min_data_rate=100)
    client.send(chunked(*[b"x"] * 900, last=False))
    await runs_out(rig, client, 10.0)


@both_loops
async def test_body_that_is_complete_stops_the_clock() -> None:
    """From there on the client waits, and not we."""
    rig, client, app = await upload()
    client.send(b"x" * 100_000)
    assert app.task is not None
    assert len(await app.task) == 100_000
    await goes_on(rig, client, FOR_EVER)
    await app.respond()
    assert (await client.response()).status == 200


@both_loops
async def test_body_that_stalls_breaks_off_a_response_that_has_begun() -> None:
    """It must not look like a whole one."""
    rig, client, app = await upload()
    await app.send(start())
    await app.send(body(b"begun", True))
    await runs_out(rig, client, 10.0)
    with pytest.raises(WireError):
        client.responses()
    assert b"408" not in client.received


@both_loops
async def test_time_in_which_we_do_not_read_is_not_the_clients() -> None:
    """The application is behind; when it reads on, the client has a whole window."""
    rig, client, app = await scripted(POST, body=10.0, min_data_rate=100, read_buffer=1000)
    client.send(b"x" * 2000)
    assert not client.transport.is_reading()
    await goes_on(rig, client, FOR_EVER)
    assert len((await app.receive())["body"]) == 2000
    # Looked for once a second while it was paused: that is how late it begins at the most.
    await goes_on(rig, client, 9.9)
    rig.clock.advance(1.0 + 0.1 + 2 * TICK)
    await until(lambda: ended(client))
    assert statuses(client) == [408]


@both_loops
async def test_client_that_waits_for_our_100_is_not_waited_for() -> None:
    """RFC 9110 10.1.1; from the 100 on it has a whole window."""
    rig, client, app = await scripted(WAITS, body=10.0, min_data_rate=100)
    await goes_on(rig, client, 1000.0 + 9.0)
    reading = asyncio.ensure_future(app.receive())
    await turns()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    await runs_out(rig, client, 10.0)
    assert statuses(client) == [100, 408]
    assert await reading == {"type": "http.disconnect"}


@both_loops
async def test_client_that_does_not_wait_for_our_100_is_waited_for() -> None:
    """It has begun to send, so it can go on."""
    rig, client, _ = await scripted(WAITS, body=10.0, min_data_rate=100)
    client.send(b"x")
    await runs_out(rig, client, 10.0)
    assert statuses(client) == [408]


# -- discard, keep-alive, linger -------------------------------------------------------------------


@both_loops
async def test_body_that_nobody_wants_does_not_come_for_ever() -> None:
    """asgi_request_head_timeout once more; dripping does not prolong it."""
    rig, client, app = await scripted(POST, request_head=10.0, body=3.0)
    await app.respond()
    await client.response()
    for _ in range(3):
        await goes_on(rig, client, 3.0)
        client.send(b"x" * 1000)
    await runs_out(rig, client, 1.0)
    assert statuses(client) == [200]
    assert rig.complaints == []


@pytest.mark.parametrize("seconds", [0.5, 2.0, 75.0])
@both_loops
async def test_idle_connection_is_kept_for_exactly_keepalive(seconds: float) -> None:
    """Gunicorn's setting; each answer starts it anew, a blank line does not."""
    rig = Rig(keep_alive=seconds)
    client = rig.connect()
    for number in range(1, 4):
        client.get()
        await client.response(number)
        await goes_on(rig, client, seconds * 0.9)
        client.send(b"\r\n")
    await runs_out(rig, client, seconds * 0.1)
    assert statuses(client) == [200, 200, 200]
    assert rig.complaints == []


@pytest.mark.parametrize(
    ("left", "extra", "waits"),
    [(0, {}, False), (1, {}, True), (0, {"sslcontext": object()}, True)],
    ids=["all is written", "some is not", "tls"],
)
@both_loops
async def test_closing_has_a_clock_where_there_is_something_to_wait_for(
    left: int, extra: dict[str, Any], waits: bool
) -> None:
    """Else the loop closes in its next turn: nobody need ask the kernel what was taken."""
    rig = Rig(write=60.0)
    client = rig.connect(extra=extra)
    client.transport.buffer_size = left
    client.http.close_down()
    assert client.transport.closing
    assert (client.http.phase_due == rig.clock.now + 60.0) is waits
    assert bool(client.http.phase_due) is waits


@pytest.mark.parametrize("seconds", [0.0, 0.5, 5.0])
@both_loops
async def test_lingering_is_over_at_its_time_whatever_comes_in(seconds: float) -> None:
    """asgi_linger_timeout; 0 is over at the next look."""
    rig = Rig(linger=seconds)
    client = rig.connect()
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: client.transport.eof_written)
    if seconds:
        rig.clock.advance(seconds - 0.01)
        client.send(b"x" * 1000)
        await turns()
        assert not client.ended
    rig.clock.advance(0.02 + TICK)
    await until(lambda: client.ended)


# -- the whole request -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [request(), POST], ids=["whole", "dripping"])
@both_loops
async def test_request_that_is_not_answered_in_time_gets_504(data: bytes) -> None:
    """asgi_request_timeout, RFC 9110 15.6.5; it does not matter who is to blame."""
    rig, client, _ = await scripted(data, request=10.0, body=3.0, min_data_rate=0)
    drip = b"x" if data is POST else b""
    for _ in range(4):
        client.send(drip)
        await goes_on(rig, client, 2.0)
    client.send(drip)
    await runs_out(rig, client, 2.0)
    assert statuses(client) == [504]
    await until(lambda: not rig.state.tasks)


@both_loops
async def test_request_has_its_time_from_its_turn() -> None:
    """A pipelined one does not pay for those before it."""
    rig, client, app = await scripted(request("GET", "/1") + request("GET", "/2"), request=10.0)
    for number in (1, 2):
        await until(lambda number=number: app.scope["path"] == f"/{number}")  # type: ignore[misc]
        await goes_on(rig, client, 9.9)
        await app.respond()
        await client.response(number)
    await goes_on(rig, client, 1.0)
    assert statuses(client) == [200, 200]


# -- off, and several at once ----------------------------------------------------------------------

# What a clock waits for, and how it is switched off; the others are set to a second.
OFF: dict[str, tuple[bytes, str]] = {
    "first byte": (b"", "first_byte"),
    "head": (b"GET /", "request_head"),
    "body": (POST + b"x", "body"),
    "request": (request(), "request"),
}


@pytest.mark.parametrize("name", OFF)
@both_loops
async def test_clock_that_is_set_to_0_does_not_run(name: str) -> None:
    """Settings: 0 is no limit; and the others do not step in."""
    data, off = OFF[name]
    limits: dict[str, Any] = dict.fromkeys(("first_byte", "request_head", "body"), 1.0)
    rig = Rig(Script(), **{**limits, off: 0.0})
    client = rig.connect()
    client.send(data)
    await goes_on(rig, client, FOR_EVER)
    assert client.received == b""


@both_loops
async def test_discarding_without_a_limit_for_heads_has_none_either() -> None:
    """asgi_request_head_timeout is 0."""
    rig, client, app = await scripted(POST, request_head=0.0)
    await app.respond()
    await client.response()
    await goes_on(rig, client, FOR_EVER)


@both_loops
async def test_clock_that_was_stopped_ends_nothing() -> None:
    """Its time may still be looked at; what runs then is what counts."""
    rig = Rig(Script(), first_byte=10.0, request_head=20.0, body=30.0, min_data_rate=0)
    client = rig.connect()
    await goes_on(rig, client, 9.0)
    client.send(POST[:9])
    await goes_on(rig, client, 19.0)
    client.send(POST[9:])
    await goes_on(rig, client, 29.0)
    client.send(b"x")
    await goes_on(rig, client, 29.0)
    client.send(b"x" * 99_999)
    await goes_on(rig, client, FOR_EVER)


@pytest.mark.parametrize(
    ("name", "logged"),
    [("body", "408"), ("write", "not taken"), ("request", "asgi_request_timeout")],
)
@both_loops
async def test_whichever_clock_runs_out_first_decides(name: str, logged: str) -> None:
    """Three may run at once: body, taking what was written, and the whole request."""
    times: dict[str, Any] = {"body": 50.0, "write": 50.0, "request": 50.0, name: 3.0}
    rig, client, app = await scripted(POST, **times)
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(body(b"x" * 200_000, True)))
    await turns()
    rig.clock.advance(3.0 - 0.01)
    assert not client.transport.closing
    rig.clock.advance(0.01 + TICK)
    await until(lambda: client.transport.closing)
    (line,) = rig.complaints
    assert logged in line
    client.leave()
    await sending
