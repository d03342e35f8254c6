"""The servers that are compared: how each is started, and that each really answers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from procs import pinned

__all__ = ["BASELINE", "OTHERS", "SERVERS", "Kind", "Place", "Running", "Server", "Setup", "start"]

HERE = Path(__file__).resolve().parent

# What ours are measured against.
BASELINE = "uvicorn-worker"
# Which other servers the last table has a column for.
OTHERS = ("granian", "gunicorn-asgi-class")

# How long (seconds) a server may take to start, and to end; how often it is asked.
_START = 20.0
_END = 10.0
_ASK = 0.002

Kind = Literal["ours", "peer", "limit"]


@dataclass(frozen=True)
class Setup:
    """In which way a server serves.

    Attributes:
        app: what it serves, a module of this folder and a name in it.
        unix: at a unix socket instead of TCP.
        tls: with the certificate of ``Place.certificate()``.
        access_log: with a line for each request in ``Place.access_log``.
        workers: how many; more than one run on every core, with the load beside them.
        keep_alive: how long (seconds) a connection may wait for its next request; 0: as long as
            that server lets it by default.
    """

    app: str = "app:app"
    unix: bool = False
    tls: bool = False
    access_log: bool = False
    workers: int = 1
    keep_alive: int = 0


_PLAIN = Setup()


@dataclass(frozen=True)
class Place:
    """Where a server is found, and what lies around it.

    Attributes:
        setup: how it serves.
        port: on 127.0.0.1, also where a unix socket is used instead.
        folder: its own.
    """

    setup: Setup
    port: int
    folder: Path

    @property
    def socket_path(self) -> str:
        """Path of the unix socket, "" if there is none."""
        return str(self.folder / "socket") if self.setup.unix else ""

    @property
    def access_log(self) -> Path:
        """The file that an access log is written to."""
        return self.folder / "access.log"

    @property
    def bind(self) -> str:
        """What Gunicorn and Hypercorn call it."""
        return f"unix:{self.socket_path}" if self.setup.unix else f"127.0.0.1:{self.port}"

    @property
    def certificate(self) -> tuple[str, str]:
        """Files with a certificate and its key."""
        return str(self.folder / "cert.pem"), str(self.folder / "key.pem")

    def certify(self) -> None:
        """Make that certificate, with a key that is of little cost: ECDSA on P-256."""
        cert, key = self.certificate
        command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-keyout", key, "-out", cert]
        subprocess.run(command, check=True, capture_output=True)

    def connect(self) -> socket.socket:
        """A connection, which blocks for a second at the most.

        Raises:
            OSError: nobody is there.
        """
        if self.setup.unix:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(1.0)
            try:
                client.connect(self.socket_path)
            except OSError:
                client.close()
                raise
            return client
        client = socket.create_connection(("127.0.0.1", self.port), 1.0)
        if not self.setup.tls:
            return client
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(client)


@dataclass(frozen=True)
class Server:
    """One way to serve.

    Attributes:
        name: on the command line and in tables.
        kind: ours, a peer, or a limit that no ASGI server reaches.
        command: what starts it in this folder.
        speaks: http, websocket, deflate (permessage-deflate); a workload needs one of them.
        always: whether it is measured when nobody names it.
    """

    name: str
    kind: Kind
    command: Callable[[Place], list[str]]
    speaks: frozenset[str] = field(default=frozenset({"http", "websocket", "deflate"}))
    always: bool = True


def _asked(place: Place) -> list[str]:
    """What the setup asks for, in words that Gunicorn and hypercorn have in common."""
    line = []
    if place.setup.keep_alive:
        line += ["--keep-alive", str(place.setup.keep_alive)]
    if place.setup.tls:
        cert, key = place.certificate
        line += ["--certfile", cert, "--keyfile", key]
    if place.setup.access_log:
        # In Gunicorn's own format, which is the combined one. Uvicorn's worker has no other than
        # its own, which is shorter.
        line += ["--access-logfile", str(place.access_log)]
    return line


def _gunicorn(worker: str, hidden: str = "") -> Callable[[Place], list[str]]:
    """Workers of that class; the module ``hidden`` cannot be imported."""
    code = "from gunicorn.app.wsgiapp import run; run()"
    if hidden:
        code = f"import sys; sys.modules[{hidden!r}] = None; {code}"

    def command(place: Place) -> list[str]:
        settings = f"--workers {place.setup.workers} --backlog 2048 --worker-connections 20000"
        line = [sys.executable, "-c", code, "-k", worker, *settings.split()]
        line += ["--log-level", "warning", "--bind", place.bind]
        return [*line, *_asked(place), place.setup.app]

    return command


# The combined format, but for the size of the response, which Granian does not tell.
_GRANIAN_LINE = (
    '%(addr)s - - [%(time)s] "%(method)s %(path)s %(protocol)s" %(status)d - '
    '"%(header{referer})s" "%(header{user-agent})s"'
)


def _granian(place: Place) -> list[str]:
    settings = f"--interface asgi --workers {place.setup.workers} --backlog 2048 --loop uvloop"
    line = [sys.executable, "-m", "granian", *settings.split(), "--backpressure", "20000"]
    line += ["--log-level", "warning"]
    if place.setup.unix:
        line += ["--uds", place.socket_path]
    else:
        line += ["--host", "127.0.0.1", "--port", str(place.port)]
    if place.setup.tls:
        cert, key = place.certificate
        line += ["--ssl-certificate", cert, "--ssl-keyfile", key]
    if place.setup.access_log:
        config = place.folder / "granian.json"
        config.write_text(json.dumps(_granian_logging(place)))
        line += ["--access-log", "--access-log-fmt", _GRANIAN_LINE, "--log-config", str(config)]
    return [*line, place.setup.app]


def _granian_logging(place: Place) -> dict[str, object]:
    """Its own handlers, with a file in the place of standard output."""
    file = {"class": "logging.FileHandler", "filename": str(place.access_log)}
    console = {"class": "logging.StreamHandler", "formatter": "generic"}
    return {"handlers": {"console": console, "access": {**file, "formatter": "access"}}}


def _hypercorn(place: Place) -> list[str]:
    settings = f"--workers {place.setup.workers} --worker-class uvloop --backlog 2048"
    line = [sys.executable, "-m", "hypercorn", *settings.split(), "--bind", place.bind]
    return [*line, *_asked(place), place.setup.app]


def _picows(place: Place) -> list[str]:
    return [sys.executable, "limit.py", str(place.port)]


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
    Server("granian", "peer", _granian, frozenset({"http", "websocket"})),
    Server("hypercorn", "peer", _hypercorn, frozenset({"http"}), always=False),
    Server("picows", "limit", _picows, frozenset({"websocket"})),
)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        server: which one.
        place: where.
        process: the first process of its tree.
        boot: seconds from its start to its first answer.
    """

    server: Server
    place: Place
    process: subprocess.Popen[bytes]
    boot: float

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self.process.pid

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self.place.port


