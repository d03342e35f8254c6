"""The short way of the access log is left as soon as somebody else has a say in a line."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from accesslogs import FORM, Ear, Short, Turns, access_logger, line
from gunicorn_asgi.worker.accesslines import access_lines
from gunicorn_asgi.worker.atoms import RawAtoms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__: list[str] = []


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Short]:
    """On a file."""
    path = tmp_path / "access.log"
    with access_logger(path, access_log_format=FORM) as log:
        yield Short(path, log)


# -- while it is taken -----------------------------------------------------------------------------


def add_handler(short: Short) -> None:
    short.log.access_log.addHandler(Ear())


def add_filter(short: Short) -> None:
    short.log.access_log.addFilter(lambda _record: True)


def add_handler_filter(short: Short) -> None:
    short.handler.addFilter(lambda _record: True)


def set_level(short: Short) -> None:
    short.log.access_log.setLevel(logging.WARNING)


def set_handler_level(short: Short) -> None:
    short.handler.setLevel(logging.WARNING)


def disable(short: Short) -> None:
    short.log.access_log.disabled = True


def propagate(short: Short) -> None:
    short.log.access_log.propagate = True


def set_formatter(short: Short) -> None:
    short.handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))


def remove(short: Short) -> None:
    short.log.access_log.removeHandler(short.handler)


CHANGES = [
    *(add_handler, add_filter, add_handler_filter, set_level, set_handler_level, disable),
    *(propagate, set_formatter, remove),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_who_changes_the_logger_has_his_say_from_the_next_turn_on(
    short: Short, change: Callable[[Short], None]
) -> None:
    """Its lines go the long way, as they are."""
    short.take("/1")
    short.turns.end()
    handler = short.handler
    change(short)
    short.take("/2", "/3")
    short.turns.end()
    assert [each.head.target for each in short.long] == [b"/2", b"/3"]
    assert short.text() == line("/1")
    handler.close()


def test_logging_that_is_disabled_has_nothing_written(short: Short) -> None:
    """logging.disable()."""
    assert short.lines
    logging.disable(logging.INFO)
    try:
        short.take("/1")
    finally:
        logging.disable(logging.NOTSET)
    short.take("/2")
    short.turns.end()
    assert [each.head.target for each in short.long] == [b"/1"]
    assert short.text() == line("/2")


def test_a_handler_that_comes_in_the_middle_of_a_turn_gets_the_lines_of_it(short: Short) -> None:
    """As texts, and Gunicorn's own gets them too."""
    ear = Ear()
    short.take("/%d", "/2")
    short.log.access_log.addHandler(ear)
    short.turns.end()
    assert ear.heard == [line("/%d").rstrip(), line("/2").rstrip()]
    assert short.text() == line("/%d") + line("/2")


