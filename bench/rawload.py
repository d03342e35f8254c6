"""The HTTP load for what wrk cannot do, or does with buffers of 8 kB: one process with epoll(7).

Unix sockets, and bodies of megabytes. What is sent is made before the clock runs. The first
response of each connection is looked at; all others have the same length, and are counted by it.
Run as ``python rawload.py ORDER``, a ``RawOrder`` in JSON; prints a ``Sample``.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from procs import cpu_seconds, raise_descriptors
from report import Sample

__all__ = ["Client", "Load", "RawOrder", "request"]

# Before the clock runs (seconds): caches fill, pools grow.
_WARM_UP = 0.2
# An answer that does not come within that time (seconds) never comes.
_PATIENCE = 20.0
# What is read at once: a response of a megabyte in a few calls.
_BUFFER = 1024 * 1024
# Told once whenever data or room has come (epoll(7), edge-triggered): nothing to switch on and off.
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(frozen=True)
class RawOrder:
    """What to do.

    Attributes:
        address: path of a unix socket; "" for TCP.
        port: on 127.0.0.1.
        pid: the first process of the server.
        method, path: of each request.
        body: its length in bytes.
        answer: the body of each response; "" for any.
        connections: how many at the same time.
        seconds: how long.
    """

    address: str
    port: int
    pid: int
    method: str
    path: str
    body: int
    answer: str
    connections: int
    seconds: float


def request(order: RawOrder) -> bytes:
    """Ready for the wire."""
    length = f"Content-Length: {order.body}\r\n" if order.body else ""
    head = f"{order.method} {order.path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n"
    return head.encode() + b"x" * order.body


class Client:
    """A connection with one request under way.

    Attributes:
        sock: its socket, which does not block.
        left: what of the request is not sent yet.
        came: how much of the response has come.
        size: how long a response is; 0 before the first.
        first: the first response, until it is complete.
    """

    __slots__ = ("came", "first", "left", "size", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.left = memoryview(b"")
        self.came = 0
        self.size = 0
        self.first = bytearray()

    def learn(self, data: memoryview, answer: bytes) -> int:
        """Look at the first response; how long it is, 0 as long as that is not known.

        Raises:
            RuntimeError: it is not what was asked for.
        """
        self.first += data
        head, end, body = bytes(self.first).partition(b"\r\n\r\n")
        if not end:
            return 0
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise RuntimeError(f"the server has answered {head!r}")
        size = len(head) + len(end) + int(length[1])
        if len(self.first) < size:
            return 0
        if answer and body != answer:
            raise RuntimeError(f"the server has answered {body[:200]!r}, and not {answer!r}")
        self.first.clear()
        return size


class Load:
    """All connections.

    A server may close a connection between two requests (RFC 9112 section 9.3.1): then the request
    is sent again, on a new one.

    Attributes:
        count: responses that have come.
        lost: requests that were not answered, but their connection closed.
    """

    def __init__(
        self, connect: Callable[[], socket.socket], data: bytes, answer: bytes = b""
    ) -> None:
        self._connect = connect
        self._data = memoryview(data)
        self._answer = answer
        self._clients: dict[int, Client] = {}
        self._poll = select.epoll()
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self.count = 0
        self.lost = 0

    def add(self) -> None:
        """One more, which sends its first request."""
        sock = self._connect()
        sock.setblocking(False)
        client = self._clients[sock.fileno()] = Client(sock)
        self._poll.register(sock, _EVENTS)
        self._say(client)

    def run(self, seconds: float) -> None:
        """Send and read for that long.

        Raises:
            RuntimeError: an answer was wrong, or none came for a long time.
        """
        clients, poll, hear, push = self._clients, self._poll.poll, self._hear, self._push
        now = time.monotonic()
        until, heard = now + seconds, now
        while now < until:
            for fileno, events in poll(0.1):
                client = clients[fileno]
                try:
                    if events != select.EPOLLOUT:
                        hear(client, bool(events & _ENDS))
                    if events & select.EPOLLOUT and client.left:
                        push(client)
                except ConnectionError:
                    if client.came:
                        raise RuntimeError("the server has cut a response") from None
                    self._replace(client)
                heard = now
            now = time.monotonic()
            if now - heard > _PATIENCE:
                raise RuntimeError("nothing comes back")

    def close(self) -> None:
        """Close all."""
        for client in self._clients.values():
            client.sock.close()
        self._poll.close()

    def _hear(self, client: Client, ended: bool) -> None:
        """Read what there is; to its end, if the server has closed the connection."""
        number = _BUFFER
        while ended or number == _BUFFER:
            try:
                number = client.sock.recv_into(self._view)
            except BlockingIOError:
                return  # it was only room to send, or exactly a buffer full
            if not number:
                raise ConnectionError
            self._take(client, number)

    def _take(self, client: Client, number: int) -> None:
        """So many bytes have come in."""
        view = self._view
        if not client.came and client.size and bytes(view[:12]) != b"HTTP/1.1 200":
            raise RuntimeError(f"the server has answered {bytes(view[:200])!r}")
        client.came += number
        if not client.size:
            client.size = client.learn(view[:number], self._answer)
        if client.came == client.size:
            if client.left:
                raise RuntimeError("the server has answered half a request")
            client.came = 0
            self.count += 1
            self._say(client)
        elif client.came > client.size > 0:
            raise RuntimeError(f"a response of {client.came} bytes, and not {client.size}")

    def _replace(self, client: Client) -> None:
        """The server has closed it instead of an answer."""
        self.lost += 1
        if self.lost > max(100, self.count):
            raise RuntimeError(f"the server has closed {self.lost} connections")
        del self._clients[client.sock.fileno()]
        client.sock.close()
        self.add()

    def _say(self, client: Client) -> None:
        """Begin the next request."""
        client.left = self._data[client.sock.send(self._data) :]
        if client.left:
            self._push(client)

    def _push(self, client: Client) -> None:
        """Send on, until there is no more room, which is what ``_EVENTS`` waits for."""
        with contextlib.suppress(BlockingIOError):
            while client.left:
                client.left = client.left[client.sock.send(client.left) :]


def _connect(order: RawOrder) -> socket.socket:
    if not order.address:
        return socket.create_connection(("127.0.0.1", order.port), _PATIENCE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(_PATIENCE)
    sock.connect(order.address)
    return sock


def _run(order: RawOrder) -> Sample:
    load = Load(lambda: _connect(order), request(order), order.answer.encode())
    for _ in range(order.connections):
        load.add()
    load.run(_WARM_UP)
    count, server = load.count, cpu_seconds(order.pid)
    own, begun = time.process_time(), time.monotonic()
    load.run(order.seconds)
    elapsed = time.monotonic() - begun
    server, own = cpu_seconds(order.pid) - server, time.process_time() - own
    count = load.count - count
    if not count:
        raise RuntimeError("nothing comes back")
    if load.lost:
        sys.stderr.write(f"{load.lost} of {load.count + load.lost} requests were not answered\n")
    return Sample(count / elapsed, server / count, server / elapsed, own / elapsed)


def main() -> None:
    """One measurement."""
    raise_descriptors()
    order = RawOrder(**json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps(_run(order)._asdict()))


if __name__ == "__main__":
    main()
