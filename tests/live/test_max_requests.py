"""``max_requests`` and its jitter (docs, "Settings"): so many requests, and then a new worker.

At exactly so many, once, a worker asks for its replacement, and it leaves as soon as that one is
ready. tests/live/test_max_requests_leave_no_hole.py shows the same under load.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from signal import SIGTERM

import pytest
from wsproto.events import Pong

from kit import proc
from kit.master import READY, Master, wait_until
from kit.wire import WebSocketWire, Wire, request

# A worker that starts while there is a file "hold" waits for its end before it is ready.
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
            while kind == "lifespan.startup" and os.path.exists("hold"):
                await asyncio.sleep(0.01)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    body = str(os.getpid())
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    note("request")
    if scope["path"] == "/slow":
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body.encode()})
"""
LIMIT = 5


def master(*args: str, workers: int = 1, config: str = "", **env: str) -> Master:
    args = ("--graceful-timeout", "20", *args)
    return Master(
        "app:app", *args, workers=workers, files={"app.py": APP}, config=config or None, env=env
    )


@pytest.fixture
def m(loop_kind: str) -> Iterator[Master]:
    with master("--max-requests", str(LIMIT), GUNICORN_ASGI_LOOP=loop_kind) as running:
        yield running


def notes(m: Master, pid: int) -> list[str]:
    lines = (m.dir / "notes").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def has_asked(m: Master, pid: int) -> bool:
    """Whether it was said; a worker says it before it answers the request that is one too many."""
    return f"Worker to be replaced (pid: {pid}): max_requests" in m.log()


def ask(m: Master) -> int:
    """The pid of the worker that takes a new connection."""
    with Wire(m.connect(20)) as wire:
        return int(wire.request().body)


def hold(m: Master) -> None:
    """Let no replacement become ready."""
    m.write("hold", "")


def let_go(m: Master) -> None:
    """Let the replacement become ready."""
    (m.dir / "hold").unlink()


def check_the_end_of(m: Master, pid: int, cause: str = "max_requests") -> None:
    """It has said everything once, and the application was shut down."""
    wait_until(lambda: not proc.alive(pid), 20, "the worker to end")
    assert notes(m, pid)[-1] == "lifespan.shutdown"
    for line in ("to be replaced", "leaving", "exiting"):
        assert m.log().count(f"Worker {line} (pid: {pid})") == 1, m.log()
    assert f"Worker leaving (pid: {pid}): {cause}" in m.log()


# Counting


def test_a_worker_asks_at_exactly_that_many_requests_and_serves_on_until_replaced(
    m: Master,
) -> None:
    # A connection each: whoever comes meanwhile does not wait for the replacement.
    for _ in range(2):
        (pid,) = m.wait_workers(1)
        hold(m)
        for number in range(1, LIMIT + 4):
            assert ask(m) == pid
            assert has_asked(m, pid) == (number >= LIMIT)
        (new,) = [each for each in m.wait_workers(2) if each != pid]
        assert f"Worker leaving (pid: {pid})" not in m.log()
        let_go(m)
        check_the_end_of(m, pid)
        before = m.log().partition(f"Worker leaving (pid: {pid})")[0]
        assert f"Worker ready (pid: {new})" in before
        assert ask(m) == new
        assert m.wait_workers(1) == [new]
        # That one counts too: LIMIT - 1 are left.
        for _ in range(LIMIT - 2):
            assert ask(m) == new
        assert not has_asked(m, new)
        assert ask(m) == new
        check_the_end_of(m, new)


@pytest.mark.parametrize("pipelined", [False, True])
def test_no_answer_says_close_before_the_replacement_is_ready(
    m: Master, *, pipelined: bool
) -> None:
    # RFC 9112, 9.6: who will not answer again says so in the last answer, and nowhere else.
    (pid,) = m.workers()
    hold(m)
    with Wire(m.connect(20)) as wire:
        if pipelined:
            wire.send(request() * 3 * LIMIT)
        for _ in range(3 * LIMIT):
            response = wire.recv_response() if pipelined else wire.request()
            assert int(response.body) == pid
            assert response.header("connection") is None
        let_go(m)
        m.wait_log(rf"Worker leaving \(pid: {pid}\): max_requests")
        # An idle connection is not cut: it learns of the end with its next answer.
        response = wire.request()
        assert (int(response.body), response.header("connection")) == (pid, b"close")
        wire.recv_eof()
    check_the_end_of(m, pid)
    assert ask(m) != pid


