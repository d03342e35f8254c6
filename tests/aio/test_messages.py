"""aio/messages.py: what an application sends, and what it raises."""

from __future__ import annotations

from typing import Any

import pytest

from gunicorn_asgi.aio.messages import (
    as_bytes,
    caused_by_disconnect,
    header_pairs,
    link_values,
    no_message,
)
from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError

__all__: list[str] = []

PAIR = (b"a", b"b")


def test_disconnect_is_found_behind_other_exceptions() -> None:
    """Starlette raises its own ClientDisconnect in the handler of an OSError."""
    assert not caused_by_disconnect(None)
    assert not caused_by_disconnect(LocalProtocolError("no"))
    assert caused_by_disconnect(ClientDisconnected())
    direct = RuntimeError()
    direct.__cause__ = ClientDisconnected()
    implied = ValueError()
    implied.__context__ = direct
    assert caused_by_disconnect(direct)
    assert caused_by_disconnect(implied)


def test_exceptions_that_cause_each_other_do_not_hang_the_worker() -> None:
    """A chain may be a ring; a search without a bound would never return."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not caused_by_disconnect(first)


@pytest.mark.parametrize(
    "headers", [[PAIR], (PAIR,), iter([PAIR]), [[b"a", b"b"]], {PAIR: 1}, [iter(PAIR)]]
)
def test_headers_are_any_iterable_of_pairs(headers: Any) -> None:  # noqa: ANN401 - any
    """HTTP, "Response Start": "an iterable of [name, value] two-item iterables"."""
    assert header_pairs({"headers": headers}) == [PAIR]


def test_no_headers_are_none() -> None:
    """Optional; and a list of the caller's own, which it may add to."""
    assert header_pairs({}) == []
    assert header_pairs({}) is not header_pairs({})


@pytest.mark.parametrize("headers", [None, 5, [5], [(b"a",)], [(b"a", b"b", b"c")], [None]])
def test_headers_that_are_no_pairs_are_refused(headers: Any) -> None:  # noqa: ANN401 - any
    """Core: raised out of send()."""
    with pytest.raises(LocalProtocolError):
        header_pairs({"headers": headers})


@pytest.mark.parametrize("links", [[b"a"], (b"a",), iter([b"a"]), {b"a"}])
def test_links_are_any_iterable(links: Any) -> None:  # noqa: ANN401 - any
    """Extension "Early Hints"."""
    assert link_values({"links": links}) == [b"a"]


@pytest.mark.parametrize("message", [{}, {"links": None}, {"links": 5}])
def test_links_that_are_no_iterable_are_refused(message: dict[str, Any]) -> None:
    """Core: a required key that is missing, or of another type."""
    with pytest.raises(LocalProtocolError):
        link_values(message)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_bytes(kind: type[Any]) -> None:
    """Each of them as the bytes it holds now: the application may change it later."""
    assert as_bytes(kind(b"body")) == b"body"
    assert type(as_bytes(kind(b"body"))) is bytes


@pytest.mark.parametrize("body", ["text", None, 5, [1, 2]])
def test_what_is_no_buffer_is_refused(body: object) -> None:
    """bytes(5) would be five NULs."""
    with pytest.raises(LocalProtocolError):
        as_bytes(body)


def test_error_about_a_message_quotes_a_part_of_it() -> None:
    """It may be a megabyte, and ends up in a log."""
    text = str(no_message("x" * 1000))
    assert "'xxx" in text
    assert len(text) < 200
