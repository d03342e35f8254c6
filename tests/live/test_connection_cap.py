"""The brake on accepting: ``worker_connections`` (docs, "Settings") and descriptors that run out
(accept(2): EMFILE). Whoever is not accepted waits in the backlog, and costs nothing there.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM

import pytest

from kit.master import Master, wait_until
from kit.wire import WebSocketWire, Wire, request

APP = """
import asyncio, os, resource

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    assert scope["type"] == "http"
    if scope["path"] == "/limit":
        # As if descriptors had run out: so many are open, and no more are allowed.
        used = max(map(int, os.listdir("/proc/self/fd")))
        spare = int(scope["query_string"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, 4096))
    if scope["path"] == "/unlimit":
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    # Whoever is idle would make room for those who wait: /held is answered, and not over.
    held = scope["path"] == "/held"
    await send({"type": "http.response.body", "body": b"ok", "more_body": held})
    while held and (await receive())["type"] != "http.disconnect":
        pass
"""
HELD = request("GET", "/held")
CAPPED = re.compile(r"worker_connections \(\d+\) reached")
PAUSED = re.compile(r"Not accepting for \S+ s: .*Too many open files")


def master(*args: str, loop: str = "auto", workers: int = 1) -> Master:
    args = ("--keep-alive", "60", "--graceful-timeout", "20", *args)
    env = {"GUNICORN_ASGI_LOOP": loop}
    return Master("app:app", *args, files={"app.py": APP}, env=env, workers=workers)


@contextmanager
def crowd(m: Master, size: int) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(m.connect(20))) for _ in range(size)]


def answered(wire: Wire) -> bool:
    """Whether an answer is there by now."""
    before = wire.sock.gettimeout()
    wire.sock.settimeout(0.001)
    try:
        return bool(wire.sock.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, TimeoutError):
        return False
    finally:
        wire.sock.settimeout(before)


def count_answered(wires: list[Wire]) -> int:
    return sum(answered(wire) for wire in wires)


def cpu(pid: int) -> float:
    """Seconds of processor time that the process has used: utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def check_that_it_rests(m: Master, pid: int, wire: Wire) -> None:
    """A busy loop would use as much processor time as there is; a resting one next to none."""
    before = cpu(pid)
    wire.assert_silent(2)
    assert cpu(pid) - before < 0.5
    assert m.workers() == [pid]


# worker_connections


@pytest.mark.parametrize("cap", [1, 2, 5, 20])
def test_exactly_worker_connections_are_accepted_and_the_next_ones_wait(
    cap: int, loop_kind: str
) -> None:
    with master("--worker-connections", str(cap), loop=loop_kind) as m:
        (pid,) = m.workers()
        with crowd(m, cap + 5) as wires:
            for wire in wires:
                wire.send(HELD)
            wait_until(lambda: count_answered(wires) == cap, 10, f"{cap} answers")
            check_that_it_rests(m, pid, next(wire for wire in wires if not answered(wire)))
            assert count_answered(wires) == cap


def test_whoever_waits_is_accepted_as_soon_as_somebody_leaves(loop_kind: str) -> None:
    with master("--worker-connections", "3", loop=loop_kind) as m, crowd(m, 30) as wires:
        for wire in wires:
            wire.send(HELD)
        left = list(wires)
        while left:
            wait_until(lambda: count_answered(left) == min(3, len(left)), 10, "the next answers")
            done = next(wire for wire in left if answered(wire))
            assert done.recv_response().status == 200
            done.close()
            left.remove(done)
        m.wait_log(CAPPED.pattern)
        # The brake is pulled again and again; one line is enough.
        assert len(CAPPED.findall(m.log())) == 1


def test_whoever_waits_takes_the_place_of_an_idle_connection(loop_kind: str) -> None:
    """CVE-2019-16770: nobody can be shut out by keeping connections."""
    with master("--worker-connections", "3", loop=loop_kind) as m, crowd(m, 3) as idle:
        assert {wire.request().status for wire in idle} == {200}
        with crowd(m, 9) as wires:
            for wire in wires:
                wire.send(request())
            assert {wire.recv_response().status for wire in wires} == {200}
        assert {wire.wait_end() for wire in idle} == {"eof"}