def test_websocket_handshakes_count(m: Master) -> None:
    (pid,) = m.workers()
    hold(m)
    for _ in range(LIMIT - 1):
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/").status == 101
            ws.close()
            assert ws.recv_close()
    assert not has_asked(m, pid)
    with WebSocketWire(m.connect(20)) as ws:
        assert ws.connect("/").status == 101
        assert has_asked(m, pid)
        assert ws.recv_text() == str(pid)
        m.wait_workers(2)
        ws.ping(b"open")
        assert ws.recv() == Pong(payload=b"open")
        let_go(m)
        assert ws.recv_close()[0] == 1012
        ws.recv_eof()
    check_the_end_of(m, pid)


def test_an_open_websocket_is_told_to_come_back_and_finds_the_replacement(m: Master) -> None:
    (pid,) = m.workers()
    with WebSocketWire(m.connect(20)) as ws:
        assert ws.connect("/").status == 101
        for _ in range(LIMIT - 1):
            assert ask(m) == pid
        # IANA's registry of close codes: 1012 is "service restart".
        assert ws.recv_close()[0] == 1012
        ws.recv_eof()
    with WebSocketWire(m.connect(20)) as ws:
        assert ws.connect("/").status == 101
        new = ws.recv_text()
        assert new != str(pid)
        check_the_end_of(m, pid)
        assert [str(each) for each in m.wait_workers(1)] == [new]
        ws.ping(b"open")
        assert ws.recv() == Pong(payload=b"open")


def test_it_is_said_once_for_each_worker(m: Master) -> None:
    (pid,) = m.workers()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(m.connect(20))) for _ in range(8)]
        # All at once: some of them are counted after the limit was reached.
        for wire in wires:
            wire.send(request())
        assert [wire.recv_response().status for wire in wires] == [200] * 8
    check_the_end_of(m, pid)


def test_zero_means_never() -> None:
    never = ("--max-requests", "0", "--max-requests-jitter", "3")
    with master(*never) as m, Wire(m.connect()) as wire:
        (pid,) = m.workers()
        for _ in range(200):
            assert int(wire.request().body) == pid
        assert "to be replaced" not in m.log()
        assert "leaving" not in m.log()


def test_jitter_spreads_the_ends() -> None:
    # randint(0, jitter) is added, once for each worker (gunicorn/workers/base.py).
    counts = []
    with master("--max-requests", "3", "--max-requests-jitter", "5") as m:
        for _ in range(6):
            (pid,) = m.wait_workers(1)
            with Wire(m.connect(20)) as wire:
                while not has_asked(m, pid):
                    assert int(wire.request().body) == pid
            check_the_end_of(m, pid)
            counts.append(notes(m, pid).count("request"))
    assert set(counts) <= set(range(3, 9))
    assert len(set(counts)) > 1, "six times the same of six: 1 in 7776"


# Leaving


def test_a_worker_that_leaves_lets_a_slow_request_finish_and_is_replaced_meanwhile() -> None:
    with master("--max-requests", str(LIMIT), workers=2) as m, Wire(m.connect(20)) as slow:
        slow.send(request("GET", "/slow"))
        (pid,) = wait_until(lambda: [p for p in m.workers() if "request" in notes(m, p)])

        def leaves() -> bool:
            assert ask(m)
            return f"Worker leaving (pid: {pid})" in m.log()

        wait_until(leaves, 20, "the worker to leave")
        for _ in range(LIMIT):
            assert ask(m) != pid
        assert len(m.wait_workers(3)) == 3
        m.write("go", "")
        response = slow.recv_response()
        assert (response.status, response.header("connection")) == (200, b"close")
        slow.close()
        check_the_end_of(m, pid)


def test_two_workers_at_their_limit_are_replaced_one_after_the_other() -> None:
    with master("--max-requests", str(LIMIT), workers=2) as m:
        first = m.workers()
        hold(m)

        def both() -> bool:
            assert ask(m) in first
            return all(has_asked(m, pid) for pid in first)

        wait_until(both, 20, "both workers to reach the limit")
        m.wait_workers(3)
        with Wire(m.connect(20)) as wire:
            wire.assert_silent(0.5)
        assert m.log().count("Handling signal: ttin") == 1
        let_go(m)
        order = r"Worker exiting \(pid: \d+\)|Handling signal: ttin"
        m.wait_log(order, 20, count=4)
        said = [each[:6] for each in re.findall(order, m.log())]
        assert said == ["Handli", "Worker", "Handli", "Worker"]
        for pid in first:
            check_the_end_of(m, pid)
        m.wait_workers(lambda pids: len(pids) == 2 and not set(pids) & set(first))


def test_a_worker_whose_replacement_cannot_start_serves_on_until_one_can(m: Master) -> None:
    (pid,) = m.workers()
    m.write("app.py", "raise ValueError('not today')")
    mark = m.mark()
    for _ in range(LIMIT):
        assert ask(m) == pid
    # The arbiter tries again, and again: after pauses, not in a storm.
    m.wait_log(r"The next attempt follows in 1 s", 20, after=mark)
    assert m.log(mark).count("Booting worker") <= 3
    assert ask(m) == pid
    assert "Worker leaving" not in m.log()
    m.write("app.py", APP)
    check_the_end_of(m, pid)
    assert [ask(m)] == m.wait_workers(1)


