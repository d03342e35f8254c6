"""worker/statsd.py: the metrics through Gunicorn's logger."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from gunicorn.config import Config
from gunicorn.instrument.statsd import Statsd

from boards import new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.counters import CLASSES, Counter, request_cell
from gunicorn_asgi.worker.metrics import METRICS
from gunicorn_asgi.worker.scoreboard import Cell, milliseconds
from gunicorn_asgi.worker.statsd import StatsdFeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []


class Server:
    """A statsd server, and a logger that speaks to it."""

    def __init__(self, prefix: str = "") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        cfg = Config()
        cfg.set("statsd_host", f"127.0.0.1:{self.socket.getsockname()[1]}")
        cfg.set("statsd_prefix", prefix)
        self.log = Statsd(cfg)

    def heard(self) -> dict[str, str]:
        """What has come since the last time: datagrams of the loopback are there at once."""
        found: dict[str, str] = {}
        while True:
            try:
                name, _, value = self.socket.recv(1000).decode().partition(":")
            except BlockingIOError:
                return found
            assert name not in found, f"{name} twice"
            found[name] = value

    def close(self) -> None:
        self.socket.close()
        self.log.sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.fixture
def board() -> Scoreboard:
    """Of two workers whose hearts beat."""
    found = new_board()
    found.begin_generation(2)
    for _ in range(2):
        new_worker(found, beat_at=milliseconds(), rss=5000, connections=2)
    return found


def test_names_are_those_of_prometheus(board: Scoreboard, server: Server) -> None:
    """Labels behind a dot; gauges each time, counters only what they have grown by."""
    one = board.slots[0]
    one.counters[Counter.STALLS] = 7  # before this worker was there
    feed = StatsdFeed(board, one, server.log)
    feed.beat()
    heard = server.heard()
    assert heard["gunicorn_asgi_connections"] == "4|g"
    assert heard["gunicorn_asgi_workers.ready"] == "2|g"
    assert heard["gunicorn_asgi_worker_resident_memory_bytes.2"] == "5000|g"
    assert not [name for name in heard if "_total" in name]
    one.counters[Counter.STALLS] += 2
    board.slots[1].counters[Counter.STALLED_US] += 1_500_000
    board.slots[1].counters[request_cell(CLASSES.index("5xx"), 3)] += 5
    feed.beat()
    heard = server.heard()
    assert {name: value for name, value in heard.items() if "_total" in name} == {
        "gunicorn_asgi_loop_stalls_total": "2|c|@1.0",
        "gunicorn_asgi_loop_stalled_seconds_total": "1.5|c|@1.0",
        "gunicorn_asgi_requests_total.5xx": "5|c|@1.0",
    }
    known = {metric.name for metric in METRICS if metric.kind != "histogram"}
    assert {name.partition(".")[0] for name in heard} <= known


def test_the_prefix_is_gunicorns(board: Scoreboard) -> None:
    """Setting: statsd_prefix."""
    server = Server("shop")
    StatsdFeed(board, board.slots[0], server.log).beat()
    heard = server.heard()
    assert heard
    assert all(name.startswith("shop.gunicorn_asgi_") for name in heard)
    server.close()


def test_one_worker_speaks_and_the_next_one_goes_on(board: Scoreboard, server: Server) -> None:
    """Whoever takes over sends what has come since its own last look, and no old sums."""
    one, other = board.slots[:2]
    feeds = [StatsdFeed(board, slot, server.log) for slot in (one, other)]
    one.counters[Counter.STALLS] += 3
    for feed in feeds:
        feed.beat()  # a second word for the same metric would be complained of
    assert server.heard()["gunicorn_asgi_loop_stalls_total"] == "3|c|@1.0"
    one.put(Cell.STATE, WorkerState.DRAINING)
    other.counters[Counter.STALLS] += 1
    for feed in feeds:
        feed.beat()
    assert server.heard()["gunicorn_asgi_loop_stalls_total"] == "1|c|@1.0"


def test_a_stuck_worker_does_not_speak(board: Scoreboard, server: Server) -> None:
    """Nor does it keep the others from it."""
    one, other = board.slots[:2]
    one.put(Cell.BEAT_AT, milliseconds() - 60_000)
    StatsdFeed(board, one, server.log).beat()
    assert not server.heard()
    StatsdFeed(board, other, server.log).beat()
    assert server.heard()
