"""Slow clients, by the hundred: they connect and never come to an end of what they do.

    with Attack(m.address, HEAD, 500) as attack:
        wait_until(lambda: attack.left == 0, 20)
    assert min(attack.lived) > 4

One thread drives all of them, so that they cost the processes under test next to nothing.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.message import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from kit.master import Address

__all__ = ["ASKING", "BODY", "HEAD", "READER", "SILENT", "Attack", "Slow", "descriptors"]

# How often (seconds) each of them does its little; not all at once, but in so many groups.
_PACE = 1.0
_GROUPS = 20
_LEFT = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True)
class Slow:
    """One kind of slow client.

    Attributes:
        name: what it is called.
        begin: what it sends at once.
        drip: what it sends every second after that.
        reads: bytes that it reads every second; what it is not told to read, it does not.

    """

    name: str
    begin: bytes = b""
    drip: bytes = b""
    reads: int = 0


SILENT = Slow("silent")
# As much of a head as its limits allow for some fields, and then a byte a second.
HEAD = Slow(
    "head",
    b"GET / HTTP/1.1\r\nHost: kit\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 8 + b"Z: ",
    b"z",
)
BODY = Slow("body", request("POST", "/", {"Content-Length": "100000"}), b"x")
READER = Slow("reader", request("GET", "/large"), reads=1)
# Asks for one thing after the other, and takes nothing.
ASKING = Slow("asking", request("GET", "/middle") * 10)


class _Client:
    """One of them."""

    def __init__(self, kind: Slow, sock: socket.socket) -> None:
        self.kind = kind
        self.sock = sock
        self.begun = time.monotonic()
        self.ended = 0.0
        sock.setblocking(False)
        sock.sendall(kind.begin)

    def drip(self) -> None:
        """Do what it does every second; whether that fails is told by the poll."""
        with contextlib.suppress(OSError):
            if self.kind.drip:
                self.sock.send(self.kind.drip)
            if self.kind.reads:
                self.sock.recv(self.kind.reads)


class Attack:
    """So many slow clients of one kind, from ``with`` until its end.

    Args:
        address: of the server, on TCP.
        kind: what they do.
        count: how many.

    Attributes:
        lived: for how long (seconds) each of those lived that were closed, or half closed.

    """

    def __init__(self, address: Address, kind: Slow, count: int = 500) -> None:
        """Prepare; nothing is opened before the ``with`` block is entered."""
        self.address = address
        self.kind = kind
        self.count = count
        self.lived: list[float] = []
        self._clients: list[_Client] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"slow-{kind.name}", daemon=True)

    @property
    def left(self) -> int:
        """How many have not been told that it is over."""
        return self.count - len(self.lived)

    def __enter__(self) -> Attack:
        """Open all connections, and begin to drip."""
        self._clients = [_Client(self.kind, self._open()) for _ in range(self.count)]
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        self._stopping.set()
        self._thread.join(10)
        for client in self._clients:
            client.sock.close()

    def _open(self) -> socket.socket:
        sock = socket.socket()
        # As over Ethernet: on the loopback interface a kernel would hold megabytes for each of
        # them, and it would be that which is tested.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.connect(self.address)
        return sock

    def _run(self) -> None:
        with contextlib.closing(select.epoll()) as epoll:
            by_fd = {client.sock.fileno(): client for client in self._clients}
            for fd in by_fd:
                epoll.register(fd, _LEFT)
            due, group = time.monotonic(), 0
            while not self._stopping.is_set():
                for fd, _ in epoll.poll(_PACE / _GROUPS):
                    epoll.unregister(fd)
                    client = by_fd[fd]
                    self.lived.append(time.monotonic() - client.begun)
                if time.monotonic() >= due:
                    for client in self._clients[group::_GROUPS]:
                        client.drip()
                    due, group = due + _PACE / _GROUPS, (group + 1) % _GROUPS


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Allow this process, and those it starts, so many descriptors.

    Raises:
        AssertionError: the machine does not.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= count, f"only {hard} descriptors are allowed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
