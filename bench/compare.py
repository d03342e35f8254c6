"""Compare servers under the same load: ``make bench``, or ``python bench/compare.py``.

Servers run on one core and the load on another. Each round measures every server in turn, so that
what else happens on the machine hits all of them. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from chart import chart
from procs import cores, raise_descriptors
from report import Series, detail, summary, write
from servers import BASELINE, OTHERS, SERVERS, Running, Server, start
from workloads import WORKLOADS, HTTPWorkload, Workload, measure

__all__ = ["main"]

_PACKAGES = (
    *("gunicorn", "gunicorn-h1c", "uvicorn", "uvicorn-worker", "granian", "hypercorn", "picows"),
    *("uvloop", "httptools", "websockets", "wsproto", "starlette", "fastapi"),
)
Named = TypeVar("Named", Server, Workload)


def _chosen(known: Sequence[Named], names: str) -> list[Named]:
    """Those of ``names``, comma-separated; one that ends in ``*`` stands for all that begin so.

    Without names all but what says that it wants to be named.
    """
    if not names:
        return [each for each in known if getattr(each, "always", True)]
    chosen: list[Named] = []
    for name in names.split(","):
        star = name.endswith("*")
        found = [e for e in known if e.name == name or (star and e.name.startswith(name[:-1]))]
        if not found:
            raise SystemExit(f"{name!r} is none of {', '.join(each.name for each in known)}")
        chosen += [each for each in found if each not in chosen]
    return chosen


def _arguments() -> argparse.Namespace:
    server_core, load_core = cores()
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--workloads", default="", help="comma-separated, as in ws-64,hello*; all by default")
    add("--servers", default="", help="comma-separated; all but hypercorn by default")
    add("--rounds", type=int, default=5, help="how often each server is measured [5]")
    add("--quick", action="store_true", help="one round, whatever --rounds says")
    add("--seconds", type=float, default=1.0, help="for how long, each time [1]")
    add("--server-core", type=int, default=server_core, help=f"[{server_core}]")
    add("--load-core", type=int, default=load_core, help=f"[{load_core}]")
    add("--json", type=Path, help="write all samples into this file")
    add("--svg", type=Path, help="draw a chart of the rates into this file")
    add("--list", action="store_true", help="name the workloads and the servers, and end")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


def _run(
    workload: Workload, running: Sequence[Running], options: argparse.Namespace
) -> list[Series]:
    """Rounds of all servers in turn; one more before them, which does not count."""
    series = {each.server.name: Series(each.server.name, each.server.kind) for each in running}
    for number in range(options.rounds + 1):
        for each in running:
            seconds = options.seconds if number else min(0.3, options.seconds)
            sample = measure(workload, each, seconds, options.load_core)
            if number:
                series[each.server.name].samples.append(sample)
        sys.stderr.write(f"{workload.name}: {number} of {options.rounds}\n")
    return list(series.values())


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def main() -> None:
    """Measure what was asked for."""
    options = _arguments()
    if options.list:
        for known in (WORKLOADS, SERVERS):
            sys.stdout.write(" ".join(each.name for each in known) + "\n")
        return
    workloads = _chosen(WORKLOADS, options.workloads)
    servers = _chosen(SERVERS, options.servers)
    by_wrk = [each.name for each in workloads if isinstance(each, HTTPWorkload)]
    if by_wrk and shutil.which("wrk") is None:
        raise SystemExit(f"{by_wrk[0]} needs wrk, which is Debian's package `wrk`")
    raise_descriptors()
    results: dict[str, list[Series]] = {}
    rounds = f"{options.rounds} rounds" if options.rounds > 1 else "1 round"
    sys.stdout.write(f"{_versions()}. {rounds} of {options.seconds:g} s.\n")
    for workload in workloads:
        with contextlib.ExitStack() as stack:
            running = [
                stack.enter_context(start(each, options.server_core, setup=workload.setup))
                for each in servers
                if workload.needs in each.speaks
            ]
            rows = results[workload.name] = _run(workload, running, options)
        sys.stdout.write(f"\n### {workload.name}\n\n{detail(rows, BASELINE)}")
        sys.stdout.flush()
        if options.json is not None:  # after each, for who interrupts the run
            write(results, options.json)
    if len(servers) > 1:
        sys.stdout.write(f"\n### All\n\n{summary(results, BASELINE, OTHERS)}")
    if options.svg is not None:
        options.svg.write_text(chart(results, BASELINE))


if __name__ == "__main__":
    main()
