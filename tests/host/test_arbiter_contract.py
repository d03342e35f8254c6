"""What we lean on in Gunicorn's arbiter, sockets and logs; see tests/test_host_contract.py."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import stat
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import gunicorn.app.base
import pytest
from gunicorn import sock, util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import AppImportError, HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.workertmp import WorkerTmp

from gunicorn_asgi.protocol.accesslog import AccessRecord, RequestView, ResponseView, environ_of
from gunicorn_asgi.protocol.head import RequestHead
from kit.master import Master

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__: list[str] = []

TMPS: list[WorkerTmp] = []


@pytest.fixture(autouse=True)
def no_heartbeat_file_is_left() -> Iterator[None]:
    """Each worker has one, and only its arbiter would close it."""
    yield
    while TMPS:
        TMPS.pop().close()


def config(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


# -- the arbiter -----------------------------------------------------------------------------------


class _Told(Exception):
    """Raised by a stand-in to end the arbiter's method there."""


class FakeWorker:
    """What the arbiter knows of a worker."""

    def __init__(self, error: BaseException | None = None, *, booted: bool = True) -> None:
        self.error = error
        self.booted = booted
        self.aborted = False
        self.age = 1
        self.pid = 0
        self.tmp = WorkerTmp(Config())
        TMPS.append(self.tmp)
        self.sockets: list[object] = []

    def init_process(self) -> None:
        """As told."""
        if self.error is not None:
            raise self.error


def make_arbiter(**values: object) -> Arbiter:
    """An arbiter that has started nothing."""
    arbiter = object.__new__(Arbiter)
    arbiter.cfg = config(**values)
    arbiter.log = Logger(arbiter.cfg)
    arbiter.pid, arbiter.timeout, arbiter.worker_age = os.getpid(), 30, 4
    arbiter.reexec_pid = arbiter.dirty_arbiter_pid = arbiter.master_pid = 0
    arbiter.systemd, arbiter.proc_name = False, "test"
    arbiter.app, arbiter.LISTENERS, arbiter.WORKERS = object(), [], {}
    return arbiter


def test_the_arbiter_constructs_a_worker_just_before_the_fork() -> None:
    """With half of ``timeout``, its own pid, log and cfg; an exception there is the master's."""
    arbiter = make_arbiter()
    got: list[object] = []

    def worker_class(*args: object) -> None:
        got.extend(args)
        raise _Told

    arbiter.worker_class = worker_class
    with pytest.raises(_Told):
        arbiter.spawn_worker()
    expected = [5, arbiter.pid, arbiter.LISTENERS, arbiter.app, 15.0, arbiter.cfg, arbiter.log]
    assert got == expected


@pytest.mark.parametrize(
    ("error", "booted", "code"),
    [
        (None, True, 0),
        (SystemExit(7), True, 7),
        (AppImportError("no such module"), False, 4),
        (RuntimeError("while booting"), False, 3),
        (RuntimeError("while serving"), True, -1),
    ],
)
def test_how_a_worker_ends_decides_its_exit_code_and_worker_exit_runs(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, booted: bool, code: int
) -> None:
    """arbiter.py, spawn_worker, the child's half: worker_exit only runs when run() returns."""
    hooks: list[str] = []
    arbiter = make_arbiter(
        post_fork=lambda _arbiter, _worker: hooks.append("post_fork"),
        worker_exit=lambda _arbiter, _worker: hooks.append("worker_exit"),
    )
    worker = FakeWorker(error, booted=booted)
    arbiter.worker_class = lambda *_args: worker
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(util, "_setproctitle", lambda _title: None)
    with pytest.raises(SystemExit) as caught:
        arbiter.spawn_worker()
    assert caught.value.code == code
    assert hooks == ["post_fork", "worker_exit"]


@pytest.mark.parametrize(("code", "halts"), [(0, False), (1, False), (3, True), (4, True)])
def test_exit_codes_3_and_4_halt_the_server(
    monkeypatch: pytest.MonkeyPatch, code: int, halts: bool
) -> None:
    """WORKER_BOOT_ERROR is what a failed lifespan exits with; every other end is only logged."""
    assert (Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR) == (3, 4)
    arbiter = make_arbiter()
    arbiter.WORKERS = {12345: FakeWorker()}
    answers = iter([(12345, code << 8), (0, 0)])
    monkeypatch.setattr(os, "waitpid", lambda _pid, _options: next(answers))
    if halts:
        with pytest.raises(HaltServer) as caught:
            arbiter.reap_workers()
        assert caught.value.exit_status == code
    else:
        arbiter.reap_workers()
        assert arbiter.WORKERS == {}


