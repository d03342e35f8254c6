"""Fields, framing and persistence of responses, and what an application has to say in it."""

from __future__ import annotations

from typing import Any

from rfc.answer import RAISE, SPLITTING, Answer, Pair, body, fails, start

__all__ = ["CASES"]

NAMES = "RFC 9110 5.1 and 5.6.2"


def _split(name: str, value: object, source: str = SPLITTING) -> Answer:
    message = start(("x-kit", value))
    return fails(f"a value with {name}", source, message, body("a"), lacks=("set-cookie", "x-kit"))


def _named(name: str, field_name: object) -> Answer:
    message = start((field_name, "a"))
    return fails(f"a name {name}", NAMES, message, body("a"), lacks=("set-cookie",))


FIELDS = (
    _split("a line end and another field", "a\r\nSet-Cookie: b"),
    _split("a whole response behind it", "a\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: b\r\n\r\n"),
    _split("a bare LF and another field", "a\nSet-Cookie: b"),
    _split("a bare CR and another field", "a\rSet-Cookie: b"),
    _split("a line end at its end", "a\r\n", "CVE-2020-5247"),
    _split("a line end at its beginning", "\r\na", "CVE-2020-5247"),
    _split("a folded line", "a\r\n b", "RFC 9112 5.2"),
    _split("NUL", "a\0b", "gunicorn #3144; RFC 9110 5.5"),
    _split("a vertical tab", "a\x0bb"),
    _split("an escape code", "\x1b[31m", "CVE-2020-7694"),
    _split("DEL", "a\x7f"),
    _split("text for bytes", {"str": "a"}, "ASGI HTTP: Response Start"),
    _split("a number for bytes", 5, "ASGI HTTP: Response Start"),
    _named("with a line end", "a\r\nSet-Cookie: b\r\nc"),
    _named("with a colon", "set-cookie: b; c"),
    _named("with a space", "a b"),
    _named("with a space behind it", "a "),
    _named("that is empty", ""),
    _named("beyond ASCII", "caf\xe9"),
    _named("with NUL", "a\0"),
    _named("as text", {"str": "a"}),
    fails("a header of one part", "ASGI HTTP: Response Start", start(("a",)), body()),  # type: ignore[arg-type]
    fails(
        "a line end in Location",
        SPLITTING,
        start(("location", "/a\r\nSet-Cookie: b"), status=302),
        body(),
        lacks=("location", "set-cookie"),
    ),
    fails(
        "a line end in Set-Cookie",
        "CVE-2020-5247",
        start(("set-cookie", "a=b\r\nX-Evil: c")),
        body(),
        lacks=("set-cookie", "x-evil"),
    ),
    Answer(
        "a value beyond ASCII",
        "RFC 9110 5.5",
        (start(("x-kit", "caf\xe9\x85")), body()),
        has=(("x-kit", "caf\xe9\x85"),),
    ),
    Answer(
        "a value with a tab",
        "RFC 9110 5.5",
        (start(("x-kit", "a\tb")), body()),
        has=(("x-kit", "a\tb"),),
    ),
    Answer(
        "a value that is empty",
        "RFC 9110 5.5",
        (start(("x-kit", "")), body()),
        has=(("x-kit", ""),),
    ),
    Answer(
        "Date and Server of the application",
        "RFC 9110 6.6.1 and 10.2.4",
        (start(("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("server", "kit")), body()),
        has=(("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("server", "kit")),
    ),
)

LENGTH = "RFC 9110 8.6; RFC 9112 6.3"


def _length(name: str, *values: str) -> Answer:
    told = [("content-length", value) for value in values]
    return fails(f"Content-Length {name}", LENGTH, start(*told), body("abcd"))


LENGTHS = (
    Answer("a single message", LENGTH, (start(), body("abcd")), body=b"abcd", framing="length"),
    Answer("no body at all", LENGTH, (start(), body()), has=(("content-length", "0"),)),
    Answer(
        "Content-Length and as many bytes",
        LENGTH,
        (start(("Content-Length", "4")), body("ab", more=True), body("cd")),
        body=b"abcd",
        framing="length",
    ),
    Answer(
        "two equal Content-Lengths become one",
        LENGTH,
        (start(("content-length", "4"), ("Content-Length", "4")), body("abcd")),
        body=b"abcd",
        has=(("content-length", "4"),),
    ),
    _length("twice and not the same", "4", "5"),
    _length("that is no number", "x"),
    _length("with a plus", "+4"),
    _length("with a minus", "-4"),
    _length("as a list", "4, 4"),
    _length("that is empty", ""),
    _length("in hexadecimal", "0x4"),
    _length("of too many digits", "4" * 30),
    _length("in digits of another script", "\xb2"),
    fails(
        "a body longer than its Content-Length",
        LENGTH,
        start(("content-length", "3")),
        body("abcd"),
    ),
    Answer(
        "a body that grows longer than its Content-Length",
        LENGTH,
        (start(("content-length", "3")), body("ab", more=True), body("cd")),
        cut=True,
    ),
    Answer(
        "a body shorter than its Content-Length",
        LENGTH,
        (start(("content-length", "5")), body("ab", more=True), body("cd")),
        cut=True,
    ),
)

NO_BODY = "RFC 9110 6.4.1; RFC 9112 6.3"
ENTITY = ("content-length", "4")


def _bodiless(status: int, *headers: Pair, source: str = NO_BODY, **more: Any) -> Answer:
    told = " and a length" if headers else ""
    messages = (start(*headers, status=status), body("abcd"))
    return Answer(f"a body with {status}{told}", source, messages, status, **more)


BODILESS = (
    _bodiless(204, lacks=("content-length", "transfer-encoding"), source="RFC 9110 15.3.5 and 8.6"),
    _bodiless(204, ENTITY, lacks=("content-length",), source="RFC 9110 8.6; CVE-2020-26137"),
    _bodiless(304, lacks=("transfer-encoding",), source="RFC 9110 15.4.5"),
    _bodiless(304, ENTITY, has=(ENTITY,), source="RFC 9110 8.6 and 15.4.5"),
    _bodiless(205, has=(("content-length", "0"),), source="RFC 9110 15.3.6"),
    _bodiless(205, ENTITY, has=(("content-length", "0"),), source="RFC 9110 15.3.6"),
    Answer(
        "a streamed body with 204",
        NO_BODY,
        (start(status=204), body("ab", more=True), body("cd")),
        204,
        lacks=("transfer-encoding",),
    ),
    Answer(
        "a streamed body with 304",
        NO_BODY,
        (start(status=304), body("ab", more=True), body("cd")),
        304,
        lacks=("transfer-encoding",),
    ),
    Answer(
        "chunked with 204",
        "RFC 9112 6.1",
        (start(("transfer-encoding", "chunked"), status=204), body()),
        204,
        lacks=("transfer-encoding",),
    ),
    Answer("HEAD", "RFC 9110 9.3.2", (start(), body("abcd")), method="HEAD"),
    Answer(
        "HEAD with a length",
        "RFC 9110 9.3.2 and 8.6",
        (start(ENTITY), body("abcd")),
        method="HEAD",
        has=(ENTITY,),
    ),
    Answer(
        "HEAD with a length and no body",
        "RFC 9110 9.3.2 and 8.6",
        (start(ENTITY), body()),
        method="HEAD",
        has=(ENTITY,),
    ),
    Answer(
        "HEAD with a streamed body",
        "RFC 9110 9.3.2",
        (start(), body("ab", more=True), body("cd")),
        method="HEAD",
    ),
    Answer("HEAD with 204", NO_BODY, (start(status=204), body("abcd")), 204, method="HEAD"),
    Answer(
        "HEAD with a length in HTTP/1.0",
        "RFC 9110 9.3.2",
        (start(ENTITY), body("abcd")),
        method="HEAD",
        version="1.0",
        has=(ENTITY,),
        keeps=False,
    ),
)

CODING = "ASGI HTTP: Response Start; RFC 9112 6.1"
STREAM = (body("ab", more=True), body("cd"))


def _coded(name: str, *values: str, version: str = "1.1") -> Answer:
    """Whatever the application says, the server frames, and says how."""
    told = [("transfer-encoding", value) for value in values]
    old = version == "1.0"
    return Answer(
        f"Transfer-Encoding {name}",
        CODING,
        (start(*told), *STREAM),
        body=b"abcd",
        version=version,
        has=() if old else (("transfer-encoding", "chunked"),),
        lacks=("transfer-encoding",) if old else (),
        framing="close" if old else "chunked",
        keeps=not old,
    )


STREAMS = (
    Answer("a stream", "RFC 9112 7.1", (start(), *STREAM), body=b"abcd", framing="chunked"),
    Answer(
        "empty pieces do not end a stream",
        "RFC 9112 7.1",
        (start(), body("", more=True), body("ab", more=True), body("", more=True), body("cd")),
        body=b"abcd",
        framing="chunked",
    ),
    Answer(
        "a stream of nothing",
        "RFC 9112 7.1",
        (start(), body("", more=True), body()),
        framing="chunked",
    ),
    Answer(
        "a piece that looks like the last chunk",
        "RFC 9112 7.1",
        (start(), body("0\r\n\r\n", more=True), body("a")),
        body=b"0\r\n\r\na",
        framing="chunked",
    ),
    _coded("chunked", "chunked"),
    _coded("gzip, then chunked", "gzip, chunked"),
    _coded("identity", "identity"),
    _coded("twice", "chunked", "chunked"),
    _coded("to HTTP/1.0", "chunked", version="1.0"),
    Answer(
        "Transfer-Encoding and Content-Length",
        CODING,
        (start(("Transfer-Encoding", "chunked"), ENTITY), body("abcd")),
        body=b"abcd",
        has=(ENTITY,),
        lacks=("transfer-encoding",),
        framing="length",
    ),
    Answer(
        "a stream to HTTP/1.0",
        "RFC 9112 6.1 and 6.3",
        (start(), *STREAM),
        body=b"abcd",
        version="1.0",
        framing="close",
        keeps=False,
    ),
    Answer(
        "a stream to HTTP/1.0 that wants to stay",
        "RFC 9112 6.3 and 9.3",
        (start(), *STREAM),
        body=b"abcd",
        version="1.0",
        fields=(("Connection", "keep-alive"),),
        framing="close",
        keeps=False,
    ),
    Answer(
        "a known length to HTTP/1.0 that wants to stay",
        "RFC 9112 9.3 and C.2.2",
        (start(), body("abcd")),
        body=b"abcd",
        version="1.0",
        fields=(("Connection", "keep-alive"),),
        has=(("connection", "keep-alive"),),
        framing="length",
    ),
    Answer(
        "a stream to HTTP/1.0 that fails is not ended as if it were whole",
        "RFC 9112 8",
        (start(), body("ab", more=True), RAISE),
        version="1.0",
        cut=True,
    ),
)

CONNECTION = "RFC 9112 9.6; RFC 9110 7.6.1"
CONNECTIONS = (
    Answer(
        "the application closes",
        CONNECTION,
        (start(("connection", "close")), body("a")),
        body=b"a",
        has=(("connection", "close"),),
        keeps=False,
    ),
    Answer(
        "the application closes in mixed case, among others",
        CONNECTION,
        (start(("Connection", "foo, Close")), body("a")),
        body=b"a",
        keeps=False,
    ),
    Answer(
        "the application cannot keep what the client closes",
        CONNECTION,
        (start(("connection", "keep-alive"), ("keep-alive", "timeout=9")), body("a")),
        body=b"a",
        fields=(("Connection", "close"),),
        has=(("connection", "close"),),
        lacks=("keep-alive",),
        keeps=False,
    ),
    Answer(
        "Proxy-Connection of the application",
        "RFC 9112 C.2.2",
        (start(("proxy-connection", "close")), body("a")),
        body=b"a",
        lacks=("proxy-connection",),
    ),
)

CASES: tuple[Answer, ...] = (
    *FIELDS,
    *LENGTHS,
    *BODILESS,
    *STREAMS,
    *CONNECTIONS,
)
