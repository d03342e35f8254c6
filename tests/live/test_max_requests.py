"""``max_requests`` and its jitter (docs, "Settings"): so many requests, and then a new worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from signal import SIGTERM

import pytest

from kit import proc
from kit.master import READY, Master, wait_until
from kit.wire import WebSocketWire, Wire, request

APP = """
import asyncio, os

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            note(kind)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    note("request")
    if scope["path"] == "/slow":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    body = str(os.getpid()).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""
RESTART = "Autorestarting worker after current request."


def master(*args: str, workers: int = 1, env: dict[str, str] | None = None) -> Master:
    args = ("--graceful-timeout", "20", *args)
    return Master("app:app", *args, workers=workers, files={"app.py": APP}, env=env)


@pytest.fixture
def m(loop_kind: str) -> Iterator[Master]:
    with master("--max-requests", "5", env={"GUNICORN_ASGI_LOOP": loop_kind}) as running:
        yield running


def notes(m: Master, pid: int) -> list[str]:
    lines = (m.dir / "notes").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def check_the_end_of(m: Master, pid: int) -> None:
    wait_until(lambda: not proc.alive(pid), 20, "the worker to end")
    assert notes(m, pid)[-1] == "lifespan.shutdown"
    assert m.log().count(f"Worker exiting (pid: {pid})") == 1
    assert re.search(rf"\[{pid}\] \[INFO\] {RESTART}", m.log())


# Counting


def test_each_worker_serves_exactly_that_many_requests_on_a_connection_each(m: Master) -> None:
    (first,) = m.workers()
    served = []
    for _ in range(15):
        with Wire(m.connect(20)) as wire:
            response = wire.request()
            served.append(int(response.body))
    # 5, 5 and 5: the next connection waits in the backlog for the next worker.
    assert served[0] == first
    assert [served.count(pid) for pid in dict.fromkeys(served)] == [5, 5, 5]
    for pid in dict.fromkeys(served):
        check_the_end_of(m, pid)


@pytest.mark.parametrize("pipelined", [False, True])
def test_the_last_response_says_close_and_no_other_does(m: Master, *, pipelined: bool) -> None:
    # RFC 9112, 9.6: who will not answer again says so in the last answer.
    (pid,) = m.workers()
    with Wire(m.connect()) as wire:
        if pipelined:
            wire.send(request() * 7)
        for number in range(1, 6):
            response = wire.recv_response() if pipelined else wire.request()
            assert int(response.body) == pid
            assert response.header("connection") == (b"close" if number == 5 else None)
        assert wire.wait_end() in ("eof", "reset")
    check_the_end_of(m, pid)
    assert notes(m, pid).count("request") == 5


def test_websocket_handshakes_count(m: Master) -> None:
    (pid,) = m.workers()
    for _ in range(4):
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/").status == 101
            ws.close()
            assert ws.recv_close()
    assert m.workers() == [pid]
    with WebSocketWire(m.connect()) as ws:
        # Still accepted, and told at once to come back elsewhere (1012, service restart).
        assert ws.connect("/").status == 101
        assert ws.recv_close()[0] == 1012
        ws.recv_eof()
    check_the_end_of(m, pid)


def test_an_open_websocket_is_told_to_come_back(m: Master) -> None:
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/").status == 101
        for _ in range(4):
            with Wire(m.connect()) as wire:
                assert wire.request().status == 200
        assert ws.recv_close()[0] == 1012
        ws.recv_eof()


# Leaving


def test_a_worker_that_leaves_lets_a_slow_request_finish_and_is_replaced_meanwhile() -> None:
    with master("--max-requests", "5", workers=2) as m, Wire(m.connect(20)) as slow:
        slow.send(request("GET", "/slow"))
        (pid,) = wait_until(lambda: [p for p in m.workers() if "request" in notes(m, p)])

        def leaves() -> bool:
            with Wire(m.connect(20)) as wire:
                assert wire.request().status == 200
            return f"Worker leaving (pid: {pid})" in m.log()

        wait_until(leaves, 20, "the worker to leave")
        for _ in range(5):
            with Wire(m.connect(20)) as wire:
                assert int(wire.request().body) != pid
        m.write("go", "")
        response = slow.recv_response()
        assert (response.status, response.header("connection")) == (200, b"close")
        slow.close()
        check_the_end_of(m, pid)


def test_it_is_logged_once_for_each_worker(m: Master) -> None:
    (pid,) = m.workers()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(m.connect(20))) for _ in range(8)]
        # All at once: some of them are counted after the limit was reached.
        for wire in wires:
            wire.send(request())
        assert [wire.recv_response().status for wire in wires] == [200] * 8
    check_the_end_of(m, pid)
    assert len(re.findall(rf"\[{pid}\] \[INFO\] {RESTART}", m.log())) == 1


def test_zero_means_never() -> None:
    never = ("--max-requests", "0", "--max-requests-jitter", "3")
    with master(*never) as m, Wire(m.connect()) as wire:
        (pid,) = m.workers()
        for _ in range(200):
            assert int(wire.request().body) == pid
        assert "leaving" not in m.log()


def test_jitter_spreads_the_ends() -> None:
    # randint(0, jitter) is added, once for each worker (gunicorn/workers/base.py).
    counts = []
    with master("--max-requests", "3", "--max-requests-jitter", "5") as m:
        for _ in range(6):
            (pid,) = m.wait_workers(1)
            m.wait_log(rf"Worker ready \(pid: {pid}\)")
            with Wire(m.connect(20)) as wire:
                last = wire.request()
                while last.keeps_alive:
                    last = wire.request()
                assert int(last.body) == pid
            check_the_end_of(m, pid)
            counts.append(notes(m, pid).count("request"))
    assert set(counts) <= set(range(3, 9))
    assert len(set(counts)) > 1, "six times the same of six: 1 in 7776"


def test_term_after_the_limit_changes_nothing(m: Master) -> None:
    (pid,) = m.workers()
    with Wire(m.connect(20)) as slow, Wire(m.connect(20)) as wire:
        slow.send(request("GET", "/slow"))
        wait_until(lambda: "request" in notes(m, pid))
        for _ in range(4):
            assert wire.request().status == 200
        m.wait_log(rf"Worker leaving \(pid: {pid}\): max_requests")
        m.kill_worker(pid, SIGTERM)
        slow.assert_silent(0.3)
        m.write("go", "")
        assert slow.recv_response().status == 200
    check_the_end_of(m, pid)
    m.wait_log(READY, count=2)
