"""The metrics as text, for Prometheus and OpenMetrics: built by the official client library.

It is imported with the first scrape, so by nobody who does not scrape, and after the application:
one that uses the library's multiprocess mode has to set its directory before the first import.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from gunicorn_asgi.worker.counters import BOUNDS
from gunicorn_asgi.worker.metrics import Family, Histogram, measure
from gunicorn_asgi.worker.scoreboard import Scoreboard

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["MISSING", "OPENMETRICS", "MissingLibrary", "load", "render"]

MISSING = "prometheus_client is not installed: pip install 'gunicorn_asgi[metrics]'"

# As a scraper asks for it, in an Accept field.
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

_BOUNDS = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]


class MissingLibrary(Exception):
    """prometheus_client cannot be imported; ``MISSING`` says what to do."""


def load() -> None:
    """Import the library now, which takes some 30 ms.

    Raises:
        MissingLibrary: it is not installed.
    """
    try:
        import prometheus_client  # noqa: F401 - for those that come later
    except ImportError:
        raise MissingLibrary from None


def render(board: Scoreboard, accept: str) -> tuple[bytes, str]:
    """The metrics of ``board``, and their content type, as an Accept field wants them.

    Raises:
        MissingLibrary: the library is not installed.
    """
    load()
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import CollectorRegistry

    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # "version=x", which the library compares with numbers
        encode, content_type = choose_encoder("")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(board))
    return encode(registry), content_type


class _Collector:
    """What the library calls a custom collector."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """Every metric, as an object of the library's."""
        return [_translate(family) for family in measure(self._board)]


def _translate(family: Family) -> Metric:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    metric = family.metric
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    numbers = kind(metric.name, metric.help, labels=metric.labels)
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in family.samples:
        if isinstance(value, Histogram):
            cumulated = list(zip(_BOUNDS, accumulate(value.counts), strict=True))
            histogram.add_metric(labels, cumulated, value.seconds)
        else:
            numbers.add_metric(labels, value)
    return histogram if metric.kind == "histogram" else numbers
