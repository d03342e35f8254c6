"""``check``: everything that can be wrong before the first worker is forked, and the application.

Gunicorn's ``--check-config`` resolves neither the worker class nor the logger, builds no TLS
context, and knows nothing of our settings.
"""

from __future__ import annotations

import inspect
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from gunicorn import util
from gunicorn.config import Config

from gunicorn_asgi.aio.compat import single_callable, takes
from gunicorn_asgi.worker import arbiter
from gunicorn_asgi.worker.command.output import say
from gunicorn_asgi.worker.command.run import Launcher
from gunicorn_asgi.worker.loading import NotLoaded, load
from gunicorn_asgi.worker.settings import SettingError, Settings
from gunicorn_asgi.worker.tls import check_tls
from gunicorn_asgi.worker.worker import Worker

__all__ = ["check", "complaint_about"]

# What a child says when the application is in order; anything else is what is wrong with it.
_IN_ORDER = b"in order"


class _Failed(Exception):
    """A step has failed; the text says why."""


class _Notes:
    """As much of a Gunicorn log as ``arbiter.check_settings`` uses."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, message: str, *args: object) -> None:
        """Runs in: command line. Keep a line."""
        self.lines.append(message % args)

    info = warning


def check(prog: str, arguments: Sequence[str]) -> int:
    """Runs in: command line. Say what is well and what is not; 0 if all is, else 1.

    Raises:
        SystemExit: only help was asked for, or an argument is none.
    """
    try:
        app = Launcher(prog, arguments)
    except SystemExit as exc:
        if exc.code != 1:  # argparse: 0 after --help, 2 for an unknown flag
            raise
        say(_line("config", "FAILED", "the reason is on standard error"))
        return 1
    cfg = app.cfg
    steps: list[tuple[str, Callable[[], str]]] = [
        ("config", lambda: _config(cfg)),
        ("worker", lambda: _worker(cfg)),
        ("settings", lambda: _settings(cfg)),
        ("tls", lambda: _tls(cfg)),
        ("app", lambda: _app(app)),
    ]
    # All of them, so that one run shows everything that has to be mended.
    results = [_step(name, run) for name, run in steps]
    return 0 if all(results) else 1


def _line(name: str, word: str, detail: str) -> str:
    return f"{name:<10}{word:<8}{detail}".rstrip()


def _step(name: str, run: Callable[[], str]) -> bool:
    try:
        detail = run()
    except (_Failed, RuntimeError) as exc:  # Gunicorn's own word for a wrong setting
        say(_line(name, "FAILED", _one_line(str(exc))))
        return False
    say(_line(name, "ok", detail))
    return True


def _one_line(text: str) -> str:
    """What is said first and last: Gunicorn puts tracebacks into its messages."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" []")]
    return " ".join([*lines[:1], *lines[1:][-1:]])


def _last_words(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"


def _config(cfg: Config) -> str:
    # The environment may hold settings of ours, and what the application reads at import.
    os.environ.update(cfg.env)
    for name in arbiter.PROVED:
        if name != "worker_class":
            getattr(cfg, name)
    paths = [os.path.abspath(path) for path in (cfg.pythonpath or "").split(",") if path]
    sys.path[:0] = reversed(paths)  # each in front of those before it, as Gunicorn does
    return f"workers: {cfg.workers}, bind: {', '.join(cfg.settings['bind'].get())}"


def _worker(cfg: Config) -> str:
    found = cfg.worker_class
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise _Failed(f"{cfg.worker_class_str} is not gunicorn_asgi.Worker")
    return str(cfg.worker_class_str)


def _settings(cfg: Config) -> str:
    notes = _Notes()
    arbiter.check_settings(cfg, notes)
    for line in notes.lines:
        say(_line("settings", "note", line))
    return ""


def _tls(cfg: Config) -> str:
    if not cfg.is_ssl:
        return "off"
    files = f"certfile {cfg.certfile}, keyfile {cfg.keyfile}"
    try:
        check_tls(cfg)
    except SettingError as exc:  # OpenSSL does not say which file it could not open
        raise _Failed(f"{exc} ({files})") from exc
    return files


# -- the application -------------------------------------------------------------------------------


def _app(app: Launcher) -> str:
    """Import it in a child, as a worker would: nothing that it does there stays."""
    limit = _boot_timeout(app.cfg)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _be_the_child(app, writer)
    os.close(writer)
    # What the child has started may hold the pipe open after it, so its end is not waited for.
    in_time, _, _ = select.select([reader], [], [], limit or None)
    words = os.read(reader, 65536) if in_time else b""
    os.close(reader)
    if not words:
        os.kill(pid, signal.SIGKILL)  # it still imports, or has ended and waits to be waited for
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not in_time:
        raise _Failed(f"the import took longer than asgi_boot_timeout ({limit:g} s)")
    if words != _IN_ORDER:
        raise _Failed(words.decode() or f"the import ended the process, status {status}")
    return str(app.app_uri)


def _boot_timeout(cfg: Config) -> float:
    try:
        return float(Settings.resolve(cfg).values["asgi_boot_timeout"])
    except SettingError:  # said by another step
        return 0.0


def _be_the_child(app: Launcher, writer: int) -> None:
    """Import, say what came of it, and end without a word to anybody else."""
    words = b"the import was interrupted"
    try:
        if not os.geteuid():  # so that no file it makes belongs to root
            util.set_owner_process(app.cfg.uid, app.cfg.gid, app.cfg.initgroups)
        words = _import(app).encode()[:4000] or _IN_ORDER
    finally:
        os.write(writer, words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _import(app: Launcher) -> str:
    """What is wrong with the application; empty if nothing is."""
    try:
        return complaint_about(load(app))
    except NotLoaded as exc:
        return str(exc)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - the application's code
        traceback.print_exc()
        return _one_line(_last_words(exc))


def complaint_about(app: Callable[..., object]) -> str:
    """Runs in: command line. Why ``app`` is no ASGI application; empty if it may be one.

    A worker refuses only what is clearly something else, see ``loading.misfit``; nobody who asks
    whether all is well wants to hear that it may be.
    """
    try:
        signature = inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):  # made in C: it does not tell
        return ""
    if takes(signature, 3) or single_callable(app) is not app:
        return ""
    name = getattr(app, "__name__", type(app).__name__)
    return f"{name}{signature} does not take (scope, receive, send)"
