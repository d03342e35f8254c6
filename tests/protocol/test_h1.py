"""protocol/h1.py: bytes to requests, whole and in pieces; what is accepted and what is refused."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.exchange import (
    READING,
    WRITING,
    Exchange,
    ExchangeEvent,
    Reading,
    Writing,
)
from gunicorn_asgi.protocol.h1 import RequestParser
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from protocol.streams import CHUNKED, H2C, POST, TRAILERS, WEBSOCKET, Recorder, Stream, get

__all__: list[str] = []


# -- one request ---------------------------------------------------------------------------------


def test_a_head_says_what_came_in() -> None:
    """Names lower-cased, values as received, order and duplicates kept (ASGI: HTTP scope)."""
    stream = Stream(
        get(b"X-One: a", b"COOKIE: b=c", b"x-one: A \xe9", b"Empty:", line=b"GET /a?b HTTP/1.1")
    )
    (head,) = stream.sink.heads
    assert (head.method, head.target, head.version) == ("GET", b"/a?b", "1.1")
    assert head.headers == [
        (b"host", b"h"),
        (b"x-one", b"a"),
        (b"cookie", b"b=c"),
        (b"x-one", b"A \xe9"),
        (b"empty", b""),
    ]
    assert head.keep_alive
    assert not head.expect_continue
    assert not head.websocket
    assert head.received == 0.0
    assert stream.sink.complete == 1
    assert stream.rest is None


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t ", b""])
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"X:%ba b%b", (b"x", b"a b")),
        (b"Expect:%b100-continue%b", (b"expect", b"100-continue")),
        (b"X:%b%b", (b"x", b"")),
    ],
)
def test_white_space_around_a_value_is_no_part_of_it(
    space: bytes, field: bytes, expected: tuple[bytes, bytes]
) -> None:
    """RFC 9110 5.5: "MUST exclude such whitespace prior to evaluating the field value"."""
    stream = Stream(get(field % (space, space), line=POST))
    assert stream.error is None
    assert stream.sink.heads[0].headers[1] == expected


def test_white_space_around_a_transfer_coding_is_no_part_of_it() -> None:
    """RFC 9110 5.5, and the framing is what it says."""
    stream = Stream(get(b"Transfer-Encoding:  chunked  ", line=POST) + b"1\r\na\r\n0\r\n\r\n")
    assert stream.error is None
    assert stream.sink.bodies == [b"a"]
    assert stream.sink.complete == 1


@pytest.mark.parametrize(
    ("line", "fields", "keep_alive"),
    [
        (b"GET / HTTP/1.1", (), True),
        (b"GET / HTTP/1.1", (b"Connection: close",), False),
        (b"GET / HTTP/1.1", (b"Connection: x, Close",), False),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive",), True),
        (b"GET / HTTP/1.0", (), False),
        (b"GET / HTTP/1.0", (b"Connection: Keep-Alive",), True),
        (b"GET / HTTP/1.0", (b"Connection: close",), False),
    ],
)
def test_the_client_decides_whether_the_connection_may_live(
    line: bytes, fields: tuple[bytes, ...], keep_alive: bool
) -> None:
    """RFC 9112 9.3."""
    assert Stream(get(*fields, line=line)).sink.heads[0].keep_alive is keep_alive


@pytest.mark.parametrize("target", [b"/", b"//a", b"/a%20b", b"*", b"http://h/p?q", b"/a#b"])
def test_a_target_is_passed_on_as_it_is(target: bytes) -> None:
    """RFC 9112 3.2; its forms are the scope's matter."""
    assert Stream(get(line=b"OPTIONS %b HTTP/1.1" % target)).sink.heads[0].target == target


