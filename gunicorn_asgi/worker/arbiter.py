"""Everything of ours that runs in the master: a guest in Gunicorn's Arbiter.

``check()`` runs once, before the first fork, and may refuse the start: that is Gunicorn's own
way to say that a configuration cannot be served. Afterwards nothing here may raise: an
exception in the arbiter's main loop ends the server (exit 255).
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from gunicorn import sock
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_asgi.worker.scoreboard import Scoreboard
from gunicorn_asgi.worker.settings import SettingError, Settings

__all__ = ["NOT_HONOURED", "REFUSED", "Berth", "berth", "check", "tls_context"]

# Gunicorn's settings that mean nothing here, or not yet, and the reason to give. What is not in
# this table is honoured, or is the arbiter's own business.
NOT_HONOURED: dict[str, str] = {
    "casefold_http_method": "httptools takes methods in capitals only",
    "do_handshake_on_connect": "asyncio does the TLS handshake itself",
    "forwarded_allow_ips": "forwarded headers are not evaluated yet",
    "forwarder_headers": "forwarded headers are not evaluated yet",
    "header_map": "ASGI takes the fields as they came, none is mapped to a WSGI name",
    "http2_initial_window_size": "HTTP/2 is not served",
    "http2_max_concurrent_streams": "HTTP/2 is not served",
    "http2_max_frame_size": "HTTP/2 is not served",
    "http2_max_header_list_size": "HTTP/2 is not served",
    "permit_obsolete_folding": "httptools refuses folded header lines",
    "permit_unconventional_http_method": "httptools has a fixed list of methods",
    "permit_unconventional_http_version": "only HTTP/1.0 and HTTP/1.1 are served",
    "proxy_allow_ips": "the PROXY protocol is not served yet",
    "secure_scheme_headers": "forwarded headers are not evaluated yet",
    "sendfile": "no file is sent by the server yet",
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
    ("proxy_protocol", frozenset({"off", False}), "the PROXY protocol is not served yet"),
)


class Berth(NamedTuple):
    """Runs in: master and worker. What a worker is given on its way out of the master."""

    settings: Settings
    board: Scoreboard
    generation: int


class _Master:
    """What the master remembers of us, from one fork to the next."""

    board: Scoreboard | None = None
    cfg: Config | None = None
    berth: Berth | None = None


def check(cfg: Config, log: Logger) -> None:
    """Runs in: master. Refuse what cannot be served, and name what is set but not honoured.

    Raises:
        SettingError: the server must not start with this configuration.
    """
    settings = Settings.resolve(cfg)
    for name, allowed, reason in REFUSED:
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() not in allowed:
            values = ", ".join(sorted(str(value) for value in allowed))
            raise SettingError(f"{name} is {setting.get()!r}: {reason}; allowed: {values}")
    if set(getattr(cfg, "http_protocols", ("h1",))) - {"h1"}:
        raise SettingError(f"http_protocols is {cfg.http_protocols!r}: only h1 is served")
    _check_loop(settings)
    _check_tls(cfg)
    for name, reason in NOT_HONOURED.items():
        if _is_set(cfg, name):
            log.warning("The setting %s is set but not honoured: %s", name, reason)
    for sentence in Settings.misspelt(cfg):
        log.warning("%s", sentence)
    if cfg.preload_app:
        log.info("preload_app: HUP restarts the workers with the code already loaded")


def berth(cfg: Config, log: Logger) -> Berth:
    """Runs in: master. Settings, board and generation for a worker about to be forked.

    A new Config means a reload, and so a new generation. Never raises: settings that became
    invalid since the start are reported, and the ones before stay in force.
    """
    if _Master.berth is not None and _Master.cfg is cfg:
        return _Master.berth
    if _Master.board is None:
        _Master.board = Scoreboard()
    settings = _settings(cfg, log)
    _Master.cfg = cfg
    _Master.berth = Berth(settings, _Master.board, _Master.board.next_generation())
    return _Master.berth


def _settings(cfg: Config, log: Logger) -> Settings:
    try:
        return Settings.resolve(cfg)
    except SettingError as exc:
        if _Master.berth is None:
            raise  # a first start that check() did not see: fail loudly
        log.error("Invalid setting after reload, the old settings stay in force: %s", exc)
        return _Master.berth.settings


def _is_set(cfg: Config, name: str) -> bool:
    setting = cfg.settings.get(name)
    return setting is not None and bool(setting.get() != type(setting)().get())


def _check_loop(settings: Settings) -> None:
    if settings.values["asgi_loop"] != "uvloop":
        return
    try:
        import uvloop  # noqa: F401 - a guest in the master makes no loop, it only looks
    except ImportError:
        raise SettingError("asgi_loop is 'uvloop', which is not installed") from None


def _check_tls(cfg: Config) -> None:
    """A context that cannot be built must stop the start, not end in plain HTTP on a TLS port."""
    try:
        tls_context(cfg)
    except Exception as exc:  # the ssl_context hook is the user's code
        raise SettingError(f"TLS cannot be set up: {type(exc).__name__}: {exc}") from exc


def tls_context(cfg: Config) -> ssl.SSLContext | None:
    """Runs in: master, worker. The context that Gunicorn's settings ask for; None without TLS."""
    if not cfg.is_ssl:
        return None
    context = sock.ssl_context(cfg)
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"the ssl_context hook returned {context!r}, which is no SSLContext")
    return context
