"""The workloads, by name, and one measurement of one of them."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from procs import cpu_seconds, pinned
from rawload import RawOrder
from report import Sample
from servers import Running, Setup

__all__ = [
    "BROWSER",
    "WORKLOADS",
    "HTTPWorkload",
    "RawWorkload",
    "WebSocketWorkload",
    "Workload",
    "measure",
    "wrk_counts",
    "wrk_script",
]

HERE = Path(__file__).resolve().parent

# Bytes: uvicorn's `127.0.0.1:50000 - "GET / HTTP/1.1" 200`, less a tenth for what is under way.
_SHORTEST_LINE = 36


@dataclass(frozen=True)
class Workload:
    """What a client does.

    Attributes:
        name: on the command line and in tables.
        needs: what a server has to speak for it: http, websocket or deflate.
        path: which part of ``app.py`` answers.
        connections: how many at the same time.
        setup: how the servers serve.
    """

    name: str
    needs: str
    path: str
    connections: int
    setup: Setup


@dataclass(frozen=True)
class WebSocketWorkload(Workload):
    """Messages, counted as they come back.

    Attributes:
        window: messages under way on each connection.
        size: payload in bytes.
        kind: ``text``, ``bytes``, ``deflate`` (text, compressed both ways), or ``broadcast``: one
            speaks when all have heard what was said before.
    """

    window: int
    size: int
    kind: str


@dataclass(frozen=True)
class HTTPWorkload(Workload):
    """Requests by wrk.

    Attributes:
        method: of every request.
        body: its length in bytes.
        headers: its fields, beside Host.
        pipelined: how many are under way on each connection.
    """

    method: str = "GET"
    body: int = 0
    headers: tuple[str, ...] = ()
    pipelined: int = 1


@dataclass(frozen=True)
class RawWorkload(Workload):
    """Requests by ``rawload.py``, one at a time on each connection.

    Attributes:
        method: of every request.
        body: its length in bytes.
        answer: the body of each response; "" for any.
    """

    method: str = "GET"
    body: int = 0
    answer: str = ""


# What a browser sends, in number and size.
BROWSER = (
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Cache-Control: max-age=0",
    "Cookie: session=f2b0c7d1a9e84e6fb1d3; theme=dark; seen=1; locale=en-GB; csrftoken=Zq8XkT2vN4",
    "DNT: 1",
    "If-Modified-Since: Mon, 02 Jun 2025 08:00:00 GMT",
    'If-None-Match: W/"5e1a-19730c5d2c0"',
    "Pragma: no-cache",
    "Priority: u=0, i",
    "Referer: https://www.example.org/articles/2025/06/a-page-with-a-long-name",
    'Sec-CH-UA: "Chromium";v="137", "Not/A)Brand";v="24"',
    "Sec-CH-UA-Mobile: ?0",
    'Sec-CH-UA-Platform: "Linux"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/137.0.0.0 Safari/537.36",
)


_TCP = Setup()
_TLS = Setup(tls=True)
_ONE_MB = 1024 * 1024


def _websocket(
    name: str, connections: int, window: int, size: int, kind: str = "text", path: str = "/echo"
) -> WebSocketWorkload:
    needs = "deflate" if kind == "deflate" else "websocket"
    return WebSocketWorkload(name, needs, path, connections, _TCP, window, size, kind)


def _http(
    name: str,
    path: str = "/",
    connections: int = 64,
    setup: Setup = _TCP,
    *,
    method: str = "GET",
    body: int = 0,
    headers: tuple[str, ...] = (),
    pipelined: int = 1,
) -> HTTPWorkload:
    return HTTPWorkload(name, "http", path, connections, setup, method, body, headers, pipelined)


def _raw(name: str, path: str, connections: int, setup: Setup = _TCP) -> RawWorkload:
    return RawWorkload(name, "http", path, connections, setup)


def _upload(name: str, size: int, connections: int) -> RawWorkload:
    return RawWorkload(name, "http", "/count", connections, _TCP, "POST", size, str(size))


WORKLOADS: tuple[Workload, ...] = (
    _http("hello"),
    _http("hello-1", connections=1),
    _http("hello-16", connections=16),
    _http("hello-256", connections=256),
    _http("hello-1024", connections=1024),
    _http("json-1k", "/json"),
    _raw("hello-unix", "/", 64, Setup(unix=True)),
    _http("hello-20-headers", headers=BROWSER),
    _http("hello-pipelined", pipelined=16),
    _http("hello-access-log", setup=Setup(access_log=True)),
    _http("post-1k", "/echo", method="POST", body=1024),
    _upload("upload-1m", _ONE_MB, 16),
    _upload("upload-10m", 10 * _ONE_MB, 4),
    _raw("download-1m", "/1m", 16),
    _raw("download-10m", "/10m", 4),
    _http("stream-100", "/stream"),
    _raw("file-1m", "/file", 16),
    _http("hello-new", headers=("Connection: close",)),
    _http("hello-tls", setup=_TLS),
    _http("hello-tls-new", setup=_TLS, headers=("Connection: close",)),
    _http("starlette", setup=Setup("app_starlette:app")),
    _http("fastapi", setup=Setup("app_fastapi:app")),
    _http("hello-2-workers", setup=Setup(workers=2)),
    _websocket("ws-64", 1, 1, 64),
    _websocket("ws-64-c64", 64, 1, 64),
    _websocket("ws-64-pipelined", 1, 64, 64),
    _websocket("ws-64k", 1, 1, 64 * 1024, "bytes"),
    _websocket("ws-1m", 1, 1, _ONE_MB, "bytes"),
    _websocket("ws-deflate-1k", 64, 1, 1024, "deflate"),
    _websocket("ws-broadcast-1k", 1000, 1, 1024, "broadcast", "/broadcast"),
)


def measure(workload: Workload, running: Running, seconds: float, core: int) -> Sample:
    """Load ``running`` from ``core`` for ``seconds``; from any core if it has several workers.

    Raises:
        RuntimeError: an answer was wrong, or none came.
    """
    where = core if workload.setup.workers == 1 else None
    try:
        return _measured(workload, running, seconds, where)
    except RuntimeError as exc:
        raise RuntimeError(f"{running.server.name}, {workload.name}: {exc}") from exc


def _measured(workload: Workload, running: Running, seconds: float, where: int | None) -> Sample:
    if isinstance(workload, WebSocketWorkload):
        return _websockets(workload, running, seconds, where)
    if isinstance(workload, RawWorkload):
        return _raws(workload, running, seconds, where)
    if isinstance(workload, HTTPWorkload):
        return _wrk(workload, running, seconds, where)
    raise TypeError(workload)


def _websockets(
    workload: WebSocketWorkload, running: Running, seconds: float, core: int | None
) -> Sample:
    """In a process of its own, which looks at the server's CPU time when it begins and ends."""
    order = {**asdict(workload), "port": running.port, "pid": running.pid, "seconds": seconds}
    out = _run([sys.executable, str(HERE / "wsload.py"), json.dumps(order)], core)
    return Sample(**json.loads(out))


