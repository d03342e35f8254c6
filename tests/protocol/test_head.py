"""protocol/head.py: what llhttp lets pass and we do not, and what is told of the refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import NOTED, Framing, RequestHead, bad_request_line, check_fields
from protocol.fuzz import FUZZ, VALUES, glued
from protocol.heads import Fields, head_of

__all__: list[str] = []

CHUNKED = (b"transfer-encoding", b"chunked")


def length(value: bytes) -> tuple[bytes, bytes]:
    """A Content-Length."""
    return b"content-length", value


def refusal(*fields: tuple[bytes, bytes], version: str = "1.1", host: bytes | None = b"h") -> int:
    """With which status these fields are refused."""
    with pytest.raises(RemoteProtocolError) as caught:
        check_fields(head_of(fields, version=version, host=host))
    assert str(caught.value)
    return caught.value.status_hint


def framing(*fields: tuple[bytes, bytes]) -> tuple[int, bool]:
    """How the body is framed."""
    found = check_fields(head_of(fields))
    return found.length, found.chunked


# -- Host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [b"h", b"h:80", b"127.0.0.1", b"[::1]:8000", b"a.example."])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_host_that_is_an_authority_is_taken(version: str, host: bytes) -> None:
    """RFC 9110 7.2; what one looks like is proved in test_authority.py."""
    check_fields(head_of(version=version, host=host))


@pytest.mark.parametrize("host", [b"", b" ", b"a/b", b"a@b", b"a b", b"h:x", b"\xff"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_host_that_is_none_is_refused(version: str, host: bytes) -> None:
    """RFC 9112 3.2: "or that contains [...] an invalid field value", 400."""
    assert refusal(version=version, host=host) == 400


def test_a_host_is_needed_in_1_1_and_only_there() -> None:
    """RFC 9112 3.2: "any HTTP/1.1 request message that lacks a Host header field", 400."""
    assert refusal(host=None) == 400
    check_fields(head_of(version="1.0", host=None))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("second", [b"h", b"other"])
def test_a_second_host_is_refused_even_if_it_is_the_same(version: str, second: bytes) -> None:
    """RFC 9112 3.2: "more than one Host header field line", 400."""
    assert refusal((b"host", second), version=version) == 400


# -- how the body is framed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), (0, False)),
        ((length(b"0"),), (0, False)),
        ((length(b"5"),), (5, False)),
        ((length(b"005"),), (5, False)),
        ((length(b"9" * 18),), (10**18 - 1, False)),
        ((CHUNKED,), (0, True)),
        (((b"transfer-encoding", b"CHUNKED"),), (0, True)),
        (((b"te", b"trailers"), (b"trailer", b"x"), length(b"1")), (1, False)),
    ],
)
def test_a_body_is_as_long_as_the_head_says(fields: Fields, expected: tuple[int, bool]) -> None:
    """RFC 9112 6.3: chunked, or a length, or none."""
    assert framing(*fields) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"+5", b"-1", b"5 ", b" 5", b"5\t", b"5,5", b"5, 5", b"0x5", b"1_0", b"5.0", b"1e3"),
        *(b"five", b"5\x00", b"\xb2", b"\xd9\xa3", b"9" * 19),
    ],
)
def test_a_length_is_digits_and_nothing_else(value: bytes) -> None:
    """RFC 9110 8.6: 1*DIGIT; int() takes more, other digits and underscores among it."""
    assert refusal(length(value)) == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param((length(b"5"), length(b"5")), 400, id="two lengths that agree"),
        pytest.param((length(b"5"), length(b"6")), 400, id="two lengths"),
        pytest.param((CHUNKED, CHUNKED), 400, id="chunked twice"),
        pytest.param((CHUNKED, length(b"5")), 400, id="chunked and a length"),
        pytest.param((length(b"5"), CHUNKED), 400, id="a length and chunked"),
        pytest.param((length(b"0"), CHUNKED), 400, id="a length of 0 and chunked"),
        pytest.param(((b"content-type", b"a/b"),) * 2, 400, id="two types that agree"),
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(fields: Fields, status: int) -> None:
    """RFC 9112 6.1 and 6.3, RFC 9110 5.3: request smuggling."""
    assert refusal(*fields) == status


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"gzip", b"identity", b"chunked, chunked", b"gzip, chunked", b"chunked;q=1"),
        *(b"xchunked", b"chunked,", b",chunked", b'"chunked"', b"chunke\xc4\x91", b"\x0bchunked"),
    ],
)
def test_a_coding_other_than_chunked_is_501(value: bytes) -> None:
    """RFC 9112 6.1: "A server that receives [...] a transfer coding it does not understand"."""
    assert refusal((b"transfer-encoding", value)) == 501


@pytest.mark.parametrize("value", [b"chunked", b"gzip", b""])
def test_no_coding_is_taken_in_1_0(value: bytes) -> None:
    """RFC 9112 6.1: "MUST treat the message as if the framing is faulty"."""
    assert refusal((b"transfer-encoding", value), version="1.0") == 400


# -- expectations and upgrades -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "version", "expects"),
    [
        ((), "1.1", False),
        (((b"expect", b"100-continue"),), "1.1", True),
        (((b"expect", b"100-Continue"),) * 2, "1.1", True),
        (((b"expect", b"100-continue"),), "1.0", False),
        (((b"expect", b"miracles"),), "1.0", False),
    ],
)
def test_a_100_is_expected_in_1_1_and_only_there(
    fields: Fields, version: str, expects: bool
) -> None:
    """RFC 9110 10.1.1: "MUST ignore the 100-continue expectation" in HTTP/1.0."""
    head = head_of(fields, version=version)
    check_fields(head)
    assert head.expect_continue is expects


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, x", b"100-continue;q=1"])
def test_another_expectation_is_417(value: bytes) -> None:
    """RFC 9110 10.1.1."""
    assert refusal((b"expect", value)) == 417
    assert refusal((b"expect", b"100-continue"), (b"expect", value)) == 417


@pytest.mark.parametrize(
    ("fields", "version", "upgrade", "websocket"),
    [
        ([(b"upgrade", b"websocket")], "1.1", True, True),
        ([(b"upgrade", b"h2c, WebSocket")], "1.1", True, True),
        ([(b"upgrade", b"h2c"), (b"upgrade", b"websocket")], "1.1", True, True),
        ([(b"upgrade", b"h2c")], "1.1", True, False),
        ([(b"upgrade", b"websockets")], "1.1", True, False),
        ([(b"upgrade", b"websocket")], "1.0", True, False),
        ([(b"upgrade", b"websocket")], "1.1", False, False),
        ([(b"x-upgrade", b"websocket")], "1.1", True, False),
    ],
)
def test_an_upgrade_is_one_to_websocket_or_ignored(
    fields: Fields, version: str, upgrade: bool, websocket: bool
) -> None:
    """RFC 9110 7.8; ``upgrade`` is what llhttp has made of Connection and Upgrade together."""
    head = head_of(fields, version=version)
    head.upgrade = upgrade
    check_fields(head)
    assert head.websocket is websocket


@pytest.mark.parametrize("name", [b"x-request-id", b"x-forwarded-for", b"forwarded"])
def test_fields_that_others_have_asked_for_are_left_alone(name: bytes) -> None:
    """They are noted too, twice if they are there twice, and mean nothing here."""
    head = head_of()
    head.noted = [*head.noted, (name, b"1"), (name, b"2")]
    check_fields(head)
    assert name not in NOTED


# -- request lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # RFC 9110 15.6.6: another major version, or a minor one that means nothing to us.
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/1.9", 505),
        (b"PRI * HTTP/2.0", 505),
        # RFC 9110 9.1: "unrecognized or not implemented".
        (b"FROB / HTTP/1.1", 501),
        (b"get / HTTP/1.0", 501),
        (b"M-SEARCHY * HTTP/1.1", 501),
        # RFC 9112 3: method SP request-target SP HTTP-version, or no request line at all.
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/11.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"\x16\x03\x01 / HTTP/1.1", 400),
    ],
)
def test_the_status_says_what_is_wrong_with_a_request_line(line: bytes, status: int) -> None:
    """A client that speaks HTTP learns more than one that does not."""
    assert bad_request_line(line).status_hint == status


# -- what is told of a request that was refused --------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /a?b HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ("GET", b"/a?b", "1.1")),
        (b"GET /a HTTP/1.0\r\n\r\n", ("GET", b"/a", "1.0")),
        (b"PRI * HTTP/2.0\r\n\r\n", ("PRI", b"*", "1.1")),
        (b"get /a HTTP/1.1", ("get", b"/a", "1.1")),
        (b"GET /unfinish", ("GET", b"/unfinish", "1.1")),
        (b"GET\r\nHost: a\r\n\r\n", ("GET", b"-", "1.1")),
        (b"GET ", ("GET", b"-", "1.1")),
        (b"", ("-", b"-", "1.1")),
        (b"\x16\x03\x01\x02\x00 \x01", ("-", b"\x01", "1.1")),
        (b" GET / HTTP/1.1\r\n", ("-", b"GET", "1.1")),
        (b"G\x1b[31mT / HTTP/1.1\r\n", ("-", b"/", "1.1")),
        (b"GET\n / HTTP/1.1\r\n", ("-", b"/", "1.1")),
        (b"\xc3\x89 / HTTP/1.1\r\n", ("-", b"/", "1.1")),
    ],
)
def test_what_is_there_of_a_refused_head_is_told(
    raw: bytes, expected: tuple[str, bytes, str]
) -> None:
    """For the access log, which writes "-" for what it does not know."""
    head = RequestHead.of_refused(raw)
    assert (head.method, head.target, head.version) == expected
    assert head.headers == []
    assert not head.keep_alive


# -- anything ------------------------------------------------------------------------------------

_NAMES = st.sampled_from(sorted(NOTED - {b"host"}))
_VALUES = VALUES | glued(b"chunked", b"100-continue", b"websocket", b"5", b",", b" ")


@FUZZ
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=4), st.sampled_from(["1.0", "1.1"]))
def test_whatever_the_fields_say_they_are_refused_or_clear(
    fields: list[tuple[bytes, bytes]], version: str
) -> None:
    """One framing or none, and no other exception than a refusal."""
    head = head_of(fields, version=version)
    head.upgrade = True
    refused, found = 0, Framing()
    try:
        found = check_fields(head)
    except RemoteProtocolError as exc:
        refused = exc.status_hint
    if refused:
        assert refused in (400, 417, 501)
        return
    assert not (found.chunked and found.length)
    names = [name for name, _ in fields]
    assert found.chunked is (b"transfer-encoding" in names)
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1


@FUZZ
@given(VALUES | glued(b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\x1b"))
def test_whatever_was_refused_has_a_name(raw: bytes) -> None:
    """Any bytes at all."""
    head = RequestHead.of_refused(raw)
    assert head.method
    assert head.target
    assert head.method.isprintable()
    assert not set(head.method) & set(' "(),/:;<=>?@[]{}\\')
    assert bad_request_line(raw).status_hint in (400, 501, 505)
