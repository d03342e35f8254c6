"""aio/filesend.py: files on real sockets, by sendfile(2) and without."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.aio.http1 import HTTP1Protocol
from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.errors import ClientDisconnected
from kit.loopback import Serving, anonymous_tls, serving
from kit.rig import (
    Message,
    Receive,
    Scope,
    Send,
    body,
    both_loops,
    parse_responses,
    pathsend,
    request,
    start,
    turns,
    until,
    zerocopy,
)

__all__: list[str] = []

# More than a socket holds, and no two stretches of it alike.
DATA = b"".join(b"%015x\n" % number for number in range(512 * 1024))
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 8 MiB."""
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that sendfile(2) was asked for."""
    sizes: list[int] = []
    real = os.sendfile

    def counted(out: int, file: int, offset: int, count: int) -> int:
        sizes.append(count)
        return real(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", counted)
    return sizes


def fds() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def idle_fds(served: Serving) -> int:
    """Count them before the first client: uvloop opens one more with its first connection."""
    peer = await served.connect()
    await peer.close()
    await until(lambda: not served.state.connections)
    return fds()


class Files:
    """An application that sends these messages, and remembers how that ended."""

    def __init__(self, *messages: Message) -> None:
        """Send a start and then these."""
        self.messages = messages
        self.raised: list[BaseException] = []
        self.tasks: list[asyncio.Task[Any] | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of them."""
        self.tasks.append(asyncio.current_task())
        try:
            await send(start())
            for message in self.messages:
                await send(message)
        except BaseException as exc:
            self.raised.append(exc)
            raise


class SlowClient:
    """A client that reads only when it is told to."""

    def __init__(self, served: Serving) -> None:
        """Connect, with a small window."""
        self.sock = socket.socket(served.socks[0].family)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.sock.connect(served.socks[0].getsockname())
        self.sock.setblocking(False)
        self.received = bytearray()
        self.loop = asyncio.get_running_loop()

    def send(self, data: bytes) -> None:
        """Send."""
        assert self.sock.send(data) == len(data)

    async def read(self, size: int | None = None) -> bytes:
        """Read that much, or up to the end, be it a reset."""
        while size is None or size > 0:
            try:
                data = await self.loop.sock_recv(self.sock, min(size or MIB, MIB))
            except ConnectionResetError:
                break
            if not data:
                break
            self.received += data
            size = None if size is None else size - len(data)
        return bytes(self.received)

    def reset(self) -> None:
        """Leave with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def ask(served: Serving) -> bytes:
    """Ask twice on one connection, and return what came."""
    client = SlowClient(served)
    client.send(request() + request(headers={"Connection": "close"}))
    first, second = parse_responses(await client.read())
    client.sock.close()
    assert first.body == second.body
    assert first.keeps_alive
    return first.body


def connection(served: Serving) -> HTTP1Protocol:
    """The server's side of the only connection."""
    (found,) = served.state.connections
    assert isinstance(found, HTTP1Protocol)
    return found


async def stuck(served: Serving) -> None:
    """Wait until the client has to read before anything more can be sent."""
    await until(lambda: served.state.connections and connection(served).flow.write_paused)


# -- the whole file arrives ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@both_loops
async def test_file_goes_out_by_sendfile(
    tmp_path: Path, calls: list[int], unix: bool, size: int
) -> None:
    """sendfile(2), in pieces that let others have their turn; no descriptor is left."""
    path = tmp_path / "file"
    path.write_bytes(DATA[:size])
    app = Files(pathsend(str(path)))
    async with serving(app, path=tmp_path / "sock" if unix else None) as served:
        open_before = await idle_fds(served)
        assert await ask(served) == DATA[:size]
        await until(lambda: fds() == open_before)
    assert bool(calls) is bool(size)
    assert max(calls, default=0) <= MIB
    assert served.log.lines("warning", "error") == []


@pytest.mark.parametrize("more", [False, True], ids=["last", "chunk"])
@both_loops
async def test_bytes_and_files_keep_their_order(path: Path, calls: list[int], more: bool) -> None:
    """What the transport still holds leaves before the file, which goes past it."""
    large = DATA[: 5 * MIB : -1]
    with path.open("rb") as file:
        messages = [
            body(large, True),
            zerocopy(file, offset=5 * MIB, more_body=True),
            body(large[:100], True),
            zerocopy(file, offset=0, count=160, more_body=more),
        ]
        if more:
            messages.append(body(b""))
        async with serving(Files(*messages)) as served:
            client = SlowClient(served)
            client.send(request() + request(headers={"Connection": "close"}))
            await stuck(served)
            first, second = parse_responses(await client.read())
            client.sock.close()
    assert first.body == large + DATA[5 * MIB :] + large[:100] + DATA[:160]
    assert first.body == second.body
    assert calls


