"""worker/metrics.py: every metric, where it is read, and of whom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from boards import DEAD, new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.counters import BUCKETS, CLASSES, Counter, request_cell, sum_cell
from gunicorn_asgi.worker.metrics import METRICS, PREFIX, Figures, Histogram, measure
from gunicorn_asgi.worker.scoreboard import Cell, ReloadVerdict, milliseconds

if TYPE_CHECKING:
    from gunicorn_asgi.worker.metrics import Value
    from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []


@pytest.fixture
def board() -> Scoreboard:
    """Of a server that has started its first generation."""
    found = new_board()
    found.begin_generation(2)
    return found


def told(board: Scoreboard) -> dict[str, Value]:
    """Every number, by name and labels."""
    return {
        " ".join((metric.name.removeprefix(PREFIX), *labels)): value
        for metric, samples in measure(board)
        for labels, value in samples
    }


def test_names_are_as_prometheus_wants_them() -> None:
    """https://prometheus.io/docs/practices/naming: a prefix, base units, counters end in total."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(rf"{PREFIX}[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert not re.search("milli|micro|_ms|_us|kilo|mega", metric.name)


def test_an_empty_board_has_every_metric(board: Scoreboard) -> None:
    """From the first scrape on: an increase from nothing to something is none."""
    found = told(board)
    assert found["requests_total 5xx"] == 0
    assert found["request_duration_seconds aborted"] == Histogram((0,) * BUCKETS, 0.0)
    assert found["worker_boot_failures_total"] == 0
    assert found["reloads_total rolled_back"] == 0
    assert found["workers ready"] == 0
    assert (found["generation"], found["target_workers"]) == (1, 2)
    per_worker = {metric.name for metric in METRICS if metric.labels == ("worker",)}
    assert {metric.name for metric, samples in measure(board) if not samples} == per_worker


COUNTERS = {
    Counter.BYTES_RECEIVED: "received_bytes_total",
    Counter.BYTES_SENT: "sent_bytes_total",
    Counter.CONNECTIONS_ACCEPTED: "connections_accepted_total",
    Counter.CONNECTIONS_REFUSED: "connections_refused_total",
    Counter.REQUESTS_REFUSED: "requests_refused_total",
    Counter.REQUESTS_SHED: "requests_shed_total",
    Counter.WEBSOCKETS_OPENED: "websockets_opened_total",
    Counter.WEBSOCKET_MESSAGES_RECEIVED: "websocket_messages_total received",
    Counter.WEBSOCKET_MESSAGES_SENT: "websocket_messages_total sent",
    Counter.GC_COLLECTIONS: "gc_collections_total",
    Counter.GC_PAUSE_US: "gc_pause_seconds_total",
    Counter.STALLS: "loop_stalls_total",
    Counter.STALLED_US: "loop_stalled_seconds_total",
    Counter.BOOTS: "worker_boots_total",
    Counter.BOOT_FAILURES: "worker_boot_failures_total",
}


@pytest.mark.parametrize("counter", list(Counter))
def test_every_counter_is_told_by_one_metric_and_no_other(
    board: Scoreboard, counter: Counter
) -> None:
    """Summed over the living and the dead: nothing is lost with a worker."""
    before = told(board)
    new_worker(board).counters[counter] += 3_000_000
    new_worker(board, alive=False).counters[counter] += 1_000_000
    changed = {
        name: value
        for name, value in told(board).items()
        if value != before.get(name) and name.endswith(("_total", " received", " sent"))
    }
    expected = 4 if counter in (Counter.GC_PAUSE_US, Counter.STALLED_US) else 4_000_000
    assert changed == {COUNTERS[counter]: expected}


