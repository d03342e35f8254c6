"""protocol/response.py: trailers, early hints and bodies that come from files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import h11
import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.response import (
    Framing,
    ResponseEncoder,
    accepts_trailers,
    early_hints,
)

__all__: list[str] = []

DATE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
LENGTH = [(b"content-length", b"5")]
Headers = Iterable[Iterable[bytes]]


def begun(
    headers: Headers = (), status: int = 200, method: str = "GET", version: str = "1.1"
) -> ResponseEncoder:
    """An encoder whose application has begun."""
    encoder = ResponseEncoder(method, version, status, headers)
    return encoder


def trailing(headers: Headers = (), *, accepted: bool = True, **kind: Any) -> ResponseEncoder:
    """One whose application has announced trailers."""
    encoder = begun(headers, **kind)
    encoder.announce_trailers(accepted)
    return encoder


def read_by_h11(raw: bytes, method: str = "GET") -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and trailers, according to another implementation, and nothing behind them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if not isinstance(event, h11.Response):
            assert isinstance(event, h11.Data), event
            body += bytes(event.data)
    assert client.trailing_data[0] == b""
    return body, list(event.headers)


# -- trailers --------------------------------------------------------------------------------------


def test_trailers_follow_the_last_chunk() -> None:
    """RFC 9112 7.1.2: behind the chunk of size 0 and in front of the empty line."""
    encoder = trailing()
    raw = encoder.head(DATE, 5, True) + encoder.body(b"hello", last=True)
    assert raw.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n")
    raw += encoder.trailers([(b"x-sum", b"1")], last=False)
    raw += encoder.trailers([(b"x-two", b""), [b"X-Sum", b"2"]], last=True)
    assert raw.endswith(b"\r\n0\r\nx-sum: 1\r\nx-two: \r\nX-Sum: 2\r\n\r\n")
    assert read_by_h11(raw) == (b"hello", [(b"x-sum", b"1"), (b"x-two", b""), (b"x-sum", b"2")])


def test_no_trailers_after_all_are_an_empty_section() -> None:
    """RFC 9112 7.1: trailer-section = *( field-line CRLF )."""
    encoder = trailing()
    raw = encoder.head(DATE, None, True) + encoder.body(b"", last=True)
    raw += encoder.trailers([], last=False) + encoder.trailers([], last=True)
    assert read_by_h11(raw) == (b"", [])


CANNOT: list[dict[str, Any]] = [
    {"accepted": False},
    {"headers": LENGTH},
    {"version": "1.0"},
    {"method": "HEAD"},
    {"status": 204},
    {"status": 205},
    {"status": 304},
    {"headers": LENGTH, "method": "HEAD"},
    {"headers": LENGTH, "version": "1.0", "accepted": False},
]


@pytest.mark.parametrize("case", CANNOT, ids=str)
@pytest.mark.parametrize("final", [None, 5])
def test_trailers_that_cannot_be_sent_are_dropped(case: dict[str, Any], final: int | None) -> None:
    """RFC 9110 6.5.1: only in chunked, and only for a client that merges or reads them."""
    encoder = trailing(**case)
    assert encoder.announced
    raw = encoder.head(DATE, final, True) + encoder.body(b"hello", last=True)
    assert encoder.trailers([(b"x-sum", b"1")], last=False) == b""
    assert encoder.trailers([], last=True) == b""
    assert read_by_h11(raw, case.get("method", "GET"))[1] == []


def test_a_length_is_not_said_where_trailers_are_to_follow() -> None:
    """RFC 9110 6.5: a body of known length has no place for them."""
    encoder = trailing()
    assert b"content-length" not in encoder.head(DATE, 5, True)
    assert encoder.framing is Framing.CHUNKED
    assert b"content-length: 5\r\n" in trailing(accepted=False).head(DATE, 5, True)


def test_a_head_that_is_made_again_after_a_refused_body_is_the_same() -> None:
    """Nothing is written before everything about it was found right."""
    for encoder in (trailing(), trailing(LENGTH), begun()):
        assert encoder.head(DATE, None, True) == encoder.head(DATE, None, True)
        behind = b"0\r\n" if encoder.announced else b"0\r\n\r\n"
        if encoder.framing is Framing.CHUNKED:
            assert encoder.body(b"", last=True) == behind


NEVER = """
    content-length transfer-encoding trailer host connection te upgrade keep-alive
    authorization www-authenticate proxy-authenticate proxy-authorization set-cookie cookie
    content-type content-encoding content-range cache-control expect max-forwards pragma range
    if-match if-none-match if-modified-since if-unmodified-since if-range
    age date expires location retry-after vary warning Content-Length HOST
