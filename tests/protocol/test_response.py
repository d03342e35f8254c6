"""protocol/response.py: what the application says, as bytes that any client reads in one way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import h11
import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.response import (
    Framing,
    ResponseEncoder,
    error_response,
    reason_phrase,
)

__all__: list[str] = []

DATE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
Headers = Iterable[Iterable[bytes]]


def begun(
    headers: Headers = (), status: int = 200, method: str = "GET", version: str = "1.1"
) -> ResponseEncoder:
    """An encoder whose application has begun."""
    encoder = ResponseEncoder(method, version, status, headers)
    return encoder


def head(
    headers: Headers = (), *, final: int | None = None, keep_alive: bool = True, **kind: Any
) -> list[bytes]:
    """The lines of a response's head."""
    raw = begun(headers, **kind).head(DATE, final, keep_alive)
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def field(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of a field, of all its lines."""
    return [line[len(name) + 2 :] for line in lines if line.lower().startswith(name + b": ")]


# -- the status line and the defaults ------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "version", "line"),
    [
        (200, "1.1", b"HTTP/1.1 200 OK"),
        (404, "1.0", b"HTTP/1.0 404 Not Found"),
        (HTTPStatus.CREATED, "1.1", b"HTTP/1.1 201 Created"),
        # RFC 9112 4: the space stays where there is no reason phrase.
        (299, "1.1", b"HTTP/1.1 299 "),
        (999, "1.0", b"HTTP/1.0 999 "),
    ],
)
def test_a_status_line_has_status_and_reason(status: int, version: str, line: bytes) -> None:
    """RFC 9112 4; an HTTPStatus is an int, and frameworks hand it on."""
    encoder = begun(status=status, version=version)
    assert encoder.head(DATE, 0, True).startswith(line + b"\r\n")
    assert type(encoder.status) is int
    assert encoder.status == status


@pytest.mark.parametrize("status", [100, 101, 103, 199, 1000, 0, -200, True, "200", None, 200.0])
def test_a_status_that_cannot_be_sent_is_refused(status: int) -> None:
    """RFC 9110 15: three digits; 1xx are no final answers."""
    with pytest.raises(LocalProtocolError, match="status"):
        ResponseEncoder("GET", "1.1", status, ())


@pytest.mark.parametrize(
    ("status", "phrase"), [(413, b"Content Too Large"), (414, b"URI Too Long")]
)
def test_reason_phrases_are_those_of_rfc_9110(status: int, phrase: bytes) -> None:
    """RFC 9110 15.5.14, 15.5.15: not the names that older Pythons know."""
    assert reason_phrase(status) == phrase


def test_a_reason_phrase_may_be_unknown() -> None:
    """RFC 9112 4: reason-phrase is optional."""
    assert reason_phrase(404) == b"Not Found"
    assert reason_phrase(799) == b""


def test_date_and_server_are_added() -> None:
    """RFC 9110 6.6.1: an origin server with a clock sends Date."""
    lines = head([(b"x-a", b"1")], final=0)
    assert field(lines, b"date") == [b"Sun, 06 Nov 1994 08:49:37 GMT"]
    assert field(lines, b"server") == [b"gunicorn_asgi"]


@pytest.mark.parametrize("name", [b"date", b"Date", b"server", b"SERVER"])
def test_the_applications_date_and_server_win(name: bytes) -> None:
    """Once, and as it says."""
    lines = head([(name, b"mine")], final=0)
    assert field(lines, name.lower()) == [b"mine"]
    assert len(field(lines, b"date")) == len(field(lines, b"server")) == 1


def test_fields_keep_their_order_and_their_duplicates() -> None:
    """ASGI, Response Start: "Header names ... order kept"; Set-Cookie cannot be joined."""
    headers = [(b"set-cookie", b"a=1"), (b"X-B", b"\xe9"), (b"set-cookie", b"b=2"), (b"e", b"")]
    assert head(headers, final=0)[1:5] == [
        b"set-cookie: a=1",
        b"X-B: \xe9",
        b"set-cookie: b=2",
        b"e: ",
    ]


def test_fields_may_be_lists_and_come_from_an_iterator() -> None:
    """ASGI: "an iterable of [name, value] two-item iterables"."""
    assert head(iter([[b"a", b"b"]]), final=0)[1] == b"a: b"


# -- response splitting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        (b"a", b"b\r\nset-cookie: c"),
        (b"a", b"b\nc"),
        (b"a", b"b\rc"),
        (b"a", b"b\0"),
        (b"a", b"b\x7f"),
        (b"a\r\nb", b"c"),
        (b"a: b\r\nc", b"d"),
        (b"a\n", b"b"),
        (b"a b", b"c"),
        (b":status", b"200"),
        (b"", b"a"),
        (b"\xe9", b"a"),
        ("a", b"b"),
        (b"a", "b"),
        (b"a", 1),
        (b"a", None),
        (b"content-length", "5"),
    ],
)
def test_a_field_that_cannot_be_sent_is_refused(pair: tuple[bytes, bytes]) -> None:
    """RFC 9110 5.1, 5.5 and 11.1 of RFC 9112: response splitting."""
    with pytest.raises(LocalProtocolError):
        ResponseEncoder("GET", "1.1", 204, [(b"x-fine", b"1"), pair])


# -- content-length, transfer-encoding, connection -----------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"abc"],
        [b"-1"],
        [b"+1"],
        [b" 1"],
        [b"1, 1"],
        [b"1", b"2"],
        [b"\xb2"],
        [b"9" * 19],
        [b"9" * 5000],  # beyond what int() converts
    ],
)
def test_a_content_length_that_is_none_is_refused(values: list[bytes]) -> None:
    """RFC 9110 8.6: 1*DIGIT, and one length only."""
    with pytest.raises(LocalProtocolError, match="content-length"):
        begun([(b"Content-Length", value) for value in values])


@pytest.mark.parametrize("values", [[b"5"], [b"5", b"5"], [b"05", b"5"]])
def test_one_length_said_twice_goes_out_once(values: list[bytes]) -> None:
    """RFC 9110 8.6: a list of the same values may be replaced by one."""
    lines = head([(b"content-length", value) for value in values])
    assert field(lines, b"content-length") == [b"5"]


@pytest.mark.parametrize("value", [b"chunked", b"gzip", b"identity", b"gzip, chunked"])
@pytest.mark.parametrize("final", [None, 5])
def test_the_applications_transfer_encoding_is_ignored(value: bytes, final: int | None) -> None:
    """ASGI, Response Start: "Servers must ignore" it; the framing is ours alone."""
    encoder = begun([(b"Transfer-Encoding", value)])
    lines = encoder.head(DATE, final, True).split(b"\r\n")
    assert field(lines, b"transfer-encoding") == ([b"chunked"] if final is None else [])
    assert encoder.framing is (Framing.CHUNKED if final is None else Framing.LENGTH)


@pytest.mark.parametrize("name", [b"keep-alive", b"Proxy-Connection"])
def test_other_fields_of_the_connection_are_dropped(name: bytes) -> None:
    """RFC 9110 7.6.1: they speak of a connection that is not the application's."""
    assert not field(head([(name, b"timeout=5")], final=0), name.lower())


@pytest.mark.parametrize(
    ("said", "version", "keep_alive", "sent", "lives"),
    [
        ([], "1.1", True, [], True),
        ([], "1.1", False, [b"close"], False),
        ([], "1.0", True, [b"keep-alive"], True),
        ([], "1.0", False, [b"close"], False),
        ([b"close"], "1.1", True, [b"close"], False),
        ([b"Close"], "1.0", True, [b"close"], False),
        ([b"keep-alive"], "1.1", True, [], True),
        ([b"keep-alive"], "1.1", False, [b"close"], False),
        ([b"Keep-Alive"], "1.0", True, [b"keep-alive"], True),
        ([b"upgrade"], "1.1", True, [b"upgrade"], True),
        ([b"upgrade"], "1.1", False, [b"upgrade, close"], False),
        ([b"Upgrade, close", b"x"], "1.1", True, [b"upgrade, x, close"], False),
        ([b"x"], "1.0", True, [b"x, keep-alive"], True),
    ],
)
def test_connection_says_what_will_happen(
    said: list[bytes], version: str, keep_alive: bool, sent: list[bytes], lives: bool
) -> None:
    """RFC 9112 9.3 and 9.6: a wish to close is heard, a wish to live is ours to grant."""
    encoder = begun([(b"Connection", value) for value in said], version=version)
    lines = encoder.head(DATE, 0, keep_alive).split(b"\r\n")
    assert field(lines, b"connection") == sent
    assert encoder.keep_alive is lives


def test_the_wishes_of_one_response_are_not_those_of_the_next() -> None:
    """Nothing is shared between encoders."""
    begun([(b"connection", b"close, x"), (b"content-length", b"3"), (b"date", b"d")])
    encoder = begun(())
    lines = encoder.head(DATE, None, True).split(b"\r\n")
    assert not field(lines, b"connection")
    assert field(lines, b"transfer-encoding") == [b"chunked"]
    assert field(lines, b"date") != [b"d"]


# -- the framing matrix --------------------------------------------------------------------------

STATUSES = [200, 204, 205, 304, 404, 500, 999]
BODY = b"hello"


def expected_framing(status: int, method: str, version: str, known: bool) -> Framing:
    """RFC 9112 6.3, in its order: no body at all, a known length, chunked, the end.

    RFC 9110 15.3.6: "a server MUST NOT generate content in a 205 response".
    """
    if method == "HEAD" or status in (204, 205, 304):
        return Framing.NONE
    if known:
        return Framing.LENGTH
    return Framing.CHUNKED if version == "1.1" else Framing.CLOSE


@pytest.mark.parametrize(
    ("status", "method", "version", "final", "given"),
    list(itertools.product(STATUSES, ["GET", "HEAD", "POST"], ["1.1", "1.0"], [0, 1], [0, 1])),
)
def test_every_client_reads_the_same_response(
    status: int, method: str, version: str, final: int, given: int
) -> None:
    """RFC 9112 6.3: h11, as a client, finds the body and its end exactly where they are."""
    headers = [(b"content-length", b"%d" % len(BODY))] if given else []
    encoder = begun(headers, status=status, method=method, version=version)
    raw = encoder.head(DATE, len(BODY) if final else None, True)
    raw += encoder.body(BODY[:2]) + encoder.body(b"") + encoder.body(BODY[2:], last=True)

    assert encoder.framing is expected_framing(status, method, version, bool(final or given))
    bodyless = encoder.framing is Framing.NONE
    body, fields, behind = read_by_h11(raw, method, encoder.keep_alive)
    assert body == (b"" if bodyless else BODY)
    assert behind == (b"NEXT" if encoder.keep_alive else b"")
    assert encoder.keep_alive is (encoder.framing is not Framing.CLOSE)
    if status == 205:
        assert fields[b"content-length"] == b"0"
    elif status == 204 or encoder.framing in (Framing.CHUNKED, Framing.CLOSE):
        assert b"content-length" not in fields
    elif given or (final and status != 304):
        assert fields[b"content-length"] == b"5"
    else:
        assert b"content-length" not in fields
    assert (b"transfer-encoding" in fields) is (encoder.framing is Framing.CHUNKED)


def read_by_h11(
    raw: bytes, method: str, keep_alive: bool
) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Body, fields and what is behind it, according to another implementation."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw + b"NEXT" if keep_alive else raw)
    if not keep_alive:
        client.receive_data(b"")
    body, fields = b"", {}
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            fields = dict(event.headers)
        else:
            assert isinstance(event, h11.Data), event
            body += bytes(event.data)
    return body, fields, client.trailing_data[0]


@pytest.mark.parametrize(("status", "known"), [(200, []), (304, []), (204, [])])
def test_a_length_nobody_knows_is_not_said_for_a_head(status: int, known: list[bytes]) -> None:
    """RFC 9110 8.6: it would be that of a GET; an empty body of HEAD does not tell."""
    lines = head(status=status, method="HEAD", final=0)
    assert field(lines, b"content-length") == known
    assert not field(lines, b"transfer-encoding")


def test_a_length_of_zero_is_said() -> None:
    """RFC 9110 8.6: an empty answer is complete with its head."""
    assert field(head(final=0), b"content-length") == [b"0"]
    assert field(head([(b"content-length", b"0")], method="HEAD"), b"content-length") == [b"0"]


def test_a_close_delimited_body_closes_even_if_all_wish_to_live() -> None:
    """RFC 9112 6.3: the end of the connection is the end of the body."""
    encoder = begun([(b"connection", b"keep-alive")], version="1.0")
    assert b"\r\nconnection: close\r\n" in encoder.head(DATE, None, True)
    assert not encoder.keep_alive
    assert encoder.body(b"abc") == b"abc"
    assert encoder.body(b"", last=True) == b""


def test_an_empty_chunk_does_not_end_a_chunked_body() -> None:
    """RFC 9112 7.1: the last chunk is the one of size 0."""
    encoder = begun()
    encoder.head(DATE, None, True)
    assert encoder.body(b"") == b""
    assert encoder.body(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encoder.body(b"", last=True) == b"0\r\n\r\n"


# -- too long, too short -------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"123456"], [b"12345", b"6"], [b"123", b"", b"456"]])
def test_more_than_promised_is_refused(pieces: list[bytes]) -> None:
    """RFC 9110 8.6: not one byte would belong to the next response."""
    encoder = begun([(b"content-length", b"5")])
    encoder.head(DATE, None, True)
    out = b"".join(encoder.body(piece) for piece in pieces[:-1])
    with pytest.raises(LocalProtocolError, match="longer than its content-length"):
        encoder.body(pieces[-1])
    assert len(out) <= 5


def test_the_applications_length_wins_over_the_bodys() -> None:
    """What is promised is kept, or it is an error."""
    encoder = begun([(b"content-length", b"5")])
    encoder.head(DATE, 6, True)
    with pytest.raises(LocalProtocolError):
        encoder.body(b"123456")


@pytest.mark.parametrize("pieces", [[], [b""], [b"1234"], [b"12", b"34"]])
def test_less_than_promised_is_refused(pieces: list[bytes]) -> None:
    """RFC 9112 6.3: the client would wait for the rest."""
    encoder = begun([(b"content-length", b"5")])
    encoder.head(DATE, None, True)
    for piece in pieces:
        encoder.body(piece)
    assert encoder.remaining == 5 - sum(map(len, pieces))
    with pytest.raises(LocalProtocolError, match="shorter than its content-length"):
        encoder.body(b"", last=True)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
@pytest.mark.parametrize("body", [b"", b"12345", b"1234567"])
def test_a_body_that_must_not_be_is_dropped(method: str, status: int, body: bytes) -> None:
    """RFC 9110 6.4.1: whatever its length, it is no mistake of the application's."""
    encoder = begun([(b"content-length", b"5")], method=method, status=status)
    encoder.head(DATE, None, True)
    assert encoder.body(body) == b""
    assert encoder.body(b"", last=True) == b""
    assert encoder.keep_alive


# -- our own answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_of_our_own_is_complete_and_the_last(method: str, version: str) -> None:
    """RFC 9112 9.6: Connection: close; the client never reads our internals."""
    raw = error_response(431, DATE, version=version, method=method, headers=[(b"x-a", b"b")])
    assert raw.startswith(b"HTTP/%b 431 Request Header Fields Too Large\r\n" % version.encode())
    body, fields, _ = read_by_h11(raw, method, keep_alive=False)
    assert body == (b"" if method == "HEAD" else b"Request Header Fields Too Large\n")
    assert fields[b"content-length"] == b"32"
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert fields[b"connection"] == b"close"
    assert fields[b"x-a"] == b"b"
    assert b"date" in fields


def test_an_error_is_one_of_http_1_1_by_default() -> None:
    """RFC 9110 6.2: also where no request could be read."""
    assert error_response(400, DATE).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert error_response(400, DATE).endswith(b"\r\n\r\nBad Request\n")
