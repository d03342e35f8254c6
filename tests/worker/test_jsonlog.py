"""Logs as JSON: one object a line, whatever is in it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import AccessLogFormat, Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.logs import JSONFormatter, JSONLogger, JSONStatsdLogger
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.identity import named
from gunicorn_asgi.worker import jsonlog
from gunicorn_asgi.worker.atoms import PrintableAtoms, RawAtoms

__all__: list[str] = []

ATOMS: dict[str, Any] = {
    **{"h": "192.0.2.1", "l": "-", "u": "ada", "t": "[now]", "r": 'GET /"a HTTP/1.1', "s": "200"},
    **{"m": "GET", "U": '/"a', "q": "b=c", "H": "HTTP/1.1", "b": "12", "B": 12, "f": "-"},
    **{"a": "kit", "T": 0, "D": 250000, "M": 250, "L": "0.250000", "p": "<1>"},
    **{"{host}i": "h", "{x}o": "y", "{request_method}e": "GET"},
    **{"request_id": "given", "ttfb": "0.125000", "bytes_in": 3, "bytes_out": 12},
    **{"body_messages": 0, "http_version": "1.1", "tls_version": "TLSv1.3", "generation": 2},
    **{"ws_received": "-", "ws_sent": "-", "ws_bytes_received": "-"},
}
ACCESS = "gunicorn.access"


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker, and nobody who writes JSON."""
    monkeypatch.setattr(jsonlog._Process, "generation", 0)
    monkeypatch.setattr(jsonlog._Process, "writes", False)


