"""Sizes: Gunicorn's limits at their defaults, and a request body of at most 100 000 bytes.

Most of this has no end: it is refused while it comes in.
"""

from __future__ import annotations

from rfc.case import CHUNKED, Case, Seen, chunks, get, post, refused, served

__all__ = ["BODY", "CASES"]

BODY = 100_000
LINE = 4094
FIELDS = 100
FIELD = 8190
LINE_SOURCE = "Gunicorn: limit_request_line; RFC 9112 3"
FIELDS_SOURCE = "Gunicorn: limit_request_fields; RFC 6585 5"
FIELD_SOURCE = "Gunicorn: limit_request_field_size; RFC 6585 5"
BODY_SOURCE = "asgi_limit_request_body; RFC 9110 15.5.14"

START = b"GET / HTTP/1.1\r\nHost: kit\r\n"


def _line(size: int) -> bytes:
    """A request line of that size, which Gunicorn counts without its CRLF."""
    path = b"/" + b"x" * (size - len(b"GET / HTTP/1.1"))
    return b"GET " + path + b" HTTP/1.1"


def _path(size: int) -> str:
    return _line(size).split(b" ")[1].decode()


def _field(size: int) -> bytes:
    """A field of that size."""
    return b"A: " + b"b" * (size - 3)


LINES = (
    served("a request line at its limit", LINE_SOURCE, get(line=_line(LINE)), Seen(_path(LINE))),
    refused("a request line beyond its limit", LINE_SOURCE, get(line=_line(LINE + 1)), 414),
    refused(
        "a query beyond the limit",
        LINE_SOURCE,
        get(line=b"GET /?" + b"x" * LINE + b" HTTP/1.1"),
        414,
    ),
    refused("a target without end", LINE_SOURCE, b"GET /" + b"x" * LINE, 414),
    refused(
        "a target without end, by far",
        "httptools #142; uvicorn #344",
        b"GET /" + b"x" * 70_000,
        414,
    ),
    refused("a query without end", LINE_SOURCE, b"GET /?" + b"x" * LINE, 414),
    refused("an absolute target without end", LINE_SOURCE, b"GET http://" + b"x" * LINE, 414),
    refused("a method without end", LINE_SOURCE, b"A" * (LINE + 10), 414, 501),
    refused("a version without end", "RFC 9112 2.3", b"GET / HTTP/1.1" + b"1" * LINE, 400, 414),
    refused(
        "white space without end behind the version",
        "RFC 9112 3",
        b"GET / HTTP/1.1" + b" " * LINE,
        400,
        414,
    ),
    refused("white space without end before the method", "RFC 9112 3", b" " * LINE),
    refused("blank lines without end", "RFC 9112 2.2", b"\r\n" * LINE),
    refused(
        "a target without end behind a good request",
        LINE_SOURCE,
        get() + b"GET /" + b"x" * LINE,
        414,
        after=(Seen(),),
    ),
)

FIELD_COUNTS = (
    served("as many fields as are allowed", FIELDS_SOURCE, get(*[b"A: b"] * (FIELDS - 1))),
    refused("one field too many", FIELDS_SOURCE, get(*[b"A: b"] * FIELDS), 431),
    refused("fields without end", FIELDS_SOURCE, START + b"A: b\r\n" * FIELDS, 431),
    refused("fields without end, by far", FIELDS_SOURCE, START + b"A: b\r\n" * 20_000, 431),
    refused("empty fields without end", FIELDS_SOURCE, START + b"A:\r\n" * 20_000, 431),
    served(
        "the fields of two requests are counted each by each",
        FIELDS_SOURCE,
        get(*[b"A: b"] * (FIELDS - 1)) * 3,
        *(Seen(),) * 3,
    ),
    refused(
        "one field too many in the second request",
        FIELDS_SOURCE,
        get() + get(*[b"A: b"] * FIELDS),
        431,
        after=(Seen(),),
    ),
)

FIELD_SIZES = (
    served(
        "a large field",
        FIELD_SOURCE,
        get(_field(FIELD - 10)),
        Seen(has=(("a", "b" * (FIELD - 13)),)),
    ),
    refused("a field beyond its limit", FIELD_SOURCE, get(_field(FIELD + 1)), 431),
    refused("a value without end", FIELD_SOURCE, START + _field(FIELD + 10), 431),
    refused("a value without end, by far", FIELD_SOURCE, START + _field(300_000), 431),
    refused("a name without end", FIELD_SOURCE, START + b"A" * (FIELD + 10), 431),
    refused(
        "white space without end in a value", FIELD_SOURCE, START + b"A:" + b" " * (FIELD + 10), 431
    ),
    refused(
        "white space without end behind a value",
        FIELD_SOURCE,
        START + b"A: b" + b" " * (FIELD + 10),
        431,
    ),
    refused("a Cookie beyond the limit", FIELD_SOURCE, get(b"Cookie: a=" + b"b" * FIELD), 431),
    refused(
        "a Host without end", FIELD_SOURCE, b"GET / HTTP/1.1\r\nHost: " + b"a" * (FIELD + 10), 431
    ),
    refused(
        "a chunked request with a field beyond the limit",
        FIELD_SOURCE,
        post(CHUNKED, _field(FIELD + 1), body=b"0\r\n\r\n"),
        431,
    ),
)

LARGEST = b"x" * BODY
BODIES = (
    served(
        "a body at its limit",
        BODY_SOURCE,
        post(b"Content-Length: %d" % BODY, body=LARGEST),
        Seen(method="POST", body=LARGEST),
    ),
    served(
        "chunks at their limit",
        BODY_SOURCE,
        chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (BODY, LARGEST)),
        Seen(method="POST", body=LARGEST),
    ),
    served(
        "extensions do not count as body",
        BODY_SOURCE,
        chunks(b"%x;%b\r\n%b\r\n0\r\n\r\n" % (BODY, b"a" * 1000, LARGEST)),
        Seen(method="POST", body=LARGEST),
    ),
    refused(
        "a Content-Length beyond the limit",
        BODY_SOURCE,
        post(b"Content-Length: %d" % (BODY + 1)),
        413,
    ),
    refused(
        "a Content-Length far beyond the limit",
        BODY_SOURCE,
        post(b"Content-Length: " + b"9" * 18),
        413,
    ),
    refused(
        "a body beyond the limit",
        BODY_SOURCE,
        post(b"Content-Length: %d" % (BODY + 1), body=LARGEST + b"x"),
        413,
    ),
    refused(
        "a chunk beyond the limit",
        BODY_SOURCE,
        chunks(b"%x\r\n%b" % (BODY + 1, LARGEST + b"x")),
        413,
    ),
    refused(
        "chunks beyond the limit", BODY_SOURCE, chunks(b"%x\r\n%b\r\n1\r\nx" % (BODY, LARGEST)), 413
    ),
    refused(
        "a chunk of all the bytes there are", "CVE-2013-2028", chunks(b"ffffffffffffffff\r\n"), 413
    ),
    refused(
        "chunks that add up beyond 64 bits",
        "CVE-2013-2028",
        chunks(b"1\r\na\r\nffffffffffffffff\r\n"),
        413,
    ),
    refused(
        "a body beyond the limit with an upgrade",
        BODY_SOURCE,
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: %d" % (BODY + 1)),
        413,
    ),
    refused(
        "a body beyond the limit behind a good request",
        BODY_SOURCE,
        get() + post(b"Content-Length: %d" % (BODY + 1)),
        413,
        after=(Seen(),),
    ),
)

CASES: tuple[Case, ...] = (*LINES, *FIELD_COUNTS, *FIELD_SIZES, *BODIES)
