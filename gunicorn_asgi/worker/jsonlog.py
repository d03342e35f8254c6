"""Both logs as JSON: one object in a line. The keys are in docs/observability.md.

``JSONFormatter`` does it, from the atoms of an access line and the record of any other line.
``JSONLogger`` is Gunicorn's Logger with that formatter; where the logs go, and which lines are
written, is Gunicorn's business and set with Gunicorn's settings.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from logging.handlers import SysLogHandler
from typing import Any

from gunicorn.config import AccessLogFormat, Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.protocol.accesslog import FIELDS
from gunicorn_asgi.protocol.identity import RequestName
from gunicorn_asgi.worker.atoms import RawAtoms

__all__ = [
    "ACCESS_KEYS",
    "JSONFormatter",
    "JSONLogger",
    "JSONStatsdLogger",
    "in_use",
    "note_request",
    "note_worker",
]

# A longer text is cut (characters): of a value, and of a message or a traceback. Each may grow to
# six bytes, and collectors commonly take lines of up to 64 kB to 1 MB.
_VALUE = 4096
_TEXT = 32768

# Key: the atom that it is made of, and what makes it.
ACCESS_KEYS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "request_id": ("request_id", str),
    "client": ("h", str),
    "user": ("u", str),
    "method": ("m", str),
    "path": ("U", str),
    "query": ("q", str),
    "http_version": ("http_version", str),
    "tls_version": ("tls_version", str),
    "status": ("s", int),
    "duration": ("L", float),
    "ttfb": ("ttfb", float),
    "bytes_in": ("bytes_in", int),
    "bytes_out": ("B", int),
    "body_messages": ("body_messages", int),
    "ws_received": ("ws_received", int),
    "ws_sent": ("ws_sent", int),
    "ws_bytes_received": ("ws_bytes_received", int),
    "referer": ("f", str),
    "user_agent": ("a", str),
}
# Gunicorn's own atoms, and ours. Whatever else a subclass adds to them becomes a key of its own.
_KNOWN = {*"hlurtsmUqHBbfaTDMLp", *FIELDS, "generation"}

_ACCESS = "gunicorn.access"
_request_id: ContextVar[str] = ContextVar("gunicorn_asgi.request_id", default="")


class _Process:
    """What is known of this process: master, or worker after the fork."""

    writes = False
    generation = 0


def in_use() -> bool:
    """Runs in: worker. Whether anything here writes JSON, and so wants to know of requests."""
    return _Process.writes


def note_worker(generation: int) -> None:
    """Runs in: worker. It is a worker's lines from now on."""
    _Process.generation = generation


def note_request(request_id: str) -> None:
    """Runs in: worker. What is logged in this task, and in those that it starts, has that id."""
    _request_id.set(request_id)


class JSONFormatter(logging.Formatter):
    """Runs in: master and worker. A log record as one JSON object, in ASCII, without line ends."""

    def __init__(self, prefix: str = "") -> None:
        """Runs in: master and worker. ``prefix``: what stands in front of the object."""
        super().__init__()
        self._prefix = prefix
        _Process.writes = True

    def format(self, record: logging.LogRecord) -> str:
        """Runs in: master and worker. Never NaN, never half a surrogate pair, nothing endless."""
        told: dict[str, Any] = {
            "timestamp": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": "",
            "pid": record.process,
        }
        if _Process.generation:
            told["generation"] = _Process.generation
        atoms = _atoms_of(record)
        if atoms is None:
            told["message"] = _clean(record.getMessage(), _TEXT)
            _add_details(told, record, self)
        else:
            told["message"] = _clean(_line(record, atoms), _TEXT)
            _add_atoms(told, atoms)
        return self._prefix + json.dumps(told, allow_nan=False)


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _atoms_of(record: logging.LogRecord) -> dict[str, Any] | None:
    """The atoms of an access line, as ``Logger.atoms`` has made them; None for another line."""
    if record.name != _ACCESS or not isinstance(record.args, dict):
        return None
    atoms: dict[str, Any] = getattr(record.args, "raw", record.args)
    return atoms


def _line(record: logging.LogRecord, atoms: dict[str, Any]) -> str:
    """What access_log_format makes, if it is one of the user's; else no more than is readable."""
    if record.msg != AccessLogFormat.default:
        return record.getMessage()
    return f"{atoms.get('m')} {atoms.get('U')} {atoms.get('s')}"


def _add_atoms(told: dict[str, Any], atoms: dict[str, Any]) -> None:
    for key, (atom, make) in ACCESS_KEYS.items():
        value = atoms.get(atom)
        if value is not None and value != "-":
            told[key] = _made(make, value)
    for atom, value in atoms.items():
        if atom not in _KNOWN and not atom.startswith("{") and atom not in told:
            told[atom] = _clean(value)


def _made(make: Callable[[Any], Any], value: object) -> object:
    try:
        return _clean(make(value))
    except (TypeError, ValueError):  # a subclass of the user's has put something else there
        return _clean(value)


def _add_details(told: dict[str, Any], record: logging.LogRecord, form: JSONFormatter) -> None:
    """The request, and the traceback: of that, the end is what matters."""
    args = record.args if isinstance(record.args, tuple) else ()
    names = [each.request_id for each in args if isinstance(each, RequestName)]
    request_id = names[0] if names else _request_id.get()
    if request_id:
        told["request_id"] = _clean(request_id)
    if record.exc_info and record.exc_info[0] is not None:
        # Not kept in exc_text, as logging does: another handler may want it whole.
        told["exc_info"] = _clean(form.formatException(record.exc_info)[-_TEXT:], _TEXT)
    if record.stack_info:
        told["stack_info"] = _clean(record.stack_info[-_TEXT:], _TEXT)


def _clean(value: object, longest: int = _VALUE) -> object:
    """``value`` as JSON can have it."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    text = str(value)
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    if text.isascii():
        return text
    # A lone surrogate, as os.fsdecode() makes them, has no place in UTF-8 (RFC 8259 section 8.1).
    return text.encode("utf-8", "replace").decode("utf-8")


class _WritesJSON:
    """What makes a logger of Gunicorn's write JSON."""

    # json.dumps escapes, once.
    atoms_wrapper_class = RawAtoms

    def setup(self, cfg: Config) -> None:
        """Runs in: master and worker. Gunicorn: at the start and with each reload."""
        super().setup(cfg)  # type: ignore[misc]  # of Gunicorn's Logger
        name = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
        for channel in (self.error_log, self.access_log):  # type: ignore[attr-defined]
            for handler in channel.handlers:
                if not getattr(handler, "_gunicorn", False):
                    continue  # by logconfig: it has been told what to write
                tag = f"gunicorn.{name}.{channel.name.rpartition('.')[2]}: "
                syslog = isinstance(handler, SysLogHandler)
                handler.setFormatter(JSONFormatter(tag if syslog else ""))


class JSONLogger(_WritesJSON, Logger):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: master and worker. ``logger_class = "gunicorn_asgi.logs.JSONLogger"``."""


class JSONStatsdLogger(_WritesJSON, Statsd):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: master and worker. The same with ``statsd_host``.

    Gunicorn itself puts its statsd logger only in the place of its default one.
    """