def strict(text: str) -> dict[str, Any]:
    """Parse as RFC 8259 has it: no NaN, no key twice; and one line, in ASCII."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    assert isinstance(found, dict)
    return found


def entry(message: object, *args: object, **more: Any) -> dict[str, Any]:
    """What becomes of a line of the error log."""
    record = logging.LogRecord("gunicorn.error", logging.ERROR, "", 1, message, args, None)
    vars(record).update(more)
    return strict(JSONFormatter().format(record))


def access(
    form: str = AccessLogFormat.default, wrapper: type[Any] = RawAtoms, /, **more: object
) -> dict[str, Any]:
    """What becomes of an access line."""
    atoms = wrapper({**ATOMS, **more})
    record = logging.LogRecord(ACCESS, logging.INFO, "", 1, form, (atoms,), None)
    return strict(JSONFormatter().format(record))


# -- the error log ---------------------------------------------------------------------------------


def test_a_line_of_the_error_log() -> None:
    """Every key that it always has."""
    told = entry("%s of %d", "one", 2, created=1767323045.6789)
    assert told == {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "level": "error",
        "logger": "gunicorn.error",
        "message": "one of 2",
        "pid": os.getpid(),
    }


@pytest.mark.parametrize(
    ("fraction", "shown"), [(0.0, "05.000Z"), (0.25, "05.250Z"), (0.9996, "05.999Z")]
)
def test_milliseconds_are_cut(fraction: float, shown: str) -> None:
    """Rounded, they could be a thousand."""
    assert entry("x", created=1767323045 + fraction)["timestamp"] == f"2026-01-02T03:04:{shown}"


def test_the_generation_is_that_of_a_worker() -> None:
    """The master has none."""
    jsonlog.note_worker(7)
    assert entry("x")["generation"] == 7
    jsonlog.note_worker(0)
    assert "generation" not in entry("x")


def test_an_error_of_a_request_has_its_id() -> None:
    """Whichever task has written it: the name of the request is among the arguments."""
    head = RequestHead("GET", b"/a", "1.1", [], True)
    head.request_id = "given"
    told = entry("The application %s: %s", "raised", named(head))
    assert told["request_id"] == "given"
    assert told["message"] == "The application raised: GET '/a' (request given)"
    head.request_id = ""
    assert "request_id" not in entry("%s", named(head))


def test_what_an_application_logs_has_the_id_of_its_request() -> None:
    """In tasks that it starts too, and not behind the request."""

    async def app() -> list[str]:
        jsonlog.note_request("given")
        told = entry("x")["request_id"]
        return [told, await asyncio.create_task(child())]

    async def child() -> str:
        found: str = entry("x")["request_id"]
        return found

    assert contextvars.copy_context().run(asyncio.run, app()) == ["given", "given"]
    assert "request_id" not in entry("x")


def test_a_traceback_is_text() -> None:
    """With its cause; the record is left as it was for other handlers."""
    try:
        try:
            raise LookupError("first")
        except LookupError as exc:
            raise ValueError("second \x1b[31m\n\udc80") from exc
    except ValueError:
        info = sys.exc_info()
    told = entry("x", exc_info=info)
    assert told["exc_info"].startswith("Traceback (most recent call last):\n")
    assert "LookupError: first" in told["exc_info"]
    assert told["exc_info"].endswith("ValueError: second \x1b[31m\n?")


def test_an_absent_exception_is_no_traceback() -> None:
    """log.exception() outside of an except clause."""
    assert "exc_info" not in entry("x", exc_info=(None, None, None))


def test_a_stack_is_text() -> None:
    """stack_info=True."""
    assert entry("x", stack_info="Stack:\n  a")["stack_info"] == "Stack:\n  a"


def test_of_a_long_traceback_the_end_is_kept() -> None:
    """Which names the error; and of a long message the beginning."""

    def deep(count: int) -> None:
        if count:
            deep(count - 1)
        raise ValueError("end " + "x" * 40_000 + " of it")

    with pytest.raises(ValueError, match="end") as caught:
        deep(10)
    told = entry("m" * 40_000, exc_info=caught._excinfo)
    assert len(told["exc_info"]) == len(told["message"]) == 32768
    assert told["exc_info"].endswith("x of it")
    assert told["message"].endswith("m...")


def test_odd_characters_are_escaped_and_half_surrogates_replaced() -> None:
    """Line ends of every kind, terminal sequences, what os.fsdecode makes of bytes."""
    text = 'a\n\r\u2028\x85\x1b[31m\x9b\0"\\ é 😀 \udc80 \ud83d'
    assert entry("%s", text)["message"] == text.replace("\udc80", "?").replace("\ud83d", "?")


# -- the access log --------------------------------------------------------------------------------


def test_an_access_line() -> None:
    """Every key that is known, with its type; quotes are not escaped twice."""
    told = access()
    assert told.pop("timestamp")
    assert told == {
        **{"level": "info", "logger": ACCESS, "pid": os.getpid(), "message": 'GET /"a 200'},
        **{"request_id": "given", "client": "192.0.2.1", "user": "ada", "method": "GET"},
        **{"path": '/"a', "query": "b=c", "http_version": "1.1", "tls_version": "TLSv1.3"},
        **{"status": 200, "duration": 0.25, "ttfb": 0.125, "bytes_in": 3, "bytes_out": 12},
        **{"body_messages": 0, "user_agent": "kit"},
    }


def test_it_is_the_same_with_gunicorns_logger() -> None:
    """With logconfig: what that has escaped for text is taken as it was before."""
    told = access(AccessLogFormat.default, PrintableAtoms)
    assert (told["path"], told["message"]) == ('/"a', 'GET /"a 200')
    assert access(AccessLogFormat.default, dict)["path"] == '/"a'


def test_a_websocket_has_its_counts() -> None:
    """And its close code as its status."""
    told = access(s="1006", ws_received=5, ws_sent=0, ws_bytes_received=300)
    assert told["status"] == 1006
    assert (told["ws_received"], told["ws_sent"], told["ws_bytes_received"]) == (5, 0, 300)


def test_a_format_of_the_users_makes_the_message() -> None:
    """Nothing that was set is dropped."""
    assert access("%(h)s %({Host}i)s %(nobody)s")["message"] == "192.0.2.1 h -"


def test_more_atoms_of_the_users_are_more_keys() -> None:
    """Never in the place of another key, and never what JSON cannot have."""
    more = {"tenant": "t", "cost": 1.5, "paid": True, "none": None, "rate": math.nan}
    told = access(**more, far=math.inf, odd=[1], pid="forged", level="forged")
    assert {name: told[name] for name in more} == {**more, "rate": None}
    assert (told["far"], told["odd"]) == (None, "[1]")
    assert (told["pid"], told["level"]) == (os.getpid(), "info")


def test_an_atom_of_an_unexpected_kind_is_told_as_it_is() -> None:
    """A class of the user's may have replaced it; the line is not lost."""
    told = access(s="OK", L="slow", B=None, ttfb=math.nan)
    assert (told["status"], told["duration"], told["ttfb"]) == ("OK", "slow", None)
    assert "bytes_out" not in told


