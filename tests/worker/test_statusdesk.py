"""worker/statusdesk.py: the worker's half of the status port, and the word to statsd."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config
from gunicorn.instrument.statsd import Statsd

from boards import new_board, new_worker
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.worker import berthed, statusdesk, statusport
from gunicorn_asgi.worker.scoreboard import milliseconds
from gunicorn_asgi.worker.statusdesk import StatusDesk
from kit.fakes import FakeLog
from kit.rig import both_loops, until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(berthed._Process, "current", None)
    monkeypatch.setattr(statusport._Master, "port", None)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A status port, as the master would have opened it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        monkeypatch.setattr(statusport._Master, "port", statusport._Port("here", sock))
        yield sock


class Desk:
    """A desk, and what it was given."""

    def __init__(self, log: Any = None) -> None:  # noqa: ANN401 - a FakeLog, or Gunicorn's
        self.log = log or FakeLog()
        self.board = new_board()
        self.board.begin_generation(1)
        self.slot = new_worker(self.board, beat_at=milliseconds(), connections=3)
        self.leaving = asyncio.Event()
        settings = SimpleNamespace(
            values={"asgi_status_allow": ("127.0.0.1",)}, forwarded=ForwardedPolicy()
        )
        worker: Any = SimpleNamespace(settings=settings, log=self.log, ppid=os.getppid())
        self.desk = StatusDesk(worker, self.board, self.slot, self.leaving, lambda: False)


async def ask(port: socket.socket, path: str) -> bytes:
    """The whole answer: no connection is kept."""
    reader, writer = await asyncio.open_connection(*port.getsockname())
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@both_loops
async def test_the_worker_is_registered_for_the_status_application() -> None:
    """Also without a status port: it may be mounted."""
    mine = Desk()
    berth = berthed.berthed()
    assert berth is not None
    assert (berth.board, berth.leaving, berth.master) == (mine.board, mine.leaving, os.getppid())
    assert berth.allowed.trusts("127.0.0.1")
    assert not berth.allowed.trusts("127.0.0.2")
    berth.refusals.tell("refused")
    assert mine.log.lines("warning") == ["refused"]
    await mine.desk.close()


@both_loops
async def test_the_port_is_served_until_the_end(port: socket.socket) -> None:
    """Also while the worker leaves; idle clients are not waited for."""
    mine = Desk()
    assert (await ask(port, "/ready")).endswith(b"\r\n\r\nready\n")
    mine.leaving.set()
    assert b"\r\nconnection: close\r\n" in await ask(port, "/metrics")
    idle, writer = await asyncio.open_connection(*port.getsockname())
    await ask(port, "/live")
    await asyncio.wait_for(mine.desk.close(), 5)
    assert await idle.read() == b""
    writer.close()
    await writer.wait_closed()
    assert port.fileno() >= 0, "it is the master's, and that of other workers"


@both_loops
async def test_without_the_library_the_rest_is_served(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    mine = Desk()
    assert (await ask(port, "/metrics")).startswith(b"HTTP/1.1 501 ")
    assert (await ask(port, "/")).startswith(b"HTTP/1.1 200 ")
    await mine.desk.close()


@both_loops
async def test_what_goes_wrong_there_is_told_as_such(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should look for it on the public side."""

    def broken(*_args: object) -> None:
        raise KeyError("boom")

    mine = Desk()
    # By this name: the package has the application itself under "app".
    monkeypatch.setattr(sys.modules["gunicorn_asgi.status.app"], "snapshot", broken)
    assert (await ask(port, "/status.json")).startswith(b"HTTP/1.1 500 ")
    (line,) = mine.log.lines("error")
    assert line.startswith("Status page: The application raised KeyError: GET '/status.json'")
    await mine.desk.close()


def test_every_level_has_the_word_in_front() -> None:
    log = FakeLog()
    named: Any = statusdesk._Log(log)
    for level in ("debug", "info", "warning", "error"):
        getattr(named, level)("number %d", 5)
        assert log.lines(level) == ["Status page: number 5"]


@both_loops
async def test_statsd_hears_each_beat_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gunicorn's logger, if statsd_host is set."""
    monkeypatch.setattr(statusdesk, "_INTERVAL", 0.01)
    said: list[tuple[str, float]] = []
    cfg = Config()
    cfg.set("statsd_host", "127.0.0.1:9")
    log = Statsd(cfg)
    monkeypatch.setattr(log, "gauge", lambda *args: said.append(args))
    mine = Desk(log)
    wanted = ("gunicorn_asgi_connections", 3)
    await until(lambda: said.count(wanted) >= 3)
    await mine.desk.close()
    log.sock.close()
    assert mine.desk._timer is not None
    assert mine.desk._timer.cancelled()
