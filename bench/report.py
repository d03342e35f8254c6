"""Numbers to tables: medians, spreads, ratios, in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sample", "Series", "best", "compared", "detail", "markdown", "read", "summary", "write"]


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


def write(results: dict[str, list[Series]], path: Path) -> None:
    """Keep all samples in a file, in JSON."""
    plain = {
        workload: {
            each.server: {"kind": each.kind, "samples": [s._asdict() for s in each.samples]}
            for each in rows
        }
        for workload, rows in results.items()
    }
    path.write_text(json.dumps(plain, indent=1) + "\n")


def read(path: Path) -> dict[str, list[Series]]:
    """What ``write()`` has kept."""
    plain = json.loads(path.read_text())
    return {
        workload: [
            Series(server, row["kind"], [Sample(**each) for each in row["samples"]])
            for server, row in rows.items()
        ]
        for workload, rows in plain.items()
    }


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


def best(rows: Iterable[Series]) -> Series | None:
    """The fastest of the peers."""
    return max((each for each in rows if each.kind == "peer"), key=_rate, default=None)


def _rate(series: Series) -> float:
    return series.rate


def summary(results: dict[str, list[Series]], baseline: str, others: Sequence[str] = ()) -> str:
    """All workloads: ours against ``baseline``, ``others`` and the best of the peers.

    Rates, and CPU time in parentheses, as multiples of theirs.
    """
    columns = [baseline, *others]
    head = ["workload", "server", "per second", *(f"/ {name}" for name in columns)]
    lines = []
    for workload, rows in results.items():
        fastest = best(rows)
        for each in rows:
            if each.kind != "ours":
                continue
            cells = [_pair(compared(each, _named(rows, name))) for name in columns]
            cells += [_pair(compared(each, fastest)), fastest.server if fastest else "-"]
            lines.append([workload, each.server, f"{each.rate:,.0f}", *cells])
    return markdown([*head, "/ best peer", "best peer"], lines)


def _pair(ratios: tuple[float, float]) -> str:
    rate, cpu = ratios
    return f"{rate:.2f} ({cpu:.2f})" if rate else "-"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio else "-"
