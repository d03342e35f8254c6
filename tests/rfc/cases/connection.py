"""How long a connection lives, upgrades, expectations (RFC 9112 9, RFC 9110 7.8 and 10.1.1)."""

from __future__ import annotations

from rfc.case import CHUNKED, Case, Seen, get, post, refused, served

__all__ = ["CASES"]

OLD = b"GET / HTTP/1.0"
PERSISTENCE = "RFC 9112 9.3"
NEXT = get(line=b"GET /2 HTTP/1.1")
FIVE = b"5\r\n12345\r\n0\r\n\r\n"


def _lives(name: str, *fields: bytes, source: str = PERSISTENCE) -> Case:
    return served(name, source, get(*fields) + NEXT, Seen(), Seen("/2"))


def _ends(name: str, *fields: bytes, source: str = "RFC 9112 9.6") -> Case:
    """And what follows is not served."""
    return served(name, source, get(*fields) + NEXT, Seen(), closes=True)


def _old(name: str, *fields: bytes, closes: bool) -> Case:
    seen = Seen(version="1.0")
    return served(name, PERSISTENCE, get(*fields, line=OLD), seen, closes=closes)


PERSISTENT = (
    _lives("HTTP/1.1 is kept alive"),
    _lives("Connection: keep-alive", b"Connection: keep-alive"),
    _lives("Connection with an unknown option", b"Connection: foo"),
    _lives("Connection with an option that begins like close", b"Connection: closed"),
    _lives("Connection that is empty", b"Connection:"),
    _lives("Connection with empty members", b"Connection: , ,", source="RFC 9110 5.6.1"),
    _lives(
        "Proxy-Connection: close is no option", b"Proxy-Connection: close", source="RFC 9112 C.2.2"
    ),
    _lives("Keep-Alive says nothing", b"Keep-Alive: timeout=0, max=1", source="RFC 2068 19.7.1.1"),
    _lives("Connection that names Host", b"Connection: Host", source="RFC 9110 7.6.1"),
    _lives(
        "Connection that names Content-Length",
        b"Connection: Content-Length",
        source="RFC 9110 7.6.1",
    ),
    _ends("Connection: close", b"Connection: close"),
    _ends("Connection: close in upper case", b"CONNECTION: CLOSE"),
    _ends("close behind another option", b"Connection: foo, close"),
    _ends("close before another option, without a space", b"Connection: close,foo"),
    _ends("close wins over keep-alive", b"Connection: keep-alive, close", source=PERSISTENCE),
    _ends(
        "close wins over keep-alive behind it", b"Connection: close, keep-alive", source=PERSISTENCE
    ),
    _ends("close in the second of two fields", b"Connection: foo", b"Connection: close"),
    _ends("close in the first of two fields", b"Connection: close", b"Connection: keep-alive"),
    _old("HTTP/1.0 is closed", closes=True),
    _old("HTTP/1.0 with keep-alive is kept", b"Connection: keep-alive", closes=False),
    _old("HTTP/1.0 with Keep-Alive in another case", b"connection: Keep-Alive", closes=False),
    _old("HTTP/1.0 with keep-alive and close", b"Connection: keep-alive, close", closes=True),
    _old("HTTP/1.0 with Proxy-Connection", b"Proxy-Connection: keep-alive", closes=True),
    served(
        "HTTP/1.0 after HTTP/1.1",
        "RFC 9110 2.5",
        get() + get(line=OLD),
        Seen(),
        Seen(version="1.0"),
        closes=True,
    ),
)


def _behind(name: str, rest: bytes, source: str = "uvicorn #2238; RFC 9112 9.6") -> Case:
    """What the client sends behind its last request is neither served nor refused."""
    return served(f"behind close: {name}", source, get(b"Connection: close") + rest, closes=True)


BEHIND = (
    _behind("a blank line", b"\r\n"),
    _behind("garbage", b"\0\xffgarbage"),
    _behind("half a request", b"GET / HTT"),
    _behind("a request", NEXT),
    _behind("a malformed request", b"GET / HTTP/9.9\r\n\r\n"),
    _behind("a flood", b"x" * 300_000),
    served(
        "behind HTTP/1.0: garbage",
        "uvicorn #2238; RFC 9112 9.3",
        get(line=OLD) + b"garbage\r\n\r\n",
        Seen(version="1.0"),
        closes=True,
    ),
    served(
        "behind a body and close: garbage",
        "uvicorn #2238",
        post(b"Connection: close", b"Content-Length: 5", body=b"12345garbage"),
        Seen(method="POST", body=b"12345"),
        closes=True,
    ),
    served(
        "behind chunks and close: garbage",
        "uvicorn #2238",
        post(b"Connection: close", CHUNKED, body=FIVE + b"garbage"),
        Seen(method="POST", body=b"12345"),
        closes=True,
    ),
)

