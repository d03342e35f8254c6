"""Files as responses, over TCP, unix sockets and TLS, by sendfile(2) and without."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.master import Master, wait_until
from kit.tls import Certificates, client
from kit.wire import Wire, request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

APP = Path(__file__).parent / "apps" / "files.py"
MIB = 1 << 20
# No two stretches of it alike.
CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(160_000))
SIZES = [0, 1, 5_000_000]
WAYS = ["path", "file", "framework"]
# What asyncio says about an error that nobody has taken care of.
UNCARED = re.compile(r"never retrieved|never awaited|Exception in callback|Fatal error")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files named by their size."""
    folder = tmp_path_factory.mktemp("files")
    for size in SIZES:
        (folder / str(size)).write_bytes(CONTENT[:size])
    with (folder / "large").open("wb") as file:
        for _ in range(20):
            file.write(CONTENT)
    return folder


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    return Certificates(tmp_path_factory.mktemp("certs"))


def serve(loop: str, *args: str, **more: Any) -> Master:
    env = {"GUNICORN_ASGI_LOOP": loop}
    files = {"app.py": APP.read_text()}
    return Master("app:app", "--keep-alive", "10", *args, files=files, env=env, **more)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker on each loop, on TCP and on a unix socket."""
    with serve(request.param, bind=["tcp", "unix"]) as master:
        yield master
        assert not UNCARED.search(master.log()), master.log()[-4000:]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def encrypted(request: pytest.FixtureRequest, certs: Certificates) -> Iterator[Master]:
    """The same with TLS."""
    args = ("--certfile", certs.cert("server"), "--keyfile", certs.key("server"))
    with serve(request.param, *args) as master:
        yield master
        assert not UNCARED.search(master.log()), master.log()[-4000:]


@pytest.fixture
def context(certs: Certificates) -> ssl.SSLContext:
    """A client's."""
    return client(certs)


def used(connect: Callable[[], socket.socket]) -> dict[str, int]:
    """What the application has counted."""
    with Wire(connect()) as wire:
        told: dict[str, int] = wire.request("GET", "/used").json()
        return told


def download_all(connect: Callable[[], socket.socket], folder: Path) -> None:
    """Every size in every way, on one connection."""
    with Wire(connect()) as wire:
        for way in WAYS:
            for size in SIZES:
                response = wire.request("GET", f"/{way}?file={folder / str(size)}")
                assert (response.status, response.framing) == (200, "length"), (way, size)
                assert response.body == CONTENT[:size], (way, size)
                assert response.keeps_alive
        for size in SIZES:
            response = wire.request("GET", f"/mixed?file={folder / str(size)}")
            half = size // 2
            assert response.framing == "chunked"
            assert response.body == b"[%b|%b]" % (CONTENT[:half], CONTENT[half:size])


@pytest.mark.parametrize("where", [0, 1], ids=["tcp", "unix"])
def test_files_of_every_size_go_out_by_sendfile(server: Master, folder: Path, where: int) -> None:
    connect = partial(server.connect, address=server.addresses[where])
    before = used(connect)
    download_all(connect, folder)
    after = used(connect)
    assert after["bytes"] - before["bytes"] == (len(WAYS) + 1) * sum(SIZES)
    assert after["calls"] - before["calls"] >= (len(WAYS) + 1) * 6  # pieces of 1 MiB


def test_files_of_every_size_arrive_over_tls(
    encrypted: Master, folder: Path, context: ssl.SSLContext
) -> None:
    """The kernel cannot encrypt; the bytes are the same."""
    connect = partial(encrypted.connect, tls=context)
    download_all(connect, folder)
    assert used(connect)["calls"] == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sendfile_can_be_switched_off(folder: Path, loop: str) -> None:
    """Gunicorn's --no-sendfile."""
    with serve(loop, "--no-sendfile") as master:
        download_all(master.connect, folder)
        assert used(master.connect)["calls"] == 0


def test_head_and_http_1_0(server: Master, folder: Path) -> None:
    """RFC 9110 9.3.2; and for HTTP/1.0 a known length keeps the connection."""
    with Wire(server.connect()) as wire:
        for way in WAYS[:2]:
            path = f"/{way}?file={folder / '5000000'}"
            head = wire.request("HEAD", path)
            assert (head.body, head.header("content-length")) == (b"", b"5000000")
            old = wire.request("GET", path, {"Connection": "keep-alive"}, version="1.0")
            assert (old.version, old.body, old.keeps_alive) == ("1.0", CONTENT[:5_000_000], True)
        old = wire.request("GET", f"/mixed?file={folder / '1'}", version="1.0")
        assert (old.framing, old.body) == ("close", b"[|%b]" % CONTENT[:1])


def test_pipelined_files_wait_for_one_another(server: Master, folder: Path) -> None:
    """RFC 9112 9.3.2: what goes past the transport keeps its place all the same."""
    paths = [f"/{way}?file={folder / size}" for way in WAYS for size in ("5000000", "1", "0")]
    with Wire(server.connect()) as wire:
        wire.send(b"".join(request("GET", path) for path in paths))
        for path in paths:
            assert wire.recv_response().body == CONTENT[: int(path.rpartition("/")[2])]


