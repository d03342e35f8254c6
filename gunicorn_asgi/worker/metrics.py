"""The metrics: what each is called, what it means, and where on the board it is read.

One table, for every way out: Prometheus, OpenMetrics, statsd, the tests of the documents. Counters
are sums over all slots, also those of workers that are gone, so they never go down while the master
lives. Gauges are those of living workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.command.report import lag_ms
from gunicorn_asgi.worker.counters import BUCKETS, CLASSES, Counter, request_cell, sum_cell
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, milliseconds

__all__ = ["METRICS", "PREFIX", "Family", "Figures", "Histogram", "Metric", "measure"]

PREFIX = "gunicorn_asgi_"

_MICRO = 1e-6

# What a living worker can be.
_STATES = tuple(state for state in WorkerState if state is not WorkerState.EXITED)


class Histogram(NamedTuple):
    """Runs in: worker and command line. Requests by duration.

    Attributes:
        counts: how many in each bucket of ``BOUNDS``, and behind the last; not cumulated.
        seconds: of all of them together.
    """

    counts: tuple[int, ...]
    seconds: float


Value = float | Histogram
Samples = Iterable[tuple[tuple[str, ...], Value]]


class Figures:
    """Runs in: worker and command line. One look at the numbers of a board.

    Attributes:
        board: the board.
        counters: the sums of all slots, one for each cell of a slot's counters.
        living: the slots of living workers.
        now: of the look, in milliseconds of the monotonic clock.
    """

    def __init__(self, board: Scoreboard) -> None:
        """Runs in: worker and command line."""
        used = board.used_slots()
        self.board = board
        self.now = milliseconds()
        self.living = [slot for slot in used if slot.get(Cell.PID) and slot.alive]
        rows = [slot.counters.tolist() for slot in used]
        self.counters: list[int] = list(map(sum, zip(*rows, strict=True)))

    def total(self, counter: Counter) -> int:
        """Runs in: worker and command line. What all workers have counted."""
        return self.counters[counter] if self.counters else 0

    def requests(self, row: int) -> Histogram:
        """Runs in: worker and command line. Those of class ``CLASSES[row]``."""
        if not self.counters:
            return Histogram((0,) * BUCKETS, 0.0)
        first = request_cell(row, 0)
        counts = tuple(self.counters[first : first + BUCKETS])
        return Histogram(counts, self.counters[sum_cell(row)] * _MICRO)

    def gauge(self, cell: Cell) -> int:
        """Runs in: worker and command line. A cell, summed over the living."""
        return sum(slot.get(cell) for slot in self.living)


Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Metric:
    """Runs in: worker and command line. One metric.

    Attributes:
        name: as it is scraped; a counter's ends in ``_total``.
        kind: its type.
        help: one sentence.
        labels: names of its labels.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    _read: Callable[[Figures], Samples] = field(repr=False)

    def read(self, figures: Figures) -> Samples:
        """Runs in: worker and command line. Its samples: values of the labels, and the number."""
        return self._read(figures)


class Family(NamedTuple):
    """Runs in: worker and command line. A metric and what it is just now."""

    metric: Metric
    samples: list[tuple[tuple[str, ...], Value]]


def measure(board: Scoreboard) -> Iterator[Family]:
    """Runs in: worker and command line. Every metric, in the order of ``METRICS``."""
    figures = Figures(board)
    for metric in METRICS:
        yield Family(metric, list(metric.read(figures)))


# -- where they are read ---------------------------------------------------------------------------


def _requests(figures: Figures) -> Samples:
    for row, name in enumerate(CLASSES):
        yield (name,), sum(figures.requests(row).counts)


def _durations(figures: Figures) -> Samples:
    for row, name in enumerate(CLASSES):
        yield (name,), figures.requests(row)


def _lags(figures: Figures) -> Samples:
    for slot in figures.living:
        yield (str(slot.get(Cell.NUMBER)),), round(lag_ms(slot, figures.now) / 1000, 6)


def _memory(figures: Figures) -> Samples:
    for slot in figures.living:
        yield (str(slot.get(Cell.NUMBER)),), slot.get(Cell.RSS)


def _states(figures: Figures) -> Samples:
    found = [slot.get(Cell.STATE) for slot in figures.living]
    for state in _STATES:
        yield (state.name.lower(),), found.count(state)