PIPELINED = (
    served(
        "twenty requests in one go",
        "RFC 9112 9.3.2",
        b"".join(get(line=b"GET /%d HTTP/1.1" % number) for number in range(20)),
        *(Seen(f"/{number}") for number in range(20)),
    ),
    served(
        "requests of every kind in one go",
        "RFC 9112 9.3.2",
        post(b"Content-Length: 5", body=b"12345")
        + get(line=b"HEAD / HTTP/1.1")
        + post(CHUNKED, body=FIVE)
        + NEXT,
        Seen(method="POST", body=b"12345"),
        Seen(method="HEAD"),
        Seen(method="POST", body=b"12345"),
        Seen("/2"),
    ),
    served(
        "the last of several closes",
        "RFC 9112 9.6",
        get() + get() + get(b"Connection: close") + NEXT,
        *(Seen(),) * 3,
        closes=True,
    ),
    refused(
        "garbage behind good requests",
        "RFC 9112 9.3.2",
        get() + NEXT + b"\0",
        after=(Seen(), Seen("/2")),
    ),
    refused(
        "a bad version behind a good request",
        "RFC 9112 2.3",
        get() + get(line=b"GET / HTTP/2.0"),
        505,
        after=(Seen(),),
    ),
    refused(
        "a bad chunk behind a good request",
        "RFC 9112 7.1",
        get() + post(CHUNKED, body=b"xyz\r\n"),
        after=(Seen(),),
    ),
    refused(
        "an unknown method behind a body",
        "RFC 9110 9.1",
        post(b"Content-Length: 5", body=b"12345") + get(line=b"FROB / HTTP/1.1"),
        501,
        after=(Seen(method="POST", body=b"12345"),),
    ),
)

