"""A worker that has lived long enough leaves when its replacement is ready, and never with another.

Gunicorn forks a replacement only when a worker has ended: for as long as the application takes to
import there is one worker less, with one worker none at all (benoitc/gunicorn#3427, #3581).
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from signal import SIGHUP

import pytest

from gunicorn_asgi.protocol.lifecycle import WorkerState, is_accepting
from gunicorn_asgi.worker.scoreboard import Scoreboard
from kit import proc
from kit.load import Load, source
from kit.master import READY, Master, wait_until
from kit.wire import Wire, request

SLOW = "import time; time.sleep(1)"
LEAVING = (WorkerState.DRAINING, WorkerState.EXITING)


def master(workers: int, *args: str, **more: str) -> Master:
    options = ("--graceful-timeout", "5", "--keep-alive", "5", *args)
    env = {"GUNICORN_ASGI_DRAIN_LINGER": "0.5", **more}
    files = {"app.py": source("steady", first=SLOW)}
    return Master("app:app", *options, workers=workers, env=env, files=files)


class Sampler:
    """Looks at the board every 20 ms, and keeps the extremes."""

    def __init__(self, m: Master) -> None:
        self.board = Scoreboard.of_master(m.pid)
        self.ready: list[int] = []
        self.leaving: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        assert len(self.ready) > 20

    def _run(self) -> None:
        while not self._over.wait(0.02):
            members = self.board.members()
            self.ready.append(sum(map(is_accepting, members)))
            self.leaving.append(sum(m.alive and m.state in LEAVING for m in members))


def check(m: Master, load: Load, sampler: Sampler, workers: int) -> None:
    load.check(slowest=1.0)
    assert min(sampler.ready) >= workers
    assert max(sampler.leaving) <= 1
    m.wait_workers(workers, 15)
    log = m.log()
    assert not [w for w in ("Traceback", "SIGKILL", "[ERROR]", "[CRITICAL]") if w in log], log


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_max_requests_under_load_fails_no_request_and_leaves_no_hole(workers: int) -> None:
    with master(workers, "--max-requests", "200", "--max-requests-jitter", "20") as m:
        first = m.workers()
        with Load(m.connect, keep_alive=3, fresh=4, websocket=1, upload=1) as load:
            with Sampler(m) as sampler:
                # Each of them is replaced, and some of those who came after.
                m.wait_log("Worker leaving .*max_requests", 60, count=workers + 2)
                load.wait(1)
            # Nobody new wants to leave: let the last ones come and go.
        wait_until(lambda: set(first).isdisjoint(m.workers()), 20, "the first workers to end")
        check(m, load, sampler, workers)


@pytest.mark.parametrize(
    ("name", "value"), [("GUNICORN_ASGI_MAX_AGE", "2"), ("GUNICORN_ASGI_MAX_RSS", "1")]
)
def test_age_and_memory_replace_workers_as_well_as_requests_do(name: str, value: str) -> None:
    # A byte is less than any worker has: each asks to be replaced with its first beat.
    with master(2, **{name: value}) as m, Load(m.connect, upload=0) as load:
        with Sampler(m) as sampler:
            m.wait_log(r"Worker to be replaced .*asgi_max", 30, count=2)
            m.wait_log("Worker leaving", 30, count=3)
        load.stopping.set()
        assert min(sampler.ready) >= 2
        assert max(sampler.leaving) <= 1
        assert not load.failures


def test_a_reload_in_the_middle_of_a_replacement_leaves_as_many_workers_as_asked_for() -> None:
    with master(2, "--max-requests", "100") as m:
        with Load(m.connect, keep_alive=1, fresh=4, upload=0) as load:
            for number in range(4):
                mark = m.mark()
                m.wait_log("Worker to be replaced", 30, after=mark)
                m.write("app.py", source(f"number {number}", first=SLOW))
                m.signal(SIGHUP)
                load.wait_body(f"number {number}", 30)
        load.check(slowest=1.0)
        m.wait_workers(2, 30)


def wire_to(m: Master, pid: int, stack: ExitStack) -> Wire:
    """Open a connection that this worker has accepted."""
    while True:
        wire = stack.enter_context(Wire(m.connect(20)))
        if int(wire.request(path="/pid").body) == pid:
            return wire


def test_a_busy_neighbour_takes_no_order_that_was_meant_for_the_one_that_leaves() -> None:
    # With its last breath the leaving one gives its place back (SIGTTOU), and the arbiter tells the
    # oldest to leave: here a neighbour, who is too busy to hear it while the other one still lives.
    answer = """
        if scope["path"] == "/block":
            import time
            time.sleep(2)
        VERSION = str(os.getpid())
    """
    limit = 100
    with master(2, "--max-requests", str(limit), "--keep-alive", "30") as m, ExitStack() as stack:
        m.write("app.py", source("pid", answer=answer))
        mark, before = m.mark(), set(m.workers())
        m.signal(SIGHUP)
        m.wait_log(READY, after=mark, count=2)
        oldest, younger = m.wait_workers(lambda p: len(p) == 2 and before.isdisjoint(p), 15)
        leaving = wire_to(m, younger, stack)
        busy = wire_to(m, oldest, stack)
        while f"Worker to be replaced (pid: {younger})" not in m.log():
            leaving.request()
        m.wait_log(rf"Worker leaving \(pid: {younger}\)")
        busy.send(request("GET", "/block"))
        leaving.close()
        wait_until(lambda: not proc.alive(younger), 10, "the leaving one to end")
        assert busy.recv_response().status == 200
        assert busy.request().keeps_alive
        assert len(m.wait_workers(2)) == 2
        assert f"Worker leaving (pid: {oldest})" not in m.log()
