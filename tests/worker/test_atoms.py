"""The atoms of an access line: ours beside Gunicorn's, and only those that are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.instrument.statsd import Statsd

from gunicorn_asgi.protocol.accesslog import (
    FIELDS,
    AccessRecord,
    RequestView,
    ResponseView,
    environ_of,
)
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.worker.atoms import PrintableAtoms, RawAtoms, add_fields

__all__: list[str] = []

HEAD = RequestHead("GET", b"/a?q=1", "1.1", [(b"user-agent", b'a"\x9b')], True)
HEAD.request_id = "given"
RECORD = AccessRecord(HEAD, {"path": "/a"}, 200, [], 12, 0.5, received=3, first_byte=0.25)
NAMES = {*FIELDS, "generation"}


class Own(Logger):  # type: ignore[misc]  # Gunicorn is not typed
    """A class of the user's with atoms of its own."""

    def atoms(self, *args: object) -> dict[str, Any]:
        """One more, and one of ours in its own way."""
        found: dict[str, Any] = super().atoms(*args)
        return {**found, "tenant": "t", "request_id": "mine"}


class Writing(Logger):  # type: ignore[misc]
    """A class of the user's that writes its lines itself, from what atoms() says."""

    def access(self, *args: object) -> None:
        """Not here."""


class Wrapping(Logger):  # type: ignore[misc]
    """A class of the user's with a wrapper of its own."""

    atoms_wrapper_class = dict


def atoms(kind: type[Any] = Logger, /, **values: object) -> dict[str, Any]:
    """What a logger of that class makes of RECORD, as installed."""
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    log = kind(cfg)
    if log.atoms_wrapper_class is SafeAtoms:
        log.atoms_wrapper_class = PrintableAtoms
    add_fields(log, 3)
    if kind is Statsd:
        log.sock.close()
    found: dict[str, Any] = log.atoms(
        ResponseView(RECORD), RequestView(HEAD, RECORD.scope), environ_of(HEAD, {}), RECORD.elapsed
    )
    return found


def test_nothing_is_made_that_the_format_does_not_name() -> None:
    """The default format names none of them: the logger stays as it is."""
    assert not NAMES & set(atoms())
    log = Logger(Config())
    log.atoms_wrapper_class = PrintableAtoms
    add_fields(log, 3)
    assert "atoms" not in vars(log)


@pytest.mark.parametrize("kind", [Logger, Statsd])
def test_what_the_format_names_is_made_and_no_more(kind: type[Any]) -> None:
    """%(name)s, %(name)d."""
    form = "%(h)s %(ttfb)s %(bytes_in)d %(generation)s"
    found = atoms(kind, access_log_format=form, statsd_host="127.0.0.1:9")
    assert {name: found[name] for name in NAMES & set(found)} == {
        "ttfb": "0.250000",
        "bytes_in": 3,
        "generation": 3,
    }


@pytest.mark.parametrize("kind", [Own, Writing, Wrapping])
def test_a_class_of_the_users_finds_all_of_them(kind: type[Any]) -> None:
    """What it does with them is not to be seen from the format."""
    assert set(atoms(kind)) >= NAMES


@pytest.mark.parametrize("name", ["logconfig", "logconfig_dict", "logconfig_json"])
def test_a_formatter_of_the_users_finds_all_of_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees them in ``record.args``."""
    monkeypatch.setattr(Logger, "setup", lambda _self, _cfg: None)
    value: object = {"version": 1} if name == "logconfig_dict" else "file"
    assert set(atoms(**{name: value})) >= NAMES


def test_what_a_class_of_the_users_says_itself_stays() -> None:
    """Its word goes before ours."""
    found = atoms(Own)
    assert (found["request_id"], found["tenant"], found["bytes_out"]) == ("mine", "t", 12)


def test_a_response_of_somebody_elses_is_left_alone() -> None:
    """A class of the user's may call atoms() with what it likes."""
    log = Own(Config())
    log.atoms_wrapper_class = PrintableAtoms
    add_fields(log, 3)
    other = ResponseView(RECORD)
    del other.record
    found = log.atoms(other, RequestView(HEAD, {}), environ_of(HEAD, {}), RECORD.elapsed)
    assert "ttfb" not in found
    assert found["s"] == "200"


def test_a_logger_without_atoms_is_left_alone() -> None:
    """Gunicorn asks no more of a logger_class than access() and the levels."""

    class Bare:
        """No Logger at all."""

    add_fields(Bare(), 3)


def test_what_could_end_a_line_is_escaped_and_what_it_was_is_kept() -> None:
    """PrintableAtoms for text, RawAtoms for who escapes by himself."""
    raw = atoms()
    assert PrintableAtoms(raw)["a"] == 'a\\"\\x9b'
    assert PrintableAtoms(raw)["{User-Agent}i"] == 'a\\"\\x9b'
    assert RawAtoms(raw)["a"] == 'a"\x9b'
    assert RawAtoms(raw)["{User-Agent}i"] == 'a"\x9b'
    assert RawAtoms(raw)["{none}i"] == RawAtoms(raw)["nobody"] == "-"
    assert PrintableAtoms(raw).raw is RawAtoms(raw).raw is raw
