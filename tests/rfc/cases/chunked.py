"""Chunked bodies (RFC 9112, 7.1)."""

from __future__ import annotations

from rfc.case import CHUNKED, Case, Seen, chunks, dropped, get, refused, served

__all__ = ["CASES"]

SIZE = "RFC 9112 7.1"
EXTENSION = "RFC 9112 7.1.1"
TRAILER = "RFC 9112 7.1.2 and 6.5.1"
DATA_END = "CVE-2025-43859; GHSA-vqfr-h8mv-ghfj"
BODY = Seen(method="POST", body=b"12345")
EMPTY = Seen(method="POST")
LAST = b"0\r\n\r\n"
NEXT = get(line=b"GET /2 HTTP/1.1")


def _good(name: str, source: str, body: bytes, seen: Seen = BODY) -> Case:
    """A request follows, so that the end of the body is seen too."""
    return served(name, source, chunks(body) + NEXT, seen, Seen("/2"))


def _size(name: str, line: bytes, source: str = SIZE) -> Case:
    """Refused at its line: the rest of it would make a good body."""
    return refused(f"a chunk size {name}", source, chunks(line + b"\r\n12345\r\n" + LAST))


GOOD = (
    _good("chunks are put together", SIZE, b"2\r\n12\r\n3\r\n345\r\n" + LAST),
    _good("a body of the last chunk alone", SIZE, LAST, EMPTY),
    _good(
        "a size in lower case",
        SIZE,
        b"a\r\n0123456789\r\n" + LAST,
        Seen(method="POST", body=b"0123456789"),
    ),
    _good(
        "a size in upper case",
        SIZE,
        b"A\r\n0123456789\r\n" + LAST,
        Seen(method="POST", body=b"0123456789"),
    ),
    _good("a size with zeros in front", SIZE, b"00005\r\n12345\r\n" + LAST),
    _good("a size of 16 digits", SIZE, b"%016x\r\n12345\r\n" % 5 + LAST),
    _good("a last chunk of many zeros", SIZE, b"5\r\n12345\r\n0000\r\n\r\n"),
    _good(
        "data that looks like the last chunk",
        SIZE,
        b"5\r\n" + LAST + b"\r\n" + LAST,
        Seen(method="POST", body=LAST),
    ),
    _good(
        "data of line ends",
        SIZE,
        b"4\r\n\r\n\r\n\r\n" + LAST,
        Seen(method="POST", body=b"\r\n\r\n"),
    ),
    _good(
        "three thousand chunks of a byte",
        "CVE-2023-39326: a fair framing is none",
        b"1\r\na\r\n" * 3000 + LAST,
        Seen(method="POST", body=b"a" * 3000),
    ),
    _good("an extension", EXTENSION, b"5;a\r\n12345\r\n" + LAST),
    _good("an extension with a value", EXTENSION, b"5;a=b\r\n12345\r\n" + LAST),
    _good("an extension with a quoted value", EXTENSION, b'5;a="b;c"\r\n12345\r\n' + LAST),
    _good("several extensions", EXTENSION, b"5;a;b=c;d\r\n12345\r\n" + LAST),
    _good("an extension of the last chunk", EXTENSION, b"5\r\n12345\r\n0;a=b\r\n\r\n"),
    _good(
        "a trailer is dropped",
        TRAILER,
        b"5\r\n12345\r\n0\r\nX-T: 1\r\n\r\n",
        Seen(method="POST", body=b"12345", lacks=("x-t",)),
    ),
    served(
        "a trailer is no field of the next request either",
        "CVE-2025-58068",
        chunks(b"0\r\nX-T: 1\r\nX-User: evil\r\n\r\n") + NEXT,
        Seen(method="POST", lacks=("x-t", "x-user")),
        Seen("/2", lacks=("x-t", "x-user")),
    ),
    _good(
        "Content-Length as a trailer frames nothing",
        "RFC 9110 6.5.1; CVE-2025-58068",
        b"0\r\nContent-Length: 5\r\n\r\n",
        EMPTY,
    ),
    _good(
        "Transfer-Encoding as a trailer frames nothing",
        "RFC 9110 6.5.1; gunicorn 26.0",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        EMPTY,
    ),
    served(
        "Host as a trailer is dropped",
        "RFC 9110 6.5.1; gevent CVE-2023-41419",
        chunks(b"0\r\nHost: evil\r\n\r\n"),
        Seen(method="POST", has=(("host", "kit"),)),
    ),
    served(
        "a trailer that was announced is dropped as well",
        "RFC 9110 6.6.2",
        get(CHUNKED, b"Trailer: X-T", line=b"POST / HTTP/1.1") + b"0\r\nX-T: 1\r\n\r\n",
        Seen(method="POST", has=(("trailer", "X-T"),), lacks=("x-t",)),
    ),
    served(
        "two chunked requests in a row",
        SIZE,
        (chunks(b"5\r\n12345\r\n" + LAST)) * 2,
        BODY,
        BODY,
    ),
)

