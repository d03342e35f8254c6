"""Gunicorn's access logger on a file of the test's, and a loop whose turns the test ends."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms

from gunicorn_asgi.protocol.accesslog import AccessRecord
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.worker.accesslines import AccessLines, access_lines
from gunicorn_asgi.worker.atoms import PrintableAtoms

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "FORM",
    "Ear",
    "Short",
    "Turns",
    "access_logger",
    "leave_gunicorns_alone",
    "line",
    "record",
]

FORM = "%(r)s %(s)s"
ACCESS = logging.getLogger("gunicorn.access")


class Turns:
    """A loop that only knows what is to be called behind this turn."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []
        self.closed = False

    def call_soon(
        self, call: Callable[[], object], *, context: contextvars.Context | None = None
    ) -> None:
        """As a loop's."""
        if self.closed:
            raise RuntimeError("Event loop is closed")
        assert context is not None  # none of a request's
        self.due.append(call)

    def end(self) -> None:
        """The turn is over."""
        due, self.due = self.due, []
        for call in due:
            call()


def leave_gunicorns_alone() -> None:
    """Take away the handlers that pytest gives every logger that does not propagate."""
    ACCESS.handlers[:] = [each for each in ACCESS.handlers if getattr(each, "_gunicorn", False)]


@contextmanager
def access_logger(
    path: Path | str | None, kind: type[Logger] = Logger, /, **values: object
) -> Iterator[Any]:
    """A logger with that ``accesslog``, as ``Hooks`` wraps it; what it has opened is closed."""
    cfg = Config()
    cfg.set("accesslog", None if path is None else str(path))
    for name, value in values.items():
        cfg.set(name, value)
    before = (ACCESS.handlers[:], ACCESS.filters[:], ACCESS.level, ACCESS.propagate)
    ACCESS.handlers.clear()
    log = kind(cfg)
    if log.atoms_wrapper_class is SafeAtoms:
        log.atoms_wrapper_class = PrintableAtoms
    try:
        yield log
    finally:
        for handler in ACCESS.handlers:
            if handler not in before[0]:
                handler.close()
        ACCESS.handlers[:], ACCESS.filters[:] = before[0], before[1]
        ACCESS.setLevel(before[2])
        ACCESS.propagate = before[3]
        ACCESS.disabled = False
        if getattr(log, "sock", None) is not None:  # statsd's
            log.sock.close()


def record(target: str = "/", status: int = 200) -> AccessRecord:
    """A finished exchange."""
    head = RequestHead("GET", target.encode("latin-1"), "1.1", [], True)
    return AccessRecord(head, {}, status, [], 0, 0.0)


def line(target: str = "/", status: int = 200) -> str:
    """Its line."""
    return f"GET {target} HTTP/1.1 {status}\n"


class Short:
    """The short way of a logger of Gunicorn's."""

    def __init__(self, path: Path, log: Any) -> None:  # noqa: ANN401 - Gunicorn is not typed
        """``log`` writes to ``path``."""
        self.path = path
        self.log = log
        self.turns = Turns()
        self.long: list[AccessRecord] = []

    def find(self) -> AccessLines | None:
        """As ``Hooks`` does."""
        return access_lines(self.log, 1, self.turns, self.long.append)  # type: ignore[arg-type]

    @cached_property
    def lines(self) -> AccessLines:
        """There is one, unless somebody has a say in it."""
        leave_gunicorns_alone()
        found = self.find()
        assert found is not None
        return found

    def take(self, *targets: str) -> None:
        """Requests that are over, one after another."""
        for target in targets:
            self.lines.take(record(target))

    def text(self) -> str:
        """What is written."""
        return self.path.read_text()

    @property
    def handler(self) -> logging.Handler:
        """Gunicorn's."""
        leave_gunicorns_alone()
        handler: logging.Handler = self.log.access_log.handlers[0]
        return handler


class Ear(logging.Handler):
    """A handler of the application's."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        self.heard.append(record.getMessage())
