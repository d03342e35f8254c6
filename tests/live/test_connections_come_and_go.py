"""Twenty thousand connections, opened and dropped at random moments: nothing of them is left."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.fakes import run
from kit.master import Master, wait_until
from kit.wire import Wire, chunked, request, websocket_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

APP = Path(__file__).parent / "apps" / "churn.py"
MB = 1000 * 1000
BATCH = 100
# As many beforehand: a worker keeps some of the memory that it has freed.
WARM_UP = 20_000
CONNECTIONS = 20_000
# More than the ports of one address that may be waiting for their last packets (TIME_WAIT).
SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
RST = struct.pack("ii", 1, 0)

GET = request("GET", "/quick")
STREAM = request("GET", "/stream")
POST = request("POST", "/upload", {"Content-Length": "100000"})
CHUNKS = request("POST", "/upload", {"Transfer-Encoding": "chunked"})
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


NEVER = HANDSHAKE.replace(b"/ws", b"/ws/never")


class Client:
    """One connection, and the moment at which it is dropped."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random
    ) -> None:
        """Take over an open connection."""
        self.reader = reader
        self.writer = writer
        self.dice = dice

    async def before_a_byte(self) -> None:
        """Say nothing."""

    async def amid_a_head(self) -> None:
        self.writer.write(GET[: self.dice.randrange(1, len(GET) - 1)])

    async def after_a_head(self) -> None:
        self.writer.write(self.dice.choice([GET, POST, CHUNKS, STREAM]))

    async def while_nobody_answers(self) -> None:
        self.writer.write(request("GET", "/silent"))

    async def amid_a_body(self) -> None:
        self.writer.write(POST + b"x" * self.dice.randrange(1, 99_999))

    async def amid_chunks(self) -> None:
        framed = chunked(b"x" * 5000, b"y" * 5000)
        self.writer.write(CHUNKS + framed[: self.dice.randrange(1, len(framed) - 1)])

    async def amid_a_stream(self) -> None:
        self.writer.write(STREAM)
        await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(self.dice.randrange(1, 5000))

    async def after_a_response(self) -> None:
        for _ in range(self.dice.randrange(1, 4)):
            self.writer.write(GET)
            await self.reader.readuntil(b"\r\n\r\nok")

    async def amid_a_pipeline(self) -> None:
        self.writer.write(GET * 5 + POST + b"x" * 1000)
        await self.reader.readuntil(b"\r\n\r\nok")

    async def after_nonsense(self) -> None:
        self.writer.write(b"nonsense\r\n\r\n")
        await self.reader.read(self.dice.randrange(1, 500))

    async def amid_a_handshake(self) -> None:
        self.writer.write(HANDSHAKE[: self.dice.randrange(1, len(HANDSHAKE))])

    async def after_a_handshake(self) -> None:
        self.writer.write(HANDSHAKE)

    async def while_nobody_accepts(self) -> None:
        self.writer.write(NEVER + websocket_frame(1, b"early"))

    async def amid_a_websocket(self) -> None:
        self.writer.write(HANDSHAKE)
        await self.reader.readuntil(b"\r\n\r\n")
        for _ in range(self.dice.randrange(3)):
            self.writer.write(websocket_frame(1, b"hello"))
            assert await self.reader.readexactly(7) == b"\x81\x05hello"

    async def amid_a_frame(self) -> None:
        frame = websocket_frame(1, b"x" * 1000)
        self.writer.write(HANDSHAKE + frame[: self.dice.randrange(1, len(frame))])
        await self.reader.readuntil(b"\r\n\r\n")

    async def after_a_close_frame(self) -> None:
        self.writer.write(HANDSHAKE + websocket_frame(8, struct.pack("!H", 1000)))
        await self.reader.readuntil(b"\r\n\r\n")

    async def drop(self) -> None:
        """By FIN or by RST, as the dice fall."""
        if self.dice.random() < 0.5:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            self.writer.transport.abort()
        else:
            # Not wait_closed(): a peer that never reads would hold it.
            self.writer.close()


MOMENTS: list[Callable[[Client], Awaitable[None]]] = [
    Client.before_a_byte,
    Client.amid_a_head,
    Client.after_a_head,
    Client.while_nobody_answers,
    Client.amid_a_body,
    Client.amid_chunks,
    Client.amid_a_stream,
    Client.after_a_response,
    Client.amid_a_pipeline,
    Client.after_nonsense,
    Client.amid_a_handshake,
    Client.after_a_handshake,
    Client.while_nobody_accepts,
    Client.amid_a_websocket,
    Client.amid_a_frame,
    Client.after_a_close_frame,
]