SIZES = (
    _size("in the notation of C", b"0x5", "CVE-2023-38697"),
    _size("with a capital X", b"0X5", "CVE-2023-38697"),
    _size("with a plus", b"+5", "CVE-2023-38697"),
    _size("with a minus", b"-5", "CVE-2023-38697"),
    _size("with an underscore", b"0_5", "CVE-2023-38697"),
    _size("with a space in front", b" 5", "RFC 9112 7.1; gunicorn 25.3"),
    _size("with a tab in front", b"\t5"),
    _size("with a space behind", b"5 ", "RFC 9112 7.1; gunicorn 25.3"),
    _size("with a tab behind", b"5\t"),
    _size("with a vertical tab behind", b"5\x0b"),
    _size("with a no-break space behind", b"5\xa0"),
    _size("with a space inside", b"0 5"),
    _size("with NUL", b"5\0"),
    _size("that is missing", b""),
    _size("that is missing before an extension", b";a=b"),
    _size("that is no number", b"xyz"),
    _size("that ends in no digit", b"5g"),
    _size("with a fraction", b"5.0"),
    _size("with a comma", b"5,5"),
    _size("with a colon", b"5:a"),
    _size("in quotes", b'"5"'),
    _size("in wide digits", "\uff15".encode()),
    _size("of 17 digits that wraps to 5", b"10000000000000005", "CVE-2013-2028"),
    _size("of 17 zeros and a digit", b"%018x" % 5, "CVE-2013-2028"),
    _size("of 32 digits", b"f" * 32, "CVE-2013-2028"),
    refused("a chunk size with a bare LF", SIZE, chunks(b"5\n12345\r\n" + LAST)),
    refused("a chunk size with a bare CR", SIZE, chunks(b"5\r12345\r\n" + LAST)),
    refused("a chunk size with two CRs", SIZE, chunks(b"5\r\r\n12345\r\n" + LAST)),
    refused("a chunked body of bare LFs", SIZE, chunks(b"5\n12345\n0\n\n")),
    refused("a body that is not chunked at all", SIZE, chunks(b'{"a": 1}')),
    refused("a blank line before the first chunk", SIZE, chunks(b"\r\n5\r\n12345\r\n" + LAST)),
    refused("a chunk size of many zeros without an end", SIZE, chunks(b"0" * 64)),
    refused("a chunk size that is wrong in its first byte", SIZE, chunks(b"x")),
)


def _extension(name: str, line: bytes, source: str = EXTENSION) -> Case:
    return refused(f"an extension with {name}", source, chunks(line + b"\r\n12345\r\n" + LAST))


EXTENSIONS = (
    _extension("a bare LF", b"5;a\nb", "gunicorn PR #3327; RFC 9112 7.1.1"),
    _extension("a bare LF at its end", b"5;\n", "gunicorn PR #3327"),
    _extension("a bare CR", b"5;a\rb", "gunicorn #3556"),
    _extension("a bare CR in its value", b'5;a="\r"', "gunicorn #3556"),
    _extension("two CRs at its end", b"5;a\r", "gunicorn #3556"),
    _extension("NUL", b"5;a\0b"),
    _extension("an escape code", b"5;a\x1b[31m"),
    _extension("a vertical tab", b"5;a\x0bb"),
    _extension("DEL", b"5;a\x7f"),
    refused(
        "a chunk hidden in an extension by a bare LF",
        "gunicorn PR #3327; CVE-2023-39326",
        chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + NEXT),
    ),
    refused(
        "an extension of 64 KiB",
        "CVE-2024-21647; GHSA-c2f4-cvqm-65w2",
        chunks(b"5;" + b"a" * 65536),
    ),
    refused(
        "an extension that ends at last",
        "CVE-2024-21647",
        chunks(b"5;" + b"a" * 20000 + b"\r\n12345\r\n" + LAST),
    ),
    refused(
        "a short extension on each chunk of a byte",
        "CVE-2023-39326",
        chunks(b"1;" + b"a" * 120 + b"\r\nb\r\n") + (b"1;" + b"a" * 120 + b"\r\nb\r\n") * 400,
    ),
    refused(
        "extensions without end on chunks of no use",
        "CVE-2024-21647",
        chunks((b"1;" + b"a" * 4000 + b"\r\nb\r\n") * 8),
    ),
)


