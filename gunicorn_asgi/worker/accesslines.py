"""The short way of the access log: lines of a compiled format, written once a turn of the loop.

It is taken while nobody but Gunicorn has a say in what becomes of a line: its own logger class, and
handlers that it has made itself and that nobody has changed. Everything else goes the long way,
through ``Logger.access`` and ``logging``, line by line.

What is written is written by ``logging`` all the same: one record with all lines, through the
handler's own ``handle()``. So its lock, its stream, which USR1 changes, and its errors are its own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import select
from collections.abc import Callable, Iterator

from gunicorn import glogging
from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.worker.accessform import MakeLine, compiled
from gunicorn_asgi.worker.atoms import PrintableAtoms

__all__ = ["AccessLines", "access_lines"]

# Lines at the most that wait for the end of the turn.
_GATHERED = 64

# write(2) of so many bytes is one piece in a pipe, so that lines of several workers do not mix
# (pipe(7)). The other number is for a platform that does not tell it (POSIX: _POSIX_PIPE_BUF).
_PIECE = getattr(select, "PIPE_BUF", 512)

# What of Gunicorn's logger makes a line, and what of ``logging`` has it written.
_LOGGER = ("access", "atoms", "now", "_get_user")
_CHANNEL = ("info", "isEnabledFor", "_log", "makeRecord", "handle", "callHandlers")
_HANDLER = ("handle", "emit", "format", "acquire", "release")


def access_lines(
    log: Logger,
    generation: int,
    loop: asyncio.AbstractEventLoop,
    long_way: Callable[[AccessRecord], None],
) -> AccessLines | None:
    """Runs in: worker. The short way, None if ``log`` needs the long one.

    Args:
        log: the worker's logger, before anybody has put something into it.
        generation: the worker's.
        loop: at the end of whose turns lines are written.
        long_way: writes a line through ``log``.
    """
    if any(_module_of(getattr(log, name, None)) is not vars(glogging) for name in _LOGGER):
        return None  # a class of the user's, statsd's, or one that somebody has patched
    if log.atoms_wrapper_class is not PrintableAtoms:
        return None
    gate = "access_log_enabled"  # a property, since Gunicorn 27
    if getattr(type(log), gate, None) is not getattr(Logger, gate, None):
        return None
    cfg = log.cfg
    if not cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
        return None
    channel = _Channel.of(log.access_log)
    if channel is None:
        return None
    make = compiled(cfg.access_log_format, log, generation)
    return None if make is None else AccessLines(make, channel, log, loop, long_way)


def _module_of(method: object) -> object:
    """The names of the module in which ``method`` was written; None if it is none of Python's."""
    return getattr(method, "__globals__", None)


class AccessLines:
    """Runs in: worker. Makes lines, gathers them, and writes them at the end of the turn."""

    def __init__(
        self,
        make: MakeLine,
        channel: _Channel,
        log: Logger,
        loop: asyncio.AbstractEventLoop,
        long_way: Callable[[AccessRecord], None],
    ) -> None:
        """Runs in: worker. See ``access_lines``."""
        # Process
        self._make = make
        self._channel = channel
        self._log = log
        self._loop = loop
        self._long_way = long_way
        self._context = contextvars.copy_context()
        self._pid = os.getpid()
        # Turn
        self._lines: list[str] = []
        # The loop may have had its last turn: SIGABRT, or a request that ends with the process.
        atexit.register(self._leave)

    def take(self, record: AccessRecord) -> None:
        """Runs in: worker. Never raises what has to do with the line."""
        lines = self._lines
        if not lines and not self._begin():
            self._long_way(record)
            return
        try:
            lines.append(self._make(record))
        except Exception:  # noqa: BLE001 - whatever it is, the long way meets it too, and tells
            self.flush()
            self._long_way(record)
        if len(lines) >= _GATHERED:
            self.flush()

    def flush(self) -> None:
        """Runs in: worker. Write what was gathered."""
        lines = self._lines
        if not lines:
            return
        self._lines = []
        channel = self._channel
        if channel.is_still_plain():
            for piece in lines if len(lines) == 1 else _pieces(lines):
                self._write(channel.handle, piece)
        else:  # since the first of them
            for line in lines:
                self._write(channel.tell, line)

    def _write(self, write: Callable[[str], None], text: str) -> None:
        log = self._log
        try:
            write(text)
        except Exception:  # a handler or a filter of the user's, or a file that does not open
            log.exception("Exception in the access log")

    def _begin(self) -> bool:
        """A turn has its first line; False if that has to go the long way."""
        if not self._channel.is_plain():
            return False
        try:
            self._loop.call_soon(self.flush, context=self._context)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _leave(self) -> None:
        if os.getpid() == self._pid:  # what a fork of the application's has, is not its own
            self.flush()


