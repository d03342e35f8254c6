"""aio/channel.py: in which turn of the loop an answer goes out, and which messages stop reading."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kit.rig import Client, Receive, Rig, Scope, Send, both_loops, turns, until
from kit.wire import websocket_frame
from kit.ws import Frame, frames, handshake, opened, text_frame

__all__: list[str] = []


def text(data: str) -> dict[str, str]:
    """A message."""
    return {"type": "websocket.send", "text": data}


class Echo:
    """Answers each message ``times`` times, and notes how many writes it saw behind each answer."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.clients: list[Client] = []
        self.seen: list[int] = []

    def writes(self) -> int:
        """How many writes all have got behind their 101."""
        return sum(len(client.transport.writes) - 1 for client in self.clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            for _ in range(self.times):
                await send(text(message["text"]))
                self.seen.append(self.writes())

    async def connect(self, count: int) -> Rig:
        """Open that many WebSockets."""
        rig = Rig(self)
        for _ in range(count):
            client = rig.connect()
            self.clients.append(client)
            client.send(handshake())
            await until(lambda: self.clients[-1].received)
        await turns()
        return rig


# -- when an answer goes out -----------------------------------------------------------------------


@both_loops
async def test_a_single_answer_goes_out_at_once() -> None:
    """To gather it would cost one more turn of the loop, for nothing."""
    echo = Echo()
    await echo.connect(1)
    for number in range(3):
        echo.clients[0].send(text_frame(f"{number}"))
        await turns()
    assert echo.seen == [1, 2, 3]
    assert frames(echo.clients[0]) == [Frame(1, b"0"), Frame(1, b"1"), Frame(1, b"2")]


@both_loops
async def test_further_answers_are_one_write() -> None:
    """Whoever sends more than one has a reason to gather."""
    echo = Echo(times=4)
    await echo.connect(1)
    echo.clients[0].send(text_frame("x"))
    await turns()
    assert echo.seen == [1, 1, 1, 1]
    assert len(echo.clients[0].transport.writes) == 3
    assert frames(echo.clients[0]) == [Frame(1, b"x")] * 4


@both_loops
async def test_answers_to_messages_that_came_together_are_one_write() -> None:
    """Pipelined messages: in their order, and none before the others."""
    echo = Echo()
    await echo.connect(1)
    echo.clients[0].send(b"".join(text_frame(letter) for letter in "abc"))
    await turns()
    assert echo.seen == [0, 0, 0]
    assert len(echo.clients[0].transport.writes) == 2
    assert [frame.payload for frame in frames(echo.clients[0])] == [b"a", b"b", b"c"]


@both_loops
async def test_answers_of_several_connections_go_out_together() -> None:
    """One after the other would wake up whoever reads them again and again."""
    echo = Echo()
    rig = await echo.connect(5)
    for client in echo.clients:
        client.send(text_frame("x"))
    assert rig.state.woken == 5
    await turns()
    assert echo.seen == [0] * 5
    assert echo.writes() == 5
    assert rig.state.woken == 0


@both_loops
async def test_an_answer_stays_behind_the_answer_to_a_ping() -> None:
    """Both came in together, the Ping first."""
    echo = Echo()
    await echo.connect(1)
    echo.clients[0].send(websocket_frame(9, b"p") + text_frame("x"))
    await turns()
    assert frames(echo.clients[0]) == [Frame(10, b"p"), Frame(1, b"x")]


@both_loops
async def test_what_nobody_has_asked_for_is_gathered() -> None:
    """An application that has gone back to receive() has nothing more to answer."""
    _, client, app = await opened(text_frame("x"))
    await app.receive()
    waiting = asyncio.ensure_future(app.receive())
    await turns()
    await app.send(text("news"))
    assert len(client.transport.writes) == 1
    await turns()
    assert frames(client) == [Frame(1, b"news")]
    waiting.cancel()


@pytest.mark.parametrize("first", ["message", "cancelled"])
@both_loops
async def test_a_receive_that_is_cancelled_holds_up_nobody(first: str) -> None:
    """Before or behind the message that would have woken it: answers go out at once again."""
    rig, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    if first == "message":
        client.send(text_frame("x"))
        assert rig.state.woken == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert rig.state.woken == 0
    if first == "cancelled":
        client.send(text_frame("x"))
    assert (await app.receive())["text"] == "x"
    await app.send(text("y"))
    assert len(client.transport.writes) == 2


# -- when the socket is not read -------------------------------------------------------------------

LARGE = text_frame("x" * 70_000)


@both_loops
async def test_a_large_message_that_is_waited_for_stops_nothing() -> None:
    """It is received in the same turn; to stop reading and to go on are two calls of the kernel."""
    _, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    client.send(LARGE)
    assert client.transport.is_reading()
    assert len((await task)["text"]) == 70_000
    client.send(LARGE)
    assert not client.transport.is_reading()
    await app.receive()
    assert client.transport.is_reading()


@both_loops
async def test_what_comes_with_a_message_that_is_waited_for_counts() -> None:
    """Only the first is as good as received."""
    _, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    client.send(LARGE * 2)
    assert not client.transport.is_reading()
    await task
    assert client.transport.is_reading() is False
    await app.receive()
    assert client.transport.is_reading()


@both_loops
async def test_a_message_whose_receiver_went_away_counts_from_the_next_on() -> None:
    """At most one large message more than is allowed waits for an application that is not there."""
    _, client, app = await opened()
    task = asyncio.ensure_future(app.receive())
    await turns()
    client.send(LARGE)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert client.transport.is_reading()
    client.send(text_frame("y"))
    assert not client.transport.is_reading()
    assert len((await app.receive())["text"]) == 70_000
    assert client.transport.is_reading()
    assert (await app.receive())["text"] == "y"
