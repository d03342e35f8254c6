"""aio/response.py: bodies that come from files (ASGI extensions pathsend and zerocopysend).

A fake transport has no socket, so the bytes are read and written here; test_filesend.py has real
ones.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from kit.rig import (
    Receive,
    Rig,
    Scope,
    Send,
    body,
    both_loops,
    hello,
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
LENGTH = [(b"content-length", b"%d" % len(DATA))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


class Bare:
    """An object that has a descriptor, and nothing else of a file."""

    def __init__(self, fd: int) -> None:
        """Lend a descriptor."""
        self.fd = fd

    def fileno(self) -> int:
        """As os.sendfile wants it."""
        return self.fd


# -- pathsend --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 600_000])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@both_loops
async def test_path_is_a_whole_response_of_known_length(
    tmp_path: Path, version: str, size: int
) -> None:
    """Extension "Path Send"; the length keeps the connection alive, for HTTP/1.0 too."""
    path = tmp_path / "file"
    path.write_bytes(DATA[:size])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-type", b"text/plain")]))
        await send(pathsend(str(path)))
        await send(body(b"ignored"))

    rig = Rig(app)
    client = rig.connect()
    client.send(request(headers={"Connection": "keep-alive"}, version=version) * 2)
    response = await client.response(2)
    assert response.body == DATA[:size]
    assert response.header("content-length") == b"%d" % size
    assert response.keeps_alive
    assert [record.sent for record in rig.records] == [size, size]
    assert rig.complaints == []


@pytest.mark.parametrize(
    ("method", "status", "headers", "length"),
    [
        ("HEAD", 200, [], b"600000"),
        ("HEAD", 200, LENGTH, b"600000"),
        ("GET", 204, [], None),
        ("GET", 304, [], None),
        ("GET", 304, [(b"content-length", b"9")], b"9"),
        ("HEAD", 304, LENGTH, b"600000"),
    ],
)
@pytest.mark.parametrize("by", ["path", "file"])
@both_loops
async def test_file_of_a_response_without_body_is_not_sent(
    path: Path,
    by: str,
    method: str,
    status: int,
    headers: list[tuple[bytes, bytes]],
    length: bytes | None,
) -> None:
    """RFC 9110 6.4.1: its bytes would be taken for the next response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/next":
            await hello(scope, receive, send)
            return
        await send(start(status, headers))
        with path.open("rb") as file:
            await send(pathsend(str(path)) if by == "path" else zerocopy(file))

    rig = Rig(app)
    client = rig.connect()
    client.send(request(method) + request("GET", "/next"))
    await until(lambda: client.received.endswith(b"/next"))
    first, second = client.responses(method)
    assert (first.status, first.body, second.body) == (status, b"", b"/next")
    assert first.header("content-length") == length
    assert rig.records[0].sent == 0


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("by", ["path", "file"])
@both_loops
async def test_file_that_is_not_of_its_content_length_is_refused_before_it_leaves(
    path: Path, by: str, off: int
) -> None:
    """RFC 9110 8.6: the client gets a 500, and not a part of the file."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"%d" % (len(DATA) + off))]))
        with path.open("rb") as file:
            await send(pathsend(str(path)) if by == "path" else zerocopy(file))

    rig = Rig(app)
    client = rig.connect()
    client.get()
    assert (await client.response()).status == 500
    assert len(rig.log.lines("error")) == 1


@both_loops
async def test_relative_path_is_taken_from_the_working_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The specification says absolute; Starlette's FileResponse("index.html") does not care."""
    monkeypatch.chdir(path.parent)
    _, client, app = await scripted(request())
    await app.send(start())
    await app.send(pathsend(path.name))
    assert (await client.response()).body == DATA


def _no_path(folder: Path) -> list[object]:
    os.mkfifo(folder / "fifo")
    return [
        None,
        b"/etc/hostname",
        Path("/etc/hostname"),
        5,
        "",
        "missing",
        str(folder),
        str(folder / "missing"),
        str(folder / "file" / "below"),
        str(folder / "file") + "\0",
        str(folder / "fifo"),
        "/dev/zero",
    ]