class _Channel:
    """Gunicorn's access log as ``logging`` has it, with the one handler that Gunicorn makes."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._handlers = list(logger.handlers)
        self._handler = self._handlers[0]
        self._formatter = self._handler.formatter
        self._methods = _patchable()
        self._patched = False
        self._record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, "", None, None)

    @classmethod
    def of(cls, logger: logging.Logger) -> _Channel | None:
        """Runs in: worker. None if somebody has a say in it already."""
        factory, *methods = _patchable()
        if (
            type(logger) is not logging.Logger
            or vars(logger).keys() & set(_CHANNEL)
            or factory is not logging.LogRecord
            or any(_module_of(each) is not vars(logging) for each in methods)
            or len(logger.handlers) != 1
            or not _made_by_gunicorn(logger.handlers[0])
        ):
            return None
        channel = cls(logger)
        return channel if channel.is_plain() else None

    def is_plain(self) -> bool:
        """Runs in: worker. Whether Gunicorn's own handler alone sees a line, and as it is."""
        logger, handler = self._logger, self._handler
        return (
            not self._patched
            and logger.handlers == self._handlers
            and not logger.filters
            and not logger.propagate
            and logger.isEnabledFor(logging.INFO)
            and not handler.filters
            and handler.level <= logging.INFO
            and handler.formatter is self._formatter
        )

    def is_still_plain(self) -> bool:
        """Runs in: worker. The same, and nobody has patched ``logging`` either, up to now."""
        if _patchable() != self._methods:
            self._patched = True
        return self.is_plain()

    def handle(self, text: str) -> None:
        """Runs in: worker. Have Gunicorn's handler write ``text``, and a line end."""
        record = self._record
        record.msg = text
        self._handler.handle(record)

    def tell(self, line: str) -> None:
        """Runs in: worker. Have everybody hear of ``line`` who wants to."""
        self._logger.info(line)


def _patchable() -> tuple[object, ...]:
    """What somebody may have put something in the place of, for all of ``logging``."""
    kind = logging.Logger
    own = (kind.info, kind._log, kind.makeRecord, kind.handle, kind.callHandlers)
    return (logging.getLogRecordFactory(), *own)


def _made_by_gunicorn(handler: logging.Handler) -> bool:
    formatter = handler.formatter
    return (
        type(handler) in (logging.StreamHandler, logging.FileHandler)
        and getattr(handler, "_gunicorn", False)
        and not vars(handler).keys() & set(_HANDLER)
        and type(formatter) is logging.Formatter
        and formatter._fmt == Logger.access_fmt
        and not vars(formatter).keys() & {"format"}
    )


def _pieces(lines: list[str]) -> Iterator[str]:
    """``lines`` in pieces that a pipe takes whole, without the line end of the last."""
    text = "\n".join(lines)
    if not text.isascii():
        # A stream that cannot encode one of them shall lose that one, and not its neighbours.
        yield from lines
        return
    begin = 0
    while len(text) - begin >= _PIECE:
        end = text.rfind("\n", begin, begin + _PIECE)
        if end < 0:  # a line that is longer
            end = text.find("\n", begin)
            if end < 0:
                break
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]