def test_a_huge_field_is_cut() -> None:
    """4096 characters are kept of each."""
    told = access(a="é" * 100_000, tenant="t" * 5000)
    assert (len(told["user_agent"]), told["user_agent"][-4:]) == (4096, "é...")
    assert len(told["tenant"]) == 4096


def test_another_line_in_the_access_log_is_a_line() -> None:
    """Somebody may write there by hand."""
    record = logging.LogRecord(ACCESS, logging.INFO, "", 1, "by %s", ("hand",), None)
    assert strict(JSONFormatter().format(record))["message"] == "by hand"


# -- the loggers -----------------------------------------------------------------------------------


@contextmanager
def made(kind: type[Any], **values: object) -> Iterator[Any]:
    """A logger of that class, whose handlers are taken away again."""
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    log = kind(cfg)
    first = [*log.error_log.handlers, *log.access_log.handlers]
    try:
        yield log
    finally:
        for each in (log.error_log, log.access_log):
            first += each.handlers
            each.handlers.clear()
        for handler in first:  # Gunicorn's setup() drops them without closing their files
            handler.close()
        if isinstance(log, Statsd):
            log.sock.close()


@pytest.mark.parametrize("kind", [JSONLogger, JSONStatsdLogger])
def test_both_logs_are_json(
    kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again after a reload, which sets it up anew; the level is the one that was set."""
    monkeypatch.setattr(Statsd, "_sock_send", lambda _self, _line: None)
    error, log_file = tmp_path / "error.log", tmp_path / "access.log"
    values = {"errorlog": str(error), "accesslog": str(log_file), "loglevel": "warning"}
    if kind is JSONStatsdLogger:
        values["statsd_host"] = "127.0.0.1:9"
    again = False
    with made(kind, **values) as log:
        assert jsonlog.in_use()
        for _ in range(2):
            log.info("unheard")
            log.error("heard %s", 1)
            log.access_log.info(log.cfg.access_log_format, log.atoms_wrapper_class(ATOMS))
            if not again:
                again = True
                log.setup(log.cfg)
    lines = error.read_text().splitlines()
    assert [strict(line)["message"] for line in lines] == ["heard 1", "heard 1"]
    assert [strict(line)["path"] for line in log_file.read_text().splitlines()] == ['/"a', '/"a']


def test_the_statsd_logger_is_gunicorns() -> None:
    """So that requests are counted and timed."""
    assert issubclass(JSONStatsdLogger, Statsd)
    assert JSONStatsdLogger.access is Statsd.access
    assert JSONLogger.access is Logger.access


def test_what_logconfig_has_set_up_is_left_alone(tmp_path: Path) -> None:
    """It has told what to write, and where."""
    path = tmp_path / "own.log"
    plain = {"class": "logging.FileHandler", "filename": str(path), "formatter": "own"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"own": {"format": "own %(message)s"}},
        "handlers": {"own": plain},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["own"]}},
        "root": {"handlers": []},
    }
    with made(JSONLogger, logconfig_dict=config) as log:
        log.error("words")
    assert path.read_text() == "own words\n"


def test_nothing_is_in_use_where_nobody_writes_json() -> None:
    """Then no request is noted."""
    assert not jsonlog.in_use()