@pytest.mark.parametrize(("graceful", "first"), [(True, signal.SIGTERM), (False, signal.SIGQUIT)])
def test_a_stop_ends_with_sigkill_after_graceful_timeout(graceful: bool, first: int) -> None:
    """DrainSchedule lives inside that time."""
    arbiter = make_arbiter(graceful_timeout=0)
    sent: list[int] = []
    arbiter.kill_workers = sent.append
    arbiter.reap_workers = lambda: None
    arbiter.reap_dirty_arbiter = lambda: None
    arbiter.stop(graceful)
    assert sent == [first, signal.SIGKILL]
    assert "cfg.graceful_timeout" in inspect.getsource(Arbiter.stop)


def test_a_silent_worker_gets_sigabrt_and_then_sigkill() -> None:
    """murder_workers: ``timeout`` seconds after the last beat."""
    arbiter = make_arbiter()
    worker = FakeWorker()
    silent = time.monotonic() - 100
    os.utime(worker.tmp.fileno(), (silent, silent))
    arbiter.WORKERS = {12345: worker}
    sent: list[tuple[int, int]] = []
    arbiter.kill_worker = lambda pid, number: sent.append((pid, number))
    arbiter.murder_workers()
    arbiter.murder_workers()
    assert sent == [(12345, signal.SIGABRT), (12345, signal.SIGKILL)]


def test_a_worker_that_has_never_beaten_is_not_murdered() -> None:
    """The fresh file carries the wall clock, far ahead of the monotonic one: a slow start lives."""
    arbiter = make_arbiter()
    worker = FakeWorker()
    arbiter.WORKERS = {12345: worker}
    arbiter.timeout = 1e-9
    sent: list[int] = []
    arbiter.kill_worker = lambda _pid, number: sent.append(number)
    arbiter.murder_workers()
    assert sent == []


def test_a_runtime_error_at_the_start_becomes_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """app/base.py: how check_config() refuses a configuration."""

    class Refusing:
        def __init__(self, app: object) -> None:
            self.app = app

        def run(self) -> None:
            raise RuntimeError("asgi_x is 1, which is not allowed")

    monkeypatch.setattr(gunicorn.app.base, "Arbiter", Refusing)
    with pytest.raises(SystemExit) as caught:
        BaseApplication.run(object.__new__(BaseApplication))
    assert caught.value.code == 1
    assert "Error: asgi_x is 1, which is not allowed" in capsys.readouterr().err


def test_the_application_is_loaded_once_by_wsgi() -> None:
    """load_wsgi() asks for it; with preload_app it is the master's."""

    class App(BaseApplication):  # type: ignore[misc]  # Gunicorn is not typed
        loads = 0

        def __init__(self) -> None:
            self.callable = None

        def load(self) -> object:
            self.loads += 1
            return self

    app = App()
    assert app.wsgi() is app
    assert app.wsgi() is app
    assert app.loads == 1


# -- sockets, TLS, titles --------------------------------------------------------------------------


def test_a_listener_carries_a_non_blocking_listening_socket(tmp_path: Path) -> None:
    """``listener.sock`` is what the server accepts on, and it must not wait there."""
    bind = f"unix:{tmp_path}/s"
    cfg = config(bind=["127.0.0.1:0", bind])
    listeners = sock.create_sockets(cfg, Logger(cfg))
    try:
        for listener in listeners:
            assert isinstance(listener.sock, socket.socket)
            assert listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            with pytest.raises(BlockingIOError):
                listener.sock.accept()
        assert stat.S_ISSOCK((tmp_path / "s").stat().st_mode)
    finally:
        sock.close_sockets(listeners)


