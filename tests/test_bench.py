"""bench/: what it computes, what its load sends, and that one command gives a table."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gunicorn_asgi.protocol.deflate import Inflater, negotiate
from gunicorn_asgi.protocol.frames import FrameReader
from kit.waiting import wait_until

__all__: list[str] = []

BENCH = Path(__file__).resolve().parent.parent / "bench"
NAMES = ("procs", "report", "servers", "workloads", "wsload", "compare")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Its modules, which are scripts side by side; afterwards nobody else finds them."""
    sys.path.insert(0, str(BENCH))
    try:
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(BENCH))
        for name in NAMES:
            sys.modules.pop(name, None)


def cells(table: str) -> list[list[str]]:
    """The rows below the rule of a table in Markdown."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    assert set("".join(rows[1])) <= set("-:")
    assert len({len(row) for row in rows}) == 1
    return rows[2:]


def series(bench: SimpleNamespace, name: str, kind: str, *rounds: tuple[float, float]) -> object:
    """Rounds of (rate, CPU seconds for each)."""
    samples = [bench.report.Sample(rate, cpu, 0.9, 0.4) for rate, cpu in rounds]
    return bench.report.Series(name, kind, samples)


# -- what is computed ------------------------------------------------------------------------------


def test_medians_and_spreads(bench: SimpleNamespace) -> None:
    """One bad round of three moves no median, and is seen in the spread."""
    made = bench.report.Series(
        "x", "ours", [bench.report.Sample(*each) for each in ((100, 4, 1, 0.1), (10, 2, 0.5, 0.2))]
    )
    made.samples.append(bench.report.Sample(120.0, 3.0, 0.9, 0.3))
    assert (made.rate, made.cpu, made.busy, made.load) == (100, 3, 0.9, 0.2)
    assert made.spread("rate") == pytest.approx(1.1)
    assert made.spread("cpu") == pytest.approx(2 / 3)


def test_a_workload_is_told_against_the_baseline(bench: SimpleNamespace) -> None:
    """A line for each server, in CPU seconds for 10,000 and in ratios.

    Those are of the same round: here the machine was slow in two of three, and not by our fault.
    """
    rows = [
        series(bench, "we", "ours", (3000.0, 0.5e-4), (2000.0, 0.6e-4), (2000.0, 0.6e-4)),
        series(bench, "they", "peer", (1500.0, 1.0e-4), (1000.0, 1.2e-4), (1500.0, 1.0e-4)),
    ]
    told = cells(bench.report.detail(rows, "they"))
    assert told[0] == ["we", "2,000", "50%", "0.600", "17%", "90%", "40%", "2.00", "0.50"]
    assert told[1] == ["they", "1,500", "33%", "1.000", "20%", "90%", "40%", "1.00", "1.00"]
    assert cells(bench.report.detail(rows[:1], "they"))[0][-2:] == ["-", "-"]


def test_the_best_peer_is_no_limit_and_not_one_of_ours(bench: SimpleNamespace) -> None:
    """The fastest of the peers, by rate; of each of ours there is a line."""
    rows = [
        series(bench, "we", "ours", (300.0, 1e-4)),
        series(bench, "we, plain", "ours", (90.0, 2e-4)),
        series(bench, "they", "peer", (100.0, 2e-4)),
        series(bench, "others", "peer", (150.0, 4e-4)),
        series(bench, "C", "limit", (900.0, 1e-5)),
    ]
    told = cells(bench.report.summary({"echo": rows}, "they"))
    assert told == [
        ["echo", "we", "3.00", "0.50", "2.00", "others"],
        ["echo", "we, plain", "0.90", "1.00", "0.60", "others"],
    ]
    assert cells(bench.report.summary({"echo": rows[:1]}, "they")) == [
        ["echo", "we", "-", "-", "-", "-"]
    ]


def test_cpu_time_is_that_of_the_whole_tree(bench: SimpleNamespace) -> None:
    """Threads and children count, and a process that is gone counts nothing."""
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {burn!r}])\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}input()"], stdin=subprocess.PIPE
    ) as process:
        wait_until(lambda: len(bench.procs.tree(process.pid)) > 1, 10, "the child")
        assert bench.procs.tree(process.pid)[0] == process.pid
        assert set(bench.procs.tree(process.pid)) < set(bench.procs.tree(os.getpid()))
        wait_until(lambda: bench.procs.cpu_seconds(process.pid) > 0.25, 30, "its CPU time")
        assert bench.procs.memory(process.pid) > 1024 * 1024
        process.kill()
    assert bench.procs.cpu_seconds(process.pid) == 0.0


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("", ["ws-64", "ws-64k", "hello"]),
        ("hello,ws-64", ["hello", "ws-64"]),
        ("ws*", ["ws-64", "ws-64k"]),
        ("ws-64k,ws*", ["ws-64k", "ws-64"]),
    ],
)
def test_workloads_are_chosen_by_name(bench: SimpleNamespace, names: str, found: list[str]) -> None:
    """In the order in which they are named, and once each."""
    known = [SimpleNamespace(name=name) for name in ("ws-64", "ws-64k", "hello")]
    assert [each.name for each in bench.compare._chosen(known, names)] == found


def test_an_unknown_name_is_no_choice(bench: SimpleNamespace) -> None:
    """A misspelled workload must not look like one that was measured."""
    with pytest.raises(SystemExit, match=r"'helo' is none of .*hello"):
        bench.compare._chosen(bench.workloads.WORKLOADS, "helo")


def test_every_workload_has_two_servers_and_a_name_of_its_own(bench: SimpleNamespace) -> None:
    """Else there would be nothing to compare."""
    for known in (bench.workloads.WORKLOADS, bench.servers.SERVERS):
        assert len({each.name for each in known}) == len(known)
    for workload in bench.workloads.WORKLOADS:
        speak = [each for each in bench.servers.SERVERS if workload.needs in each.speaks]
        assert {"ours", "peer"} <= {each.kind for each in speak}, workload.name
        assert bench.servers.BASELINE in {each.name for each in speak}


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 64, 125, 126, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("text", [True, False], ids=["text", "bytes"])
def test_load_is_made_of_whole_masked_frames(bench: SimpleNamespace, size: int, text: bool) -> None:
    """As a parser that refuses anything else reads them."""
    (payload,) = bench.wsload.payloads(size, "text" if text else "bytes")
    assert len(payload) == size
    expected = payload.decode() if text else payload
    assert FrameReader(0).feed(bench.wsload.frame(payload, text, False)) == [expected]


def test_compressed_load_fits_any_stream(bench: SimpleNamespace) -> None:
    """In whatever order, with one window of 12 bits over all; and it is no repetition."""
    plain = bench.wsload.payloads(1024, "deflate")
    assert len(set(plain)) == len(plain) > 40
    assert {len(each) for each in plain} == {1024}
    agreement = negotiate([b"permessage-deflate; client_max_window_bits"], 12)
    assert agreement is not None
    reader = FrameReader(0, Inflater(agreement))
    for payload in (*plain, *reversed(plain)):
        sent = bench.wsload.frame(payload, True, True)
        assert 200 < len(sent) < 600
        assert reader.feed(sent) == [payload.decode()]
    assert 200 < len(zlib.compress(plain[0])) < 600


# -- the whole -------------------------------------------------------------------------------------


@pytest.mark.live
@pytest.mark.slow
def test_one_command_gives_a_table(tmp_path: Path) -> None:
    """A server, a load, and numbers of both; how large they are decides nothing."""
    kept = tmp_path / "samples.json"
    selection = "--servers gunicorn_asgi --workloads ws-64 --rounds 1 --seconds 0.2"
    done = subprocess.run(
        [sys.executable, str(BENCH / "compare.py"), *selection.split(), "--json", str(kept)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Python 3\.\d+\.\d+, gunicorn \d+", done.stdout)
    title, table = re.findall(r"^### (.+)\n\n((?:\|.+\n)+)", done.stdout, re.MULTILINE)[0]
    ((name, rate, *_),) = cells(table)
    assert (title, name) == ("ws-64", "gunicorn_asgi")
    assert int(rate.replace(",", "")) > 0
    ((sample,),) = json.loads(kept.read_text())["ws-64"].values()
    assert 0 < sample["cpu"] < 1