def _raws(workload: RawWorkload, running: Running, seconds: float, core: int | None) -> Sample:
    """Likewise."""
    order = RawOrder(
        address=running.place.socket_path,
        port=running.port,
        pid=running.pid,
        method=workload.method,
        path=workload.path,
        body=workload.body,
        answer=workload.answer,
        connections=workload.connections,
        seconds=seconds,
    )
    out = _run([sys.executable, str(HERE / "rawload.py"), json.dumps(asdict(order))], core)
    return Sample(**json.loads(out))


def wrk_script(workload: HTTPWorkload) -> str:
    """What wrk is told in Lua.

    Requests are made once: a request() of its own would cost the generator more than the server.
    Where they are pipelined it is called, but once for all that go out together.
    """
    lines = [f'wrk.method = "{workload.method}"']
    if workload.body:
        lines.append(f'wrk.body = string.rep("x", {workload.body})')
    if workload.pipelined > 1:
        lines += [
            "local requests",
            "function init(args)",
            f"  requests = string.rep(wrk.format(), {workload.pipelined})",
            "end",
            "function request() return requests end",
        ]
    return "".join(f"{line}\n" for line in lines)


def _wrk(workload: HTTPWorkload, running: Running, seconds: float, core: int | None) -> Sample:
    """wrk counts whole seconds; less it runs when it is interrupted."""
    command = ["wrk", "-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"]
    for field in workload.headers:
        command += ["-H", field]
    scheme = "https" if workload.setup.tls else "http"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(workload))
        script.flush()
        command += ["-s", script.name, f"{scheme}://127.0.0.1:{running.port}{workload.path}"]
        logged = _size(running.place.access_log)
        cpu, load, begun = cpu_seconds(running.pid), _load(), time.monotonic()
        out = _run(command, core, seconds if seconds < 1 else None)
        cpu, load = cpu_seconds(running.pid) - cpu, _load() - load
        elapsed = time.monotonic() - begun
    count, rate = wrk_counts(out)
    logged = _size(running.place.access_log) - logged
    if workload.setup.access_log and logged < count * _SHORTEST_LINE:
        raise RuntimeError(f"{logged} bytes of log for {count} requests")
    return Sample(rate, cpu / count, cpu / elapsed, load / elapsed)


def wrk_counts(out: str) -> tuple[int, float]:
    """How many requests were answered, and how many per second.

    Raises:
        RuntimeError: wrk has seen errors, or nothing.
    """
    if wrong := re.search(r"^ *(Non-2xx|Socket errors).*", out, re.MULTILINE):
        raise RuntimeError(wrong[0].strip())
    counted = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec: +([\d.]+)", out)
    if counted is None or rate is None or not int(counted[1]):
        raise RuntimeError(out)
    return int(counted[1]), float(rate[1])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _load() -> float:
    """CPU seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: Sequence[str], core: int | None, interrupt: float | None = None) -> str:
    """What it writes; ``interrupt``: after so many seconds it gets a SIGINT."""
    with pinned(core):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    with process:
        try:
            out, errors = process.communicate(timeout=interrupt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} has failed:\n{out}{errors}")
    sys.stderr.write(errors)
    return out