def test_missing_file_is_an_error_that_can_be_told(server: Master) -> None:
    """Nothing was written before the file was opened: the client gets a 500, and we the reason."""
    mark = server.mark()
    with Wire(server.connect()) as wire:
        assert wire.request("GET", "/missing").status == 500
        wire.recv_eof()
    server.wait_log(r"LocalProtocolError: '/no/such/file' cannot be sent: .*No such", after=mark)


RANGES = [
    ("bytes=0-9", CONTENT[:10]),
    ("bytes=1000000-4999999", CONTENT[1_000_000:5_000_000]),
    ("bytes=-5", CONTENT[4_999_995:5_000_000]),
    ("bytes=4999999-", CONTENT[4_999_999:5_000_000]),
]


@pytest.mark.parametrize(("asked", "wanted"), RANGES, ids=[asked for asked, _ in RANGES])
def test_ranges_of_a_framework(server: Master, folder: Path, asked: str, wanted: bytes) -> None:
    """RFC 9110 14.2: FileResponse sends them as bytes."""
    with Wire(server.connect()) as wire:
        response = wire.request("GET", f"/framework?file={folder / '5000000'}", {"Range": asked})
        assert (response.status, response.body) == (206, wanted)
        assert response.header("content-length") == b"%d" % len(wanted)


@pytest.mark.parametrize(
    ("stretch", "wanted"),
    [
        ("offset=10", CONTENT[10:5_000_000]),
        ("count=10", CONTENT[:10]),
        ("offset=4000000&count=999999", CONTENT[4_000_000:4_999_999]),
        ("offset=5000000", b""),
    ],
)
def test_stretches_of_a_file(server: Master, folder: Path, stretch: str, wanted: bytes) -> None:
    with Wire(server.connect()) as wire:
        response = wire.request("GET", f"/file?file={folder / '5000000'}&{stretch}")
        assert response.body == wanted
        assert wire.request("GET", "/used").status == 200


def test_curl_downloads_a_file(server: Master, folder: Path) -> None:
    url = f"{server.base_url}/framework?file={folder / 'large'}"
    command = ["curl", "-sS", "--max-time", "20", "--limit-rate", "500M", url]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(CONTENT * 20).digest()


def slow(sock: socket.socket) -> Wire:
    """A client that cannot hold much."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return Wire(sock)


def read_slowly(master: Master, wire: Wire, path: str) -> None:
    """Read 100 MB and look at the worker's memory."""
    (worker,) = master.workers()
    idle = master.memory(worker)
    wire.send(request("GET", path))
    assert wire.recv_head().header("content-length") == b"%d" % (20 * len(CONTENT))
    for _ in range(20):
        assert wire.recv_exact(len(CONTENT)) == CONTENT
        assert master.memory(worker) - idle < 10_000_000
    assert wire.request("GET", "/used").status == 200


@pytest.mark.parametrize("where", [0, 1], ids=["tcp", "unix"])
def test_slow_reader_of_a_large_file_costs_nothing(
    server: Master, folder: Path, where: int
) -> None:
    with slow(server.connect(20, address=server.addresses[where])) as wire:
        read_slowly(server, wire, f"/path?file={folder / 'large'}")


def test_slow_reader_of_a_large_file_over_tls_costs_a_buffer(
    encrypted: Master, folder: Path, context: ssl.SSLContext
) -> None:
    with slow(encrypted.connect(20, tls=context)) as wire:
        read_slowly(encrypted, wire, f"/path?file={folder / 'large'}")


def leave_in_the_middle(master: Master, connect: Callable[[], socket.socket], folder: Path) -> None:
    """Twenty clients in every way; then nothing of them is left in the worker."""
    (worker,) = master.workers()
    before = used(connect)
    wait_until(lambda: used(connect)["tasks"] == before["tasks"], 10, "the tasks to end")
    fds = master.fds(worker)
    for number in range(20):
        wires = [slow(connect()) for _ in range(3)]
        for wire, path in zip(wires, ("/path", "/file", "/mixed"), strict=True):
            wire.send(request("GET", f"{path}?file={folder / 'large'}"))
            wire.recv_exact(1000)
        for wire in wires:
            wire.abort() if number % 2 else wire.close()
    wait_until(lambda: used(connect)["tasks"] == before["tasks"], 10, "the tasks to end")
    wait_until(lambda: master.fds(worker) <= fds, 10, "the descriptors to be closed")
    assert master.workers() == [worker]


@pytest.mark.parametrize("where", [0, 1], ids=["tcp", "unix"])
def test_clients_that_leave_in_the_middle_leave_nothing(
    server: Master, folder: Path, where: int
) -> None:
    connect = partial(server.connect, address=server.addresses[where])
    leave_in_the_middle(server, connect, folder)


def test_clients_that_leave_in_the_middle_of_tls_leave_nothing(
    encrypted: Master, folder: Path, context: ssl.SSLContext
) -> None:
    leave_in_the_middle(encrypted, partial(encrypted.connect, tls=context), folder)
