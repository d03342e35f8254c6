"""bench/: what it computes, what its load sends, and that one command gives a table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benches import BENCH, environment, imported
from gunicorn_asgi.protocol.deflate import Inflater, negotiate
from gunicorn_asgi.protocol.frames import FrameReader
from kit.waiting import wait_until

__all__: list[str] = []


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Its modules."""
    with imported("procs", "report", "servers", "workloads", "wsload", "compare") as modules:
        yield modules


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
    """The fastest of the peers, by rate; of each of ours there is a line, and a column of others.

    What did not take part has an empty one.
    """
    rows = [
        series(bench, "we", "ours", (300.0, 1e-4)),
        series(bench, "we, plain", "ours", (90.0, 2e-4)),
        series(bench, "they", "peer", (100.0, 2e-4)),
        series(bench, "others", "peer", (150.0, 4e-4)),
        series(bench, "C", "limit", (900.0, 1e-5)),
    ]
    told = cells(bench.report.summary({"echo": rows}, "they", ["others", "nobody"]))
    assert told == [
        ["echo", "we", "300", "3.00 (0.50)", "2.00 (0.25)", "-", "2.00 (0.25)", "others"],
        ["echo", "we, plain", "90", "0.90 (1.00)", "0.60 (0.50)", "-", "0.60 (0.50)", "others"],
    ]
    assert cells(bench.report.summary({"echo": rows[:1]}, "they")) == [
        ["echo", "we", "300", "-", "-", "-"]
    ]


def test_samples_are_kept_and_read_again(bench: SimpleNamespace, tmp_path: Path) -> None:
    """For a chart of a run that was made before."""
    rows = [series(bench, "we", "ours", (2.0, 1.0)), series(bench, "they", "peer", (1.0, 1.0))]
    bench.report.write({"echo": rows}, tmp_path / "samples.json")
    assert bench.report.read(tmp_path / "samples.json") == {"echo": rows}


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


def test_some_servers_want_to_be_named(bench: SimpleNamespace) -> None:
    """A slow peer takes as much time as a fast one."""
    names = [each.name for each in bench.compare._chosen(bench.servers.SERVERS, "")]
    assert "hypercorn" not in names
    assert bench.servers.BASELINE in names
    assert set(bench.servers.OTHERS) < set(names)
    (named,) = bench.compare._chosen(bench.servers.SERVERS, "hypercorn")
    assert named.name == "hypercorn"


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


def test_documents_name_every_workload_and_server(bench: SimpleNamespace) -> None:
    """In the first column of a table."""
    text = (BENCH.parent / "docs" / "performance.md").read_text()
    told = {
        name
        for cell in re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
        for name in cell.split(", ")
    }
    for known in (bench.workloads.WORKLOADS, bench.servers.SERVERS):
        assert {each.name for each in known} <= told


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
def test_one_command_gives_a_table(bench: SimpleNamespace, tmp_path: Path) -> None:
    """Servers, loads, and numbers of both; how large they are decides nothing."""
    kept, drawn = tmp_path / "samples.json", tmp_path / "chart.svg"
    selection = "--servers gunicorn_asgi* --workloads ws-64,hello-unix --quick --seconds 0.2"
    files = ("--json", str(kept), "--svg", str(drawn))
    done = subprocess.run(
        [sys.executable, str(BENCH / "compare.py"), *selection.split(), *files],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Python 3\.\d+\.\d+, gunicorn \d+", done.stdout)
    tables = re.findall(r"^### (.+)\n\n((?:\|.+\n)+)", done.stdout, re.MULTILINE)
    found = {title: [row[0] for row in cells(table)] for title, table in tables}
    assert found == {
        "ws-64": ["gunicorn_asgi", "gunicorn_asgi-plain"],
        "hello-unix": ["gunicorn_asgi"],
        "All": ["ws-64", "ws-64", "hello-unix"],
    }
    samples = bench.report.read(kept)
    assert [len(each.samples) for rows in samples.values() for each in rows] == [1, 1, 1]
    assert all(each.rate > 0 and 0 < each.cpu < 1 for rows in samples.values() for each in rows)
    assert drawn.read_text().startswith("<svg ")


@pytest.mark.live
@pytest.mark.slow
def test_the_footprint_of_a_server_is_a_table() -> None:
    """A start, memory, and a burst that four workers share."""
    selection = "--servers gunicorn_asgi --starts 1 --connections 50 --bursts 1 --burst 8"
    done = subprocess.run(
        [sys.executable, str(BENCH / "footprint.py"), *selection.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    ((name, seconds, _, cpu, size, _, busiest, worst),) = cells(done.stdout.partition("\n\n")[2])
    assert name == "gunicorn_asgi"
    assert 0 < float(cpu) < float(seconds) * len(os.sched_getaffinity(0)) + 1
    assert float(size) > 1
    assert 1 <= float(busiest) == float(worst) <= 4
