"""Large messages, both ways: who copies them, who holds them, and in how many pieces they go."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from kit.fakes import PeerTransport
from kit.loopback import serving
from kit.rig import (
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    parse_responses,
    read_all,
    request,
    respond,
    scripted,
    start,
    turns,
)

__all__: list[str] = []

KIB = 1024
MIB = 1024 * KIB
DATA = bytes(range(256)) * (4 * KIB)
Piece = bytes | bytearray | memoryview


class Handed:
    """What transports were given, as objects and call by call."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.calls: list[list[Piece]] = []

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` was given as it is, or a view of it."""
        pieces = [piece for call in self.calls for piece in call]
        return any(p is data or (isinstance(p, memoryview) and p.obj is data) for p in pieces)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Handed:
    """All that fake transports are given in this test."""
    handed = Handed()
    write = PeerTransport.write

    def remember(self: PeerTransport, data: Piece) -> None:
        handed.calls.append([data])
        write(self, data)

    def remember_all(self: PeerTransport, pieces: Iterable[Piece]) -> None:
        handed.calls.append(list(pieces))
        write(self, b"".join(bytes(piece) for piece in handed.calls[-1]))

    monkeypatch.setattr(PeerTransport, "write", remember)
    monkeypatch.setattr(PeerTransport, "writelines", remember_all)
    return handed


def is_uvloop() -> bool:
    """Whether the transports of this loop take many pieces at once, and copy none."""
    return type(asyncio.get_running_loop()).__module__ == "uvloop"


# -- send() ----------------------------------------------------------------------------------------


@both_loops
async def test_a_large_body_is_handed_over_without_a_copy(handed: Handed) -> None:
    """All of it but its end in one call, where nothing is copied by that; else in slices."""
    client = Rig(lambda scope, receive, send: respond(send, DATA)).connect()
    client.get()
    response = await client.response()
    assert response.body == DATA
    assert response.header("content-length") == b"%d" % MIB
    assert max(len(p) for call in handed.calls for p in call if isinstance(p, bytes)) < 300_000
    if is_uvloop():
        assert handed.holds(DATA)
        assert len(handed.calls) == 2
        # What is left when send() returns is no part of the message.
        assert [type(piece) for piece in handed.calls[-1]] == [bytes]
        assert len(handed.calls[-1][0]) == 64 * KIB


@both_loops
async def test_a_large_chunk_is_not_copied_into_its_framing(handed: Handed) -> None:
    """It goes between the two lines that are."""
    data = b"x" * (64 * KIB)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(data, True))
        await send(body(b"end"))

    client = Rig(app).connect()
    client.get()
    assert (await client.response()).chunks == [data, b"end"]
    assert handed.holds(data) is is_uvloop()


@both_loops
async def test_messages_of_64_kib_share_writes_where_they_need_not_be_joined(
    handed: Handed,
) -> None:
    """256 KiB at the most, so that a slow reader is noticed in time."""
    data = b"x" * (64 * KIB)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"%d" % (8 * len(data)))]))
        for number in range(8):
            await send(body(data, number < 7))

    client = Rig(app).connect()
    client.get()
    assert len((await client.response()).body) == 8 * len(data)
    sizes = [sum(map(len, call)) for call in handed.calls]
    assert max(sizes) < (256 + 64 if is_uvloop() else 64) * KIB + KIB
    assert len(sizes) <= (3 if is_uvloop() else 8)


@both_loops
async def test_nobody_holds_a_large_message_behind_send() -> None:
    """A slow reader costs the end of a message, however large it was."""
    data = bytes(8 * MIB)
    held: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        message = body(data, True)
        before = sys.getrefcount(data)
        await send(message)
        held.append(sys.getrefcount(data) - before)
        await send(body())

    async with serving(app) as served:
        loop = asyncio.get_running_loop()
        with socket.socket(served.socks[0].family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(served.socks[0].getsockname())
            sock.setblocking(False)
            sock.sendall(request(headers={"Connection": "close"}))
            received = b""
            while not held:
                received += await loop.sock_recv(sock, 16 * KIB)
            while piece := await loop.sock_recv(sock, MIB):
                received += piece
    assert held == [0]
    (response,) = parse_responses(received)
    assert response.body == data


# -- receive() -------------------------------------------------------------------------------------


@both_loops
async def test_large_pieces_of_a_body_are_handed_on_one_by_one() -> None:
    """To join them would be a copy; small ones in front of a large one are joined."""
    head = request("POST", headers={"Content-Length": "180000"})
    _, client, app = await scripted(head)
    for size in (40_000, 50_000, 10_000, 20_000, 60_000):
        client.send(bytes(size))
    await turns()
    for size in (40_000, 50_000, 30_000, 60_000):
        message = await app.receive()
        assert (len(message["body"]), message["more_body"]) == (size, size < 60_000)


@both_loops
async def test_reading_goes_on_as_soon_as_little_enough_is_held() -> None:
    """And not only when all that was held has been taken."""
    head = request("POST", headers={"Content-Length": "400000"})
    _, client, app = await scripted(head, read_buffer=100_000)
    client.transport.chunk = 40_000
    client.send(b"x" * 400_000)
    assert len(client.transport.inbound) == 400_000 - 120_000
    first: dict[str, Any] = await app.receive()
    await turns()
    assert len(first["body"]) == 40_000
    assert len(client.transport.inbound) == 400_000 - 160_000
    assert await read_all(app.receive) == b"x" * 360_000
