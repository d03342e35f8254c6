"""The servers that are compared: how each is started, and that each really answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from procs import pinned

__all__ = ["BASELINE", "SERVERS", "Kind", "Running", "Server", "start"]

HERE = Path(__file__).resolve().parent

# What ours are measured against.
BASELINE = "uvicorn-worker"

# How long (seconds) a server may take to start, and to end.
_START = 20.0
_END = 10.0

Kind = Literal["ours", "peer", "limit"]


@dataclass(frozen=True)
class Server:
    """One way to serve ``app.py``.

    Attributes:
        name: on the command line and in tables.
        kind: ours, a peer, or a limit that no ASGI server reaches.
        command: what starts it in this folder; ``{port}`` is filled in.
        speaks: http, websocket, deflate (permessage-deflate); a workload needs one of them.
    """

    name: str
    kind: Kind
    command: Sequence[str]
    speaks: frozenset[str] = field(default=frozenset({"http", "websocket", "deflate"}))


def _gunicorn(worker: str, hidden: str = "") -> list[str]:
    """One worker of that class; the module ``hidden`` cannot be imported."""
    code = "from gunicorn.app.wsgiapp import run; run()"
    if hidden:
        code = f"import sys; sys.modules[{hidden!r}] = None; {code}"
    settings = "--workers 1 --backlog 2048 --worker-connections 20000 --log-level warning"
    bind = ["--bind", "127.0.0.1:{port}"]
    return [sys.executable, "-c", code, "-k", worker, *settings.split(), *bind, "app:app"]


def _granian() -> list[str]:
    settings = "--interface asgi --workers 1 --backlog 2048 --backpressure 20000 --loop uvloop"
    command = [sys.executable, "-m", "granian", *settings.split(), "--log-level", "warning"]
    return [*command, "--host", "127.0.0.1", "--port", "{port}", "app:app"]


SERVERS = (
    Server("gunicorn_asgi", "ours", _gunicorn("gunicorn_asgi.Worker")),
    # Without the helper in C that unmasks, as `pip install gunicorn_asgi` leaves it.
    Server(
        "gunicorn_asgi-plain",
        "ours",
        _gunicorn("gunicorn_asgi.Worker", hidden="websockets"),
        frozenset({"websocket", "deflate"}),
    ),
    Server(BASELINE, "peer", _gunicorn("uvicorn_worker.UvicornWorker")),
    Server("gunicorn-asgi-class", "peer", _gunicorn("asgi"), frozenset({"http", "websocket"})),
    Server("granian", "peer", _granian(), frozenset({"http", "websocket"})),
    Server(
        "picows",
        "limit",
        [sys.executable, "limit.py", "{port}"],
        frozenset({"websocket"}),
    ),
)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        server: which one.
        port: where, on 127.0.0.1.
        process: the first process of its tree.
    """

    server: Server
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self.process.pid


@contextlib.contextmanager
def start(server: Server, core: int, extra: Sequence[str] = ()) -> Iterator[Running]:
    """Start ``server`` on ``core``, with further arguments, and end it.

    Raises:
        RuntimeError: it does not answer in time; with what it wrote.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [part.replace("{port}", str(port)) for part in server.command]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "log"
        # Gunicorn puts its control socket there, and two masters must not share one.
        env = {**os.environ, "XDG_RUNTIME_DIR": folder}
        with log.open("wb") as out, pinned(core):
            process = subprocess.Popen(
                [*command, *extra], cwd=HERE, env=env, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            _wait(process, port, log)
            yield Running(server, port, process)
        finally:
            process.terminate()
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_END)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} does not serve:\n{log.read_text()}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    """Whether it says anything in HTTP; a 404 of a server for WebSockets will do."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(5) == b"HTTP/"
    except OSError:
        return False
