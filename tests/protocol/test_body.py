"""protocol/body.py: where a request body ends, wherever it is cut, and what framing may cost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.body import Body, ChunkedBody, SizedBody
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.limits import Limits
from kit.message import chunked
from protocol.fuzz import FUZZ, glued

__all__: list[str] = []

LAST = b"0\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n"


class Pieces:
    """A BodySink that remembers."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def on_body(self, data: bytes) -> None:
        """Remember."""
        self.all.append(data)


class Upload:
    """A body that is fed, and what became of it."""

    def __init__(self, *pieces: bytes, size: int | None = None, **limits: int) -> None:
        self.sink = Pieces()
        self.body: Body
        if size is None:
            self.body = ChunkedBody(self.sink, Limits(**limits))
        else:
            self.body = SizedBody(self.sink, size)
        self.status: int | None = None
        self.rest = b""
        self.fed = 0
        for piece in pieces:
            self.feed(piece)

    def feed(self, piece: bytes) -> None:
        """As the parser does: nothing goes to a body that is complete or refused."""
        if self.body.complete:
            self.rest += piece
        elif self.status is None:
            try:
                self.rest += self.body.feed(piece)
                self.fed += len(piece)
            except RemoteProtocolError as exc:
                self.status = exc.status_hint

    @property
    def data(self) -> bytes:
        """The body so far."""
        return b"".join(self.sink.all)

    @property
    def seen(self) -> object:
        """How it ended; pieces of one that was refused may have been withheld."""
        return self.body.complete, self.status, self.rest, self.status or self.data


def bytewise(raw: bytes) -> list[bytes]:
    """Every byte on its own."""
    return [bytes([byte]) for byte in raw]


def at_every_cut(raw: bytes, **limits: int) -> Upload:
    """Feed ``raw`` whole, byte by byte, and in two pieces at every cut: it makes no difference."""
    whole = Upload(raw, **limits)
    assert Upload(*bytewise(raw), **limits).seen == whole.seen
    for at in range(1, len(raw)):
        assert Upload(raw[:at], raw[at:], **limits).seen == whole.seen, raw[:at]
    return whole


# -- by length -----------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"hello", b"hello" + NEXT, b"0\r\n\r\n", b"\0\xff\r\n\n!"])
def test_a_sized_body_ends_after_its_bytes(raw: bytes) -> None:
    """RFC 9112 6.2: so many and no more, whatever they are."""
    upload = Upload(raw, size=5)
    assert (upload.body.complete, upload.data, upload.rest) == (True, raw[:5], raw[5:])
    bits = Upload(*bytewise(raw), size=5)
    assert bits.seen == upload.seen
    assert bits.sink.all == bytewise(raw[:5])


def test_a_sized_body_is_not_complete_before_its_last_byte() -> None:
    """RFC 9112 8: one that is cut off must never look like an end."""
    upload = Upload(b"hell", size=5)
    assert not upload.body.complete
    upload.feed(b"o")
    assert upload.body.complete


# -- chunked: what is right ----------------------------------------------------------------------