# Orders in between


def test_term_before_the_replacement_is_ready_makes_it_leave_at_once(m: Master) -> None:
    (pid,) = m.workers()
    hold(m)
    with Wire(m.connect(20)) as slow, Wire(m.connect(20)) as wire:
        slow.send(request("GET", "/slow"))
        wait_until(lambda: "request" in notes(m, pid))
        for _ in range(LIMIT - 1):
            assert wire.request().header("connection") is None
        m.wait_workers(2)
        m.kill_worker(pid, SIGTERM)
        m.wait_log(rf"Worker leaving \(pid: {pid}\): SIGTERM")
        slow.assert_silent(0.3)
        m.write("go", "")
        response = slow.recv_response()
        assert (response.status, response.header("connection")) == (200, b"close")
    check_the_end_of(m, pid, "SIGTERM")
    let_go(m)
    assert [ask(m)] == m.wait_workers(1)


def test_a_stop_before_the_replacement_is_ready_ends_both_and_loses_nothing(m: Master) -> None:
    (pid,) = m.workers()
    hold(m)
    with Wire(m.connect(20)) as slow, Wire(m.connect(20)) as wire:
        slow.send(request("GET", "/slow"))
        wait_until(lambda: "request" in notes(m, pid))
        for _ in range(LIMIT - 1):
            assert wire.request().status == 200
        (new,) = [each for each in m.wait_workers(2) if each != pid]
        wait_until(lambda: notes(m, new) == ["lifespan.startup"])
        m.signal(SIGTERM)
        m.wait_log(rf"Worker leaving \(pid: {pid}\): SIGTERM")
        m.write("go", "")
        assert slow.recv_response().status == 200
    assert m.wait_exit(20) == 0
    check_the_end_of(m, pid, "SIGTERM")
    assert "SIGKILL" not in m.log()


def test_term_while_it_leaves_changes_nothing(m: Master) -> None:
    (pid,) = m.workers()
    with Wire(m.connect(20)) as slow, Wire(m.connect(20)) as wire:
        slow.send(request("GET", "/slow"))
        wait_until(lambda: "request" in notes(m, pid))
        for _ in range(LIMIT - 1):
            assert wire.request().status == 200
        m.wait_log(rf"Worker leaving \(pid: {pid}\): max_requests")
        m.kill_worker(pid, SIGTERM)
        slow.assert_silent(0.3)
        m.write("go", "")
        assert slow.recv_response().status == 200
    check_the_end_of(m, pid)
    assert len(re.findall(READY, m.log())) == 2
    assert [ask(m)] == m.wait_workers(1)


# A master that it may not signal (``user``, ``group``): the old way, first the end, then the next

NOBODY = """
import os

user = group = 65534

def on_starting(server):
    os.chmod(".", 0o777)
"""


@pytest.fixture
def foreign(loop_kind: str) -> Iterator[Master]:
    assert os.geteuid() == 0, "only root starts workers of another user"
    limit = ("--max-requests", str(LIMIT))
    with master(*limit, config=NOBODY, GUNICORN_ASGI_LOOP=loop_kind) as running:
        yield running


def test_without_the_right_to_ask_a_worker_serves_exactly_that_many_requests(
    foreign: Master,
) -> None:
    (first,) = foreign.workers()
    assert os.stat(f"/proc/{first}").st_uid == 65534
    served = [ask(foreign) for _ in range(3 * LIMIT)]
    # The next connection waits in the backlog for the next worker.
    assert served[0] == first
    assert [served.count(pid) for pid in dict.fromkeys(served)] == [LIMIT] * 3
    for pid in dict.fromkeys(served):
        check_the_end_of(foreign, pid)
        warning = rf"\[{pid}\] \[WARNING\] No replacement before this worker leaves: the master is"
        assert len(re.findall(warning, foreign.log())) == 1


@pytest.mark.parametrize("pipelined", [False, True])
def test_without_the_right_to_ask_the_last_response_says_close_and_no_other_does(
    foreign: Master, *, pipelined: bool
) -> None:
    (pid,) = foreign.workers()
    with Wire(foreign.connect()) as wire:
        if pipelined:
            wire.send(request() * (LIMIT + 2))
        for number in range(1, LIMIT + 1):
            response = wire.recv_response() if pipelined else wire.request()
            assert int(response.body) == pid
            assert response.header("connection") == (b"close" if number == LIMIT else None)
        assert wire.wait_end() in ("eof", "reset")
    check_the_end_of(foreign, pid)
    assert notes(foreign, pid).count("request") == LIMIT
