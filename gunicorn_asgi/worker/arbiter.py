"""Everything of ours that runs in the master: a guest in Gunicorn's Arbiter.

``check()`` runs once, before the first fork, and may refuse the start: that is Gunicorn's own
way to say that a configuration cannot be served. Afterwards nothing here may raise: an
exception in the arbiter's main loop ends the server (exit 255).
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import NamedTuple

import gunicorn
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.sock import BaseSocket

from gunicorn_asgi.worker import statusdesk, statusport
from gunicorn_asgi.worker.scoreboard import Header, Scoreboard, Slot
from gunicorn_asgi.worker.settings import SettingError, Settings
from gunicorn_asgi.worker.tls import check_tls

__all__ = [
    "NOT_HONOURED",
    "OLDEST",
    "PROVED",
    "REFUSED",
    "Berth",
    "berth",
    "check",
    "check_settings",
    "guard_reload",
    "note_listener",
]

# Gunicorn's settings that mean nothing here, and the reason to give. What is not in
# this table is honoured, or is the arbiter's own business.
NOT_HONOURED: dict[str, str] = {
    "casefold_http_method": "httptools takes methods in capitals only",
    "do_handshake_on_connect": "asyncio does the TLS handshake itself",
    "http2_initial_window_size": "HTTP/2 is not served",
    "http2_max_concurrent_streams": "HTTP/2 is not served",
    "http2_max_frame_size": "HTTP/2 is not served",
    "http2_max_header_list_size": "HTTP/2 is not served",
    "permit_obsolete_folding": "httptools refuses folded header lines",
    "permit_unconventional_http_method": "httptools has a fixed list of methods",
    "permit_unconventional_http_version": "only HTTP/1.0 and HTTP/1.1 are served",
    "ssl_version": "Gunicorn ignores it since 21; use the ssl_context hook",
    "strip_header_spaces": "httptools refuses a space before the colon",
    "suppress_ragged_eofs": "asyncio treats a missing close_notify as the end",
    "threads": "one event loop serves all requests of a worker",
    "tmp_upload_dir": "uploads go to the application as they arrive",
    "uwsgi_allow_ips": "only HTTP is served",
}

# Values that cannot be served at all: name, the values that can, the reason.
REFUSED: tuple[tuple[str, frozenset[object], str], ...] = (
    ("http2_cleartext", frozenset({"off"}), "HTTP/2 is not served"),
    ("http_parser", frozenset({"auto", "fast"}), "the parser is httptools"),
    ("protocol", frozenset({"http"}), "only HTTP is served"),
)


# What ``Arbiter.setup`` and ``Arbiter.reload`` read of a Config where they can only die.
PROVED = ("worker_class", "address", "logger_class", "env", "proc_name", "uid", "gid")


# The oldest Gunicorn that is served with, as pyproject.toml has it.
OLDEST = (23,)


class Berth(NamedTuple):
    """Runs in: master and worker. What a worker is given on its way out of the master."""

    settings: Settings
    board: Scoreboard
    slot: Slot


class _Master:
    """What the master remembers of us, from one fork to the next."""

    board: Scoreboard | None = None
    cfg: Config | None = None
    settings: Settings | None = None
    forked = 0
    reloaded = False
    refusal = ""


def check(cfg: Config, log: Logger) -> None:
    """Runs in: master. Refuse what cannot be served, and name what is set but not honoured.

    Raises:
        SettingError: the server must not start with this configuration.
    """
    settings = check_settings(cfg, log)
    check_tls(cfg)
    statusport.open_first(settings, cfg, log)
    statusdesk.import_needed(settings, log)


def check_settings(cfg: Config, log: Logger) -> Settings:
    """Runs in: master and command line. The part of ``check`` that opens no file.

    Raises:
        SettingError: the server must not start with this configuration.
    """
    _check_gunicorn()
    settings = Settings.resolve(cfg)
    for name, allowed, reason in REFUSED:
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() not in allowed:
            values = ", ".join(sorted(str(value) for value in allowed))
            raise SettingError(f"{name} is {setting.get()!r}: {reason}; allowed: {values}")
    if set(getattr(cfg, "http_protocols", ("h1",))) - {"h1"}:
        raise SettingError(f"http_protocols is {cfg.http_protocols!r}: only h1 is served")
    _check_loop(settings)
    for name, reason in NOT_HONOURED.items():
        if _is_set(cfg, name):
            log.warning("The setting %s is set but not honoured: %s", name, reason)
    for sentence in Settings.misspelt(cfg):
        log.warning("%s", sentence)
    if cfg.preload_app:
        log.info("preload_app: HUP restarts the workers with the code already loaded")
    return settings


def berth(cfg: Config, log: Logger, age: int) -> Berth:
    """Runs in: master. Settings, board and slot for a worker about to be forked.

    A new Config means a reload, and so a new generation. Never raises: settings that became
    invalid since the start are reported, and the ones before stay in force.
    """
    if _Master.board is None:
        _Master.board = Scoreboard.create()
    board = _Master.board
    if _Master.settings is None or _Master.cfg is not cfg or _Master.reloaded:
        _Master.settings = _settings(cfg, log)
        statusport.follow(_Master.settings, cfg, log)
        _import_needed(_Master.settings, log)
        _Master.cfg = cfg
        _Master.reloaded = False
        _Master.forked = 0
        board.begin_generation(cfg.workers, _Master.refusal)
        _Master.refusal = ""
    _Master.forked += 1
    founder = _Master.forked <= board.get(Header.TARGET)
    return Berth(_Master.settings, board, board.claim(founder, age))


def note_listener(board: Scoreboard, sockets: Sequence[BaseSocket]) -> None:
    """Runs in: master. Let workers of any age see whether the master still listens.

    Noted with each fork: a reload that changes ``bind`` closes the listeners that the older ones
    know, and that is no stop.
    """
    inode = os.fstat(sockets[0].fileno()).st_ino if sockets else 0
    board.put(Header.LISTENER, inode)


def guard_reload(app: BaseApplication, log: Logger) -> None:
    """Runs in: master. Let a broken configuration survive HUP; the one method we replace.

    ``BaseApplication.do_load_config`` ends the process on any error, which at a reload takes
    the server down for a typo. Idempotent; off with ``asgi_reload_guard = False``.
    """
    if "reload" in vars(app):
        return
    load = app.reload

    def reload() -> None:
        """Runs in: master. Load the configuration, or keep the one there is."""
        before = dict(vars(app))
        try:
            load()
            _prove(app.cfg)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the door of the master
            vars(app).update(before)
            # The arbiter goes on to fork a new generation, of the same Config object.
            _Master.reloaded = True
            # Gunicorn exits for an error that it has printed; its text is in the context.
            cause = (exc.__context__ if isinstance(exc, SystemExit) else None) or exc
            _Master.refusal = "".join(traceback.format_exception(cause))
            log.error("The configuration could not be loaded, the old one stays: %r", cause)

    app.reload = reload


def _prove(cfg: Config) -> None:
    for name in PROVED:
        getattr(cfg, name)


def _settings(cfg: Config, log: Logger) -> Settings:
    try:
        return Settings.resolve(cfg)
    except SettingError as exc:
        if _Master.settings is None:
            raise  # a first start that check() did not see: fail loudly
        log.error("Invalid setting after reload, the old settings stay in force: %s", exc)
        _Master.refusal = str(exc)
        return _Master.settings


def _import_needed(settings: Settings, log: Logger) -> None:
    try:
        statusdesk.import_needed(settings, log)
    except Exception as exc:  # noqa: BLE001 - the master; the workers will find it too, and not boot
        log.error("What the workers need cannot be imported: %r", exc)


def _is_set(cfg: Config, name: str) -> bool:
    setting = cfg.settings.get(name)
    return setting is not None and bool(setting.get() != type(setting)().get())


def _check_gunicorn() -> None:
    """First of all: an older one lacks settings that ``Settings`` reads."""
    if gunicorn.version_info < OLDEST:
        raise SettingError(
            f"Gunicorn is {gunicorn.__version__}, and gunicorn_asgi needs {OLDEST[0]} or newer: "
            f"pip install 'gunicorn>={OLDEST[0]}'"
        )


def _check_loop(settings: Settings) -> None:
    """Also imports uvloop for the workers, which then share its memory; it makes no loop."""
    if settings.values["asgi_loop"] == "asyncio":
        return
    try:
        import uvloop  # noqa: F401
    except ImportError:
        if settings.values["asgi_loop"] == "uvloop":
            raise SettingError(
                "asgi_loop is 'uvloop', which is not installed: pip install uvloop, or set "
                "asgi_loop to 'auto' or 'asyncio'"
            ) from None