GOOD = {
    "one chunk": (b"5\r\nhello\r\n", b"hello"),
    "chunks are put together": (b"2\r\nhe\r\n3\r\nllo\r\n", b"hello"),
    "no chunk but the last": (b"", b""),
    "a size in lower case": (b"a\r\n0123456789\r\n", b"0123456789"),
    "a size in upper case": (b"A\r\n0123456789\r\n", b"0123456789"),
    "zeros in front of a size": (b"0005\r\nhello\r\n", b"hello"),
    "a size of 16 digits": (b"0000000000000005\r\nhello\r\n", b"hello"),
    "data that looks like framing": (b"5\r\n" + LAST + b"\r\n", LAST),
    "data of line ends": (b"4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    "an extension": (b"5;a\r\nhello\r\n", b"hello"),
    "an empty extension": (b"5;\r\nhello\r\n", b"hello"),
    "an extension with a value": (b"5;a=b\r\nhello\r\n", b"hello"),
    "a quoted value with semicolons": (b'5;a="b;c";d\r\nhello\r\n', b"hello"),
    "an extension with a byte beyond ASCII": (b"5;\xe9\r\nhello\r\n", b"hello"),
    "bad white space in front of a semicolon": (b"5 \t;a\r\nhello\r\n", b"hello"),
}


@pytest.mark.parametrize("last", [LAST, b"000\r\n\r\n", b"0;a=b\r\n\r\n", b"0\r\nX-T: 1\r\n\r\n"])
@pytest.mark.parametrize("name", GOOD)
def test_a_chunked_body_comes_out_without_its_framing(name: str, last: bytes) -> None:
    """RFC 9112 7.1 and 7.1.1; and what is behind it is not its own."""
    raw, data = GOOD[name]
    upload = at_every_cut(raw + last + NEXT)
    assert (upload.body.complete, upload.status) == (True, None)
    assert (upload.data, upload.rest) == (data, NEXT)


@pytest.mark.parametrize("name", GOOD)
def test_a_chunked_body_is_not_complete_before_its_last_byte(name: str) -> None:
    """RFC 9112 8: one that is cut off must never look like an end."""
    raw = GOOD[name][0] + b"0\r\nX-T: 1\r\n\r\n"
    for at in range(len(raw)):
        upload = Upload(raw[:at]) if at else Upload()
        assert (upload.body.complete, upload.status) == (False, None), raw[:at]


def test_what_comes_in_together_goes_out_together() -> None:
    """A flood of tiny chunks is one call for each read, not one for each chunk."""
    upload = Upload(chunked(*[b"x"] * 100, b"y" * 50, last=False))
    assert upload.sink.all == [b"x" * 100 + b"y" * 50]
    upload.feed(b"1\r\nz")
    assert upload.sink.all[1:] == [b"z"]
    upload.feed(b"\r\n" + LAST)
    assert len(upload.sink.all) == 2
    assert upload.body.complete


# -- chunked: what is wrong ----------------------------------------------------------------------

# Each is refused without a byte of what would make the rest of it right.
BAD_SIZES = {
    "in the notation of C": b"0x5\r\n",
    "signed": b"+5\r\n",
    "negative": b"-5\r\n",
    "with an underscore": b"1_0\r\n",
    "no digit": b"g\r\n",
    "missing": b"\r\n",
    "white space in front": b" 5\r\n",
    "white space behind": b"5 \r\n",
    "a tab behind": b"5\t\r\n",
    "white space inside": b"1 0\r\n",
    "17 digits": b"00000000000000005\r\n",
    "bare LF": b"5\nhello",
    "bare CR": b"5\rhello",
    "two CRs": b"5\r\r\n",
    "NUL": b"5\0\r\n",
    "NUL in an extension": b"5;a\0\r\n",
    "bare CR in an extension": b"5;a\rb\r\n",
    "bare LF in an extension": b"5;a\nb\r\n",
    "DEL in an extension": b"5;a\x7f\r\n",
    "a comma for the semicolon": b"5,a\r\n",
    "missing behind an extension": b";a\r\n",
}


@pytest.mark.parametrize("name", BAD_SIZES)
def test_a_chunk_size_that_is_none_is_refused(name: str) -> None:
    """RFC 9112 7.1: chunk-size = 1*HEXDIG; CVE-2023-38697, CVE-2024-1135 and their like."""
    upload = at_every_cut(BAD_SIZES[name])
    assert upload.status == 400
    behind = at_every_cut(b"1\r\na\r\n" + BAD_SIZES[name])
    assert behind.status == 400
    assert not behind.body.complete


@pytest.mark.parametrize(
    ("line", "at"), [(b"0x5\r\n", 1), (b"5 x", 2), (b"5\rx", 2), (b"5;\0", 2), (b"5\n", 1)]
)
def test_a_chunk_size_is_refused_at_its_first_wrong_byte(line: bytes, at: int) -> None:
    """Nobody waits for a line end that may never come."""
    upload = Upload(*bytewise(line))
    assert upload.status == 400
    assert upload.fed == at


@pytest.mark.parametrize("end", [b"\n", b"\r\r", b"\r\0", b"XX", b"\n\r", b"0\r\n", b"!\r\n"])
def test_chunk_data_is_followed_by_a_line_end(end: bytes) -> None:
    """RFC 9112 7.1: chunk = chunk-size CRLF chunk-data CRLF; CVE-2025-43859."""
    upload = at_every_cut(b"5\r\nhello" + end + LAST)
    assert upload.status == 400
    assert not upload.body.complete


# -- chunked: trailers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trailers",
    [
        b"X-T: 1\r\n",
        b"X-T:\r\n",
        b"X-T: 1\r\nY-T: 2\r\nX-T: 3\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n",
        b"X-T: \xe9\t \r\n",
    ],
)
def test_trailers_are_read_and_dropped(trailers: bytes) -> None:
    """RFC 9110 6.5.1: "MUST NOT be merged"; RFC 9112 7.1.2."""
    upload = at_every_cut(b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n" + NEXT)
    assert upload.seen == (True, None, NEXT, b"hello")


@pytest.mark.parametrize(
    "line",
    [
        b"X-T\r\n",
        b": 1\r\n",
        b"X-T : 1\r\n",
        b" X-T: 1\r\n",
        b"X-T: 1\r\n fold\r\n",
        b"X-T: 1\n\r\n",
        b"X-T: a\rb\r\n",
        b"X-T: a\0b\r\n",
        b"X(T): 1\r\n",
        b"\n",
    ],
)
def test_trailers_that_are_none_are_refused(line: bytes) -> None:
    """RFC 9112 7.1.2 and 5.1: a request may hide in what is not a field."""
    upload = at_every_cut(b"0\r\n" + line + b"\r\n")
    assert upload.status == 400
    assert not upload.body.complete


# -- chunked: limits -----------------------------------------------------------------------------

# What goes on for ever, and what a piece of it may be.
ENDLESS = {
    "an extension": (b"5;", b"x"),
    "white space behind a size": (b"5", b" "),
    "extensions": (b"5", b";a=b"),
    "the extension of the last chunk": (b"0;", b"x"),
    "the name of a trailer": (b"0\r\n", b"x"),
    "a trailer": (b"0\r\nX-T:", b" "),
    "trailers": (b"0\r\n", b"X-T: 1\r\n"),
    "extensions of tiny chunks": (b"", b"1;" + b"x" * 80 + b"\r\na\r\n"),
}


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("name", ENDLESS)
def test_framing_that_does_not_end_is_refused(name: str, size: int) -> None:
    """Limits.chunk_overhead, CVE-2023-39326, CVE-2024-22019: a bounded buffer, and 400."""
    begin, more = ENDLESS[name]
    raw = begin + more * (100_000 // len(more))
    upload = Upload(*(raw[at : at + size] for at in range(0, len(raw), size)))
    assert upload.status == 400
    assert not upload.body.complete
    # Beyond the limit: what is free of charge for each chunk, all of which are of one byte.
    assert upload.fed <= Limits().chunk_overhead + 16 + (16 + 2 + 3) * len(upload.data)


def test_zeros_that_do_not_end_are_refused_sooner() -> None:
    """RFC 9112 7.1: "a recipient MUST [...] prevent parsing errors due to integer conversion"."""
    upload = Upload(*[b"0"] * 100)
    assert (upload.status, upload.fed) == (400, 16)


@pytest.mark.parametrize(
    ("body", "overhead"),
    [
        pytest.param(b"5;" + b"x" * 60 + b"\r\nhello\r\n" + LAST, 64, id="an extension"),
        pytest.param(b"0;" + b"x" * 60 + b"\r\n\r\n", 64, id="the extension of the last"),
        # The last chunk's own line is free, and the blank line at the end is counted.
        pytest.param(b"0\r\nX-T: " + b"x" * 57 + b"\r\n\r\n", 66, id="a trailer"),
        pytest.param(b"0\r\n" + b"X: 1\r\n" * 10 + b"\r\n", 62, id="trailers"),
        # Each line is 28 bytes, of which 16 and twice its data are free: 10 are kept on account.
        pytest.param((b"1;" + b"x" * 24 + b"\r\na\r\n") * 8 + LAST, 98, id="many extensions"),
        # A large chunk pays for what was before it.
        pytest.param(
            (b"1;" + b"x" * 24 + b"\r\na\r\n") * 8 + chunked(b"y" * 50) + b"", 98, id="paid back"
        ),
    ],
)
def test_overhead_is_counted_to_the_byte(body: bytes, overhead: int) -> None:
    """Limits.chunk_overhead: this much passes, one less does not; wherever it is cut."""
    taken = at_every_cut(body, chunk_overhead=overhead)
    assert (taken.body.complete, taken.status) == (True, None)
    refused = at_every_cut(body, chunk_overhead=overhead - 1)
    assert (refused.body.complete, refused.status) == (False, 400)


@pytest.mark.parametrize("size", [1, 2, 10, 5000])
def test_an_honest_framing_has_no_limit(size: int) -> None:
    """A client that sends small chunks for hours is no attacker."""
    upload = Upload(*[chunked(b"x" * size, last=False)] * 20_000, LAST, chunk_overhead=64)
    assert upload.body.complete
    assert len(upload.data) == 20_000 * size


@pytest.mark.parametrize(
    ("sizes", "limit", "at"),
    [
        ([10], 10, None),
        ([5, 5], 10, None),
        ([11], 10, 0),
        ([5, 6], 10, 1),
        ([10, 1], 10, 1),
        ([1] * 10, 10, None),
        ([1] * 11, 10, 10),
        ([11], 0, None),
    ],
)
def test_a_body_beyond_its_limit_is_413_at_the_size_of_a_chunk(
    sizes: list[int], limit: int, at: int | None
) -> None:
    """asgi_limit_request_body, RFC 9110 15.5.14: before a byte of that chunk is taken."""
    raw = chunked(*[b"x" * size for size in sizes])
    upload = at_every_cut(raw, request_body=limit)
    if at is None:
        assert upload.seen == (True, None, b"", b"x" * sum(sizes))
        return
    assert (upload.body.complete, upload.status) == (False, 413)
    bits = Upload(*bytewise(raw), request_body=limit)
    assert len(bits.data) == sum(sizes[:at])
    # All up to the LF of that chunk's size, and not that.
    assert bits.fed == len(chunked(*[b"x" * size for size in sizes[:at]], last=False)) + len(
        b"%x\r" % sizes[at]
    )


def test_the_largest_size_that_can_be_written_is_counted_too() -> None:
    """16 digits are more than any limit, and no overflow."""
    line = b"f" * 16 + b"\r\n"
    assert Upload(line, request_body=2**63).status == 413
    upload = Upload(line + b"x" * 1000)
    assert (upload.status, upload.body.complete) == (None, False)
    assert len(upload.data) == 1000


# -- anything ------------------------------------------------------------------------------------

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*\r\n")


def decode(raw: bytes) -> tuple[bytes, bytes] | None:
    """The grammar of RFC 9112 7.1 once more: body and rest, None if ``raw`` is no whole body."""
    data, at = b"", 0
    while match := _CHUNK.match(raw, at):
        size, at = int(match[1], 16), match.end()
        if not size:
            end = _TRAILERS.match(raw, at)
            return (data, raw[end.end() :]) if end else None
        data += raw[at : at + size]
        if raw[at + size : at + size + 2] != b"\r\n":
            return None
        at += size + 2
    return None


def agrees(raw: bytes, cuts: list[int]) -> None:
    """``raw``, cut there, is what the grammar says it is, and nothing else happens."""
    at = sorted({each % (len(raw) + 1) for each in cuts} - {0, len(raw)})
    pieces = [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]
    upload = Upload(*filter(None, pieces))
    assert upload.seen == (Upload(raw) if raw else Upload()).seen
    expected = decode(raw)
    assert upload.body.complete is (expected is not None)
    if expected is not None:
        assert (upload.data, upload.rest) == expected
        assert upload.status is None


CUTS = st.lists(st.integers(0, 1000), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";", b";a", b' ;a="b;c"', b"\t;\xe9"])
CHUNKS = st.tuples(st.binary(min_size=1, max_size=30), st.integers(0, 3), EXTENSIONS)
FIELDS = st.sampled_from([b"X: 1\r\n", b"Host:\r\n", b"Content-Length: 7\r\n"])


@FUZZ
@given(st.lists(CHUNKS, max_size=6), st.lists(FIELDS, max_size=3), st.binary(max_size=20), CUTS)
def test_whatever_is_framed_comes_out_again(
    chunks: list[tuple[bytes, int, bytes]], fields: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    """Any data, any honest framing, any cut."""
    raw = b"".join(
        b"0" * zeros + b"%x%b\r\n%b\r\n" % (len(data), extension, data)
        for data, zeros, extension in chunks
    )
    raw += b"0\r\n" + b"".join(fields) + b"\r\n" + rest
    agrees(raw, cuts)
    assert decode(raw) == (b"".join(data for data, _, _ in chunks), rest)


@FUZZ
@given(glued(b"0", b"1", b"a", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"X: 1\r\n", b";"), CUTS)
def test_no_bytes_are_read_in_two_ways(raw: bytes, cuts: list[int]) -> None:
    """A clean refusal, or a body; the same at any cut, and never more than the grammar allows."""
    agrees(raw, cuts)
