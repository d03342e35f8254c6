"""What an application may not send at all, early hints, trailers and expectations."""

from __future__ import annotations

from rfc.answer import RAISE, READ, SPLITTING, Answer, Message, body, fails, start

__all__ = ["CASES"]

MESSAGES = "ASGI HTTP: error handling"
STATUSES: dict[str, object] = {
    "zero": 0,
    "negative": -200,
    "of two digits": 99,
    "of four digits": 1000,
    "an interim one": 100,
    "that of a switch": 101,
    "the last interim one": 199,
    "text": {"str": "200"},
    "bytes": "200",
    "a fraction": 200.5,
    "nothing": None,
    "a truth": True,
}
FAULTS = (
    fails("an exception before the response", MESSAGES, RAISE),
    fails(
        "an exception behind the start", MESSAGES, start(("x-kit", "a")), RAISE, lacks=("x-kit",)
    ),
    Answer(
        "an exception in the body",
        "RFC 9112 8",
        (start(), body("ab", more=True), RAISE),
        cut=True,
    ),
    Answer(
        "an exception in a body of known length",
        "RFC 9112 8",
        (start(("content-length", "4")), body("ab", more=True), RAISE),
        cut=True,
    ),
    Answer(
        "an exception behind the response",
        MESSAGES,
        (start(), body("abcd"), RAISE),
        body=b"abcd",
        framing="length",
    ),
    fails("no response", MESSAGES),
    fails("a start and no body", MESSAGES, start()),
    Answer("a body without an end", "RFC 9112 8", (start(), body("ab", more=True)), cut=True),
    fails("a body without a start", MESSAGES, body("a")),
    fails("two starts", MESSAGES, start(), start(), body("a")),
    fails("a message of no known type", MESSAGES, {"type": "http.response.foo"}),
    fails("a message of WebSocket", MESSAGES, {"type": "websocket.accept"}),
    fails("a start without a status", MESSAGES, {"type": "http.response.start"}, body()),
    fails(
        "a body that is text",
        MESSAGES,
        start(),
        {"type": "http.response.body", "body": {"str": "a"}},
    ),
    *(
        fails(
            f"the status is {name}",
            "RFC 9110 15; ASGI HTTP: status",
            start(status=status),
            body(),
        )
        for name, status in STATUSES.items()
    ),
    Answer("a status that has no name", "RFC 9110 15", (start(status=299), body("a")), 299, b"a"),
    Answer("the largest status", "RFC 9110 15", (start(status=999), body("a")), 999, b"a"),
    Answer(
        "messages behind the end are ignored",
        "ASGI HTTP: Response Body",
        (start(), body("abcd"), body("evil"), body("evil")),
        body=b"abcd",
        framing="length",
    ),
    Answer(
        "unknown keys are ignored",
        "ASGI: Extensions and unknown keys",
        (start(foo=1), {**body("abcd"), "foo": 1}),
        body=b"abcd",
    ),
)

HINT: Message = {"type": "http.response.early_hint", "links": ["</a.css>; rel=preload; as=style"]}


def _hint(*links: object) -> Message:
    return {"type": "http.response.early_hint", "links": list(links)}


HINTS = (
    Answer("an early hint", "RFC 8297 2", (HINT, start(), body("a")), body=b"a", hints=1),
    Answer(
        "an early hint behind the start",
        "RFC 8297 2",
        (start(), HINT, body("a")),
        body=b"a",
        hints=1,
    ),
    Answer(
        "an early hint is not for HTTP/1.0",
        "RFC 9110 15.2",
        (HINT, start(), body("a")),
        body=b"a",
        version="1.0",
        keeps=False,
    ),
    fails(
        "an early hint with a line end",
        "CVE-2020-5249",
        _hint("</a>\r\nSet-Cookie: b"),
        start(),
        body(),
    ),
    fails(
        "an early hint with a whole response",
        "CVE-2020-5249",
        _hint("a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ),
    fails("an early hint with a bare LF", "CVE-2020-5249", _hint("</a>\nb: c")),
    fails("an early hint with NUL", "CVE-2020-5249", _hint("</a>\0")),
)

TRAILER: Message = {"type": "http.response.trailers", "headers": [["x-t", "1"]]}
TRAILS = start(("trailer", "x-t"), trailers=True)
TAKES = (("TE", "trailers"),)
TRAILERS = (
    Answer(
        "a trailer for who takes trailers",
        "RFC 9110 6.5; RFC 9112 7.1.2",
        (TRAILS, body("abcd"), TRAILER),
        body=b"abcd",
        fields=TAKES,
        framing="chunked",
        trailers=(("x-t", "1"),),
    ),
    Answer(
        "a trailer for who does not take trailers",
        "RFC 9110 6.5.1",
        (TRAILS, body("abcd"), TRAILER),
        body=b"abcd",
    ),
    Answer(
        "a trailer for HTTP/1.0",
        "RFC 9110 6.5.1; RFC 9112 6.1",
        (TRAILS, body("abcd"), TRAILER),
        body=b"abcd",
        fields=TAKES,
        version="1.0",
        keeps=False,
    ),
    Answer(
        "a trailer with a line end",
        SPLITTING,
        (TRAILS, body("abcd"), {**TRAILER, "headers": [["x-t", "1\r\n\r\nHTTP/1.1 200 OK"]]}),
        fields=TAKES,
        cut=True,
    ),
)

EXPECT = (("Expect", "100-continue"),)
EXPECTATIONS = (
    Answer(
        "100 is not for HTTP/1.0",
        "RFC 9110 10.1.1 and 15.2",
        (READ, start(), body("a")),
        body=b"a",
        method="POST",
        version="1.0",
        fields=EXPECT,
        content=b"12345",
        keeps=False,
    ),
    Answer(
        "an answer before the body that is announced closes",
        "RFC 9110 10.1.1",
        (start(status=403), body("a")),
        403,
        b"a",
        method="POST",
        fields=(*EXPECT, ("Content-Length", "5")),
        keeps=False,
    ),
    Answer(
        "an answer that does not read its small body keeps",
        "RFC 9112 9.3",
        (start(status=403), body("a")),
        403,
        b"a",
        method="POST",
        content=b"12345",
    ),
)

CASES: tuple[Answer, ...] = (
    *FAULTS,
    *HINTS,
    *TRAILERS,
    *EXPECTATIONS,
)