# -- refused, and not refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        # RFC 9112 3.2: exactly one Host, but for HTTP/1.0 at most one.
        pytest.param(get(host=False), 400, id="no Host"),
        pytest.param(get(b"Host: h"), 400, id="two Hosts"),
        pytest.param(get(b"hOST: x"), 400, id="two different Hosts"),
        pytest.param(get(b"Host: h", line=b"GET / HTTP/1.0"), 400, id="two Hosts in 1.0"),
        # RFC 9112 6.1 and 6.3: framing that can be read in two ways.
        pytest.param(get(CHUNKED, line=b"POST / HTTP/1.0"), 400, id="chunked in 1.0"),
        pytest.param(get(CHUNKED, b"Content-Length: 0"), 400, id="chunked and length"),
        pytest.param(get(b"Content-Length: 0", CHUNKED), 400, id="length and chunked"),
        pytest.param(get(CHUNKED, CHUNKED), 400, id="chunked twice"),
        pytest.param(get(CHUNKED + b", chunked"), 400, id="chunked twice in one field"),
        pytest.param(get(b"Transfer-Encoding: gzip"), 501, id="gzip"),
        pytest.param(get(b"Transfer-Encoding: gzip, chunked"), 501, id="gzip, chunked"),
        pytest.param(get(b"Transfer-Encoding: gzip", CHUNKED), 501, id="gzip and chunked"),
        pytest.param(get(b"Transfer-Encoding: identity"), 501, id="identity"),
        pytest.param(get(b"Transfer-Encoding: xchunked"), 501, id="xchunked"),
        pytest.param(get(b"Transfer-Encoding:"), 400, id="empty coding"),
        pytest.param(get(b"Content-Length: 1", b"Content-Length: 1"), 400, id="two lengths"),
        pytest.param(get(b"Content-Length: +1"), 400, id="signed length"),
        pytest.param(get(b"Content-Length: 1, 1"), 400, id="list of lengths"),
        pytest.param(get(b"Content-Length: 18446744073709551616"), 400, id="length overflow"),
        pytest.param(get(CHUNKED) + b"x\r\n", 400, id="chunk size"),
        pytest.param(get(CHUNKED) + b"1\r\nabc", 400, id="chunk end"),
        pytest.param(get(CHUNKED) + b"1\na\r\n", 400, id="chunk line with bare LF"),
        # RFC 9110 10.1.1.
        pytest.param(get(b"Expect: 200-ok"), 417, id="unknown expectation"),
        pytest.param(get(b"Expect: 100-continue, x"), 417, id="one unknown expectation"),
        # RFC 9112 2.3, RFC 9110 15.6.6.
        pytest.param(get(line=b"GET / HTTP/2.0"), 505, id="HTTP/2.0"),
        pytest.param(get(line=b"GET / HTTP/0.9"), 505, id="HTTP/0.9"),
        pytest.param(b"GET /\r\n\r\n", 400, id="a request line of HTTP/0.9"),
        pytest.param(get(line=b"GET / HTTP/1.2"), 505, id="HTTP/1.2"),
        pytest.param(get(line=b"GET / RTSP/1.0"), 400, id="RTSP/1.0"),
        pytest.param(get(line=b"GET / ICE/1.0"), 400, id="ICE/1.0"),
        pytest.param(get(line=b"GET / http/1.1"), 400, id="http/1.1"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2 preface"),
        # RFC 9110 9.3.6, 9.1.
        pytest.param(get(line=b"CONNECT h:80 HTTP/1.1"), 501, id="CONNECT"),
        pytest.param(get(line=b"get / HTTP/1.1"), 501, id="lower-case method"),
        pytest.param(get(line=b"FROB / HTTP/1.1"), 501, id="unknown method"),
        pytest.param(get(line=b"DESCRIBE / HTTP/1.1"), 501, id="method of RTSP"),
        pytest.param(get(line=b"G(T / HTTP/1.1"), 400, id="method that is no token"),
        pytest.param(get(line=b"GET  / HTTP/1.1"), 400, id="two spaces"),
        pytest.param(get(line=b"GET / HTTP/1.1 "), 400, id="space behind the version"),
        # RFC 9112 3, 5.1, 5.2; RFC 9110 5.5.
        pytest.param(get(line=b"GET a HTTP/1.1"), 400, id="target of no form"),
        pytest.param(get(line=b"GET /\xff HTTP/1.1"), 400, id="target with odd bytes"),
        pytest.param(get(b"A : b"), 400, id="space before the colon"),
        pytest.param(get(b"A: b", b" c"), 400, id="obs-fold"),
        pytest.param(get(b"A: b\nC: d"), 400, id="bare LF"),
        pytest.param(get(b"A: b\x00"), 400, id="NUL"),
        pytest.param(get(b"A"), 400, id="no colon"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, id="TLS"),
        pytest.param(b"\n" + get(), 400, id="bare LF before the request"),
        pytest.param(b"\r\r" + get(), 400, id="bare CR before the request"),
        pytest.param(b"\r\n" * 9 + get(), 400, id="many empty lines before the request"),
        pytest.param(get(b"A: b\rC: d"), 400, id="bare CR"),
        pytest.param(get(b"Host:", host=False), 400, id="empty Host"),
        pytest.param(get(b"Host: a/b?c", host=False), 400, id="Host that is none"),
        pytest.param(get(b"Content-Type: a", b"Content-Type: a"), 400, id="two Content-Types"),
        pytest.param(WEBSOCKET[:-2] + b"Content-Length: 1\r\n\r\n", 400, id="WebSocket, body"),
    ],
)
def test_a_request_that_is_none_is_refused(raw: bytes, status: int) -> None:
    """Whole or byte by byte, with the same status; it never reaches an application as complete."""
    for stream in (Stream(raw), Stream(*[bytes([byte]) for byte in raw])):
        assert stream.status == status
        assert stream.sink.complete == 0
        assert str(stream.error)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(get(line=b"GET / HTTP/1.0", host=False), id="no Host in 1.0"),
        pytest.param(get(line=b"GET / HTTP/1.0"), id="Host in 1.0"),
        pytest.param(get(b"Transfer-Encoding: Chunked") + b"0\r\n\r\n", id="Chunked"),
        pytest.param(get(b"Expect: x", line=b"GET / HTTP/1.0"), id="expectation in 1.0"),
        pytest.param(b"\r\n\r\n" + get(), id="empty lines before the request"),
    ],
)
def test_a_request_that_is_odd_but_right_is_taken(raw: bytes) -> None:
    """RFC 9112 2.2, 3.2, 7; RFC 9110 10.1.1."""
    stream = Stream(raw)
    assert stream.error is None
    assert stream.sink.complete == 1


