"""aio/response.py: what may happen while a file is on its way to the client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError
from kit.message import WireError
from kit.rig import (
    Client,
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    pathsend,
    request,
    scripted,
    start,
    turns,
    until,
    zerocopy,
)

__all__: list[str] = []

# More than one piece, and no two stretches of it alike.
DATA = b"".join(b"%07x\n" % number for number in range(75_000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


async def stuck(client: Client) -> None:
    """Wait until the first piece of a file is held for a client that does not read."""
    await until(lambda: client.transport.buffer_size >= 256 * 1024)


@both_loops
async def test_slow_reader_of_a_file_costs_a_buffer(path: Path) -> None:
    """Core, send(): back-pressure; 16 MB of a file are never held."""
    with path.open("ab") as file:
        file.truncate(16_000_000)
    _, client, app = await scripted(request())
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(pathsend(str(path))))
    await stuck(client)
    await turns()
    assert client.transport.buffer_size <= 65536 + 300_000
    assert not sending.done()
    client.transport.catch_up()
    await sending
    assert len((await client.response()).body) == 16_000_000


@pytest.mark.parametrize("how", ["leave", "eof"])
@both_loops
async def test_client_that_leaves_in_the_middle_of_a_file(path: Path, how: str) -> None:
    """An OSError; what was sent is in the record, and the descriptor is closed."""
    before = len(os.listdir("/proc/self/fd"))
    rig, client, app = await scripted(request())
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(pathsend(str(path))))
    await stuck(client)
    await turns()
    getattr(client, how)()
    client.leave()
    with pytest.raises(ClientDisconnected):
        await sending
    with pytest.raises(ClientDisconnected):
        await app.send(body(b"more"))
    (record,) = rig.records
    assert (record.status, record.sent) == (499, 256 * 1024)
    assert rig.complaints == []
    assert len(os.listdir("/proc/self/fd")) == before


@both_loops
async def test_nothing_is_sent_while_a_file_is_on_its_way(path: Path) -> None:
    """Two tasks that send at once would write into each other's chunks."""
    _, client, app = await scripted(request())
    client.transport.stall()
    await app.send(start())
    file = path.open("rb")
    sending = asyncio.ensure_future(app.send(zerocopy(file, more_body=True)))
    await stuck(client)
    for message in (body(b"more", True), zerocopy(file), pathsend(str(path)), start()):
        with pytest.raises(LocalProtocolError, match="while a file"):
            await app.send(message)
    hint = {"type": "http.response.early_hint", "links": [b"</late>"]}
    hinting = asyncio.ensure_future(app.send(hint))
    await turns()
    client.transport.catch_up()
    await asyncio.gather(sending, hinting)
    file.close()
    await app.send(body(b"end"))
    assert (await client.response()).chunks == [DATA, b"end"]


@pytest.mark.parametrize("swallowed", [False, True])
@both_loops
async def test_file_that_was_cancelled_on_its_way_cuts_the_response_off(
    path: Path, swallowed: bool
) -> None:
    """What came behind half a file would be taken for its other half."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        sending = asyncio.ensure_future(send(pathsend(str(path))))
        await stuck(client)
        sending.cancel()
        try:
            await sending
        except asyncio.CancelledError:
            if not swallowed:
                raise
        await send(body(b"x" * len(DATA)))

    rig = Rig(app)
    client = rig.connect()
    client.transport.stall()
    client.send(request() + request("GET", "/next"))
    await until(lambda: not rig.state.tasks)
    client.transport.catch_up()
    await until(lambda: client.ended)
    with pytest.raises(WireError):
        client.responses()
    assert b"x" * 10 not in client.received
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert len(rig.log.lines("error")) == 1


@both_loops
async def test_malformed_body_does_not_write_into_a_file(path: Path) -> None:
    """A 400 has no place in the middle of a response: it is cut off."""
    rig, client, app = await scripted(
        request("POST", headers={"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\n"
    )
    client.transport.stall()
    await app.send(start())
    sending = asyncio.ensure_future(app.send(pathsend(str(path))))
    await stuck(client)
    client.send(b"ZZ\r\n")
    client.transport.catch_up()
    with pytest.raises(ClientDisconnected):
        await sending
    await until(lambda: client.ended)
    assert client.received.count(b"HTTP/1.1 ") == 1
    assert rig.records[0].status == 499


def _shorter(fd: int, size: int, offset: int) -> bytes:
    return b"" if offset else DATA[:size]


def _unreadable(fd: int, size: int, offset: int) -> bytes:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("pread", [_shorter, _unreadable])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("streamed", [False, True])
@both_loops
async def test_file_that_fails_on_the_way_cuts_the_response_off(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pread: Callable[[int, int, int], bytes],
    version: str,
    streamed: bool,
) -> None:
    """It has become shorter, or the disk is broken: the client must see it, and so must we."""
    monkeypatch.setattr(os, "pread", pread)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        with path.open("rb") as file:
            await send(zerocopy(file, more_body=streamed))

    rig = Rig(app)
    client = rig.connect()
    client.send(request(version=version) + request("GET", "/next", version=version))
    await until(lambda: client.ended)
    await until(lambda: not rig.state.tasks)
    assert client.received.count(b"HTTP/1.") == 1
    if streamed and version == "1.0":
        assert client.transport.aborted  # a clean end would look like the end of the body
    else:
        with pytest.raises(WireError):
            client.responses()
    (line,) = rig.log.lines("error")
    assert line == (
        f"The application has sent a file that could not be read to its end: {rig.named()}"
    )
    assert rig.log.records[-1][0] == "debug"
    assert [(record.status, record.sent) for record in rig.records] == [
        (200, 256 * 1024 if pread is _shorter else 0)
    ]


@pytest.mark.parametrize("by", ["path", "file"])
@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_file_after_the_client_has_left_raises_an_oserror(
    path: Path, begun: bool, by: str
) -> None:
    """HTTP message format 2.4; each time."""
    _, client, app = await scripted(request())
    if begun:
        await app.send(start())
    client.leave()
    for _ in range(2):
        with path.open("rb") as file, pytest.raises(ClientDisconnected):
            await app.send(pathsend(str(path)) if by == "path" else zerocopy(file))
    await turns()
    assert client.received == b""
