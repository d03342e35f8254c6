"""Whoever is slow, reader or application, costs the worker a bounded buffer.

The bound is that of the project: resident memory stays within 10 MB of what an idle worker has. A
body that the application itself holds is the application's memory, and there before.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.wire import Wire, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).parent / "apps" / "flow.py"
MIB = 1 << 20
BOUND = 10 * 1000 * 1000
BLOCK = bytes(range(256)) * (MIB // 256)
DOWNLOAD = 50
UPLOAD = 200


class Worker:
    """The only worker of a master, and what it costs beyond its idle self."""

    def __init__(self, server: Master) -> None:
        """Measure it while it is idle."""
        self.server = server
        (self.pid,) = server.workers()
        self.idle = server.memory(self.pid)
        self.fds = server.fds(self.pid)
        self.before = self.progress()
        self.peak = 0

    def progress(self, path: str = "/progress") -> dict[str, int]:
        with Wire(self.server.connect()) as wire:
            told: dict[str, int] = wire.request("GET", path).json()
        return told

    def since(self, name: str) -> int:
        """How much of something the application has done since the measurement began."""
        return self.progress()[name] - self.before[name]

    def look(self) -> None:
        """Take note of the present memory."""
        self.peak = max(self.peak, self.server.memory(self.pid) - self.idle)

    def check(self) -> None:
        """Nothing has cost more than the bound, and all of it has been released."""
        self.look()
        assert self.peak < BOUND, f"{self.peak / 1e6:.1f} MB above idle"
        wait_until(lambda: self.server.fds(self.pid) <= self.fds, 10, "descriptors to be closed")
        wait_until(lambda: self.progress()["tasks"] <= self.before["tasks"], 10, "the tasks to end")
        assert self.progress()["running"] == self.before["running"]
        assert self.server.workers() == [self.pid]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker on each loop, which has done a little of everything before it is measured."""
    env = {"GUNICORN_ASGI_LOOP": request.param}
    with Master("app:app", files={"app.py": APP.read_text()}, env=env) as master:
        with Wire(master.connect()) as wire:
            assert wire.request("POST", "/slowly", body=BLOCK).status == 200
            assert len(wire.request("GET", "/many").body) == DOWNLOAD * MIB
        yield master


@pytest.fixture
def worker(server: Master) -> Worker:
    """The worker, measured."""
    return Worker(server)


def connect(server: Master) -> Wire:
    """A connection with a small receive buffer, so that little is in flight in the kernel."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(30)
    assert isinstance(server.address, tuple)
    sock.connect(server.address)
    return Wire(sock)


def pieces(wire: Wire, *, framed: bool) -> Iterator[bytes]:
    """The body of the response, as it comes."""
    if framed:
        while (chunk := wire.recv_chunk()) is not None:
            yield chunk
    else:
        for _ in range(DOWNLOAD * 8):
            yield wire.recv_exact(MIB // 8)


def push(wire: Wire, worker: Worker, blocks: int, *, framed: bool) -> int:
    """Send blocks until nothing moves for a while; return how many bytes the kernels took."""
    data = chunked(BLOCK, last=False) if framed else BLOCK
    sent = 0
    wire.sock.settimeout(1.0)
    view = memoryview(data)
    for _ in range(blocks):
        rest = view
        while rest:
            try:
                count = wire.sock.send(rest)
            except TimeoutError:
                return sent
            sent += count
            rest = rest[count:]
        worker.look()
    return sent


@pytest.mark.parametrize("path", ["/many", "/one"])
def test_a_slow_reader_costs_a_buffer_and_not_the_body(
    server: Master, worker: Worker, path: str
) -> None:
    """ASGI, "Response Body": send() returns when the data is in the send buffer, not before."""
    with connect(server) as wire:
        wire.send(request("GET", path))
        response = wire.recv_head()
        assert response.status == 200
        # Nobody reads: what is held now is all that is ever held.
        for _ in range(20):
            worker.look()
            assert worker.since("sent") <= 12 * MIB
            assert worker.since("running") == 1
        whole = hashlib.sha256()
        for piece in pieces(wire, framed=path == "/many"):
            whole.update(piece)
            worker.look()
    assert whole.digest() == hashlib.sha256(BLOCK * DOWNLOAD).digest()
    worker.check()


@pytest.mark.parametrize("path", ["/many", "/one"])
def test_a_reader_who_leaves_releases_what_was_held(
    server: Master, worker: Worker, path: str
) -> None:
    wires = [connect(server) for _ in range(10)]
    for wire in wires:
        wire.send(request("GET", path))
        assert wire.recv_head().status == 200
    worker.look()
    assert worker.since("running") == 10
    for number, wire in enumerate(wires):
        wire.abort() if number % 2 else wire.close()
    wait_until(lambda: worker.since("running") == 0, 10, "the applications to end")
    worker.check()


@pytest.mark.parametrize("framed", [False, True], ids=["length", "chunked"])
def test_an_upload_into_an_application_that_does_not_read_waits_at_the_client(
    server: Master, worker: Worker, framed: bool
) -> None:
    """And the client can read the early answer when it comes (RFC 9112, 9.6)."""
    fields = {"Transfer-Encoding": "chunked"} if framed else {"Content-Length": str(UPLOAD * MIB)}
    with Wire(server.connect()) as wire:
        wire.send(request("POST", "/unread", fields))
        wait_until(lambda: worker.since("running") == 1, 5, "the application to run")
        sent = push(wire, worker, UPLOAD, framed=framed)
        assert sent < 20 * MIB, "the socket was read although nobody wanted it"
        worker.look()
        worker.progress("/go")
        wire.sock.settimeout(10)
        assert wire.recv_response().body == b"not read"
    worker.check()


@pytest.mark.parametrize("framed", [False, True], ids=["length", "chunked"])
def test_an_upload_into_an_application_that_reads_slowly_arrives_whole(
    server: Master, worker: Worker, framed: bool
) -> None:
    fields = {"Transfer-Encoding": "chunked"} if framed else {"Content-Length": str(UPLOAD * MIB)}
    with Wire(server.connect()) as wire:
        wire.send(request("POST", "/slowly", fields))
        assert push(wire, worker, UPLOAD, framed=framed) >= UPLOAD * MIB
        if framed:
            wire.send(chunked())
        wire.sock.settimeout(30)
        assert wire.recv_response().text == hashlib.sha256(BLOCK * UPLOAD).hexdigest()
    assert worker.since("received") == UPLOAD * MIB
    worker.check()


def test_pipelined_requests_wait_at_the_client_too(server: Master, worker: Worker) -> None:
    """A client that asks and asks, and never reads an answer, is not read either."""
    with Wire(server.connect()) as wire:
        wire.send(request("GET", "/many"))
        ask = request("GET", "/many", {"X-Padding": "x" * 4000}) * 256
        wire.sock.settimeout(1.0)
        sent = 0
        for _ in range(200):
            try:
                sent += wire.sock.send(ask)
            except TimeoutError:
                break
            worker.look()
        assert sent < 20 * MIB, "requests were read although the first is not answered"
        worker.look()
    worker.check()
