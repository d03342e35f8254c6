"""The metrics through Gunicorn's own statsd logger, under the names that Prometheus scrapes.

A label's value stands behind the name: ``gunicorn_asgi_requests_total.2xx``. Histograms are left
out: Gunicorn sends ``gunicorn.request.duration`` with each request. One worker speaks for all, and
sends what the whole server has counted since its last word; when another takes over, up to a second
may be counted twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.worker.metrics import Histogram, Metric, measure
from gunicorn_asgi.worker.scoreboard import Scoreboard, Slot
from gunicorn_asgi.worker.systemd import speaker

__all__ = ["StatsdFeed"]


class StatsdFeed:
    """Runs in: worker. Sends gauges as they are, and by how much counters have grown."""

    def __init__(self, board: Scoreboard, slot: Slot, log: Statsd) -> None:
        """Runs in: worker. What was counted before belongs to others."""
        self._board = board
        self._slot = slot
        self._log = log
        self._before = {name: value for metric, name, value in self._read() if _grows(metric)}

    def beat(self) -> None:
        """Runs in: worker. Once a second, whether this worker speaks or not."""
        speaks = speaker(self._board.used_slots()) is self._slot
        for metric, name, value in self._read():
            if not _grows(metric):
                if speaks:
                    self._log.gauge(name, value)
                continue
            growth = value - self._before.get(name, 0)
            self._before[name] = value
            if speaks and growth > 0:
                self._log.increment(name, growth)

    def _read(self) -> Iterator[tuple[Metric, str, float]]:
        for metric, samples in measure(self._board):
            for labels, value in samples:
                if not isinstance(value, Histogram):
                    yield metric, ".".join((metric.name, *labels)), value


def _grows(metric: Metric) -> bool:
    return metric.kind == "counter"
