"""protocol/h1.py: what is behind a request that waits is kept as it is, until it is asked for."""

from __future__ import annotations

import pytest

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from protocol.streams import CHUNKED, POST, WEBSOCKET, Recorder, get

__all__: list[str] = []


class Holding(Recorder):
    """A sink that takes one request at a time, as a connection does while it answers one."""

    def __init__(self) -> None:
        super().__init__()
        self.parser = RequestParser(self, Limits(), KnownLines(Limits()))
        self.rest: bytes | None = None
        self.status: int | None = None

    def on_head(self, head: RequestHead) -> None:
        """Remember, and take no more."""
        super().on_head(head)
        self.parser.hold()

    def feed(self, data: bytes) -> None:
        """As a connection does."""
        try:
            rest = self.parser.feed(data)
        except RemoteProtocolError as exc:
            self.status = exc.status_hint
        else:
            self.rest = rest if self.rest is None else self.rest

    def go_on(self) -> bool:
        """Take the next request; whether something was there."""
        kept = self.parser.release()
        self.feed(kept)
        return bool(kept)


STREAM = (
    get(b"A: 1")
    + get(b"Content-Length: 5", line=POST)
    + b"hello"
    + get(CHUNKED, line=POST)
    + b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    + b"\r\n"
    + get(b"B: 2")
)


@pytest.mark.parametrize("size", [1, 3, 20, 10_000])
def test_requests_are_parsed_one_by_one_and_come_out_the_same(size: int) -> None:
    """RFC 9112 9.3.2: pipelined ones are answered in order; and none is parsed twice."""
    sink = Holding()
    for at in range(0, len(STREAM), size):
        sink.feed(STREAM[at : at + size])
        assert len(sink.heads) <= 1
    assert len(sink.heads) == 1
    for number in range(2, 5):
        assert sink.go_on()
        assert len(sink.heads) == number
    assert [head.method for head in sink.heads] == ["GET", "POST", "POST", "GET"]
    assert sink.bodies == [b"", b"hello", b"abc", b""]
    assert sink.complete == 4
    assert not sink.go_on()
    assert sink.parser.idle


def test_the_body_of_a_request_is_no_next_one() -> None:
    """It is its own, however much of it is still to come."""
    sink = Holding()
    sink.feed(get(b"Content-Length: 5", line=POST) + b"he")
    sink.feed(b"llo" + get())
    assert (sink.bodies, sink.complete) == ([b"hello"], 1)
    assert sink.go_on()
    assert sink.complete == 2


def test_what_is_kept_is_not_idle() -> None:
    """The first byte of a next request has come in, even if nobody has looked at it."""
    sink = Holding()
    sink.feed(get())
    assert sink.parser.idle
    sink.feed(b"G")
    assert not sink.parser.idle


def test_what_is_kept_is_judged_when_its_turn_comes() -> None:
    """Malformed, or with a protocol of its own behind it."""
    sink = Holding()
    sink.feed(get() + b"nonsense\r\n\r\n")
    assert sink.status != 400
    assert sink.go_on()
    assert sink.status == 400
    sink = Holding()
    sink.feed(get() + WEBSOCKET + b"frame")
    sink.feed(b"s")
    assert (len(sink.heads), sink.rest) == (1, None)
    assert sink.go_on()
    assert (len(sink.heads), sink.rest) == (2, b"frames")


def test_a_flood_of_requests_is_kept_as_it_is() -> None:
    """Parsed, each would cost a kilobyte and more."""
    sink = Holding()
    one = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
    sink.feed(one * 10_000)
    assert len(sink.heads) == 1
    assert sink.parser.release() == one * 9_999


def test_a_closed_parser_keeps_nothing() -> None:
    """The connection is gone."""
    sink = Holding()
    sink.feed(get() * 2)
    parser = sink.parser
    parser.close()
    assert parser.release() == b""