def _data(name: str, body: bytes, source: str = DATA_END) -> Case:
    return refused(f"chunk data {name}", source, chunks(body))


DATA = (
    _data("with two other bytes behind it", b"5\r\n12345XX" + LAST),
    _data("with CR and another byte behind it", b"5\r\n12345\rX" + LAST),
    _data("with a bare LF behind it", b"5\r\n12345\n" + LAST),
    _data("with nothing behind it", b"5\r\n12345" + LAST),
    _data("longer by a byte than its size", b"5\r\n123456\r\n" + LAST),
    _data("shorter by a byte than its size", b"5\r\n1234\r\n" + LAST),
    _data("with LF and CR behind it", b"5\r\n12345\n\r" + LAST),
    _data("with spaces behind it", b"5\r\n12345  \r\n" + LAST),
    _data("with two line ends behind it", b"5\r\n12345\r\n\r\n" + LAST),
    refused("a last chunk with bare LFs", SIZE, chunks(b"5\r\n12345\r\n0\n\n")),
    refused("a last chunk with a bare LF in its end", SIZE, chunks(b"5\r\n12345\r\n0\r\n\n")),
    refused("a last chunk that ends in CR and a letter", SIZE, chunks(b"0\r\n\rX\r\n")),
    refused(
        "garbage behind the last chunk is the next request",
        SIZE,
        chunks(LAST + b"(x"),
        after=(EMPTY,),
    ),
    dropped(
        "a chunked body that breaks off in data", "gunicorn #3382; RFC 9112 8", chunks(b"5\r\n123")
    ),
    dropped(
        "a chunked body that breaks off behind data", "gunicorn #3382", chunks(b"5\r\n12345\r\n")
    ),
    dropped("a chunked body that breaks off in the last chunk", "gunicorn #3382", chunks(b"0\r\n")),
    dropped(
        "a chunked body that breaks off in a trailer", "gunicorn #3382", chunks(b"0\r\nA: b\r\n")
    ),
)


def _trailer(name: str, trailer: bytes, source: str = TRAILER) -> Case:
    return refused(f"a trailer {name}", source, chunks(b"0\r\n" + trailer + b"\r\n\r\n"))


TRAILERS = (
    _trailer("with a space before the colon", b"A : b", "RFC 9112 5.1"),
    _trailer("without a colon", b"A b"),
    _trailer("without a name", b": b"),
    _trailer("that is folded", b"A: b\r\n c", "RFC 9112 5.2"),
    _trailer("with white space in front", b" A: b"),
    _trailer("with NUL in its value", b"A: b\0"),
    _trailer("with a vertical tab in its value", b"A: b\x0bc"),
    _trailer("with a bare LF", b"A: b\nC: d", "CVE-2022-32214"),
    _trailer("with a bare CR", b"A: b\rC: d", "RFC 9112 2.2"),
    _trailer("that is a request", b"GET / HTTP/1.1\r\nHost: kit", "CVE-2025-58068"),
    refused(
        "two thousand trailers",
        "GHSA-68xg-gqqm-vgj8",
        chunks(b"0\r\n" + b"Trail: er value\r\n" * 2000),
    ),
    refused("a trailer without end", "CVE-2024-21647", chunks(b"0\r\nA: " + b"b" * 20000)),
    refused("a trailer name without end", "CVE-2024-21647", chunks(b"0\r\n" + b"A" * 20000)),
)

CASES: tuple[Case, ...] = (*GOOD, *SIZES, *EXTENSIONS, *DATA, *TRAILERS)