@pytest.mark.parametrize("name", CLASSES)
def test_requests_are_counted_and_timed_by_class(board: Scoreboard, name: str) -> None:
    """All buckets of the class, and nothing of its neighbours."""
    row = CLASSES.index(name)
    for alive in (True, False):
        slot = new_worker(board, alive=alive)
        for bucket in range(BUCKETS):
            slot.counters[request_cell(row, bucket)] = bucket + 1
        slot.counters[sum_cell(row)] = 2_250_000
    found = told(board)
    counts = tuple(2 * (bucket + 1) for bucket in range(BUCKETS))
    assert found[f"request_duration_seconds {name}"] == Histogram(counts, 4.5)
    assert {each: found[f"requests_total {each}"] for each in CLASSES} == {
        **dict.fromkeys(CLASSES, 0),
        name: sum(counts),
    }


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("IN_FLIGHT", "requests_in_flight"),
        ("CONNECTIONS", "connections"),
        ("WEBSOCKETS", "websockets"),
    ],
)
def test_gauges_are_those_of_the_living(board: Scoreboard, cell: str, name: str) -> None:
    """What a killed worker has left on the board is not there any more."""
    for slot, value in (
        (new_worker(board), 3),
        (new_worker(board, WorkerState.DRAINING), 4),
        (new_worker(board, alive=False), 100),
    ):
        slot.put(Cell[cell], value)
    assert told(board)[name] == 7


def test_workers_are_counted_by_state(board: Scoreboard) -> None:
    """The living ones; one that is about to be forked is none yet."""
    for state in (WorkerState.READY, WorkerState.READY, WorkerState.HOLDING, WorkerState.FAILED):
        new_worker(board, state)
    new_worker(board, WorkerState.READY, alive=False)
    new_worker(board, WorkerState.BOOTING).put(Cell.PID, 0)
    found = told(board)
    assert {name: found[f"workers {name}"] for name in ("ready", "holding", "failed")} == {
        "ready": 2,
        "holding": 1,
        "failed": 1,
    }
    assert found["workers booting"] == found["workers draining"] == found["workers exiting"] == 0


def test_a_worker_is_named_by_its_number(board: Scoreboard) -> None:
    """Not by its pid: each reload would add as many time series as there are workers."""
    new_worker(board, rss=1000, lag=2_500, beat_at=milliseconds())
    new_worker(board, alive=False, rss=9999)
    new_worker(board, rss=3000, beat_at=milliseconds() - 61_000)
    found = told(board)
    assert {name: value for name, value in found.items() if "memory" in name} == {
        "worker_resident_memory_bytes 1": 1000,
        "worker_resident_memory_bytes 2": 3000,
    }
    assert found["loop_lag_seconds 1"] == 0.0025
    # One that is stuck cannot say so: its heartbeat is overdue.
    lag = found["loop_lag_seconds 2"]
    assert isinstance(lag, float)
    assert 60 <= lag < 70


def test_a_hundred_reloads_need_no_more_names(board: Scoreboard) -> None:
    """At the most as many as there are workers at one time."""
    names = set()
    before = [new_worker(board) for _ in range(4)]
    for _ in range(100):
        board.begin_generation(4)
        after = [new_worker(board) for _ in range(4)]
        (lags,) = [found for metric, found in measure(board) if "lag" in metric.name]
        names |= {labels for labels, _ in lags}
        for slot in before:
            slot.put(Cell.PID, DEAD)
        before = after
    assert len(names) == 8


def test_reloads_are_counted_by_what_became_of_them(board: Scoreboard) -> None:
    """Each generation but the first."""
    for verdict in (ReloadVerdict.SUCCEEDED, ReloadVerdict.ROLLED_BACK, ReloadVerdict.SUCCEEDED):
        board.note_verdict(board.begin_generation(2), verdict)
    board.begin_generation(3, "refused")
    found = told(board)
    assert {name: found[f"reloads_total {name}"] for name in ("succeeded", "rolled_back")} == {
        "succeeded": 2,
        "rolled_back": 1,
    }
    assert found["reloads_total refused"] == 1
    assert (found["generation"], found["target_workers"]) == (5, 3)


def test_one_look_is_consistent(board: Scoreboard) -> None:
    """A count and its buckets are from the same moment, whatever is counted meanwhile."""
    slot = new_worker(board)
    figures = Figures(board)
    slot.counters[request_cell(2, 0)] += 1
    slot.counters[Counter.STALLS] += 1
    assert sum(figures.requests(2).counts) == figures.total(Counter.STALLS) == 0
