"""Signals, each with everybody connected: who is told what, who is waited for, who is left.

Gunicorn's documentation, "Signal Handling", says what each signal means. ``Crowd`` is everybody:
idle and fresh connections, a request in flight, a long stream, an endless SSE stream and a
WebSocket, all on one worker.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from signal import (
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGTERM,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGWINCH,
)

import pytest

from kit import proc
from kit.master import READY, Master, free_port, wait_until
from kit.wire import WebSocketWire, Wire, WireError, request

APP = """
import asyncio, os

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        note(kind)
        await send({"type": kind + ".complete"})
        if kind == "lifespan.shutdown":
            return

async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "open"})
    message = await receive()
    while message["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
        message = await receive()
    note(f"websocket {message['code']}")

async def go():
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)

async def start(send, *headers):
    await send({"type": "http.response.start", "status": 200, "headers": headers})

async def slow(receive, send):
    note("slow began")
    await go()
    await start(send, (b"content-length", b"4"))
    await send({"type": "http.response.body", "body": b"slow"})

async def long(receive, send):
    await start(send)
    while not os.path.exists("go"):
        await send({"type": "http.response.body", "body": b"part.", "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"whole"})

async def events(send, ticks=10**9):
    for number in range(ticks):
        await send({"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True})
        await asyncio.sleep(0.02)

async def told(receive, who):
    while (await receive())["type"] != "http.disconnect":
        pass
    note(who + " told")

async def sse(receive, send):
    # Is told, takes no notice, and goes on until it is cancelled.
    await start(send, (b"content-type", b"text/event-stream"))
    listener = asyncio.create_task(told(receive, "sse"))
    try:
        await events(send)
    except asyncio.CancelledError:
        note("sse cancelled")
        raise

async def polite(receive, send):
    # Ends its stream as soon as it is told.
    await start(send, (b"content-type", b"text/event-stream"))
    stream = asyncio.create_task(events(send))
    try:
        await told(receive, "polite")
    finally:
        stream.cancel()
    await send({"type": "http.response.body", "body": b"bye"})

async def quick(receive, send):
    body = str(os.getpid()).encode()
    await start(send, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.body", "body": body})

ROUTES = {"/": quick, "/slow": slow, "/long": long, "/sse": sse, "/polite": polite}

async def app(scope, receive, send):
    if scope["type"] == "http":
        await ROUTES[scope["path"]](receive, send)
    else:
        await {"lifespan": lifespan, "websocket": websocket}[scope["type"]](receive, send)
"""

# What must not be in any log: the arbiter had to kill, or something of ours broke.
BROKEN = re.compile(r"SIGKILL|SIGALRM|WORKER TIMEOUT|Traceback|\[(ERROR|CRITICAL)\].*")
GRACEFUL = 5


def master(*args: str, workers: int = 1, graceful: int = GRACEFUL, **more: object) -> Master:
    # A keep-alive that is longer than anything here: what ends idle connections is the drain.
    fixed = ("--keep-alive", "60", "--graceful-timeout", str(graceful))
    linger = {"GUNICORN_ASGI_DRAIN_LINGER": "1"}
    files = {"app.py": APP}
    options: dict[str, object] = {"workers": workers, "files": files, "env": linger, **more}
    return Master("app:app", *fixed, *args, **options)  # type: ignore[arg-type]


def notes(m: Master, pid: int) -> list[str]:
    """What the application wrote in that worker."""
    path = m.dir / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def ask(m: Master) -> int:
    """Pid of the worker that answers a new connection."""
    with Wire(m.connect()) as wire:
        return int(wire.request().body)


class Crowd:
    """Everybody at once, each of them known to be served by the only worker."""

    def __init__(self, m: Master) -> None:
        (self.pid,) = m.workers()
        self.m = m
        self.idle = Wire(m.connect(30))
        assert int(self.idle.request().body) == self.pid
        self.slow = self._begin("/slow")
        self.long = self._begin("/long")
        self.sse = self._begin("/sse")
        self.polite = self._begin("/polite")
        for stream in (self.long, self.sse, self.polite):
            assert stream.recv_head().framing == "chunked"
            assert stream.recv_chunk()
        self.ws = WebSocketWire(m.connect(30))
        assert self.ws.connect("/").status == 101
        assert self.ws.recv_text() == "open"
        self.fresh = Wire(m.connect(30))
        wait_until(lambda: "slow began" in notes(m, self.pid), 10, "the request in flight")

    def _begin(self, path: str) -> Wire:
        wire = Wire(self.m.connect(30))
        wire.send(request("GET", path))
        return wire

    def close(self) -> None:
        wires = (self.idle, self.slow, self.long, self.sse, self.polite, self.ws.wire, self.fresh)
        for wire in wires:
            wire.close()

    def go(self) -> None:
        """Let the request in flight and the long stream come to their end."""
        self.m.write("go", "")

    def check_that_nobody_noticed(self) -> None:
        self.ws.send_text("still there?")
        assert self.ws.recv_text() == "still there?"
        assert int(self.idle.request().body) == self.pid
        assert int(self.fresh.request().body) == self.pid
        assert self.sse.recv_chunk()
        assert self.polite.recv_chunk()
        self.go()
        assert self.slow.recv_response().keeps_alive
        while self.long.recv_chunk() is not None:
            pass
        assert int(self.long.request().body) == self.pid

    def check_the_graceful_end(self, code: int) -> None:
        assert self.ws.recv_close()[0] == code
        self.ws.recv_eof()
        self.idle.recv_eof()
        self.fresh.recv_eof()
        self.go()
        response = self.slow.recv_response()
        assert (response.status, response.body) == (200, b"slow")
        # RFC 9112, 9.6: who will not answer again says so.
        assert response.header("connection") == b"close"
        self.slow.recv_eof()
        last = b""
        while (chunk := self.long.recv_chunk()) is not None:
            last = chunk
        assert last.endswith(b"whole")
        self.long.recv_eof()
        last = b""
        while (chunk := self.polite.recv_chunk()) is not None:
            last = chunk
        assert last.endswith(b"bye")
        # RFC 9112, 8: what was cut off must not look complete.
        with pytest.raises(WireError, match=r"^(eof|reset) instead of"):
            while self.sse.recv_chunk() is not None:
                pass
        self.check_what_the_app_saw(code)

    def check_the_quick_end(self, code: int) -> None:
        assert self.ws.recv_close()[0] == code
        assert self.slow.recv_response().status == 503
        for stream in (self.sse, self.long):
            with pytest.raises(WireError, match=r"^(eof|reset) instead of"):
                while stream.recv_chunk() is not None:
                    pass
        for idle in (self.idle, self.fresh):
            assert idle.wait_end() in ("eof", "reset")
        wait_until(lambda: not proc.alive(self.pid), 10, "the worker to end")
        seen = notes(self.m, self.pid)
        assert {"sse cancelled", f"websocket {code}"} <= set(seen)
        assert seen[-1] == "lifespan.shutdown"

    def check_what_the_app_saw(self, code: int) -> None:
        wait_until(lambda: not proc.alive(self.pid), GRACEFUL + 5, "the worker to end")
        seen = notes(self.m, self.pid)
        # Lifespan spec: shutdown comes after all connections were closed.
        assert seen[0] == "lifespan.startup"
        assert seen[-1] == "lifespan.shutdown"
        assert sorted(seen[1:-1]) == sorted(
            ["slow began", "polite told", "sse told", "sse cancelled", f"websocket {code}"]
        )
        assert seen.index("sse told") < seen.index("sse cancelled")


@contextmanager
def crowd(m: Master) -> Iterator[Crowd]:
    with ExitStack() as stack:
        everybody = Crowd(m)
        stack.callback(everybody.close)
        yield everybody


def check_log(m: Master, pid: int) -> None:
    found = BROKEN.search(m.log())
    assert found is None, found
    # Written by the worker itself, as its last word: it was not killed.
    assert f"Worker exiting (pid: {pid})" in m.log()


# The master


def test_term_to_the_master_ends_everyone_gracefully() -> None:
    with master() as m, crowd(m) as everybody:
        m.signal(SIGTERM)
        everybody.check_the_graceful_end(1001)
        assert m.wait_exit() == 0
        check_log(m, everybody.pid)


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_int_and_quit_to_the_master_end_everyone_at_once(number: int) -> None:
    # graceful_timeout is much longer than the kit waits: what ends here, ends because it is quick.
    with master(graceful=60) as m, crowd(m) as everybody:
        m.signal(number)
        everybody.check_the_quick_end(1001)
        assert m.wait_exit(10) == 0
        check_log(m, everybody.pid)


def test_hup_replaces_the_worker_and_websockets_may_come_back() -> None:
    with master() as m, crowd(m) as everybody:
        mark = m.mark()
        m.signal(SIGHUP)
        m.wait_log(READY, after=mark)
        # 1012 is "service restart" in IANA's registry of close codes (RFC 6455, 11.7).
        everybody.check_the_graceful_end(1012)
        (new,) = m.wait_workers(lambda pids: len(pids) == 1 and pids != [everybody.pid])
        assert ask(m) == new
        check_log(m, everybody.pid)


def test_ttin_adds_a_worker_and_nobody_notices() -> None:
    with master() as m, crowd(m) as everybody:
        m.signal(SIGTTIN)
        m.wait_log(READY, count=2)
        everybody.check_that_nobody_noticed()
        assert len(m.workers()) == 2


def test_ttou_ends_the_oldest_worker_gracefully() -> None:
    with master() as m, crowd(m) as everybody:
        m.signal(SIGTTIN)
        m.wait_log(READY, count=2)
        m.signal(SIGTTOU)
        everybody.check_the_graceful_end(1001)
        (left,) = m.wait_workers(1)
        assert left != everybody.pid
        assert ask(m) == left
        check_log(m, everybody.pid)


@pytest.mark.parametrize("number", [SIGUSR1, SIGWINCH])
@pytest.mark.parametrize("to", ["master", "worker"])
def test_usr1_and_winch_are_noticed_by_nobody(number: int, to: str) -> None:
    with master() as m, crowd(m) as everybody:
        if to == "master":
            m.signal(number)
        else:
            m.kill_worker(everybody.pid, number)
        everybody.check_that_nobody_noticed()
        assert m.workers() == [everybody.pid]
        assert BROKEN.search(m.log()) is None


def test_workers_of_a_killed_master_leave_by_themselves_gracefully() -> None:
    with master(checked=False) as m, crowd(m) as everybody:
        m.signal(SIGKILL)
        everybody.check_the_graceful_end(1001)
        check_log(m, everybody.pid)
        assert "the master is gone" in m.log()


# A worker


def test_term_to_a_worker_ends_it_gracefully_and_it_is_replaced() -> None:
    with master() as m, crowd(m) as everybody:
        m.kill_worker(everybody.pid, SIGTERM)
        everybody.check_the_graceful_end(1001)
        (new,) = m.wait_workers(lambda pids: len(pids) == 1 and pids != [everybody.pid])
        m.wait_log(READY, count=2)
        assert ask(m) == new
        check_log(m, everybody.pid)


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_int_and_quit_to_a_worker_end_it_at_once_and_it_is_replaced(number: int) -> None:
    with master(graceful=60) as m, crowd(m) as everybody:
        m.kill_worker(everybody.pid, number)
        everybody.check_the_quick_end(1001)
        m.wait_log(READY, count=2)
        assert ask(m) != everybody.pid
        check_log(m, everybody.pid)


def test_the_other_worker_serves_while_one_drains() -> None:
    with master(workers=2) as m, Wire(m.connect(30)) as wire:
        wire.send(request("GET", "/slow"))
        (pid,) = wait_until(lambda: [p for p in m.workers() if "slow began" in notes(m, p)])
        m.kill_worker(pid, SIGTERM)
        m.wait_log(rf"Worker leaving \(pid: {pid}\)")
        assert {ask(m) for _ in range(20)}.isdisjoint({pid})
        m.write("go", "")
        assert wire.recv_response().body == b"slow"


# Again, and again


def test_a_second_term_is_not_quick() -> None:
    # The arbiter repeats TERM about once a second after a reload (Arbiter.manage_workers).
    with master(graceful=20) as m, Wire(m.connect(30)) as wire:
        (pid,) = m.workers()
        wire.send(request("GET", "/slow"))
        wait_until(lambda: "slow began" in notes(m, pid))
        m.signal(SIGTERM)
        m.wait_log(r"Worker leaving")
        for _ in range(3):
            m.kill_worker(pid, SIGTERM)
            wire.assert_silent(0.3)
        m.signal(SIGTERM)
        wire.assert_silent(0.3)
        m.write("go", "")
        response = wire.recv_response()
        assert (response.status, response.body) == (200, b"slow")
        wire.close()
        assert m.wait_exit() == 0
        check_log(m, pid)
        assert m.log().count("Worker leaving") == 1


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_int_or_quit_after_term_is_quick(number: int) -> None:
    # To the whole group, as a terminal does: Gunicorn 23 does not look at signals while it stops.
    with master(graceful=60) as m, crowd(m) as everybody:
        m.signal(SIGTERM)
        m.wait_log(r"Worker leaving")
        assert everybody.sse.recv_chunk()
        os.killpg(m.pid, number)
        everybody.check_the_quick_end(1001)
        assert m.wait_exit(10) == 0
        check_log(m, everybody.pid)


# Idle connections, gently


def test_a_request_on_an_idle_connection_is_answered_while_the_worker_drains() -> None:
    # The client could not know: its request was under way when the drain began (RFC 9112, 9.6).
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "30"}
    with master(graceful=60, env=env) as m, Wire(m.connect()) as wire, Wire(m.connect()) as fresh:
        (pid,) = m.workers()
        assert int(wire.request().body) == pid
        m.signal(SIGTERM)
        m.wait_log(r"Worker leaving")
        for idle in (wire, fresh):
            response = idle.request()
            assert int(response.body) == pid
            assert response.header("connection") == b"close"
            idle.recv_eof()
            idle.close()
        assert m.wait_exit() == 0


def test_idle_connections_alone_do_not_hold_a_worker_until_graceful_timeout() -> None:
    with master(graceful=60) as m, Wire(m.connect(30)) as wire:
        assert wire.request().status == 200
        m.signal(SIGTERM)
        wire.recv_eof()
        assert m.wait_exit(20) == 0


# USR1


@contextmanager
def load(m: Master, clients: int = 4) -> Iterator[list[int]]:
    """Keep the workers busy; at the end the list has what each client has seen answered."""
    counts: list[int] = []
    stop = threading.Event()

    def client() -> None:
        count = 0
        with Wire(m.connect()) as wire:
            while not stop.is_set() and wire.request().status == 200:
                count += 1
        counts.append(count)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield counts
    finally:
        stop.set()
        for each in threads:
            each.join(10)


def let_go(pid: int, path: Path) -> bool:
    return not any(link.resolve() == path for link in Path(f"/proc/{pid}/fd").iterdir())


def test_usr1_reopens_rotated_logs_and_no_line_is_lost() -> None:
    bind = f"127.0.0.1:{free_port()}"
    args = ("--error-logfile", "error.log")
    with master(*args, bind=bind, access_log=True, workers=2, ready=None) as m:
        error, access = m.dir / "error.log", m.dir / "access.log"
        wait_until(error.exists, 20)
        wait_until(lambda: len(re.findall(READY, error.read_text())) == 2, 20)
        rotated = [path.with_name(path.name + ".1") for path in (error, access)]
        with load(m) as counts:
            wait_until(lambda: len(m.access()) > 50)
            for old, new in zip((error, access), rotated, strict=True):
                old.rename(new)
            m.signal(SIGUSR1)
            for pid, path in product((m.pid, *m.workers()), rotated):
                wait_until(partial(let_go, pid, path), 10, f"{path} to be closed")
            seen = len(m.access())
            wait_until(lambda: len(m.access()) > seen + 50)
        assert len(counts) == 4
        lines = len(rotated[1].read_text().splitlines())
        wait_until(lambda: lines + len(m.access()) == sum(counts), 10, "every line")
        m.signal(SIGTERM)
        assert m.wait_exit() == 0
        assert error.read_text().count("Worker leaving") == 2