UPGRADE = "RFC 9110 7.8"
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")
SWITCH = b"Connection: Upgrade"
WEBSOCKET = (
    *(SWITCH, b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _plain(name: str, *fields: bytes, source: str = UPGRADE) -> Case:
    """An upgrade that is not taken: HTTP/1.1 goes on, and the fields are still there."""
    return served(name, source, get(*fields) + NEXT, Seen(), Seen("/2"))


UPGRADES = (
    _plain("an upgrade to HTTP/2", *H2C, source="RFC 7540 3.2; RFC 9113 3.1"),
    _plain("an upgrade to TLS", SWITCH, b"Upgrade: TLS/1.0", source="RFC 2817 3"),
    _plain("an upgrade to nobody knows what", SWITCH, b"Upgrade: foo/1, bar"),
    _plain("an upgrade to HTTP/1.1", SWITCH, b"Upgrade: HTTP/1.1"),
    _plain("an upgrade to nothing", SWITCH, b"Upgrade:"),
    _plain("Connection: upgrade alone", SWITCH),
    _plain("Upgrade alone", b"Upgrade: h2c"),
    _plain("Upgrade to WebSocket alone", *WEBSOCKET[1:], source="RFC 6455 4.2.1"),
    _plain("Upgrade in two fields", SWITCH, b"Upgrade: h2c", b"Upgrade: foo"),
    served(
        "an upgrade to HTTP/2 with a body",
        "RFC 9110 7.8; RFC 7540 3.2",
        post(*H2C, b"Content-Length: 5", body=b"12345") + NEXT,
        Seen(method="POST", body=b"12345", has=(("upgrade", "h2c"),)),
        Seen("/2"),
    ),
    served(
        "an upgrade to HTTP/2 with chunks and a trailer",
        UPGRADE,
        post(*H2C, CHUNKED, body=b"5\r\n12345\r\n0\r\nA: b\r\n\r\n") + NEXT,
        Seen(method="POST", body=b"12345", lacks=("a",)),
        Seen("/2"),
    ),
    served(
        "an upgrade to HTTP/2 with a request as its body",
        "CVE-2021-21295; RFC 9110 7.8",
        post(*H2C, b"Content-Length: %d" % len(NEXT), body=NEXT) + get(line=b"GET /3 HTTP/1.1"),
        Seen(method="POST", body=NEXT),
        Seen("/3"),
    ),
    served(
        "an upgrade to HTTP/2 that closes",
        UPGRADE,
        get(b"Connection: Upgrade, close", b"Upgrade: h2c") + NEXT,
        closes=True,
    ),
    served(
        "two upgrades to HTTP/2 in a row, then a body",
        UPGRADE,
        get(*H2C) * 2 + post(b"Content-Length: 5", body=b"12345"),
        Seen(),
        Seen(),
        Seen(method="POST", body=b"12345"),
    ),
    refused(
        "an upgrade to HTTP/2 and its preface",
        "RFC 9113 3.4",
        get(*H2C) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        after=(Seen(),),
    ),
    refused(
        "an upgrade with a length and chunks",
        "RFC 9112 6.3",
        post(*H2C, CHUNKED, b"Content-Length: 5", body=FIVE),
    ),
    refused(
        "an upgrade with a bad chunk", "RFC 9112 7.1", post(*H2C, CHUNKED, body=b"5\r\n123456")
    ),
    refused(
        "a smuggled upgrade with CR and LF",
        "RFC 9112 2.2",
        get(SWITCH, b"Upgrade: h2c\nContent-Length: 5"),
    ),
    served(
        "an upgrade to WebSocket in HTTP/1.0",
        "RFC 9110 7.8; RFC 6455 4.1",
        get(*WEBSOCKET, line=OLD),
        Seen(version="1.0"),
        closes=True,
    ),
    refused("WebSocket without a key", "RFC 6455 4.2.1", get(*WEBSOCKET[:3])),
    refused(
        "WebSocket in a version that nobody speaks",
        "RFC 6455 4.2.2 and 4.4",
        get(SWITCH, WEBSOCKET[1], b"Sec-WebSocket-Version: 12", WEBSOCKET[3]),
        426,
    ),
    refused(
        "WebSocket with a subprotocol that is no token",
        "CVE-2026-42544; GHSA-vrg7-482j-p6f6",
        get(*WEBSOCKET, b"Sec-WebSocket-Protocol: caf\xe9"),
    ),
    refused(
        "WebSocket with POST",
        "RFC 6455 4.1",
        get(*WEBSOCKET, b"Content-Length: 0", line=b"POST / HTTP/1.1"),
        405,
    ),
    refused(
        "WebSocket with a body",
        "RFC 6455 4.1; RFC 9110 7.8",
        get(*WEBSOCKET, b"Content-Length: 5") + b"12345",
    ),
    refused(
        "WebSocket with chunks",
        "RFC 6455 4.1; RFC 9110 7.8",
        get(*WEBSOCKET, CHUNKED) + FIVE,
    ),
    refused(
        "WebSocket with a field that hides another",
        "CVE-2026-44546",
        get(*WEBSOCKET, b"A: b\x1cX-User: evil"),
    ),
)

EXPECT = "RFC 9110 10.1.1"
WAITS = b"Expect: 100-continue"
# Without the probe's help nobody knows whether a 100 comes: the body is there already.
POSTED = Seen(method="POST", body=b"12345")

EXPECTATIONS = (
    served(
        "an expectation whose body is there",
        EXPECT,
        post(WAITS, b"Content-Length: 5", body=b"12345"),
        POSTED,
    ),
    served(
        "an expectation in mixed case",
        EXPECT,
        post(b"eXpect: 100-Continue", b"Content-Length: 5", body=b"12345"),
        POSTED,
    ),
    served(
        "an expectation whose chunks are there", EXPECT, post(WAITS, CHUNKED, body=FIVE), POSTED
    ),
    served("an expectation without a body", EXPECT, get(WAITS) + NEXT, Seen(), Seen("/2")),
    served(
        "an expectation in HTTP/1.0 is ignored",
        "RFC 9110 10.1.1; uvicorn #88",
        post(WAITS, b"Content-Length: 5", body=b"12345", line=b"POST / HTTP/1.0"),
        Seen(method="POST", body=b"12345", version="1.0"),
        closes=True,
    ),
    served(
        "a miracle that HTTP/1.0 expects is ignored",
        EXPECT,
        get(b"Expect: miracles", line=OLD),
        Seen(version="1.0"),
        closes=True,
    ),
    refused("a miracle is expected", EXPECT, get(b"Expect: miracles"), 417),
    refused("two things are expected", EXPECT, get(b"Expect: 100-continue, miracles"), 417),
    refused("an expectation with something in front", EXPECT, get(b"Expect: y 100-continue"), 417),
    refused("an expectation that is empty", EXPECT, get(b"Expect:"), 417),
    refused("another status is expected", EXPECT, get(b"Expect: 200-ok"), 417),
    refused(
        "a miracle is expected of a body",
        "bun #34960; RFC 9110 10.1.1",
        post(b"Expect: miracles", b"Content-Length: 5", body=b"12345"),
        417,
    ),
    refused(
        "a malformed request expects 100",
        "RFC 9110 10.1.1",
        post(WAITS, b"Content-Length: 5", CHUNKED),
    ),
    refused(
        "a body that is too large expects 100",
        "bun #34960; RFC 9110 15.5.14",
        post(WAITS, b"Content-Length: 100001"),
        413,
    ),
)

CASES: tuple[Case, ...] = (*PERSISTENT, *BEHIND, *PIPELINED, *UPGRADES, *EXPECTATIONS)
