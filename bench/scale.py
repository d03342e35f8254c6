"""Thousands of idle WebSockets on one worker: ``make bench-scale``, or ``python bench/scale.py``.

Memory and CPU time for each, CPU time while nothing happens, and how long a reload and a stop take
to close them all. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procs import cores, cpu_seconds, pinned, raise_descriptors, settled
from report import markdown
from servers import BASELINE, SERVERS, Running, Server, start

__all__ = ["main"]

HERE = Path(__file__).resolve().parent

# Descriptors that a server or a client needs beside its sockets.
_OTHER = 200
# How long (seconds) all may take to open, and to be closed.
_PATIENCE = 120.0
# Opened and left before anything is measured: what the first ones cost is no cost of the others.
_WARM_UP = 200


@dataclass(frozen=True)
class Case:
    """A server with its settings.

    Attributes:
        label: in the table.
        server: by its name.
        extra: arguments that gunicorn gets.
        reloads: whether HUP is tried too.
    """

    label: str
    server: str
    extra: tuple[str, ...] = ()
    reloads: bool = False


_CASES = (
    Case("gunicorn_asgi", "gunicorn_asgi", reloads=True),
    Case("gunicorn_asgi, no Pings", "gunicorn_asgi", ("-e", "GUNICORN_ASGI_WS_PING_INTERVAL=0")),
    Case(BASELINE, BASELINE),
)


class _Crowd:
    """``crowd.py`` in a process of its own."""

    def __init__(self, port: int, count: int, core: int) -> None:
        command = [sys.executable, str(HERE / "crowd.py"), str(port), str(count)]
        reading, writing = os.pipe()
        with pinned(core):
            self._process = subprocess.Popen(command, stdout=writing)
        os.close(writing)
        self._out = os.fdopen(reading)
        self._line()  # all are open

    def _line(self) -> dict[str, Any]:
        line = self._out.readline()
        if not line:
            raise RuntimeError("the crowd has left early")
        found: dict[str, Any] = json.loads(line)
        return found

    def closed(self) -> dict[str, Any]:
        """Wait until the server has closed all."""
        found = self._line()
        self._process.wait(_PATIENCE)
        return found

    def leave(self) -> None:
        """End it, whatever is open."""
        self._process.kill()
        self._process.wait()
        self._out.close()


@contextlib.contextmanager
def _crowd(running: Running, count: int, core: int) -> Iterator[_Crowd]:
    crowd = _Crowd(running.port, count, core)
    try:
        yield crowd
    finally:
        crowd.leave()


def _closed_by(crowd: _Crowd, pid: int, number: signal.Signals) -> str:
    """How long after that signal the last is closed, and with which codes."""
    begun = time.monotonic()
    os.kill(pid, number)
    told = crowd.closed()
    codes = ", ".join(f"{count} x {code}" for code, count in told["codes"].items())
    return f"{told['last'] - begun:.2f} s ({codes})"


def _measure(case: Case, options: argparse.Namespace) -> list[str]:
    server: Server = next(each for each in SERVERS if each.name == case.server)
    count: int = options.sockets
    row = [case.label]
    with start(server, options.server_core, case.extra) as running:
        with _crowd(running, _WARM_UP, options.load_core):
            pass
        before, cpu = settled(running.pid), cpu_seconds(running.pid)
        with _crowd(running, count, options.load_core) as crowd:
            opening = (cpu_seconds(running.pid) - cpu) / count
            each = (settled(running.pid) - before) / count
            cpu, begun = cpu_seconds(running.pid), time.monotonic()
            time.sleep(options.idle)
            cpu, passed = cpu_seconds(running.pid) - cpu, time.monotonic() - begun
            row += [f"{each / 1024:.1f}", f"{opening * 1000:.2f}", f"{cpu / passed * 60:.2f}"]
            if not case.reloads:
                return [*row, "-", _closed_by(crowd, running.pid, signal.SIGTERM)]
            row.append(_closed_by(crowd, running.pid, signal.SIGHUP))
        with _crowd(running, count, options.load_core) as crowd:
            return [*row, _closed_by(crowd, running.pid, signal.SIGTERM)]


def _arguments() -> argparse.Namespace:
    server_core, load_core = cores()
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--sockets", type=int, default=10_000, help="how many [10000]")
    add("--idle", type=float, default=60.0, help="seconds of doing nothing [60]")
    add("--server-core", type=int, default=server_core, help=f"[{server_core}]")
    add("--load-core", type=int, default=load_core, help=f"[{load_core}]")
    return parser.parse_args()


def main() -> None:
    """Measure all cases."""
    options = _arguments()
    most = raise_descriptors() - _OTHER
    if options.sockets > most:
        raise SystemExit(f"`ulimit -Hn` allows {most} sockets at the most")
    rows = []
    for case in _CASES:
        rows.append(_measure(case, options))
        sys.stderr.write(f"{' | '.join(rows[-1])}\n")
    head = (
        *("server", "KiB each", "CPU ms to open", "CPU s per minute idle"),
        *("closed after HUP", "closed after TERM"),
    )
    sys.stdout.write(f"{options.sockets} idle WebSockets, one worker.\n\n{markdown(head, rows)}")


if __name__ == "__main__":
    main()