def test_websockets_are_connections_too() -> None:
    with master("--worker-connections", "2") as m, ExitStack() as stack:
        sockets = [stack.enter_context(WebSocketWire(m.connect())) for _ in range(2)]
        for ws in sockets:
            assert ws.connect("/").status == 101
        wire = stack.enter_context(Wire(m.connect(20)))
        wire.send(request())
        wire.assert_silent(0.5)
        sockets[0].close()
        sockets[0].recv_close()
        assert wire.recv_response().status == 200


def test_below_the_cap_nothing_is_said() -> None:
    # Twice two at the most: those who have just gone may still be there when the next ones come.
    with master("--worker-connections", "5") as m:
        for _ in range(100):
            with crowd(m, 2) as wires:
                assert {wire.request().status for wire in wires} == {200}
        assert not CAPPED.search(m.log())


def test_the_other_worker_takes_what_a_full_one_does_not() -> None:
    with master("--worker-connections", "4", workers=2) as m, crowd(m, 8) as wires:
        for wire in wires:
            wire.send(HELD)
        assert {wire.recv_response().status for wire in wires} == {200}
        with Wire(m.connect(20)) as wire:
            wire.send(request())
            wire.assert_silent(0.5)
            wires[0].close()
            assert wire.recv_response().status == 200


def test_a_full_worker_leaves_on_term() -> None:
    with master("--worker-connections", "2") as m, crowd(m, 2) as wires:
        assert {wire.request().status for wire in wires} == {200}
        m.wait_log(CAPPED.pattern)
        m.signal(SIGTERM)
        for wire in wires:
            wire.close()
        assert m.wait_exit(20) == 0


# Descriptors


def test_without_descriptors_it_pauses_and_rests_and_then_serves_all(loop_kind: str) -> None:
    with master(loop=loop_kind) as m, Wire(m.connect(20)) as inside, crowd(m, 3) as extra:
        (pid,) = m.workers()
        assert {wire.request().status for wire in extra} == {200}
        assert inside.request("GET", "/limit?4").status == 200
        with crowd(m, 20) as wires:
            for wire in wires:
                wire.send(request())
            m.wait_log(PAUSED.pattern)
            waiting = [wire for wire in wires if not answered(wire)]
            assert waiting
            check_that_it_rests(m, pid, waiting[-1])
            # One line for each pause of a second, and not one for each attempt.
            assert 1 <= len(PAUSED.findall(m.log())) <= 10
            # Who is inside is served all the while.
            assert inside.request("GET", "/unlimit").status == 200
            assert {wire.recv_response().status for wire in wires} == {200}
        lines = len(PAUSED.findall(m.log()))
        with Wire(m.connect()) as wire:
            assert wire.request().status == 200
        assert len(PAUSED.findall(m.log())) == lines
        assert "Traceback" not in m.log()


def test_without_descriptors_it_goes_on_as_soon_as_somebody_has_left() -> None:
    with master() as m, Wire(m.connect(20)) as inside:
        assert inside.request("GET", "/limit?3").status == 200
        with crowd(m, 10) as wires:
            for wire in wires:
                wire.send(request())
            m.wait_log(PAUSED.pattern)
            left = list(wires)
            while left:
                wait_until(lambda: count_answered(left) > 0, 10, "the next answer")
                done = next(wire for wire in left if answered(wire))
                assert done.recv_response().status == 200
                done.close()
                left.remove(done)


def test_without_descriptors_it_leaves_on_term() -> None:
    with master() as m, Wire(m.connect(20)) as inside:
        assert inside.request("GET", "/limit?1").status == 200
        with crowd(m, 5) as wires:
            for wire in wires:
                wire.send(request())
            m.wait_log(PAUSED.pattern)
            m.signal(SIGTERM)
            assert m.wait_exit(20) == 0
            assert "SIGKILL" not in m.log()
