"""protocol/h1.py: streams of several requests, cut anywhere."""

from __future__ import annotations

import pytest

from protocol.streams import CHUNKED, H2C, POST, TRAILERS, WEBSOCKET, Stream, get

__all__: list[str] = []

STREAMS = {
    "one": get(b"X: y"),
    "length": get(b"Content-Length: 5", line=POST) + b"hello",
    "chunked": get(CHUNKED, line=POST) + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
    "pipeline": get(b"A: 1") + get(b"Content-Length: 2", line=POST) + b"ab" + get(b"B: 2"),
    "trailers": TRAILERS + get(b"Y: 1"),
    "old": get(b"Connection: keep-alive", line=b"GET / HTTP/1.0") + get(line=b"GET / HTTP/1.0"),
    "websocket": get() + WEBSOCKET + b"\x81\x80abcd\r\n" + get(),
    "h2c": get(*H2C) + get(b"A: 1"),
    "h2c length": get(*H2C, b"Content-Length: 3", line=POST) + b"abc" + get(b"A: 1"),
    "h2c chunked": get(*H2C, CHUNKED, line=POST) + b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n" + get(*H2C),
    "h2c, then websocket": get(*H2C) + WEBSOCKET + b"rest",
    "after close": get(b"Connection: close") + get(),
}


@pytest.mark.parametrize("name", STREAMS)
def test_where_the_stream_is_cut_makes_no_difference(name: str) -> None:
    """TCP knows no messages (RFC 9112 2.2): two pieces at every position, and byte by byte."""
    raw = STREAMS[name]
    whole = Stream(raw).seen
    assert Stream(*[bytes([byte]) for byte in raw]).seen == whole
    for at in range(1, len(raw)):
        assert Stream(raw[:at], raw[at:]).seen == whole, raw[:at]


def test_pipelined_requests_come_out_one_by_one() -> None:
    """RFC 9112 9.3.2; each with its own head and its own list of fields."""
    sink = Stream(STREAMS["pipeline"]).sink
    assert [head.method for head in sink.heads] == ["GET", "POST", "GET"]
    assert sink.bodies == [b"", b"ab", b""]
    assert sink.complete == 3
    assert [head.headers[1] for head in sink.heads] == [
        (b"a", b"1"),
        (b"content-length", b"2"),
        (b"b", b"2"),
    ]


def test_behind_the_last_request_nothing_is_taken() -> None:
    """RFC 9112 9.6: a server "MUST NOT process any further requests" of that connection."""
    stream = Stream(STREAMS["after close"])
    assert stream.sink.complete == 1
    assert stream.error is None


def test_an_empty_line_behind_the_last_request_is_harmless() -> None:
    """RFC 9112 2.2: old clients send one behind a body."""
    assert Stream(get(b"Connection: close") + b"\r\n").error is None