def test_a_filter_of_the_users_that_raises_costs_no_request(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no line but its own."""
    told: list[str] = []
    monkeypatch.setattr(Logger, "exception", lambda _self, text: told.append(text))

    def picky(record: logging.LogRecord) -> bool:
        if "/2" in record.getMessage():
            raise ValueError("no")
        return True

    short.take("/1", "/2", "/3")
    short.log.access_log.addFilter(picky)
    short.turns.end()
    assert told == ["Exception in the access log"]
    assert short.text() == line("/1") + line("/3")


@pytest.mark.parametrize("name", ["callHandlers", "handle", "makeRecord", "info", "_log"])
def test_who_patches_logging_sees_every_line(
    short: Short, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As Sentry's SDK does; the long way from the next turn on."""
    seen: list[str] = []
    original = getattr(logging.Logger, name)

    def patched(self: logging.Logger, *args: Any, **more: Any) -> object:
        seen.append(self.name)
        return original(self, *args, **more)

    short.take("/1")
    monkeypatch.setattr(logging.Logger, name, patched)
    short.turns.end()
    assert seen == ["gunicorn.access"]
    assert short.text() == line("/1")
    short.take("/2")
    assert [each.head.target for each in short.long] == [b"/2"]
    assert short.find() is None


def test_a_factory_for_records_sees_every_line(short: Short) -> None:
    """logging.setLogRecordFactory(), as OpenTelemetry uses it."""
    seen: list[str] = []
    own = logging.getLogRecordFactory()

    def factory(*args: Any, **more: Any) -> logging.LogRecord:
        made = own(*args, **more)
        seen.append(made.getMessage())
        return made

    short.take("/1")
    logging.setLogRecordFactory(factory)
    try:
        short.turns.end()
        assert short.find() is None
    finally:
        logging.setLogRecordFactory(own)
    assert seen == [line("/1").rstrip()]


# -- who needs the long way from the beginning -----------------------------------------------------


class Access(Logger):  # type: ignore[misc]  # Gunicorn is not typed
    """A class of the user's."""

    def access(self, *args: object) -> None:
        """Not all lines."""


class Atoms(Logger):  # type: ignore[misc]
    """Another one."""

    def atoms(self, *args: object) -> dict[str, Any]:
        """One more."""
        found: dict[str, Any] = super().atoms(*args)
        return {**found, "x": "y"}


class Now(Logger):  # type: ignore[misc]
    """With a clock of its own."""

    def now(self) -> str:
        """In UTC."""
        return "now"


class Wrapper(Logger):  # type: ignore[misc]
    """With a wrapper of its own."""

    atoms_wrapper_class = RawAtoms  # as JSONLogger


class Gate(Logger):  # type: ignore[misc]
    """That asks in its own way whether there is a log."""

    access_log_enabled = False


class Setup(Logger):  # type: ignore[misc]
    """That has only set something up."""

    def setup(self, cfg: object) -> None:
        """As Gunicorn does."""
        super().setup(cfg)


@pytest.mark.parametrize("kind", [Access, Atoms, Now, Wrapper, Gate, Statsd])
def test_a_logger_class_that_has_a_say_is_asked(tmp_path: Path, kind: type[Logger]) -> None:
    """For each line, as Gunicorn does."""
    with access_logger(tmp_path / "log", kind, statsd_host="127.0.0.1:9") as log:
        assert access_lines(log, 1, Turns(), print) is None  # type: ignore[arg-type]


def test_a_logger_class_that_has_no_say_in_lines_is_none_to_ask(tmp_path: Path) -> None:
    """Only what makes and writes a line counts."""
    with access_logger(tmp_path / "log", Setup) as log:
        assert access_lines(log, 1, Turns(), print) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["access", "atoms", "now", "_get_user"])
@pytest.mark.parametrize("where", ["class", "object"])
def test_a_logger_that_somebody_has_patched_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """Gunicorn's own class, with something else in it."""
    with access_logger(tmp_path / "log") as log:
        assert access_lines(log, 1, Turns(), print) is not None  # type: ignore[arg-type]
        owner = Logger if where == "class" else log
        monkeypatch.setattr(owner, name, lambda *_args: None)
        assert access_lines(log, 1, Turns(), print) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_who_has_changed_the_logger_before_has_his_say(
    short: Short, change: Callable[[Short], None]
) -> None:
    """While the application was imported."""
    handler = short.handler
    assert short.find() is not None
    change(short)
    assert short.find() is None
    handler.close()


def test_a_handler_that_gunicorn_has_not_made_is_asked(short: Short) -> None:
    """And one of Gunicorn's with something of its own in it."""

    class Own(logging.FileHandler):
        """Rotates, for example."""

    handler, handlers = short.handler, short.log.access_log.handlers
    own = Own(short.path)
    own.setFormatter(handler.formatter)
    own._gunicorn = True  # type: ignore[attr-defined]
    handlers[:] = [own]
    assert short.find() is None
    handlers[:] = [plain := logging.StreamHandler(sys.stderr)]
    plain.setFormatter(handler.formatter)
    assert short.find() is None
    handlers[:] = [handler]
    assert short.find() is not None
    handler.emit = Ear().emit  # type: ignore[method-assign]
    assert short.find() is None
    own.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logconfig", "log.ini"),
        ("logconfig_dict", {"version": 1}),
        ("logconfig_json", "log.json"),
        ("accesslog", None),
        ("access_log_format", "%s"),
    ],
)
def test_settings_that_have_a_say_are_honoured(short: Short, name: str, value: object) -> None:
    """What they have made is nobody's business but logging's."""
    assert short.handler
    assert short.find() is not None
    short.log.cfg.set(name, value)
    assert short.find() is None


def test_syslog_beside_the_file_goes_the_long_way(short: Short) -> None:
    """Two handlers, one of which is a SysLogHandler."""
    assert short.handler
    assert short.find() is not None
    syslog = logging.handlers.SysLogHandler(address=("127.0.0.1", 9))
    syslog._gunicorn = True  # type: ignore[attr-defined]
    short.log.access_log.addHandler(syslog)
    assert short.find() is None
