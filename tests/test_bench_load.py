"""bench/: its load by sockets, what wrk is told and says, how servers are started, its charts."""

from __future__ import annotations

import contextlib
import socket
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benches import imported

__all__: list[str] = []

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Its modules."""
    with imported("rawload", "report", "servers", "workloads", "chart", "footprint") as modules:
        yield modules


def order(bench: SimpleNamespace, **other: object) -> object:
    """For ``rawload``."""
    plain = {"address": "", "port": 0, "pid": 0, "method": "GET", "path": "/", "body": 0}
    return bench.rawload.RawOrder(
        **{**plain, "answer": "", "connections": 1, "seconds": 0, **other}
    )


# -- the load by sockets ---------------------------------------------------------------------------


@contextlib.contextmanager
def load(
    bench: SimpleNamespace, serve: Callable[[socket.socket], None], data: bytes, answer: bytes = b""
) -> Iterator[Any]:
    """A load of one connection at a time, each served by that function in a thread."""
    threads = []

    def handle(peer: socket.socket) -> None:
        with peer, contextlib.suppress(ConnectionError):
            serve(peer)

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        threads.append(threading.Thread(target=handle, args=[theirs]))
        threads[-1].start()
        return ours

    with contextlib.closing(bench.rawload.Load(connect, data, answer)) as made:
        made.add()
        yield made
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def take(peer: socket.socket, size: int) -> bytes:
    """So many bytes; less at the end."""
    data = b""
    while len(data) < size and (piece := peer.recv(size - len(data))):
        data += piece
    return data


def test_requests_are_ready_for_the_wire(bench: SimpleNamespace) -> None:
    """Without a body nothing is said of its length."""
    ready = bench.rawload.request
    assert ready(order(bench, path="/file")) == b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head, _, body = ready(order(bench, method="POST", body=3)).partition(b"\r\n\r\n")
    assert head == b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3"
    assert body == b"xxx"


def test_each_answer_is_followed_by_the_next_request(bench: SimpleNamespace) -> None:
    """Large requests and answers that come in pieces included."""
    data = b"x" * 3_000_000
    served = []

    def serve(peer: socket.socket) -> None:
        while len(take(peer, len(data))) == len(data):
            served.append(1)
            peer.sendall(ANSWER[:30])
            peer.sendall(ANSWER[30:])

    with load(bench, serve, data, b"ok") as made:
        while made.count < 3:
            made.run(0.05)
    assert made.count <= len(served) <= made.count + 1
    assert made.lost == 0


def test_a_connection_that_is_closed_between_requests_is_replaced(bench: SimpleNamespace) -> None:
    """And the request that was lost is counted."""

    def serve(peer: socket.socket) -> None:
        take(peer, 4)
        peer.sendall(ANSWER)
        take(peer, 4)

    with load(bench, serve, b"ping") as made:
        while made.count < 3:
            made.run(0.01)
    assert made.count - 1 <= made.lost <= made.count


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", "404 Not Found"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", b"", "200 OK"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", b"", "and not b'ok'"),
        (ANSWER, b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "500 Internal"),
        (ANSWER, ANSWER + b"more", r"a response of \d+ bytes"),
        (ANSWER, ANSWER[:-1], "has cut"),
    ],
    ids=["status", "length", "body", "later-status", "later-length", "cut"],
)
def test_a_wrong_answer_ends_the_measurement(
    bench: SimpleNamespace, first: bytes, second: bytes, why: str
) -> None:
    """A server that fails quickly must not look fast."""

    def serve(peer: socket.socket) -> None:
        take(peer, 4)
        peer.sendall(first)
        take(peer, 4)
        peer.sendall(second)

    with load(bench, serve, b"ping", b"ok") as made, pytest.raises(RuntimeError, match=why):
        made.run(10)


# -- wrk -------------------------------------------------------------------------------------------


def test_wrk_is_told_in_lua(bench: SimpleNamespace) -> None:
    """Requests are made once; those that are pipelined go out together."""
    named = {each.name: each for each in bench.workloads.WORKLOADS}
    script = bench.workloads.wrk_script
    assert script(named["hello"]) == 'wrk.method = "GET"\n'
    assert script(named["post-1k"]) == 'wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n'
    assert "string.rep(wrk.format(), 16)" in script(named["hello-pipelined"])


def test_what_wrk_says_is_read(bench: SimpleNamespace) -> None:
    """And its errors are ours."""
    said = "  4812 requests in 1.10s, 0.61MB read\nRequests/sec:   4374.55\nTransfer/sec: 0.55MB\n"
    assert bench.workloads.wrk_counts(said) == (4812, 4374.55)
    for wrong in (
        "  Non-2xx or 3xx responses: 12\n",
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
    ):
        with pytest.raises(RuntimeError, match=wrong.split(":")[0].strip()):
            bench.workloads.wrk_counts(said + wrong)
    with pytest.raises(RuntimeError, match="0 requests"):
        bench.workloads.wrk_counts("  0 requests in 1.10s, 0B read\nRequests/sec:   0.00\n")


# -- servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"unix": True}, "{folder}/socket"),
        ({"tls": True}, "{folder}/cert.pem"),
        ({"access_log": True}, "{folder}"),
        ({"workers": 2}, "--workers 2"),
        ({"app": "app_fastapi:app"}, "app_fastapi:app"),
    ],
    ids=["unix", "tls", "access-log", "workers", "app"],
)
def test_every_server_of_http_is_told_how_to_serve(
    bench: SimpleNamespace, tmp_path: Path, setup: dict[str, Any], said: str
) -> None:
    """Else a row would compare different things."""
    made = bench.servers.Setup(**setup)
    place = bench.servers.Place(made, 8000, tmp_path)
    plain = bench.servers.Place(bench.servers.Setup(), 8000, tmp_path)
    for server in bench.servers.SERVERS:
        if "http" in server.speaks:
            command = " ".join(server.command(place))
            assert said.format(folder=tmp_path) in command, server.name
            assert said.format(folder=tmp_path) not in " ".join(server.command(plain))


# -- charts ----------------------------------------------------------------------------------------


def rows(bench: SimpleNamespace, *rates: tuple[str, str, float]) -> list[Any]:
    """A series of one round for each."""
    sample = bench.report.Sample
    return [
        bench.report.Series(name, kind, [sample(rate, 1e-4, 1.0, 0.5)])
        for name, kind, rate in rates
    ]


def test_a_chart_has_a_bar_for_each_server_but_limits(bench: SimpleNamespace) -> None:
    """Of each workload that the baseline took part in; long bars are cut and say so."""
    results = {
        "a<b": rows(bench, ("we", "ours", 900.0), ("they", "peer", 100.0), ("C", "limit", 1e6)),
        "echo": rows(bench, ("we", "ours", 150.0), ("they", "peer", 100.0), ("x", "peer", 50.0)),
        "alone": rows(bench, ("we", "ours", 150.0)),
    }
    text = bench.chart.chart(results, "they")
    tree = ET.fromstring(text)
    space = {"s": "http://www.w3.org/2000/svg"}
    titles = [bar.text for bar in tree.iterfind("s:rect/s:title", space)]
    assert titles == ["we: 9.00", "we: 1.50", "x: 0.50"]
    widths = [float(bar.get("width", "")) for bar in tree.iterfind("s:rect[s:title]", space)]
    assert widths[0] == pytest.approx(widths[1] / 1.5 * bench.chart._LONGEST, rel=0.01)
    labels = [label.text for label in tree.iterfind("s:text", space)]
    assert {"9.00 \N{RIGHTWARDS ARROW}", "1.50", "a<b", "echo"} <= set(labels)
    assert "alone" not in labels
    assert [tree.findtext("s:title", None, space), tree.findtext("s:desc", None, space)] == [
        "Requests and messages per second, as multiples of they's",
        "a<b: we 9.00; echo: we 1.50, x 0.50",
    ]
    assert "prefers-color-scheme: dark" in text


# -- the footprint ---------------------------------------------------------------------------------


def test_unevenness_is_the_busiest_over_the_mean(bench: SimpleNamespace) -> None:
    """A worker that got nothing counts for the mean."""
    uneven = bench.footprint.unevenness
    assert uneven([b"1", b"2", b"3", b"4"], 4) == 1
    assert uneven([b"1", b"1", b"1", b"2"], 4) == 3
    assert uneven([b"1"] * 8, 4) == 4