@both_loops
async def test_path_that_cannot_be_sent_is_raised_out_of_send(path: Path) -> None:
    """Never as an OSError, which would say that the client has left; then it may go on."""
    before = len(os.listdir("/proc/self/fd"))
    for wrong in _no_path(path.parent):
        _, client, app = await scripted(request())
        await app.send(start())
        with pytest.raises(LocalProtocolError):
            await app.send(pathsend(wrong))
        with pytest.raises(LocalProtocolError):
            await app.send({"type": "http.response.pathsend"})
        await turns()
        assert client.received == b""
        await app.send(body(b"another"))
        assert (await client.response()).body == b"another"
        app.over.set()
    await turns()
    assert len(os.listdir("/proc/self/fd")) == before
    (path.parent / "fifo").unlink()


@both_loops
async def test_path_comes_behind_the_start_and_alone(path: Path) -> None:
    """Extension "Path Send": not mixed with body messages."""
    _, client, app = await scripted(request())
    with pytest.raises(LocalProtocolError):
        await app.send(pathsend(str(path)))
    await app.send(start())
    await app.send(body(b"one", True))
    with pytest.raises(LocalProtocolError):
        await app.send(pathsend(str(path)))
    await app.send(body(b"two"))
    assert (await client.response()).body == b"onetwo"
    await app.send(pathsend(str(path)))
    await turns()
    assert len(client.responses()) == 1


# -- zerocopysend ----------------------------------------------------------------------------------

STRETCHES: list[tuple[dict[str, Any], bytes]] = [
    ({}, DATA),
    ({"offset": 0}, DATA),
    ({"offset": None, "count": None}, DATA),
    ({"offset": 300_001}, DATA[300_001:]),
    ({"count": 300_001}, DATA[:300_001]),
    ({"offset": 5, "count": 1}, DATA[5:6]),
    ({"offset": 5, "count": 0}, b""),
    ({"offset": 600_000}, b""),
    ({"offset": 599_999, "count": 1}, DATA[-1:]),
]


@pytest.mark.parametrize(("stretch", "wanted"), STRETCHES, ids=repr)
@both_loops
async def test_file_as_the_whole_body_gets_its_length(
    path: Path, stretch: dict[str, Any], wanted: bytes
) -> None:
    """Extension "Zero Copy Send": offset and count; the application closes the file."""
    _, client, app = await scripted(request())
    await app.send(start())
    with path.open("rb") as file:
        await app.send(zerocopy(file, **stretch))
        assert not file.closed
        # As with sendfile(2): only a file that was read from its position moves on.
        assert file.tell() == (0 if stretch.get("offset") is not None else len(wanted))
    response = await client.response()
    assert (response.body, response.keeps_alive) == (wanted, True)
    assert response.header("content-length") == b"%d" % len(wanted)


@both_loops
async def test_files_and_bytes_make_one_body(path: Path) -> None:
    """Extension "Zero Copy Send": mixed, and often; each piece of a file is one chunk."""
    _, client, app = await scripted(request())
    await app.send(start())
    with path.open("rb") as file:
        await app.send(zerocopy(file, offset=0, count=8, more_body=True))
        await app.send(body(b"--", True))
        await app.send(zerocopy(file, offset=8, count=0, more_body=True))
        await app.send(zerocopy(file, offset=8, more_body=True))
        await app.send(body(b"", True))
        await app.send(zerocopy(file, offset=4, count=4))
    response = await client.response()
    assert response.chunks == [DATA[:8], b"--", DATA[8:], DATA[4:8]]
    assert response.keeps_alive


@pytest.mark.parametrize("last", [b"", b"end"])
@both_loops
async def test_file_counts_towards_the_content_length(path: Path, last: bytes) -> None:
    """RFC 9112 6.3; more than promised is refused, and what was right before still counts."""
    _, client, app = await scripted(request())
    length = 10 + len(last)
    await app.send(start(headers=[(b"content-length", b"%d" % length)]))
    with path.open("rb") as file:
        await app.send(zerocopy(file, offset=1, count=10, more_body=True))
        for wrong in (zerocopy(file, more_body=True), zerocopy(file, offset=0, count=4)):
            with pytest.raises(LocalProtocolError, match="longer"):
                await app.send(wrong)
        if last:
            with pytest.raises(LocalProtocolError, match="shorter"):
                await app.send(zerocopy(file, offset=0, count=1))
    await app.send(body(last))
    response = await client.response()
    assert (response.body, response.framing) == (DATA[1:11] + last, "length")
    assert response.keeps_alive