@pytest.mark.parametrize(
    ("line", "expects"),
    [(b"POST / HTTP/1.1", True), (b"POST / HTTP/1.0", False)],
)
@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue"])
def test_only_http_1_1_waits_for_a_100(line: bytes, word: bytes, expects: bool) -> None:
    """RFC 9110 10.1.1."""
    stream = Stream(get(b"Expect: " + word, b"Content-Length: 1", line=line))
    assert stream.sink.heads[0].expect_continue is expects
    assert stream.sink.complete == 0


def test_a_refused_stream_stays_refused() -> None:
    """RFC 9112 9.6: nothing behind it is taken for a request."""
    stream = Stream(get(host=False) + get())
    assert stream.status == 400
    assert stream.parser.feed(get()) is None
    assert not stream.sink.heads
    assert stream.parser.refused == get(host=False)


def test_an_error_of_the_sink_is_not_taken_for_the_clients() -> None:
    """A mistake of ours must not become a 400."""

    class Broken(Recorder):
        def on_body(self, data: bytes) -> None:
            """Fail."""
            raise ZeroDivisionError

    parser = RequestParser(Broken(), Limits(), KnownLines(Limits()))
    with pytest.raises(ZeroDivisionError):
        parser.feed(get(b"Content-Length: 1", line=POST) + b"x")


def test_trailers_never_become_headers() -> None:
    """RFC 9110 6.5.1: neither of their request nor of the next one."""
    sink = Stream(TRAILERS + get(b"Y: 1")).sink
    assert sink.bodies == [b"abcd", b""]
    assert sink.heads[0].headers == [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
    assert sink.heads[1].headers == [(b"host", b"h"), (b"y", b"1")]


# -- upgrades ------------------------------------------------------------------------------------


def test_a_websocket_handshake_hands_over_what_is_behind_it() -> None:
    """RFC 6455 4.1: after the handshake the bytes are frames."""
    stream = Stream(WEBSOCKET + b"\x81\x80abcd")
    (head,) = stream.sink.heads
    assert head.websocket
    assert (b"sec-websocket-version", b"13") in head.headers
    assert stream.rest == b"\x81\x80abcd"
    assert stream.sink.complete == 0


def test_a_websocket_handshake_with_nothing_behind_it() -> None:
    """It is told apart from a feed that needs more."""
    assert Stream(WEBSOCKET).rest == b""


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        pytest.param((b"Upgrade: websocket",), b"GET / HTTP/1.1", id="no Connection: upgrade"),
        pytest.param((b"Connection: Upgrade",), b"GET / HTTP/1.1", id="no Upgrade"),
        pytest.param(
            (b"Connection: Upgrade", b"Upgrade: websocket"), b"GET / HTTP/1.0", id="HTTP/1.0"
        ),
        pytest.param(H2C, b"GET / HTTP/1.1", id="h2c"),
        pytest.param(
            (b"Connection: Upgrade", b"Upgrade: websocketx"), b"GET / HTTP/1.1", id="no token"
        ),
    ],
)
def test_any_other_upgrade_is_ignored(fields: tuple[bytes, ...], line: bytes) -> None:
    """RFC 9110 7.8: "MAY ignore", and in HTTP/1.0 "MUST"; the application still sees the fields."""
    stream = Stream(get(*fields, b"Content-Length: 2", line=line) + b"ab")
    (head,) = stream.sink.heads
    assert not head.websocket
    assert stream.rest is None
    assert stream.error is None
    assert stream.sink.bodies == [b"ab"]
    assert stream.sink.complete == 1
    for field in fields:
        name, _, value = field.partition(b": ")
        assert (name.lower(), value) in head.headers