@both_loops
async def test_encrypted_file_is_read_and_written(path: Path, calls: list[int]) -> None:
    """TLS: the kernel cannot encrypt."""
    app = Files(pathsend(str(path)))
    async with serving(app, tls=anonymous_tls()) as served:
        peer = await served.connect(tls=True)
        peer.send(request(headers={"Connection": "close"}))
        await until(lambda: peer.ended)
        assert parse_responses(peer.received)[0].body == DATA
    assert calls == []


@both_loops
async def test_sendfile_off_is_obeyed(path: Path, calls: list[int]) -> None:
    """Gunicorn's setting ``sendfile``: some file systems tell the kernel lies."""
    app = Files(pathsend(str(path)))
    async with serving(app, policy=Policy(sendfile=False)) as served:
        assert await ask(served) == DATA
    assert calls == []


@both_loops
async def test_system_without_sendfile_does_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The os module has it where there is one."""
    monkeypatch.delattr(os, "sendfile")
    async with serving(Files(pathsend(str(path)))) as served:
        assert await ask(served) == DATA


def _failing(code: int, after: int = 0) -> Callable[..., int]:
    """A sendfile(2) that fails with ``code``, after that many bytes."""

    def sendfile(out: int, file: int, offset: int, count: int) -> int:
        if offset < after:
            return os.write(out, DATA[offset:after])
        raise OSError(code, os.strerror(code))

    return sendfile


@pytest.mark.parametrize("code", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
@both_loops
async def test_file_that_knows_no_sendfile_is_read_and_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """sendfile(2), ERRORS: "applications may wish to fall back to read(2)/write(2)"."""
    monkeypatch.setattr(os, "sendfile", _failing(getattr(errno, code)))
    async with serving(Files(pathsend(str(path)))) as served:
        assert await ask(served) == DATA
    assert served.log.lines("warning", "error") == []


@both_loops
async def test_file_is_sent_when_descriptors_have_run_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    """EMFILE: the duplicate is a convenience, and the response a promise."""

    def dup(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", dup)
    async with serving(Files(pathsend(str(path)))) as served:
        assert await ask(served) == DATA
    assert calls == []


# -- what may happen on the way --------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@both_loops
async def test_slow_reader_gets_the_whole_file_and_is_timed(
    tmp_path: Path, path: Path, unix: bool
) -> None:
    """While the kernel takes no more, the write clock runs, and what it takes is progress."""
    where = tmp_path / "sock" if unix else None
    async with serving(Files(pathsend(str(path))), path=where) as served:
        client = SlowClient(served)
        client.send(request())
        await stuck(served)
        server = connection(served)
        assert server.deadline > 0
        assert server.transport.get_write_buffer_size() == 0
        before = server.written
        assert 0 < before < len(DATA)
        await client.read(4 * MIB)
        await until(lambda: server.written > before)
        client.send(request(headers={"Connection": "close"}))
        first, second = parse_responses(await client.read())
        assert first.body == second.body == DATA
        assert server.written == len(client.received)
        client.sock.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "not reading"])
@both_loops
async def test_client_that_leaves_in_the_middle_of_a_file(
    path: Path, how: str, paused: bool
) -> None:
    """The application learns it, and no descriptor is left; even if the socket is not read."""
    app = Files(pathsend(str(path)))
    async with serving(app) as served:
        open_before = await idle_fds(served)
        client = SlowClient(served)
        client.send(request() * (3 if paused else 1))
        await stuck(served)
        assert connection(served).flow.reading_paused is paused
        getattr(client.sock if how == "close" else client, how)()
        await until(lambda: not served.state.connections and not served.state.tasks)
        assert [type(exc) for exc in app.raised] == [ClientDisconnected]
        await until(lambda: fds() == open_before)
    assert served.log.lines("warning", "error") == []


@pytest.mark.parametrize("end", ["abort", "write_stalled", "time_out"])
@both_loops
async def test_connection_that_is_given_up_in_the_middle_of_a_file_is_really_closed(
    path: Path, end: str
) -> None:
    """The duplicate would keep the kernel from closing it."""
    app = Files(pathsend(str(path)))
    async with serving(app) as served:
        open_before = await idle_fds(served)
        client = SlowClient(served)
        client.send(request())
        await stuck(served)
        server = connection(served)
        if end == "time_out":
            server.answer_expired()
        else:
            getattr(server, end)()
        await until(lambda: not served.state.connections and not served.state.tasks)
        assert len(await client.read()) < len(DATA)
        client.sock.close()
        expected = asyncio.CancelledError if end == "time_out" else ClientDisconnected
        assert [type(exc) for exc in app.raised] == [expected]
        await until(lambda: fds() == open_before)
    assert served.log.lines("error") == []


@both_loops
async def test_client_that_leaves_before_the_file_has_its_turn(path: Path) -> None:
    """What was written before has to leave first, and never does."""
    with path.open("rb") as file:
        app = Files(body(DATA, True), zerocopy(file))
        async with serving(app, write_buffer=100 * MIB) as served:
            client = SlowClient(served)
            client.send(request())
            await stuck(served)
            assert connection(served).transport.get_write_buffer_size() > 0
            client.reset()
            await until(lambda: not served.state.connections and not served.state.tasks)
        assert file.tell() == 0
    assert [type(exc) for exc in app.raised] == [ClientDisconnected]
    assert served.log.lines("warning", "error") == []


@both_loops
async def test_file_may_be_given_up_twice(path: Path) -> None:
    """The client leaves, and the connection is closed: in one turn of the loop."""
    app = Files(pathsend(str(path)))
    async with serving(app) as served:
        client = SlowClient(served)
        client.send(request())
        await stuck(served)
        server = connection(served)
        server.eof_received()
        server.eof_received()
        server.abort()
        await until(lambda: app.raised)
        client.sock.close()
    assert [type(exc) for exc in app.raised] == [ClientDisconnected]


@both_loops
async def test_cancelled_file_leaves_nothing_behind(path: Path) -> None:
    """A worker at the end of its drain: the response is cut off and its descriptors are closed."""
    app = Files(pathsend(str(path)))
    async with serving(app) as served:
        open_before = await idle_fds(served)
        client = SlowClient(served)
        client.send(request())
        await stuck(served)
        served.state.begin_drain()
        assert app.tasks[0] is not None
        app.tasks[0].cancel()
        await until(lambda: not served.state.tasks)
        assert len(await client.read()) < len(DATA)
        client.sock.close()
        await until(lambda: not served.state.connections)
        await until(lambda: fds() == open_before)
    assert [line.partition(":")[0] for line in served.log.lines("warning", "error")] == [
        "Cancelled at the end of the drain"
    ]


@both_loops
async def test_file_that_becomes_shorter_on_the_way_cuts_the_response_off(tmp_path: Path) -> None:
    """sendfile(2) returns 0 at the end of the file: the promise cannot be kept."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    async with serving(Files(pathsend(str(path)))) as served:
        client = SlowClient(served)
        client.send(request())
        await stuck(served)
        os.truncate(path, 5)
        received = await client.read()
        client.sock.close()
        assert b"content-length: %d\r\n" % len(DATA) in received
        assert len(received) < len(DATA)
        await until(lambda: not served.state.connections)
    (line,) = served.log.lines("warning", "error")
    assert line.startswith("The application has sent a file that could not be read to its end")