def _messages(figures: Figures) -> Samples:
    yield ("received",), figures.total(Counter.WEBSOCKET_MESSAGES_RECEIVED)
    yield ("sent",), figures.total(Counter.WEBSOCKET_MESSAGES_SENT)


def _reloads(figures: Figures) -> Samples:
    for verdict, count in figures.board.count_verdicts().items():
        yield (verdict.name.lower(),), count


def _counter(name: str, counter: Counter, text: str, scale: float = 1) -> Metric:
    def read(figures: Figures) -> Samples:
        yield (), figures.total(counter) * scale

    return Metric(PREFIX + name, "counter", text, (), read)


def _gauge(name: str, cell: Cell, text: str) -> Metric:
    def read(figures: Figures) -> Samples:
        yield (), figures.gauge(cell)

    return Metric(PREFIX + name, "gauge", text, (), read)


def _header(name: str, cell: Header, text: str) -> Metric:
    def read(figures: Figures) -> Samples:
        yield (), figures.board.get(cell)

    return Metric(PREFIX + name, "gauge", text, (), read)


def _metric(
    name: str, kind: Kind, text: str, label: str, read: Callable[[Figures], Samples]
) -> Metric:
    return Metric(PREFIX + name, kind, text, (label,), read)


METRICS: tuple[Metric, ...] = (
    _metric(
        "requests_total",
        "counter",
        "Requests that are over, by class of status; aborted: the client left before.",
        "status",
        _requests,
    ),
    _metric(
        "request_duration_seconds",
        "histogram",
        "Time from the complete head of a request to the last byte of its response.",
        "status",
        _durations,
    ),
    _gauge("requests_in_flight", Cell.IN_FLIGHT, "Requests and WebSockets being worked on."),
    _gauge("connections", Cell.CONNECTIONS, "Open connections, idle ones included."),
    _counter("connections_accepted_total", Counter.CONNECTIONS_ACCEPTED, "Connections accepted."),
    _counter(
        "connections_refused_total",
        Counter.CONNECTIONS_REFUSED,
        "Connections that failed before a request: TLS handshake, PROXY header.",
    ),
    _counter(
        "requests_refused_total",
        Counter.REQUESTS_REFUSED,
        "Requests that were refused as malformed, too large or too slow, before their head was "
        "complete.",
    ),
    _counter(
        "requests_shed_total",
        Counter.REQUESTS_SHED,
        "Requests answered with 503 by asgi_shed_requests or asgi_shed_lag.",
    ),
    _gauge("websockets", Cell.WEBSOCKETS, "Open WebSockets."),
    _counter("websockets_opened_total", Counter.WEBSOCKETS_OPENED, "WebSockets accepted."),
    _metric(
        "websocket_messages_total", "counter", "Messages on WebSockets.", "direction", _messages
    ),
    _counter(
        "received_bytes_total",
        Counter.BYTES_RECEIVED,
        "Bytes of request bodies and of WebSocket frames.",
    ),
    _counter(
        "sent_bytes_total",
        Counter.BYTES_SENT,
        "Bytes of response bodies and of WebSocket frames.",
    ),
    _metric(
        "loop_lag_seconds",
        "gauge",
        "How late the event loop turned for the last heartbeat, or how long that is overdue.",
        "worker",
        _lags,
    ),
    _counter(
        "loop_stalls_total",
        Counter.STALLS,
        "Times that an event loop was blocked for asgi_stall_warning or longer.",
    ),
    _counter(
        "loop_stalled_seconds_total",
        Counter.STALLED_US,
        "Time for which event loops were blocked then.",
        _MICRO,
    ),
    _counter("gc_collections_total", Counter.GC_COLLECTIONS, "Garbage collections."),
    _counter(
        "gc_pause_seconds_total", Counter.GC_PAUSE_US, "Time spent in garbage collections.", _MICRO
    ),
    _metric("workers", "gauge", "Living workers by state.", "state", _states),
    _metric(
        "worker_resident_memory_bytes",
        "gauge",
        "Resident memory of a worker.",
        "worker",
        _memory,
    ),
    _counter("worker_boots_total", Counter.BOOTS, "Workers that became ready."),
    _counter("worker_boot_failures_total", Counter.BOOT_FAILURES, "Workers that did not."),
    _metric("reloads_total", "counter", "Reloads by what became of them.", "verdict", _reloads),
    _header("generation", Header.GENERATION, "Number of the newest generation."),
    _header("target_workers", Header.TARGET, "Workers that the newest generation is to have."),
)
