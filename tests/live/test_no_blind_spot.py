"""A long stream keeps an old worker draining; if the new one dies, the old one serves again.

For that time nobody else would: Gunicorn 27 forks nothing while it waits for old workers after a
HUP (``Arbiter.reload``), and every Gunicorn counts the draining one as the worker it wants.
"""

from __future__ import annotations

import time
from signal import SIGHUP, SIGKILL

import pytest

from kit.load import Load, source
from kit.master import READY, Master, wait_until
from kit.wire import Wire, request

GRACEFUL = 5


def master(workers: int = 1) -> Master:
    options = ("--graceful-timeout", str(GRACEFUL), "--keep-alive", "5")
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5"}
    return Master("app:app", *options, workers=workers, env=env, files={"app.py": source("old")})


def stream(m: Master) -> Wire:
    """Begin a stream that does not end by itself."""
    wire = Wire(m.connect(60))
    wire.send(request("GET", "/stream"))
    assert wire.recv_head().status == 200
    assert wire.recv_chunk()
    return wire


def ask(m: Master) -> str:
    with Wire(m.connect()) as wire:
        return wire.request().body.decode()


def reload_and_kill_the_new(m: Master) -> None:
    old = m.workers()
    m.write("app.py", source("new"))
    mark = m.mark()
    m.signal(SIGHUP)
    m.wait_log(READY, after=mark, count=m.worker_count)
    m.wait_log("Worker leaving .*its successors are ready", after=mark, count=m.worker_count)
    assert ask(m) == "new"
    for pid in m.workers():
        if pid not in old:
            m.kill_worker(pid, SIGKILL)


def test_a_draining_worker_accepts_again_when_its_successor_dies() -> None:
    with master() as m, stream(m) as wire:
        reload_and_kill_the_new(m)
        died = time.monotonic()
        # The connection waits in the backlog until somebody accepts.
        assert ask(m) in ("old", "new")
        assert time.monotonic() - died < 3
        m.wait_log("Nobody serves any more: accepting again")
        assert wire.recv_chunk(), "the stream goes on"


def test_the_service_goes_on_and_ends_up_with_the_new_code() -> None:
    with master() as m, stream(m):
        reload_and_kill_the_new(m)
        died = time.monotonic()
        with Load(m.connect, upload=0) as load:
            # Longer than graceful_timeout: what takes over has to be somebody who stays.
            wait_until(lambda: time.monotonic() - died > GRACEFUL + 3, 60, "graceful_timeout")
            load.wait_body("new")
        load.check(slowest=3.0)
        m.wait_workers(1, 15)


def test_two_of_two_die_and_the_service_ends_up_with_the_new_code() -> None:
    with master(2) as m, stream(m):
        reload_and_kill_the_new(m)
        with Load(m.connect, upload=0) as load:
            load.wait_body("new", 40)
        load.check(slowest=3.0)
        m.wait_workers(2, 15)


@pytest.mark.parametrize("again", [1, 2])
def test_a_reload_after_it_is_a_reload_like_any_other(again: int) -> None:
    with master() as m, stream(m):
        reload_and_kill_the_new(m)
        m.wait_log("Nobody serves any more: accepting again")
        with Load(m.connect, upload=0) as load:
            for number in range(again):
                m.write("app.py", source(f"again {number}"))
                m.signal(SIGHUP)
                load.wait_body(f"again {number}", 40)
        load.check(slowest=1.0)
        m.wait_workers(1, GRACEFUL + 10)
