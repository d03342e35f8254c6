"""Memory, start-up and fairness: ``make bench-footprint``, or ``python bench/footprint.py``.

Seconds from the start to the first answer; memory of a master and one worker; what an idle
keep-alive connection costs; how evenly a burst of connections falls to four workers. Prints a table
in Markdown.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from procs import cores, cpu_seconds, pinned, raise_descriptors, settled
from report import markdown
from servers import SERVERS, Place, Server, Setup, start

__all__ = ["Boot", "ask", "main", "unevenness"]

# Descriptors that this process or a server needs beside its connections.
_OTHER = 200
# Opened, used and closed before anything is measured: what the first ones cost is no cost of the
# others.
_WARM_UP = 200
# Requests that are served before memory is looked at.
_REQUESTS = 1000
_PATIENCE = 20.0
# Source addresses: each has a range of ports of its own.
_ADDRESSES = 8
_WORKERS = 4
# Before each burst (seconds): all workers are up, and have seen the last one leave.
_PAUSE = 0.5
# Longer than any measurement (seconds).
_KEEP_ALIVE = 600


def ask(client: socket.socket, path: str = "/") -> bytes:
    """Ask once on that connection; the body of the answer.

    Raises:
        RuntimeError: it is no 200 with a Content-Length, or the connection was closed.
    """
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return _answer(client)


def _answer(client: socket.socket) -> bytes:
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if end)
        if end and len(body) >= int(fields[b"content-length"]):
            break
        data += (piece := client.recv(65536))
        if not piece:
            raise RuntimeError(f"the server has closed the connection: {data!r}")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server has answered {head!r}")
    return body


@contextlib.contextmanager
def _crowd(place: Place, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, open at the same time."""
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            source = (f"127.0.0.{2 + number % _ADDRESSES}", 0)
            clients.append(socket.create_connection(("127.0.0.1", place.port), _PATIENCE, source))
        yield clients
    finally:
        for client in clients:
            client.close()


def _memory(server: Server, options: argparse.Namespace) -> tuple[int, float]:
    """Bytes of master and worker, and of each idle connection."""
    setup = Setup(keep_alive=_KEEP_ALIVE)
    with start(server, options.server_core, setup=setup) as running:
        with _crowd(running.place, 10) as clients:
            for number in range(_REQUESTS):
                ask(clients[number % len(clients)])
        whole = settled(running.pid)
        with _crowd(running.place, _WARM_UP) as clients:
            for client in clients:
                ask(client)
        before = settled(running.pid)
        with _crowd(running.place, options.connections) as clients:
            for client in clients:
                ask(client)
            each = (settled(running.pid) - before) / len(clients)
            for client in clients:
                ask(client)  # it was really there
    return whole, each


def unevenness(answers: Sequence[bytes], workers: int) -> float:
    """How many times the mean the busiest has got; 1 is even, ``workers`` the worst."""
    counts = collections.Counter(answers)
    return max(counts.values()) * workers / len(answers)


def _bursts(server: Server, options: argparse.Namespace) -> list[float]:
    """The unevenness of each burst."""
    found = []
    with start(server, options.server_core, setup=Setup(workers=_WORKERS)) as running:
        for _ in range(options.bursts):
            time.sleep(_PAUSE)
            with _crowd(running.place, options.burst) as clients:
                for client in clients:
                    client.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
                found.append(unevenness([_answer(client) for client in clients], _WORKERS))
    return found


class Boot(NamedTuple):
    """A start, to the first answer.

    Attributes:
        seconds: that have passed.
        cpu: CPU seconds that were spent on it.
    """

    seconds: float
    cpu: float


def _boots(servers: Sequence[Server], options: argparse.Namespace) -> dict[str, list[Boot]]:
    """Starts of all servers in turn."""
    boots: dict[str, list[Boot]] = {server.name: [] for server in servers}
    for number in range(options.starts + 1):
        for server in servers:
            with start(server, options.server_core) as running:
                if number:  # before, files come into the page cache
                    boots[server.name].append(Boot(running.boot, cpu_seconds(running.pid)))
        sys.stderr.write(f"starts: {number} of {options.starts}\n")
    return boots


def _row(server: Server, boots: Sequence[Boot], options: argparse.Namespace) -> list[str]:
    with pinned(options.load_core):
        whole, each = _memory(server, options)
    bursts = _bursts(server, options)
    seconds = [boot.seconds for boot in boots]
    return [
        server.name,
        f"{statistics.median(seconds):.2f}",
        f"{max(seconds) - min(seconds):.2f}",
        f"{statistics.median(boot.cpu for boot in boots):.2f}",
        f"{whole / 1024 / 1024:.1f}",
        f"{each / 1024:.1f}",
        f"{statistics.median(bursts):.2f}",
        f"{max(bursts):.2f}",
    ]


def _arguments() -> argparse.Namespace:
    server_core, load_core = cores()
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--servers", default="", help="comma-separated; all but hypercorn by default")
    add("--connections", type=int, default=10_000, help="idle ones [10000]")
    add("--starts", type=int, default=10, help="how often each server is started [10]")
    add("--burst", type=int, default=400, help="connections in a burst [400]")
    add("--bursts", type=int, default=5, help="how many [5]")
    add("--server-core", type=int, default=server_core, help=f"[{server_core}]")
    add("--load-core", type=int, default=load_core, help=f"[{load_core}]")
    return parser.parse_args()


def main() -> None:
    """Measure all servers."""
    options = _arguments()
    most = raise_descriptors() - _OTHER
    if options.connections > most:
        raise SystemExit(f"`ulimit -Hn` allows {most} connections at the most")
    named = options.servers.split(",") if options.servers else []
    servers = [
        each
        for each in SERVERS
        if "http" in each.speaks and (each.name in named if named else each.always)
    ]
    with pinned(options.load_core):
        boots = _boots(servers, options)
    rows = []
    for server in servers:
        rows.append(_row(server, boots[server.name], options))
        sys.stderr.write(f"{' | '.join(rows[-1])}\n")
    head = (
        *("server", "s to first answer", "spread", "CPU s until then", "PSS, MiB"),
        *("KiB each idle connection", "burst: busiest / mean", "worst"),
    )
    sys.stdout.write(
        f"Median of {options.starts} starts; PSS of master and one worker after {_REQUESTS} "
        f"requests; {options.connections} idle connections; {options.bursts} bursts of "
        f"{options.burst} connections on {_WORKERS} workers.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    main()
