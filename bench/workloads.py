"""The workloads, by name, and one measurement of one of them."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from procs import cpu_seconds, pinned
from report import Sample
from servers import Running

__all__ = ["WORKLOADS", "HTTPWorkload", "WebSocketWorkload", "Workload", "measure"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Workload:
    """What a client does.

    Attributes:
        name: on the command line and in tables.
        needs: what a server has to speak for it: http, websocket or deflate.
        path: which part of ``app.py`` answers.
        connections: how many at the same time.
    """

    name: str
    needs: str
    path: str
    connections: int


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
    """Requests, one at a time on each connection.

    Attributes:
        method: of every request.
        body: its length in bytes.
        headers: its fields, beside Host.
    """

    method: str = "GET"
    body: int = 0
    headers: tuple[str, ...] = ()


# What a browser sends, in number and size.
_BROWSER = (
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


def _websocket(
    name: str, connections: int, window: int, size: int, kind: str = "text", path: str = "/echo"
) -> WebSocketWorkload:
    needs = "deflate" if kind == "deflate" else "websocket"
    return WebSocketWorkload(name, needs, path, connections, window, size, kind)


WORKLOADS: tuple[Workload, ...] = (
    _websocket("ws-64", 1, 1, 64),
    _websocket("ws-64-c64", 64, 1, 64),
    _websocket("ws-64-pipelined", 1, 64, 64),
    _websocket("ws-64k", 1, 1, 64 * 1024, "bytes"),
    _websocket("ws-1m", 1, 1, 1024 * 1024, "bytes"),
    _websocket("ws-deflate-1k", 64, 1, 1024, "deflate"),
    _websocket("ws-broadcast-1k", 1000, 1, 1024, "broadcast", "/broadcast"),
    HTTPWorkload("hello", "http", "/", 64),
    HTTPWorkload("hello-20-headers", "http", "/", 64, headers=_BROWSER),
    HTTPWorkload("post-1k", "http", "/echo", 64, "POST", 1024),
    HTTPWorkload("stream-100", "http", "/stream", 64),
)


def measure(workload: Workload, running: Running, seconds: float, core: int) -> Sample:
    """Load ``running`` from ``core`` for ``seconds``.

    Raises:
        RuntimeError: an answer was wrong, or none came.
    """
    if isinstance(workload, WebSocketWorkload):
        return _websockets(workload, running, seconds, core)
    if isinstance(workload, HTTPWorkload):
        return _wrk(workload, running, seconds, core)
    raise TypeError(workload)


def _websockets(workload: WebSocketWorkload, running: Running, seconds: float, core: int) -> Sample:
    """In a process of its own, which looks at the server's CPU time when it begins and ends."""
    order = {**asdict(workload), "port": running.port, "pid": running.pid, "seconds": seconds}
    out = _run([sys.executable, str(HERE / "wsload.py"), json.dumps(order)], core)
    return Sample(**json.loads(out))


def _wrk(workload: HTTPWorkload, running: Running, seconds: float, core: int) -> Sample:
    """wrk counts whole seconds."""
    command = ["wrk", "-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"]
    for field in workload.headers:
        command += ["-H", field]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        # Made once: a request() of its own would cost the generator more than the server.
        script.write(f'wrk.method = "{workload.method}"\n')
        if workload.body:
            script.write(f'wrk.body = string.rep("x", {workload.body})\n')
        script.flush()
        command += ["-s", script.name, f"http://127.0.0.1:{running.port}{workload.path}"]
        cpu, load, begun = cpu_seconds(running.pid), _load(), time.monotonic()
        out = _run(command, core)
        cpu, load = cpu_seconds(running.pid) - cpu, _load() - load
        elapsed = time.monotonic() - begun
    if wrong := re.search(r"^ *(Non-2xx|Socket errors).*", out, re.MULTILINE):
        raise RuntimeError(f"{running.server.name}, {workload.name}: {wrong[0].strip()}")
    counted = re.search(r"(\d+) requests in", out)
    rate = re.search(r"Requests/sec: +([\d.]+)", out)
    if counted is None or rate is None or not int(counted[1]):
        raise RuntimeError(f"{running.server.name}, {workload.name}: {out}")
    return Sample(float(rate[1]), cpu / int(counted[1]), cpu / elapsed, load / elapsed)


def _load() -> float:
    """CPU seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: Sequence[str], core: int) -> str:
    with pinned(core):
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"{command[0]} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout
