"""Gunicorn's request hooks and access log, fed from finished exchanges.

Nothing is built for what nobody wants: without hooks and without an access log a request costs
nothing here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.aio.state import Scope, ServerState
from gunicorn_asgi.protocol.accesslog import AccessRecord, RequestView, ResponseView, environ_of
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.worker import jsonlog
from gunicorn_asgi.worker.accesslines import AccessLines, access_lines
from gunicorn_asgi.worker.atoms import PrintableAtoms, add_fields

if TYPE_CHECKING:
    from gunicorn_asgi.worker.worker import Worker

__all__ = ["Hooks"]


class Hooks:
    """Runs in: worker. Calls ``pre_request``, ``post_request`` and ``log.access``."""

    def __init__(self, worker: Worker, state: ServerState, generation: int) -> None:
        """Runs in: worker."""
        self._worker = worker
        self._state = state
        self._generation = generation
        self._pre_request = self._hook("pre_request")
        self._post_request = self._hook("post_request")
        self._access = worker.log.access if _logs_access(worker.log) else None
        # statsd's counts and times requests: a WebSocket is one, from its handshake to the 101.
        counts = type(worker.log).access is Statsd.access
        self._access_at_end = (
            functools.partial(Logger.access, worker.log) if counts else self._access
        )
        self._lines: AccessLines | None = None

    def install(self) -> None:
        """Runs in: worker. Put what is wanted, and nothing else, into the request path."""
        jsonlog.note_worker(self._generation)
        if self._pre_request is not None or jsonlog.in_use():
            self._state.on_request = self._before
        log = self._worker.log
        if getattr(log, "atoms_wrapper_class", None) is SafeAtoms:
            log.atoms_wrapper_class = PrintableAtoms
        if self._access is not None:
            loop, state = self._state.loop, self._state
            self._lines = access_lines(log, self._generation, loop, self._log_the_long_way)
            add_fields(log, self._generation)
            state.on_complete = self._log_the_long_way
            state.keeps_headers = True
            if self._lines is not None:
                state.on_complete = self._lines.take
                state.before_flush = self._lines.flush  # who has an answer finds its line
                state.keeps_headers = "}o)" in log.cfg.access_log_format.lower()
        if self._post_request is not None:
            self._state.on_complete = self._after
            self._state.keeps_headers = True

    def _hook(self, name: str) -> Callable[..., object] | None:
        """The user's hook, None if it is Gunicorn's default."""
        setting = self._worker.cfg.settings[name]
        hook: Callable[..., object] = setting.get()
        return None if hook is type(setting)().get() else hook

    def _before(self, head: RequestHead, scope: Scope) -> None:
        jsonlog.note_request(head.request_id)
        if self._pre_request is not None:
            self._worker.nr = self._state.requests
            self._worker.cfg.pre_request(self._worker, RequestView(head, scope))

    def _after(self, record: AccessRecord) -> None:
        """Access log and ``post_request``."""
        if self._lines is not None:
            self._lines.take(record)
        else:
            self._log_the_long_way(record)
        if record.opening or self._post_request is None:
            return  # one post_request a WebSocket, at its end
        log = self._worker.log
        try:
            request, environ, response = _views(record)
            self._worker.nr = self._state.requests
            self._post_request(self._worker, request, environ, response)
        except Exception:  # the user's code; the response is already out
            log.exception("Exception in post_request hook")

    def _log_the_long_way(self, record: AccessRecord) -> None:
        access = self._access if record.figures is None else self._access_at_end
        log = self._worker.log
        if access is None:
            return
        try:
            request, environ, response = _views(record)
            access(response, request, environ, record.elapsed)
        except Exception:  # logger_class is the user's code
            log.exception("Exception in the access log")


def _views(record: AccessRecord) -> tuple[RequestView, dict[str, Any], ResponseView]:
    """Request, environ and response, as hooks and loggers want them."""
    environ = environ_of(record.head, record.scope, record.figures)
    return RequestView(record.head, record.scope), environ, ResponseView(record)


def _logs_access(log: Logger) -> bool:
    """Whether ``log.access`` does anything: a class of the user's, or statsd, always may."""
    if type(log).access is not Logger.access:
        return True
    cfg = log.cfg
    to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    return bool(
        cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or to_syslog
    )
