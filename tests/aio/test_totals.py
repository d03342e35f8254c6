"""aio/totals.py, and the meter: what is counted of real connections, and when."""

from __future__ import annotations

import pytest

from kit.message import request
from kit.rig import Receive, Rig, Scope, Script, Send, both_loops, hello, start, until
from kit.rig import body as body_message
from kit.ws import handshake, opened, text_frame, waiting

__all__: list[str] = []


class CountingMeter:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.seconds: list[float] = []

    def request(self, status: int, seconds: float) -> None:
        """Remember it."""
        self.requests.append(status)
        self.seconds.append(seconds)

    def settle(self) -> None:
        """Nothing waits here."""


def metered(rig: Rig) -> CountingMeter:
    """Count the requests of ``rig``, and log none."""
    meter = CountingMeter()
    rig.state.meter = meter
    rig.state.on_complete = None
    return meter


@both_loops
async def test_bytes_of_bodies_are_counted_and_the_request_with_its_time() -> None:
    """Heads are not; what the application has not read has come in all the same."""
    rig = Rig(hello)
    meter = metered(rig)
    client = rig.connect()
    client.send(request("POST", "/", {"Content-Length": "10"}, b"0123456789"))
    response = await client.response()
    assert meter.requests == [response.status] == [200]
    assert 0.0 <= meter.seconds[0] < 60.0
    totals = rig.state.totals
    assert (totals.bytes_received, totals.bytes_sent) == (10, len(response.body))


@both_loops
async def test_each_request_of_a_connection_counts_once() -> None:
    """Pipelined, and one whose application fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("on purpose")
        await hello(scope, receive, send)

    rig = Rig(app)
    meter = metered(rig)
    rig.connect().send(request("GET", "/") * 2 + request("GET", "/bad"))
    await until(lambda: len(meter.requests) == 3)
    assert meter.requests == [200, 200, 500]


@both_loops
async def test_a_client_that_left_counts_as_499() -> None:
    """Whatever its application does then."""
    script = Script()
    rig = Rig(script)
    meter = metered(rig)
    client = rig.connect()
    client.get()
    await until(lambda: rig.state.tasks)
    client.leave()
    await until(lambda: meter.requests)
    script.over.set()
    await until(lambda: not rig.state.tasks)
    assert meter.requests == [499]


@both_loops
async def test_bytes_of_an_answer_that_breaks_off_count() -> None:
    """They were sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await send(body_message(b"x" * 100, more=True))
        raise RuntimeError("on purpose")

    rig = Rig(app)
    meter = metered(rig)
    rig.connect().get()
    await until(lambda: meter.requests)
    assert (meter.requests, rig.state.totals.bytes_sent) == ([200], 100)


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
@both_loops
async def test_what_was_no_request_counts_as_refused_alone(data: bytes) -> None:
    """It has no latency, and nobody's application has seen it."""
    rig = Rig(hello)
    meter = metered(rig)
    client = rig.connect()
    client.send(data)
    await until(lambda: client.transport.eof_written)
    assert rig.state.totals.refused_requests == 1
    assert meter.requests == []


@both_loops
async def test_what_is_shed_counts_as_shed_and_as_503() -> None:
    """The answer is one like any other."""
    rig = Rig(Script(), shed_requests=1)
    meter = metered(rig)
    rig.connect().get()
    await until(lambda: rig.state.tasks)
    second = rig.connect()
    second.get()
    assert (await second.response()).status == 503
    assert rig.state.totals.shed_requests == 1
    assert meter.requests == [503]


@both_loops
async def test_a_websocket_counts_when_it_opens_and_its_messages_when_it_is_over() -> None:
    """Until then they are in its figures."""
    rig, client, app = await opened(text_frame("hello") + text_frame("again"))
    totals = rig.state.totals
    await app.send({"type": "websocket.send", "text": "yes"})
    assert totals.websockets_opened == 1
    assert (totals.messages_received, totals.messages_sent) == (0, 0)
    client.leave()
    await until(lambda: not rig.state.connections)
    assert (totals.messages_received, totals.messages_sent) == (2, 1)
    assert (totals.bytes_received, totals.bytes_sent) == (2 * (6 + 5), 2 + 3)


@both_loops
async def test_a_handshake_is_a_request() -> None:
    """101 when it is accepted, its status when it is refused."""
    rig, client, app = await waiting()
    meter = metered(rig)
    await app.send({"type": "websocket.close"})
    await until(lambda: meter.requests)
    assert (meter.requests, rig.state.totals.websockets_opened) == ([403], 0)
    refused, other = app.task, rig.connect()
    other.send(handshake())
    await until(lambda: app.task is not refused)
    await app.send({"type": "websocket.accept"})
    other.leave()
    client.leave()
    await until(lambda: not rig.state.connections)
    assert meter.requests == [403, 101]