@pytest.mark.parametrize("code", ["EIO", "EINVAL"])
@both_loops
async def test_file_that_fails_behind_its_first_byte_cuts_the_response_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """What has failed once may fail for a reason that reading would meet too."""
    monkeypatch.setattr(os, "sendfile", _failing(getattr(errno, code), after=1000))
    async with serving(Files(pathsend(str(path)))) as served:
        client = SlowClient(served)
        client.send(request())
        received = await client.read()
        client.sock.close()
        assert received.endswith(b"\r\n\r\n" + DATA[:1000])
        await turns()
    assert len(served.log.lines("warning", "error")) == 1


@both_loops
async def test_network_that_fails_is_no_error_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose route is gone has left."""
    monkeypatch.setattr(os, "sendfile", _failing(errno.EHOSTUNREACH, after=1000))
    app = Files(pathsend(str(path)))
    async with serving(app) as served:
        client = SlowClient(served)
        client.send(request())
        await client.read()
        client.sock.close()
        await until(lambda: app.raised)
    assert isinstance(app.raised[0], ClientDisconnected)
    assert served.log.lines("warning", "error") == []


@both_loops
async def test_others_have_their_turn_while_a_file_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is as fast as the kernel must not have the loop for itself."""
    turn = 0
    seen: list[int] = []
    real = os.sendfile

    async def tick() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def sendfile(out: int, file: int, offset: int, count: int) -> int:
        seen.append(turn)
        return real(out, file, offset, min(count, 100_000))  # a kernel that never has enough

    monkeypatch.setattr(os, "sendfile", sendfile)
    ticking = asyncio.ensure_future(tick())
    async with serving(Files(pathsend(str(path)))) as served:
        assert await ask(served) == DATA
    ticking.cancel()
    assert len(seen) > 160
    # Before or behind the ticking, and behind or before it in the next turn.
    assert max(Counter(seen).values()) <= 2
