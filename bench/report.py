"""Numbers to tables: medians, spreads, ratios, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Sample", "Series", "compared", "detail", "markdown", "summary"]


class Sample(NamedTuple):
    """One round of one server under one workload.

    Attributes:
        rate: requests or messages per second.
        cpu: CPU seconds of the server for each of them.
        busy: CPU seconds of the server per second; well below 1 it has waited for its client.
        load: the same of the load generator; near 1 it was the one that was measured.
    """

    rate: float
    cpu: float
    busy: float
    load: float


@dataclass
class Series:
    """All rounds of one server under one workload.

    Attributes:
        server, kind: its name, and whether it is ours, a peer or a limit.
        samples: a Sample for each round.
    """

    server: str
    kind: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median of the rates."""
        return statistics.median(each.rate for each in self.samples)

    @property
    def cpu(self) -> float:
        """Median of the CPU seconds for each request or message."""
        return statistics.median(each.cpu for each in self.samples)

    @property
    def busy(self) -> float:
        """Median of how busy the server was."""
        return statistics.median(each.busy for each in self.samples)

    @property
    def load(self) -> float:
        """Median of how busy the load generator was."""
        return statistics.median(each.load for each in self.samples)

    def spread(self, name: str) -> float:
        """From the lowest to the highest ``rate`` or ``cpu``, relative to its median."""
        values = [getattr(each, name) for each in self.samples]
        middle: float = statistics.median(values)
        return float(max(values) - min(values)) / middle if middle else 0.0


def compared(series: Series, other: Series | None) -> tuple[float, float]:
    """Rate and CPU of ``series`` as multiples of ``other``'s; 0 if unknown.

    Medians of the ratios of each round, and not ratios of the medians: a machine that is slow for
    some of the rounds is so for all servers.
    """
    if other is None:
        return 0.0, 0.0
    rounds = list(zip(series.samples, other.samples, strict=True))
    rate = statistics.median(_ratio(one.rate, two.rate) for one, two in rounds)
    return rate, statistics.median(_ratio(one.cpu, two.cpu) for one, two in rounds)


def _ratio(one: float, other: float) -> float:
    return one / other if other else 0.0


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but the first is made of numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _named(rows: Iterable[Series], server: str) -> Series | None:
    return next((each for each in rows if each.server == server), None)


def detail(rows: Sequence[Series], baseline: str) -> str:
    """One workload: a line for each server, against ``baseline``."""
    head = (
        *("server", "per second", "spread", "CPU s per 10,000", "spread", "busy", "load"),
        *(f"rate / {baseline}", "CPU"),
    )
    base = _named(rows, baseline)
    lines = []
    for each in rows:
        rate, cpu = compared(each, base)
        lines.append(
            [
                each.server,
                f"{each.rate:,.0f}",
                f"{each.spread('rate'):.0%}",
                f"{each.cpu * 10_000:.3f}",
                f"{each.spread('cpu'):.0%}",
                f"{each.busy:.0%}",
                f"{each.load:.0%}",
                _times(rate),
                _times(cpu),
            ]
        )
    return markdown(head, lines)


def summary(results: dict[str, list[Series]], baseline: str) -> str:
    """All workloads: ours against ``baseline`` and against the best of the peers."""
    head = (
        *("workload", "server", f"rate / {baseline}", f"CPU / {baseline}"),
        *("rate / best peer", "best peer"),
    )
    lines = []
    for workload, rows in results.items():
        base = _named(rows, baseline)
        peers = [each for each in rows if each.kind == "peer"]
        best = max(peers, key=lambda each: each.rate, default=None)
        for each in rows:
            if each.kind == "ours":
                rate, cpu = compared(each, base)
                name = best.server if best else "-"
                numbers = [_times(rate), _times(cpu), _times(compared(each, best)[0])]
                lines.append([workload, each.server, *numbers, name])
    return markdown(head, lines)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio else "-"