@both_loops
async def test_streamed_file_ends_the_connection_of_http_1_0(path: Path) -> None:
    """RFC 9112 6.1: no chunks for HTTP/1.0."""
    _, client, app = await scripted(request(version="1.0"))
    await app.send(start())
    with path.open("rb") as file:
        await app.send(zerocopy(file, count=8, more_body=True))
        await app.send(zerocopy(file, count=8))
    await until(lambda: client.ended)
    (response,) = client.responses()
    assert (response.framing, response.body) == ("close", DATA[:16])


def _buffered(path: Path) -> BinaryIO:
    return path.open("rb")


def _raw(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


@pytest.mark.parametrize("opener", [_buffered, _raw])
@both_loops
async def test_position_of_a_file_is_where_its_reader_is(
    path: Path, opener: Callable[[Path], BinaryIO]
) -> None:
    """Python's readers read ahead: the descriptor is further than what was read of the file."""
    _, client, app = await scripted(request())
    await app.send(start())
    with opener(path) as file:
        assert file.readline() == DATA[:8]
        await app.send(zerocopy(file, count=8, more_body=True))
        assert file.readline() == DATA[16:24]
        await app.send(zerocopy(file, count=8, more_body=True))
        await app.send(zerocopy(file))
        assert file.read() == b""
    assert (await client.response()).body == DATA[8:16] + DATA[24:]


@both_loops
async def test_anything_with_a_descriptor_is_a_file(path: Path) -> None:
    """Extension "Zero Copy Send": "that can be used to call os.sendfile"; text files, wrappers."""
    _, client, app = await scripted(request())
    await app.send(start())
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)
    await app.send(zerocopy(Bare(fd), count=4, more_body=True))
    await app.send(zerocopy(Bare(fd), count=8, more_body=True))
    assert os.lseek(fd, 0, os.SEEK_CUR) == 16
    os.close(fd)
    with path.open() as text:
        await app.send(zerocopy(text, count=8))
    assert (await client.response()).body == DATA[4:16] + DATA[:8]


def _no_files(path: Path) -> Iterable[tuple[object, dict[str, Any]]]:
    yield None, {}
    yield "file", {}
    yield 5, {}
    yield io.BytesIO(DATA), {}
    yield Bare(-1), {}
    yield Bare(1 << 20), {}
    yield Bare(None), {}  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    yield closed, {}
    with open("/dev/zero", "rb") as device:
        yield device, {"count": 5}
    ends = os.pipe()
    yield Bare(ends[0]), {"count": 5}
    for end in ends:
        os.close(end)
    with path.open("rb") as file:
        for wrong in (-1, "0", 1.0, b"0", [0]):
            yield file, {"offset": wrong}
            yield file, {"count": wrong}
        yield file, {"offset": len(DATA) + 1}
        yield file, {"count": len(DATA) + 1}
        yield file, {"offset": 1, "count": len(DATA)}


@pytest.mark.parametrize("begun", [False, True])
@both_loops
async def test_file_that_cannot_be_sent_is_raised_out_of_send(path: Path, begun: bool) -> None:
    """Before anything of it is written, and never as an OSError; then it may go on."""
    for file, more in _no_files(path):
        _, client, app = await scripted(request())
        await app.send(start())
        if begun:
            await app.send(body(b"begun;", True))
        with pytest.raises(LocalProtocolError):
            await app.send(zerocopy(file, **more))
        await app.send(body(b"another"))
        assert (await client.response()).body == (b"begun;another" if begun else b"another")
        app.over.set()
    await turns()


@both_loops
async def test_file_comes_behind_the_start(path: Path) -> None:
    """As body messages do; and is ignored behind the last of them."""
    _, client, app = await scripted(request())
    with path.open("rb") as file:
        with pytest.raises(LocalProtocolError):
            await app.send(zerocopy(file))
        with pytest.raises(LocalProtocolError):
            await app.send({"type": "http.response.zerocopysend"})
        await app.respond()
        await app.send(zerocopy(file))
    await turns()
    assert len(client.responses()) == 1


@pytest.mark.parametrize("by", ["path", "file"])
@both_loops
async def test_trailers_follow_a_file(path: Path, by: str) -> None:
    """The last of the body may be a file."""
    _, client, app = await scripted(request(headers={"TE": "trailers"}))
    await app.send({**start(), "trailers": True})
    with path.open("rb") as file:
        await app.send(pathsend(str(path)) if by == "path" else zerocopy(file))
        with pytest.raises(LocalProtocolError):
            await app.send(zerocopy(file))
    await app.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
    response = await client.response()
    assert (response.chunks, response.trailers) == ([DATA], [(b"x-sum", b"1")])
