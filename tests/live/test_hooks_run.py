"""Gunicorn's server hooks (docs, "Settings", "Server Hooks"): each runs, in the right process.

Every hook of the config file below writes one line, ``pid name more``, so that a test reads what
has happened where. The names and arguments are Gunicorn's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from signal import SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from kit.master import READY, Master, wait_until
from kit.wire import WebSocketWire, Wire

CONFIG = """
import os

def note(*words):
    with open("notes", "a") as file:
        file.write(" ".join([str(os.getpid()), *map(str, words)]) + "\\n")

def on_starting(server):
    note("on_starting")

def on_reload(server):
    note("on_reload")

def when_ready(server):
    note("when_ready")

def pre_fork(server, worker):
    note("pre_fork")

def post_fork(server, worker):
    note("post_fork", worker.pid)

def post_worker_init(worker):
    import asyncio
    loop = asyncio.get_event_loop()
    note("post_worker_init", worker.pid, loop is worker._loop, loop.is_running(), loop.is_closed())

def worker_int(worker):
    note("worker_int", worker.pid)

def worker_abort(worker):
    note("worker_abort", worker.pid)

def worker_exit(server, worker):
    note("worker_exit", worker.pid)

def child_exit(server, worker):
    note("child_exit", worker.pid)

def pre_request(worker, req):
    note("pre_request", worker.pid, req.method, req.path)
    if req.path == "/refused":
        raise RuntimeError("refused by the hook")

def post_request(worker, req, environ, resp):
    note("post_request", worker.pid, req.method, req.path, environ["PATH_INFO"], resp.status_code)

def on_exit(server):
    note("on_exit")
"""

APP = """
import atexit, os, time

