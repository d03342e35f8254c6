"""protocol/known.py: lines that have come before, against what llhttp says of the whole head.

tests/fuzz asks the same of bytes that nobody would think of.
"""

from __future__ import annotations

from itertools import chain

import pytest

from gunicorn_asgi.protocol import known
from gunicorn_asgi.protocol.known import KnownLines
from gunicorn_asgi.protocol.limits import Limits
from protocol.streams import ByLlhttp, Stream, again, get
from rfc.cases import chunked, connection, fields, framing, limits, request_line, target

__all__: list[str] = []

MODULES = (chunked, connection, fields, framing, limits, request_line, target)
CASES = {
    f"{module.__name__}-{n}": case for module in MODULES for n, case in enumerate(module.CASES)
}

BROWSER = get(
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    b"Accept: text/html",
    b"Connection: keep-alive",
    b"Cookie: session=1",
)


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_read_as_llhttp_reads_it(name: str) -> None:
    """The first time, and again when its lines are known."""
    raw = CASES[name].raw
    first = Stream(raw)
    assert first.said == again(first, raw).said == ByLlhttp(raw).said


@pytest.mark.parametrize("name", CASES)
def test_every_case_behind_one_with_the_same_fields_is_read_alike(name: str) -> None:
    """A connection compares the fields with those of its last request."""
    raw = CASES[name].raw
    line, end, fields = raw.partition(b"\r\n")
    other = b"GET /other HTTP/1.1" + end + fields
    learnt = again(Stream(get(line=line), other), other)  # all its lines are known
    for pieces in ([raw, raw], [raw + raw], [other, raw], [raw, other, raw]):
        stream = again(learnt)
        for piece in pieces:
            stream.feed(piece)
        assert stream.said == ByLlhttp(*pieces).said


def test_fields_that_are_the_same_are_not_read_again() -> None:
    """By identity: one list of them, private ones included, for as long as the connection lives."""
    stream = Stream(BROWSER * 2 + BROWSER.replace(b"session=1", b"session=2") + BROWSER)
    first, second, other, last = (head.headers for head in stream.sink.heads)
    assert first is second
    assert other is not first
    assert last is not first
    assert last == first


def test_of_a_body_only_its_length_is_known() -> None:
    """The next request has a body too, and it ends where it ends."""
    post = get(b"Content-Length: 3", line=b"POST / HTTP/1.1") + b"abc"
    stream = Stream(post * 2, post[:-1], b"c" + post)
    assert stream.sink.bodies == [b"abc"] * 4
    assert stream.sink.complete == 4


def test_fields_that_are_long_together_are_read_each_time() -> None:
    """An idle connection holds no more than 2 kB of them."""
    long = get(*(b"X-%d: %b" % (number, b"y" * 200) for number in range(10)))
    stream = Stream(long, long)
    one, other = stream.sink.heads
    assert one.headers == other.headers
    assert one.headers is not other.headers


@pytest.mark.parametrize("byte", range(256))
@pytest.mark.parametrize(
    "raw",
    [
        get(b"A%cB: c"),
        get(b"A: b%cc"),
        get(b"A: %cb"),
        get(b"A: b%c"),
        get(b"%cA: b"),
        get(line=b"GET /a%cb HTTP/1.1"),
        get(line=b"GET /%c HTTP/1.1"),
        get(line=b"G%cT / HTTP/1.1"),
    ],
    ids=["name", "value", "front", "end", "first", "path", "last", "method"],
)
def test_every_byte_in_every_place_is_taken_or_refused_as_by_llhttp(raw: bytes, byte: int) -> None:
    """Alone, and behind a request whose lines are known."""
    data = raw.replace(b"%c", bytes([byte]))
    first = Stream(data)
    assert first.said == again(first, data).said == ByLlhttp(data).said


def test_lines_are_read_once() -> None:
    """By identity: what is known is not made again. Private ones are."""
    first = Stream(BROWSER)
    (one,), (other,) = first.sink.heads, again(first, BROWSER).sink.heads
    assert one.headers == other.headers
    same = [mine is yours for mine, yours in zip(one.headers, other.headers, strict=True)]
    names = [name for name, _ in one.headers]
    assert [name for name, is_same in zip(names, same, strict=True) if not is_same] == [b"cookie"]
    assert one.line is not None
    assert one.line is other.line


@pytest.mark.parametrize("name", [b"Cookie", b"AUTHORIZATION", b"Proxy-Authorization"])
def test_secrets_are_not_kept(name: bytes) -> None:
    """Nor what is said of them together."""
    lines = Stream(get(name + b": secret")).known
    kept = chain(lines.fields.items(), lines.noted.items(), lines.requests.items())
    assert "secret" not in repr([*kept, *lines.framings])


def test_a_field_with_an_underscore_is_found_known_or_not() -> None:
    """header_map: nginx would drop it."""
    first = Stream(get(b"X_Y: 1"), get(b"X-Y: x_y"))
    for found in (first, again(first, get(b"X_Y: 1"), get(b"X-Y: x_y"))):
        assert [head.underscores for head in found.sink.heads] == [True, False]


def test_what_a_proxy_says_is_found_known_or_not() -> None:
    """And a head in which none of it is needs no look."""
    lines = KnownLines(Limits(), frozenset({b"x-forwarded-for"}))
    for _ in range(2):
        found = Stream()
        found.parser._known = lines
        found.feed(get(b"X-Forwarded-For: 192.0.2.1") + get(b"X: 1"))
        assert [head.told for head in found.sink.heads] == [True, False]


@pytest.mark.parametrize("kind", ["fields", "noted", "requests", "framings"])
def test_a_client_that_sends_nothing_twice_fills_no_memory(kind: str) -> None:
    """So many are kept, and then all are forgotten; nothing else changes."""
    makes = {
        "fields": lambda n: get(b"X-%d: 1" % n),
        "noted": lambda n: get(b"Content-Type: a/%d" % n),
        "requests": lambda n: get(line=b"GET /%d HTTP/1.1" % n),
        "framings": lambda n: get(b"Content-Type: a/%d" % n),
    }
    sizes = set()
    stream = Stream()
    for number in range(3 * known._LINES):
        stream.feed(makes[kind](number))
        sizes.add(len(getattr(stream.known, kind)))
    assert stream.sink.complete == 3 * known._LINES
    assert max(sizes) == known._LINES


def test_what_is_long_is_not_kept() -> None:
    """A line, a target, and noted fields that are long together."""
    long = b"x" * known._SIZE
    stream = Stream(
        get(b"X: " + long), get(line=b"GET /%b HTTP/1.1" % long), get(b"Content-Type: " + long)
    )
    assert stream.sink.complete == 3
    kept = [*stream.known.fields, *stream.known.noted, *stream.known.requests]
    assert max(map(len, kept)) <= known._SIZE
    assert all(sum(len(n) + len(v) for n, v in key) <= known._SIZE for key in stream.known.framings)