@pytest.mark.parametrize(
    "fields", [(b"Upgrade: WebSocket",), (b"Upgrade: h2c", b"Upgrade: websocket")]
)
def test_websocket_is_found_however_it_is_written(fields: tuple[bytes, ...]) -> None:
    """RFC 6455 4.2.1: "treated as an ASCII case-insensitive value"."""
    assert Stream(get(b"Connection: keep-alive, Upgrade", *fields)).sink.heads[0].websocket


def test_an_h2c_upgrade_keeps_the_connection_as_the_client_wished() -> None:
    """RFC 9112 9.3: ``close`` is heard even where the upgrade is not."""
    stream = Stream(get(b"Upgrade: h2c", b"Connection: close, Upgrade") + get())
    assert not stream.sink.heads[0].keep_alive
    assert stream.sink.complete == 1
    assert stream.error is None


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_a_request_line_may_be_as_long_as_the_limit(method: bytes) -> None:
    """limit_request_line counts the whole line; RFC 9110 15.5.15: 414."""
    line = method + b" /".ljust(20, b"x") + b" HTTP/1.1"
    raw = get(line=line)
    assert Stream(raw, request_line=len(line)).error is None
    assert Stream(raw, request_line=len(line) - 1).status == 414
    assert Stream(*[bytes([each]) for each in raw], request_line=len(line)).error is None
    assert Stream(raw, request_line=0).error is None


def test_an_endless_request_line_is_refused_before_it_ends() -> None:
    """limit_request_line: at once, not when memory is full."""
    stream = Stream(b"GET /", *[b"x" * 10] * 9, request_line=100)
    assert stream.error is None
    stream.feed(b"x" * 10)
    assert stream.status == 414


def test_a_head_may_have_as_many_fields_as_the_limit() -> None:
    """limit_request_fields; RFC 6585 5: 431."""
    raw = get(b"A: 1", b"B: 2")
    assert Stream(raw, request_fields=3).error is None
    assert Stream(raw, request_fields=2).status == 431


def test_a_field_may_be_as_long_as_the_limit() -> None:
    """limit_request_field_size counts the CRLF, as Gunicorn's own does; RFC 6585 5: 431."""
    raw = get(b"A: ".ljust(20, b"x"))
    assert Stream(raw, request_field_size=22).error is None
    assert Stream(raw, request_field_size=21).status == 431
    assert Stream(*[bytes([each]) for each in raw], request_field_size=22).error is None
    assert Stream(raw, request_field_size=0).error is None


def test_the_largest_legal_head_may_come_byte_by_byte() -> None:
    """What the limits allow in one piece they allow in many."""
    line = b"GET /".ljust(31, b"x") + b" HTTP/1.1"
    raw = get(b"Y-Y: ".ljust(20, b"y"), b"Host: ".ljust(20, b"h"), line=line, host=False)
    limits = {"request_line": 40, "request_fields": 2, "request_field_size": 22}
    assert len(raw) == Limits(**limits).head_size - 4
    assert Stream(*[bytes([byte]) for byte in raw], **limits).error is None


SMALL = {"request_line": 40, "request_fields": 2, "request_field_size": 22}


