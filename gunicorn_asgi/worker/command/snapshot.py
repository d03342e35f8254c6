"""The board as one JSON object: the report, and the numbers and open requests beside it.

For ``status --json``, and for the status page. Its keys are an interface: docs/command-line.md
lists them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gunicorn_asgi.worker.atoms import printable
from gunicorn_asgi.worker.command.report import columns, duration, look
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES, Counter
from gunicorn_asgi.worker.metrics import Figures
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard

__all__ = ["OpenRequest", "as_json", "open_requests", "requests_table", "snapshot"]

# As long as a terminal is wide, more or less.
_TARGET = 100


@dataclass(frozen=True)
class OpenRequest:
    """Runs in: worker and command line. One request that a living worker is busy with.

    Attributes:
        pid: the worker's.
        progress: waiting (for the application's response), responding, or websocket.
        method, target, request_id, client: see ``OpenEntry``.
        age_s: seconds since its head was complete.
    """

    pid: int
    progress: str
    method: str
    target: str
    request_id: str
    client: str
    age_s: float


def open_requests(board: Scoreboard) -> list[OpenRequest]:
    """Runs in: worker and command line. What is being worked on, the oldest first."""
    return _open_requests(Figures(board))


def _open_requests(figures: Figures) -> list[OpenRequest]:
    now = time.monotonic()
    found = [
        OpenRequest(
            slot.get(Cell.PID),
            entry.progress.name.lower(),
            entry.method,
            entry.target,
            entry.request_id,
            entry.client,
            round(max(0.0, now - entry.received), 3),
        )
        for slot in figures.living
        for entry in slot.read_requests()
    ]
    return sorted(found, key=lambda each: -each.age_s)


def snapshot(board: Scoreboard) -> dict[str, Any]:
    """Runs in: worker and command line. Everything that the board says, ready for JSON."""
    figures = Figures(board)
    by_class = [figures.requests(row) for row in range(len(CLASSES))]
    counts = [sum(bucket) for bucket in zip(*(each.counts for each in by_class), strict=True)]
    reloads = board.count_verdicts().items()
    return {
        **asdict(look(board)),
        "time": round(time.time(), 3),
        "requests": {name: sum(each.counts) for name, each in zip(CLASSES, by_class, strict=True)},
        "latency": {"bounds": list(BOUNDS), "counts": counts},
        "totals": {counter.name.lower(): figures.total(counter) for counter in Counter},
        "reloads": {verdict.name.lower(): count for verdict, count in reloads},
        "open_requests": [asdict(each) for each in _open_requests(figures)],
    }


def as_json(told: Mapping[str, Any], indent: int | None = None) -> str:
    """Runs in: worker and command line. A snapshot as a JSON object."""
    return json.dumps(told, indent=indent)


def requests_table(board: Scoreboard) -> str:
    """Runs in: command line. The open requests for people."""
    found = open_requests(board)
    if not found:
        return "no open requests"
    cells = [("age", "pid", "progress", "client", "id", "request")]
    for each in found:
        target = each.target if len(each.target) <= _TARGET else each.target[: _TARGET - 3] + "..."
        cells.append(
            (
                _age(each.age_s),
                str(each.pid),
                each.progress,
                printable(each.client) or "-",
                printable(each.request_id) or "-",
                printable(f"{each.method} {target}"),
            )
        )
    return "\n".join(columns(cells, left={2, 3, 4, 5}))


def _age(seconds: float) -> str:
    return f"{seconds:.2f}s" if seconds < 10 else duration(seconds)