def note(what):
    with open("notes", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

atexit.register(note, "atexit")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            note(kind)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        return
    note("request")
    if scope["path"] == "/block":
        time.sleep(60)
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def master(*args: str, config: str = CONFIG, checked: bool = True) -> Master:
    return Master("app:app", *args, config=config, files={"app.py": APP}, checked=checked)


@pytest.fixture
def m(loop_kind: str) -> Iterator[Master]:
    with Master(
        "app:app",
        *("--graceful-timeout", "10"),
        config=CONFIG,
        files={"app.py": APP},
        env={"GUNICORN_ASGI_LOOP": loop_kind},
    ) as master:
        yield master


def notes(m: Master, pid: int) -> list[str]:
    """What was written by that process."""
    lines = (m.dir / "notes").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{pid} ")]


def names(m: Master, pid: int) -> list[str]:
    """The names of the hooks that have run there."""
    return [line.split()[0] for line in notes(m, pid)]


# A whole life


def test_the_hooks_of_a_life_run_in_order_and_in_the_right_process(m: Master) -> None:
    (pid,) = m.workers()
    m.signal(SIGTERM)
    assert m.wait_exit() == 0
    assert notes(m, pid) == [
        f"post_fork {pid}",
        # The loop is there and is asyncio's current one, but does not run yet.
        f"post_worker_init {pid} True False False",
        "lifespan.startup",
        "lifespan.shutdown",
        f"worker_exit {pid}",
        "atexit",
    ]
    # 23 reaps in the handler of SIGCHLD, 27 in its loop: with on_exit, the order is Gunicorn's.
    assert names(m, m.pid)[:3] == ["on_starting", "when_ready", "pre_fork"]
    assert sorted(names(m, m.pid)[3:]) == ["child_exit", "on_exit"]
    assert f"child_exit {pid}" in notes(m, m.pid)


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_worker_int_runs_once_on_int_and_quit(m: Master, number: int) -> None:
    (pid,) = m.workers()
    m.kill_worker(pid, number)
    m.wait_log(READY, count=2)
    wait_until(lambda: f"child_exit {pid}" in notes(m, m.pid))
    assert names(m, pid)[-4:] == ["worker_int", "lifespan.shutdown", "worker_exit", "atexit"]
    assert names(m, pid).count("worker_int") == 1


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_worker_int_runs_when_the_master_stops_at_once(number: int) -> None:
    with master() as m:
        (pid,) = m.workers()
        m.signal(number)
        assert m.wait_exit() == 0
        assert names(m, pid).count("worker_int") == 1
        assert names(m, pid)[-2:] == ["worker_exit", "atexit"]


def test_worker_int_does_not_run_on_term(m: Master) -> None:
    (pid,) = m.workers()
    m.kill_worker(pid, SIGTERM)
    m.wait_log(READY, count=2)
    assert "worker_int" not in names(m, pid)


def test_a_worker_int_that_raises_does_not_keep_the_worker_from_leaving() -> None:
    config = CONFIG.replace('note("worker_int", worker.pid)', "1 / 0")
    with master(config=config) as m:
        (pid,) = m.workers()
        m.kill_worker(pid, SIGQUIT)
        m.wait_log(READY, count=2)
        wait_until(lambda: f"child_exit {pid}" in notes(m, m.pid))
        assert names(m, pid)[-3:] == ["lifespan.shutdown", "worker_exit", "atexit"]
        assert "ZeroDivisionError" in m.log()


def test_hup_runs_on_reload_and_the_hooks_of_both_workers(m: Master) -> None:
    (old,) = m.workers()
    m.signal(SIGHUP)
    (new,) = m.wait_workers(lambda pids: len(pids) == 1 and pids != [old])
    wait_until(lambda: f"child_exit {old}" in notes(m, m.pid))
    assert "on_reload" in names(m, m.pid)
    assert names(m, old)[-3:] == ["lifespan.shutdown", "worker_exit", "atexit"]
    assert names(m, new)[:3] == ["post_fork", "post_worker_init", "lifespan.startup"]


# A blocked loop


def test_worker_abort_and_worker_exit_run_under_a_blocked_loop(loop_kind: str) -> None:
    # time.sleep(60) in the app, --timeout 2: the arbiter sends SIGABRT (Arbiter.murder_workers).
    env = {"GUNICORN_ASGI_LOOP": loop_kind}
    with (
        Master("app:app", "--timeout", "2", config=CONFIG, files={"app.py": APP}, env=env) as m,
        Wire(m.connect(30)) as wire,
    ):
        (pid,) = m.workers()
        wire.send(b"GET /block HTTP/1.1\r\nHost: kit\r\n\r\n")
        assert wire.wait_end() in ("eof", "reset")
        m.wait_log(READY, count=2)
        wait_until(lambda: f"child_exit {pid}" in notes(m, m.pid))
        # In between the request may have come to its end, and post_request with it.
        ran = [name for name in names(m, pid) if name != "post_request"]
        assert ran[-4:] == ["request", "worker_abort", "worker_exit", "atexit"]
        assert f"WORKER TIMEOUT (pid:{pid})" in m.log()
        assert f"Worker (pid:{pid}) exited with code 1" in m.log()


def test_abrt_ends_an_idle_worker_too(m: Master) -> None:
    (pid,) = m.workers()
    m.kill_worker(pid, SIGABRT)
    m.wait_log(READY, count=2)
    wait_until(lambda: f"child_exit {pid}" in notes(m, m.pid))
    assert "worker_abort" in names(m, pid)
    assert names(m, pid)[-2:] == ["worker_exit", "atexit"]


# Requests


def test_pre_and_post_request_run_around_http_requests(m: Master) -> None:
    (pid,) = m.workers()
    with Wire(m.connect()) as wire:
        for path in ("/a?b=c", "/d"):
            assert wire.request("GET", path).body == b"ok"
        assert wire.request("POST", "/e", body=b"body").body == b"ok"
    wait_until(lambda: names(m, pid).count("post_request") == 3)
    assert notes(m, pid)[3:] == [
        *(f"pre_request {pid} GET /a", "request", f"post_request {pid} GET /a /a 200"),
        *(f"pre_request {pid} GET /d", "request", f"post_request {pid} GET /d /d 200"),
        *(f"pre_request {pid} POST /e", "request", f"post_request {pid} POST /e /e 200"),
    ]


def test_pre_and_post_request_run_around_a_websocket(m: Master) -> None:
    (pid,) = m.workers()
    with WebSocketWire(m.connect()) as ws:
        assert ws.connect("/ws").status == 101
        assert notes(m, pid)[-1] == f"pre_request {pid} GET /ws"
        ws.close(1000)
        assert ws.recv_close()[0] == 1000
    wait_until(lambda: "post_request" in names(m, pid))
    assert notes(m, pid)[-1] == f"post_request {pid} GET /ws /ws 1000"


def test_a_pre_request_that_raises_gives_500_and_the_worker_lives(m: Master) -> None:
    (pid,) = m.workers()
    for _ in range(3):
        with Wire(m.connect()) as wire:
            assert wire.request("GET", "/refused").status == 500
        with WebSocketWire(m.connect()) as ws:
            assert ws.connect("/refused").status == 500
    with Wire(m.connect()) as wire:
        assert wire.request("GET", "/").body == b"ok"
    assert m.workers() == [pid]
    assert notes(m, pid).count("request") == 1  # the app never saw the refused ones
    assert m.log().count("RuntimeError: refused by the hook") == 6


def test_a_post_request_that_raises_is_logged_and_spoils_nothing() -> None:
    config = CONFIG + "\ndef post_request(worker, req, environ, resp):\n    1 / 0\n"
    with master(config=config) as m, Wire(m.connect()) as wire:
        for _ in range(2):
            assert wire.request("GET", "/").body == b"ok"
        m.wait_log(r"Exception in post_request hook", count=2)


@pytest.mark.parametrize("head", ["post_fork(server, worker)", "post_worker_init(worker)"])
def test_a_hook_that_raises_while_a_worker_boots_stops_the_server_with_the_reason(
    head: str,
) -> None:
    config = CONFIG + f"\ndef {head}:\n    raise RuntimeError('broken hook')\n"
    with Master("app:app", config=config, files={"app.py": APP}, ready=None, checked=False) as m:
        # Gunicorn's WORKER_BOOT_ERROR; what Arbiter.run makes of it is a stop of everything.
        assert m.wait_exit(20) == 3
        assert "RuntimeError: broken hook" in m.log()


def test_the_master_is_not_where_the_app_is_imported(m: Master) -> None:
    # Without preload_app: atexit of the app belongs to the workers alone.
    m.signal(SIGTERM)
    assert m.wait_exit() == 0
    assert "atexit" not in names(m, m.pid)
    assert os.getpid() != m.pid