@pytest.mark.parametrize(
    ("start", "more"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: ", b"y", id="value"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"y", id="name"),
        pytest.param(b"GET / HTTP/1.1\r\nX:", b" ", id="white space"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a:\r\n", id="fields"),
    ],
)
def test_an_endless_head_is_refused_before_it_ends(start: bytes, more: bytes) -> None:
    """llhttp buffers without limit; we stop at the largest legal head (RFC 6585 5: 431)."""
    stream = Stream(start, **SMALL)
    size = Limits(**SMALL).head_size
    for _ in range(size):
        stream.feed(more)
    assert stream.status == 431


def test_a_head_without_limit_is_not_refused() -> None:
    """limit_request_line 0: no limit for the head either."""
    stream = Stream(b"GET /", *[b"x" * 1000] * 100, request_line=0)
    stream.feed(b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert stream.error is None
    assert len(stream.sink.heads[0].target) == 100_001


def test_the_body_before_a_head_is_not_counted_as_head() -> None:
    """A large upload and the beginning of the next request may come in together."""
    raw = get(b"Content-Length: 1000", line=POST)
    stream = Stream(raw, b"x" * 1000 + b"GET / HT", b"TP/1.1\r\nHost: h\r\n\r\n", **SMALL)
    assert stream.error is None
    assert stream.sink.complete == 2


def test_a_large_body_is_no_matter_of_the_limits() -> None:
    """They are those of the head."""
    stream = Stream(get(b"Content-Length: 9999", line=POST), *[b"x" * 99] * 101, **SMALL)
    assert stream.error is None
    assert stream.sink.complete == 1


# -- idle ----------------------------------------------------------------------------------------


def test_a_connection_is_idle_until_a_byte_of_a_request_comes() -> None:
    """The clock of a head starts with its first byte, and only then."""
    stream = Stream()

    def idle() -> bool:
        return stream.parser.idle

    assert idle()
    stream.feed(b"P")
    assert not idle()
    stream.feed(b"OST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n")
    assert not idle()
    stream.feed(b"\r\n")
    assert not idle()
    stream.feed(b"a")
    assert not idle()
    stream.feed(b"b")
    assert idle()
    stream.feed(b"G")
    assert not idle()


def test_a_closed_parser_is_free_at_once() -> None:
    """httptools holds our callbacks and the sink holds us: no garbage collector has to find out."""

    class Parser(RequestParser):
        """One that can be watched: __slots__ leaves no room for weak references."""

    sink = Recorder()
    parser = Parser(sink, Limits(), KnownLines(Limits()))
    parser.feed(get(b"Content-Length: 1", line=POST))
    sink_there, parser_there = weakref.ref(sink), weakref.ref(parser)
    gc.disable()
    try:
        parser.close()
        del sink
        assert sink_there() is None
        del parser
        assert parser_there() is None
    finally:
        gc.enable()


def test_a_connection_is_not_idle_with_half_a_request_behind_a_whole_one() -> None:
    """The beginning of a pipelined request counts from its target on."""
    stream = Stream(get() + b"GET /")
    assert not stream.parser.idle


# -- the machines of an exchange -----------------------------------------------------------------

R, W, X = Reading, Writing, ExchangeEvent

# What the documents promise, written down once more.
EXPECTED_READING: dict[tuple[Reading, ExchangeEvent], Reading] = {
    (R.BODY, X.READ): R.DONE,
    (R.BODY, X.LOST): R.CLOSED,
    (R.DONE, X.LOST): R.DONE,
    (R.CLOSED, X.LOST): R.CLOSED,
}
EXPECTED_WRITING: dict[tuple[Writing, ExchangeEvent], Writing] = {
    (W.WAIT, X.START): W.HEAD,
    (W.WAIT, X.LOST): W.CLOSED,
    (W.HEAD, X.BODY): W.BODY,
    (W.HEAD, X.END): W.DONE,
    (W.HEAD, X.LOST): W.CLOSED,
    (W.BODY, X.BODY): W.BODY,
    (W.BODY, X.END): W.DONE,
    (W.BODY, X.LOST): W.CLOSED,
    (W.DONE, X.LOST): W.DONE,
    (W.CLOSED, X.LOST): W.CLOSED,
}


def test_an_exchange_begins_with_a_head_and_no_answer() -> None:
    """It exists from the complete head on."""
    exchange = Exchange()
    assert (exchange.reading, exchange.writing) == (R.BODY, W.WAIT)


@pytest.mark.parametrize(("reading", "writing", "event"), list(itertools.product(R, W, X)))
def test_every_event_leads_where_it_should_or_is_refused(
    reading: Reading, writing: Writing, event: ExchangeEvent
) -> None:
    """All 75 cases; one machine moves, both where the connection is lost, or none."""
    exchange = Exchange()
    # By hand: some pairs cannot be reached by events, and have to be safe all the same.
    exchange.reading, exchange.writing = reading, writing
    next_reading = EXPECTED_READING.get((reading, event))
    next_writing = EXPECTED_WRITING.get((writing, event))
    if next_reading is None and next_writing is None:
        message = f"^can't {event.name} while {reading.name}/{writing.name}$"
        with pytest.raises(LocalProtocolError, match=message):
            exchange.fire(event)
        assert (exchange.reading, exchange.writing) == (reading, writing)
    else:
        exchange.fire(event)
        assert exchange.reading is (reading if next_reading is None else next_reading)
        assert exchange.writing is (writing if next_writing is None else next_writing)


def test_the_tables_name_every_state() -> None:
    """And losing the connection is possible in each."""
    assert set(READING) == set(R)
    assert set(WRITING) == set(W)
