"""What we lean on in Gunicorn, each name and each habit, asserted against the one installed.

Names, settings and the base class of workers here; arbiter, sockets and logs in tests/host/.

Gunicorn has no public interface for worker classes beyond ``workers/base.py``, so a new version
may change any of this. Then this file says so, before an operator does.
"""

from __future__ import annotations

import ast
import errno
import importlib
import inspect
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import gunicorn.app.base
import pytest
from gunicorn import reloader, util
from gunicorn.app.base import Application
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import base
from gunicorn.workers.workertmp import WorkerTmp

import gunicorn_asgi
from gunicorn_asgi import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__: list[str] = []

OURS = sorted((Path(gunicorn_asgi.__file__).parent / "worker").glob("*.py"))
CLASS = ast.parse((OURS[0].parent / "worker.py").read_text())


def config(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


# -- the names, found in our source ----------------------------------------------------------------


def gunicorn_names() -> Iterator[tuple[str, str]]:
    """Every (module, name) that worker/ imports from gunicorn or reads of what it imported."""
    for path in OURS:
        tree = ast.parse(path.read_text())
        known: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gunicorn."):
                yield from ((node.module or "", alias.name) for alias in node.names)
                known |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "gunicorn":
                known |= {alias.name: f"gunicorn.{alias.name}" for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = known.get(node.value.id)
                if owner is not None:
                    yield owner, node.attr


def attributes_of(root: str) -> set[str]:
    """Every X in ``cfg.X`` or ``self.cfg.X`` (for root "cfg"), in all of worker/."""
    found = set()
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner == root or owner.endswith(f".{root}"):
                    found.add(node.attr)
    return found


def inherited_attributes() -> set[str]:
    """Every ``self.X`` of our Worker that our Worker does not define itself."""
    used, own = set(), {name for name in vars(Worker) if name in Worker.__dict__}
    for node in ast.walk(CLASS):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            used.add(node.attr)
            if isinstance(node.ctx, ast.Store) and node.attr.startswith("_"):
                own.add(node.attr)
    return used - own - {"settings"}


NAMES = sorted(set(gunicorn_names()))


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda each: str(each))
def test_every_name_that_we_import_exists(module: str, name: str) -> None:
    """``from gunicorn... import name``, and ``module.name`` in the code."""
    try:
        owner: object = importlib.import_module(module)
    except ModuleNotFoundError:
        above, _, last = module.rpartition(".")
        owner = getattr(importlib.import_module(above), last)
    assert hasattr(owner, name)


def test_the_search_for_names_finds_them() -> None:
    """A search that finds nothing would prove nothing."""
    assert ("gunicorn.sock", "ssl_context") in NAMES
    assert ("gunicorn.util", "_setproctitle") in NAMES
    assert ("gunicorn.arbiter.Arbiter", "WORKER_BOOT_ERROR") in NAMES
    assert {"timeout", "graceful_timeout", "worker_int", "settings"} <= attributes_of("cfg")
    assert {"error", "info", "access", "reopen_files", "cfg"} <= attributes_of("log")
    assert {"PIPE", "notify", "sockets", "ppid", "max_requests"} <= inherited_attributes()


@pytest.mark.parametrize("name", sorted(attributes_of("cfg")))
def test_every_setting_that_we_read_exists(name: str) -> None:
    """``cfg.http_protocols`` alone is newer than the oldest Gunicorn, and read with a default."""
    cfg = Config()
    if name == "http_protocols":
        assert set(getattr(cfg, name, ("h1",))) == {"h1"}
    else:
        assert hasattr(cfg, name)


@pytest.mark.parametrize("name", sorted(attributes_of("log")))
def test_every_method_of_the_logger_that_we_call_exists(name: str) -> None:
    """Settings such as logger_class hand us subclasses of it."""
    assert hasattr(Logger(Config()), name)


# -- settings --------------------------------------------------------------------------------------


def test_settings_are_objects_by_name_with_a_get_and_a_default_of_their_own() -> None:
    """Whether a setting is set is asked by comparing it with a fresh instance."""
    cfg = config(threads=7)
    setting = cfg.settings["threads"]
    assert setting.get() == 7
    assert type(setting)().get() == 1
    assert type(setting)() is not setting


def _pre_request(worker: object, req: object) -> None:
    """A hook of the user's."""


def _post_request(worker: object, req: object, environ: object, resp: object) -> None:
    """The same, in its longest form."""


@pytest.mark.parametrize(
    ("name", "hook"), [("pre_request", _pre_request), ("post_request", _post_request)]
)
def test_a_hook_that_nobody_has_set_is_the_default_itself(name: str, hook: object) -> None:
    """hooks.py puts nothing into the request path then."""
    setting = Config().settings[name]
    assert setting.get() is type(setting)().get()
    assert config(**{name: hook}).settings[name].get() is not type(setting)().get()


def test_a_hook_of_fewer_arguments_is_called_with_all_of_them() -> None:
    """post_request may take two, three or four arguments; Gunicorn wraps the short ones."""
    seen = []
    cfg = config(post_request=lambda worker, req: seen.append((worker, req)))
    cfg.post_request("worker", "request", {}, "response")
    assert seen == [("worker", "request")]


def test_an_unknown_setting_is_an_attribute_error() -> None:
    """getattr() with a default bridges the versions."""
    with pytest.raises(AttributeError):
        _ = Config().no_such_setting


def test_two_configs_are_two_objects() -> None:
    """A reload is seen by the identity of the Config."""
    assert Config() is not Config()
    assert not hasattr(Config, "__eq__") or Config.__eq__ is object.__eq__


def test_the_executed_config_file_stays_in_sys_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn/app/base.py: that is where our settings are read at the first start."""
    monkeypatch.setitem(sys.modules, "__config__", None)
    path = tmp_path / "some.conf.py"
    path.write_text("asgi_drain_linger = 7\n")
    app = object.__new__(Application)
    app.get_config_from_filename(str(path))
    module = sys.modules["__config__"]
    assert vars(module)["asgi_drain_linger"] == 7
    assert module.__file__ == str(path)


def test_the_location_of_the_config_file_is_a_setting() -> None:
    """``python:NAME`` means a module; there is a default."""
    assert Config().config == "./gunicorn.conf.py"
    source = inspect.getsource(Application.load_config_from_module_name_or_filename)
    assert '"python:"' in source


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("asgi_loop", (24,)),
        ("asgi_lifespan", (24,)),
        ("root_path", (24,)),
        ("asgi_disconnect_grace_period", (25,)),
        ("websocket_max_message_size", (26, 3)),
        ("asgi_drain_linger", (999,)),
    ],
)
def test_gunicorn_knows_a_setting_from_that_version_on(name: str, since: tuple[int, ...]) -> None:
    """docs/settings.md tells since when: from then on Gunicorn's own validation comes first."""
    assert (name in Config().settings) is (gunicorn.version_info >= since)


# -- workers/base.py -------------------------------------------------------------------------------


TMPS: list[WorkerTmp] = []


@pytest.fixture(autouse=True)
def no_heartbeat_file_is_left() -> Iterator[None]:
    """Each worker has one, and only its arbiter would close it."""
    yield
    while TMPS:
        TMPS.pop().close()


def make_worker(cls: type[base.Worker] = base.Worker, /, **values: object) -> base.Worker:
    cfg = config(**values)
    worker = cls(3, os.getppid(), [], "the app", 15.0, cfg, Logger(cfg))
    TMPS.append(worker.tmp)
    return worker


def test_a_worker_is_constructed_with_these_arguments() -> None:
    """Ours passes on what it gets, and reads the attributes that come of it."""
    names = list(inspect.signature(base.Worker.__init__).parameters)
    assert names == ["self", "age", "ppid", "sockets", "app", "timeout", "cfg", "log"]


def test_a_worker_has_the_attributes_that_ours_inherits() -> None:
    """Found in our source; PIPE and wsgi are made on the way."""
    worker = make_worker()
    worker.wsgi = None
    missing = {name for name in inherited_attributes() if not hasattr(worker, name)}
    assert not missing
    assert worker.alive is True
    assert (worker.nr, worker.reloader, worker.booted) == (0, None, False)
    assert worker.ppid == os.getppid()
    assert worker.sockets == []


def test_max_requests_is_a_number_with_its_jitter_or_never_reached() -> None:
    """The worker compares ``nr`` with it."""
    without, limited = make_worker(), make_worker(max_requests=10, max_requests_jitter=5)
    assert without.max_requests == sys.maxsize
    assert 10 <= limited.max_requests <= 15


class Recorder(base.Worker):  # type: ignore[misc]  # Gunicorn is not typed
    """Writes down in which order init_process() calls what ours overrides."""

    steps: list[tuple[str, object]]

    def init_signals(self) -> None:
        """Ours needs PIPE to be there and no reloader to run."""
        self.steps = [("init_signals", len(self.PIPE))]

    def load_wsgi(self) -> None:
        """Ours tells the reloader which files to watch."""
        self.steps.append(("load_wsgi", self.reloader is not None and self.reloader.started))

    def run(self) -> None:
        """Ours returns when the worker has left."""
        self.steps.append(("run", self.booted))


class FakeReloader:
    """Takes the place of a thread."""

    def __init__(self, extra_files: object, callback: Callable[[str], None]) -> None:
        self.callback = callback
        self.started = False

    def start(self) -> None:
        """As a thread's."""
        self.started = True


def boot(monkeypatch: pytest.MonkeyPatch, **values: object) -> Recorder:
    monkeypatch.setitem(reloader.reloader_engines, "poll", FakeReloader)
    monkeypatch.setattr(util, "seed", lambda: None)
    worker: Recorder = make_worker(
        Recorder,
        post_worker_init=lambda worker: worker.steps.append(("post_worker_init", worker.booted)),
        reload_engine="poll",
        **values,
    )
    worker.init_process()
    return worker


def close(worker: Recorder) -> None:
    for fd in worker.PIPE:
        os.close(fd)


def test_init_process_calls_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals before the import, the hook before run(), ``booted`` when run() begins."""
    worker = boot(monkeypatch)
    assert worker.steps == [
        ("init_signals", 2),
        ("load_wsgi", False),
        ("post_worker_init", False),
        ("run", True),
    ]
    close(worker)


def test_the_reloader_is_made_before_the_import_and_started_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that an application which cannot be imported can name the files to watch."""
    worker = boot(monkeypatch, reload=True)
    assert ("load_wsgi", False) in worker.steps
    assert worker.reloader.started
    close(worker)


def test_a_change_of_a_file_clears_alive_and_writes_to_the_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reloader's thread calls it; our loop reads PIPE[0], which does not block."""
    worker = boot(monkeypatch, reload=True)
    with pytest.raises(SystemExit):
        worker.reloader.callback("app.py")
    assert worker.alive is False
    assert os.read(worker.PIPE[0], 4096) == b"1"
    with pytest.raises(BlockingIOError) as caught:
        os.read(worker.PIPE[0], 4096)
    assert caught.value.errno == errno.EAGAIN
    close(worker)


def test_every_reloader_takes_extra_files() -> None:
    """reloading.py hands it the files of a traceback."""
    found: set[str] = set()
    thread = reloader.Reloader(extra_files=[], callback=found.add)
    thread.add_extra_file("broken.py")
    assert "broken.py" in thread.get_files()
    assert reloader.reloader_engines.keys() >= {"auto", "poll", "inotify"}


def test_notify_writes_the_monotonic_clock() -> None:
    """workers/workertmp.py; a process title, a log line or a slot may tell it, not the wall."""
    worker = make_worker()
    before = time.monotonic()
    worker.notify()
    assert before - 1 <= worker.tmp.last_update() <= time.monotonic() + 1