def test_the_ssl_context_hook_makes_the_context() -> None:
    """sock.ssl_context(cfg) calls ``ssl_context(config, default_factory)``."""
    seen = []

    def hook(conf: object, factory: object) -> str:
        seen.append((conf, callable(factory)))
        return "the context"

    cfg = config(ssl_context=hook)
    assert sock.ssl_context(cfg) == "the context"
    assert seen == [(cfg, True)]
    assert not cfg.is_ssl


def test_the_process_title_takes_one_text() -> None:
    """util._setproctitle does nothing where setproctitle is not installed."""
    assert list(inspect.signature(util._setproctitle).parameters) == ["title"]


# -- logs ------------------------------------------------------------------------------------------

ATOMS = "h l u t r s m U q H b B f a T D M L p".split()


def test_the_logger_makes_every_atom_of_what_we_hand_it() -> None:
    """glogging.py, Logger.atoms(resp, req, environ, request_time)."""
    headers = [(b"host", b"a"), (b"referer", b"r"), (b"user-agent", b"u")]
    head = RequestHead("GET", b"/p?q=1", "1.1", headers, True)
    scope = {"type": "http", "path": "/p", "query_string": b"q=1", "client": ("192.0.2.1", 5)}
    record = AccessRecord(head, scope, 200, [(b"x-y", b"z")], 12, 1.5)
    atoms = Logger(Config()).atoms(
        ResponseView(record), RequestView(head, scope), environ_of(head, scope), record.elapsed
    )
    assert {name: atoms[name] for name in ATOMS if name not in "tp"} == {
        **{"h": "192.0.2.1", "l": "-", "u": "-", "r": "GET /p?q=1 HTTP/1.1", "s": "200"},
        **{"m": "GET", "U": "/p", "q": "q=1", "H": "HTTP/1.1", "b": "12", "B": 12, "f": "r"},
        **{"a": "u", "T": 1, "D": 1500000, "M": 1500, "L": "1.500000"},
    }
    assert atoms["p"] == f"<{os.getpid()}>"
    assert atoms["{x-y}o"] == "z"
    assert atoms["{referer}i"] == "r"
    assert atoms["{raw_uri}e"] == "/p?q=1"
    assert record.elapsed == timedelta(seconds=1.5)


def test_access_takes_response_request_environ_and_time() -> None:
    """A logger_class of the user's is called in the same way."""
    names = list(inspect.signature(Logger.access).parameters)
    assert names == ["self", "resp", "req", "environ", "request_time"]


# -- the whole, live -------------------------------------------------------------------------------

PROBE = """
import os
from gunicorn_asgi import Worker

class Probe(Worker):
    seen = []

    @classmethod
    def check_config(cls, cfg, log):
        super().check_config(cfg, log)
        log.info("probe: check")

    def __init__(self, age, ppid, sockets, app, timeout, cfg, log):
        if not any(each is cfg for each in self.seen):
            self.seen.append(cfg)
        known = [each is cfg for each in self.seen].index(True)
        log.info("probe: init in %d with config %d", os.getpid(), known)
        super().__init__(age, ppid, sockets, app, timeout, cfg, log)
"""
APP = """
async def app(scope, receive, send):
    raise RuntimeError("not asked")
"""


def probes(master: Master) -> list[str]:
    """What the probe has logged, and the ends of workers, in order."""
    lines = [line.partition("probe: ")[2] or line for line in master.log().splitlines()]
    return [each for each in lines if each.startswith(("check", "init")) or "leaving" in each]


@pytest.mark.live
@pytest.mark.slow
def test_check_config_comes_once_before_the_first_fork_and_a_reload_brings_a_new_config() -> None:
    """arbiter.py: start() and reload(); TTIN, by contrast, forks with the same Config."""
    files = {"probe.py": PROBE, "app.py": APP}
    with Master("app:app", files=files, worker_class="probe.Probe", workers=2) as master:
        first = f"init in {master.pid} with config 0"
        assert probes(master) == ["check", first, first]
        mark = master.mark()
        master.signal(signal.SIGTTIN)
        master.wait_log(r"Worker ready", after=mark)
        assert probes(master)[3:] == [first]
        mark = master.mark()
        master.signal(signal.SIGHUP)
        master.wait_log(r"Worker leaving", after=mark, count=3)
        after = probes(master)[4:]
        assert after[0] == f"init in {master.pid} with config 1"
        assert "check" not in after