async def visit(address: tuple[str, int], source: str, dice: random.Random) -> None:
    reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
    client = Client(reader, writer, dice)
    try:
        await dice.choice(MOMENTS)(client)
    finally:
        await client.drop()


async def visits(address: tuple[str, int], count: int, seed: int) -> None:
    """Many of them, so many at a time; one that fails, fails the test."""
    dice = random.Random(seed)
    for number in range(count // BATCH):
        source = SOURCES[number % len(SOURCES)]
        await asyncio.gather(*(visit(address, source, dice) for _ in range(BATCH)))


class Worker:
    """The only worker of a master."""

    def __init__(self, server: Master) -> None:
        """Find it."""
        self.server = server
        (self.pid,) = server.workers()

    def told(self) -> dict[str, int]:
        with Wire(self.server.connect()) as wire:
            told: dict[str, int] = wire.request("GET", "/tasks").json()
        return told

    def settled(self, tasks: int, fds: int) -> bool:
        return self.told()["tasks"] <= tasks and self.server.fds(self.pid) <= fds

    def rush(self, count: int, seed: int, tasks: int, fds: int) -> int:
        """Visit it, wait until all is over, and return its memory."""
        address = self.server.address
        assert isinstance(address, tuple)
        run(visits(address, count, seed), timeout=150)
        wait_until(lambda: self.settled(tasks, fds), 30, "tasks and descriptors to be released")
        return self.server.memory(self.pid)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("early", [b"", websocket_frame(1, b"early")], ids=["silent", "early"])
def test_a_client_that_leaves_before_it_is_accepted_is_noticed(loop: str, early: bytes) -> None:
    """ASGI, "Disconnect": receive() tells with 1006, and what does not end then is cancelled."""
    env = {"GUNICORN_ASGI_LOOP": loop, "GUNICORN_ASGI_DISCONNECT_GRACE_PERIOD": "0.2"}
    with Master("app:app", files={"app.py": APP.read_text()}, env=env) as server:
        worker = Worker(server)
        tasks, fds = worker.told()["tasks"], server.fds(worker.pid)
        wires = [Wire(server.connect()) for _ in range(20)]
        for wire in wires:
            wire.send(NEVER + early)
        wait_until(lambda: worker.told()["never accepted"] == 20, 10, "the handshakes")
        for number, wire in enumerate(wires):
            wire.abort() if number % 2 else wire.close()
        wait_until(lambda: worker.told()["told"] == 20, 10, "the application to be told")
        wait_until(lambda: worker.settled(tasks, fds), 10, "all of it to be released")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_comes_before_the_handshake_is_answered_is_bounded(loop: str) -> None:
    """A client that sends and sends, to an application that does not accept."""
    env = {"GUNICORN_ASGI_LOOP": loop}
    args = ("--graceful-timeout", "2")
    with Master("app:app", *args, files={"app.py": APP.read_text()}, env=env) as server:
        worker = Worker(server)
        assert worker.told()["never accepted"] == 0
        memory = server.memory(worker.pid)
        with Wire(server.connect()) as wire:
            wire.send(NEVER)
            wire.sock.settimeout(1)
            frame = websocket_frame(2, b"x" * 100_000)
            sent = 0
            with suppress(TimeoutError):
                while sent < 100 * MB:
                    sent += wire.sock.send(frame)
            assert sent < 20 * MB
            assert server.memory(worker.pid) - memory < 10 * MB
            assert worker.told()["never accepted"] == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_twenty_thousand_connections_leave_nothing_behind(loop: str) -> None:
    env = {"GUNICORN_ASGI_LOOP": loop, "GUNICORN_ASGI_DISCONNECT_GRACE_PERIOD": "0.2"}
    args = ("--keep-alive", "30")
    with Master("app:app", *args, files={"app.py": APP.read_text()}, env=env) as server:
        worker = Worker(server)
        tasks, fds = worker.told()["tasks"], server.fds(worker.pid)
        memory = worker.rush(WARM_UP, 1, tasks, fds)
        after = worker.rush(CONNECTIONS, 2, tasks, fds)
        assert after - memory < 5 * MB, f"{(after - memory) / MB:.1f} MB more than before"
        told = worker.told()
        assert server.workers() == [worker.pid]
        log = server.log()
    # The visits really were of all these kinds.
    share = CONNECTIONS // len(MOMENTS)
    assert told["http"] > 4 * share
    assert told["websocket"] > 3 * share
    assert told["streams"] > share
    assert told["uploads cut"] > share
    # Clients that leave are no error of anybody's, and nobody's to trace.
    assert "Traceback" not in log, log[-4000:]
    assert "never retrieved" not in log, log[-4000:]
