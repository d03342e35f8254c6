"""worker/meter.py: what a worker counts on the board."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from boards import new_board, new_worker
from gunicorn_asgi.aio.totals import Totals
from gunicorn_asgi.worker.counters import (
    BOUNDS,
    BUCKETS,
    CLASSES,
    COUNTERS,
    Counter,
    request_cell,
    sum_cell,
)
from gunicorn_asgi.worker.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gunicorn_asgi.worker.scoreboard import Slot

__all__: list[str] = []


@pytest.fixture
def slot() -> Slot:
    """Of a worker that has counted nothing."""
    return new_worker(new_board())


@pytest.fixture
def kept_callbacks() -> Iterator[None]:
    """gc.callbacks as they were."""
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


def test_every_counter_has_a_cell_of_its_own() -> None:
    """Classes, buckets and names."""
    cells = [request_cell(row, bucket) for row in range(len(CLASSES)) for bucket in range(BUCKETS)]
    cells += [sum_cell(row) for row in range(len(CLASSES))]
    cells += list(Counter)
    assert len(set(cells)) == len(cells)
    assert max(cells) < COUNTERS


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (101, "1xx"),
        (200, "2xx"),
        (299, "2xx"),
        (304, "3xx"),
        (404, "4xx"),
        (499, "aborted"),
        (500, "5xx"),
        (599, "5xx"),
        (999, "5xx"),
    ],
)
def test_a_request_counts_once_in_its_class(slot: Slot, status: int, name: str) -> None:
    """499 is nobody's answer; what no class has is an error."""
    meter = Meter(slot)
    meter.request(status, 0.0001)
    meter.settle()
    counted = [cell for cell in range(COUNTERS) if slot.counters[cell]]
    assert counted == [request_cell(CLASSES.index(name), 0)]


def test_alike_requests_are_counted_together_and_others_apart(slot: Slot) -> None:
    """Whatever follows on whatever: nothing waits longer than for the end of a turn."""
    meter = Meter(slot)
    counts = dict.fromkeys(range(COUNTERS), 0)
    for number in range(200):
        status, seconds = (200, 404, 200, 503)[number * number % 4], BOUNDS[number % 3]
        for _ in range(number % 4):
            meter.request(status, seconds)
            counts[request_cell(status // 100, number % 3)] += 1
        if number % 5 == 0:
            meter.settle()
    meter.settle()
    assert {cell: slot.counters[cell] for cell in counts} == counts


@pytest.mark.parametrize("bucket", range(BUCKETS))
def test_a_bound_belongs_to_its_bucket(slot: Slot, bucket: int) -> None:
    """Prometheus: `le` is "less or equal"; the last bucket has no bound."""
    seconds = BOUNDS[bucket] if bucket < len(BOUNDS) else 1e6
    meter = Meter(slot)
    meter.request(200, seconds)
    meter.settle()
    meter.settle()  # what is there is not counted again
    assert slot.counters[request_cell(CLASSES.index("2xx"), bucket)] == 1


def test_the_next_worker_goes_on_where_the_last_one_has_ended(slot: Slot) -> None:
    """Requests at once, totals with the beat; publishing twice counts nothing twice."""
    totals = Totals()
    for _ in range(2):
        meter = Meter(slot)
        totals.accepted, totals.messages_sent = 10, 5
        meter.request(200, 2.0)
        meter.request(404, 0.5)
        for _ in range(3):
            meter.publish(totals, 1, 2)
    counters = slot.counters
    assert counters[Counter.CONNECTIONS_ACCEPTED] == 20
    assert counters[Counter.WEBSOCKET_MESSAGES_RECEIVED] == 2
    assert counters[Counter.WEBSOCKET_MESSAGES_SENT] == 14
    sums = {name: counters[sum_cell(row)] for row, name in enumerate(CLASSES)}
    assert sums == dict.fromkeys(CLASSES, 0) | {"2xx": 4_000_000, "4xx": 1_000_000}


def test_everything_in_the_totals_is_published(slot: Slot) -> None:
    """A number of its own for each."""
    totals = Totals()
    for number, name in enumerate(Totals.__slots__, 1):
        setattr(totals, name, number)
    Meter(slot).publish(totals, 0, 0)
    published = sorted(value for value in slot.counters if value)
    assert published == list(range(1, len(Totals.__slots__) + 1))


@pytest.mark.usefixtures("kept_callbacks")
def test_pauses_of_the_garbage_collector_are_counted(slot: Slot) -> None:
    """Each collection, with its time."""
    meter = Meter(slot)
    meter.watch_gc()
    before = slot.counters[Counter.GC_COLLECTIONS]
    rubbish = [[] for _ in range(100_000)]  # type: list[list[object]]
    rubbish.append(rubbish)  # type: ignore[arg-type]
    del rubbish
    gc.collect()
    assert slot.counters[Counter.GC_COLLECTIONS] > before
    assert slot.counters[Counter.GC_PAUSE_US] > 0