@contextlib.contextmanager
def start(
    server: Server, core: int, extra: Sequence[str] = (), setup: Setup = _PLAIN
) -> Iterator[Running]:
    """Start ``server`` on ``core``, with further arguments, and end it.

    Raises:
        RuntimeError: it does not answer in time; with what it wrote.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(setup, port, Path(folder))
        if setup.tls:
            place.certify()
        log = place.folder / "log"
        # Gunicorn puts its control socket there, and two masters must not share one.
        env = {**os.environ, "XDG_RUNTIME_DIR": folder, "BENCH_FOLDER": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles what is not installed
        command = [*server.command(place), *extra]
        with log.open("wb") as out, pinned(core if setup.workers == 1 else None):
            begun = time.monotonic()
            process = subprocess.Popen(
                command, cwd=HERE, env=env, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            _wait(process, place, log)
            yield Running(server, place, process, time.monotonic() - begun)
        finally:
            process.terminate()
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_END)


def _wait(process: subprocess.Popen[bytes], place: Place, log: Path) -> None:
    until = time.monotonic() + _START
    while not _answers(place):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} does not serve:\n{log.read_text()}")
        time.sleep(_ASK)


def _answers(place: Place) -> bool:
    """Whether it says anything in HTTP; a 404 of a server for WebSockets will do."""
    try:
        with place.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(5) == b"HTTP/"
    except OSError:
        return False