""".split()


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize("accepted", [True, False])
def test_a_field_that_must_not_be_a_trailer_is_refused(name: str, accepted: bool) -> None:
    """RFC 9110 6.5.1: framing, routing, authentication ...; whether it would be sent or not."""
    encoder = trailing(accepted=accepted)
    encoder.head(DATE, None, True)
    with pytest.raises(LocalProtocolError, match="trailers"):
        encoder.trailers([(b"x-fine", b"1"), (name.encode(), b"1")], last=True)


@pytest.mark.parametrize("name", [b"server-timing", b"etag", b"digest", b"grpc-status"])
def test_others_may_be(name: bytes) -> None:
    """RFC 9110 6.5.1: whose definition says that they make sense there."""
    encoder = trailing()
    encoder.head(DATE, None, True)
    assert encoder.trailers([(name, b"1")], last=False) == name + b": 1\r\n"


@pytest.mark.parametrize(
    "pair",
    [
        (b"a", b"b\r\n\r\nHTTP/1.1 200 OK"),
        (b"a", b"\0"),
        (b"a b", b"c"),
        (b"", b"c"),
        ("a", b"b"),
        (b"a", "b"),
        (b"a", None),
    ],
)
def test_a_trailer_that_cannot_be_sent_is_refused(pair: tuple[bytes, bytes]) -> None:
    """RFC 9110 5.5: it would end the response, and begin another."""
    encoder = trailing()
    encoder.head(DATE, None, True)
    with pytest.raises(LocalProtocolError):
        encoder.trailers([pair], last=True)


@pytest.mark.parametrize(
    ("values", "accepts"),
    [
        ([], False),
        ([b"trailers"], True),
        ([b"Trailers"], True),
        ([b"gzip;q=0.5 ,\ttrailers"], True),
        ([b"gzip", b"trailers"], True),
        ([b"trailersx"], False),
        ([b"trailers;q=0"], False),
        ([b"trailers;q=1"], False),
        ([b"deflate"], False),
        ([b""], False),
    ],
)
def test_te_is_read_as_a_list(values: list[bytes], accepts: bool) -> None:
    """RFC 9110 10.1.4: t-codings = "trailers" / ( transfer-coding [ weight ] )."""
    headers = [(b"accept", b"trailers"), *((b"te", value) for value in values)]
    assert accepts_trailers(headers) is accepts


# -- early hints -----------------------------------------------------------------------------------


def test_an_early_hint_is_a_103_with_a_line_for_each_link() -> None:
    """RFC 8297 2."""
    raw = early_hints([b"</a.css>; rel=preload", b"</b.js>"])
    assert raw == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
    )


def test_no_links_are_no_early_hint() -> None:
    """An interim response that says nothing would only cost."""
    assert early_hints([]) == b""


@pytest.mark.parametrize("link", [b"a\r\nb: c", b"a\nb", b"\0", "text", 5, None])
def test_a_link_that_cannot_be_sent_is_refused(link: bytes) -> None:
    """CVE-2020-5249: response splitting by an early hint."""
    with pytest.raises(LocalProtocolError):
        early_hints([b"</fine>", link])


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method", "version", "final", "given"),
    list(itertools.product([200, 204, 304], ["GET", "HEAD"], ["1.1", "1.0"], [0, 1], [0, 1])),
)
def test_a_file_in_the_body_is_framed_as_bytes_are(
    status: int, method: str, version: str, final: int, given: int
) -> None:
    """RFC 9112 6.3: mixed with bytes, the client reads one body."""

    def response(files: bool) -> bytes:
        encoder = begun(LENGTH if given else [], status=status, method=method, version=version)
        raw = encoder.head(DATE, 5 if final else None, True) + encoder.body(b"h")
        for piece, last in ((b"ell", False), (b"", False), (b"o", True)):
            if files:
                before, behind = encoder.file(len(piece), last)
                raw += before + (piece if encoder.framing else b"") + behind
            else:
                raw += encoder.body(piece, last)
        return raw

    assert response(files=True) == response(files=False)
    body = b"" if method == "HEAD" or status != 200 else b"hello"
    assert read_by_h11(response(files=True), method)[0] == body


@pytest.mark.parametrize("size", [0, 4])
def test_a_file_as_the_last_piece_leaves_room_for_trailers(size: int) -> None:
    """RFC 9112 7.1.2."""
    encoder = trailing()
    encoder.head(DATE, size, True)
    before, behind = encoder.file(size, last=True)
    assert (before, behind) == ((b"4\r\n", b"\r\n0\r\n") if size else (b"", b"0\r\n"))


# -- what was refused has changed nothing ----------------------------------------------------------


@pytest.mark.parametrize("wrong", [(b"123456", False), (b"1234", True), (b"123456", True)])
@pytest.mark.parametrize("file", [False, True])
def test_a_refused_piece_does_not_count(wrong: tuple[bytes, bool], file: bool) -> None:
    """RFC 9112 6.3: else a response of fewer bytes would pass for one of five."""
    encoder = begun(LENGTH)
    encoder.head(DATE, None, True)
    data, last = wrong
    with pytest.raises(LocalProtocolError, match="content-length"):
        if file:
            encoder.file(len(data), last)
        else:
            encoder.body(data, last)
    assert encoder.remaining == 5
    assert encoder.body(b"hello", last=True) == b"hello"
