"""status/exposition.py: what is scraped, read back by the library's own parsers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from boards import new_board, new_worker
from gunicorn_asgi.status.exposition import OPENMETRICS, MissingLibrary, load, render
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES, Counter, request_cell, sum_cell
from gunicorn_asgi.worker.metrics import METRICS

if TYPE_CHECKING:
    from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []


@pytest.fixture
def board() -> Scoreboard:
    """Of one worker that has counted."""
    found = new_board()
    found.begin_generation(1)
    slot = new_worker(found, rss=1000)
    row = CLASSES.index("2xx")
    slot.counters[request_cell(row, 0)] = 3
    slot.counters[request_cell(row, len(BOUNDS))] = 2
    slot.counters[sum_cell(row)] = 61_500_000
    slot.counters[Counter.STALLED_US] = 2_500_000
    return found


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", plain),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", plain),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics),
        # What Prometheus 2 asks for.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            openmetrics,
        ),
        # Which the library cannot compare with a number.
        ("text/plain; version=x", "text/plain; version=0.0.4; charset=utf-8", plain),
    ],
    ids=["nothing", "anything", "openmetrics", "prometheus", "nonsense"],
)
def test_the_text_is_what_the_scraper_asked_for(
    board: Scoreboard, accept: str, content_type: str, parse: object
) -> None:
    """Content negotiation is the library's."""
    text, told = render(board, accept)
    assert told.split("; escaping")[0] == content_type
    assert callable(parse)
    families = {family.name: family for family in parse(text.decode())}
    assert len(families) == len(METRICS)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_buckets_are_cumulated_and_end_with_the_count(board: Scoreboard) -> None:
    """As Prometheus defines a histogram."""
    families = plain(render(board, "")[0].decode())
    (family,) = [each for each in families if each.name == "gunicorn_asgi_request_duration_seconds"]
    samples = [each for each in family.samples if each.labels.get("status") == "2xx"]
    buckets = [each for each in samples if each.name.endswith("_bucket")]
    assert [float(each.labels["le"]) for each in buckets] == [*BOUNDS, float("inf")]
    assert [each.value for each in buckets] == [3.0] * len(BOUNDS) + [5.0]
    others = {each.name.rpartition("_")[2]: each.value for each in samples if each not in buckets}
    assert others == {"count": 5.0, "sum": 61.5}


def test_microseconds_are_told_in_seconds(board: Scoreboard) -> None:
    """Base units, as Prometheus wants them."""
    text = render(board, "")[0].decode()
    assert "\ngunicorn_asgi_loop_stalled_seconds_total 2.5\n" in text


def test_without_the_library_there_is_no_text(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extra of the package: nobody else needs it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingLibrary):
        load()
    with pytest.raises(MissingLibrary):
        render(board, "")
