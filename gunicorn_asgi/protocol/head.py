"""The head of a request: what llhttp lets pass and a server must not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gunicorn_asgi.protocol.authority import is_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.headers import tokens
from gunicorn_asgi.protocol.target import RequestLine

__all__ = ["NOTED", "PLAIN", "Framing", "RequestHead", "bad_request_line", "check_fields"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") (\S+) HTTP/([0-9])\.([0-9])\Z")
_METHOD = re.compile(_TOKEN + rb"\Z")

# Fields that mean something to the server itself; everything else is only passed on.
NOTED = frozenset(
    {
        b"connection",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)

# What cannot be a Content-Length of this world; int() has a limit of its own, far beyond.
_MAX_DIGITS = 18


class RequestHead:
    """The request line and the fields of one request, as they came in.

    Attributes:
        method: as received, which llhttp ensures to be upper case.
        target: the request target as received.
        version: "1.0" or "1.1".
        headers: pairs of lower-cased name and value, in order, duplicates kept; not to be changed,
            since the next head of the connection may have the same.
        noted: those of them that mean something to the server itself.
        keep_alive: whether the client lets the connection live on (RFC 9112 section 9.3).
        expect_continue: whether it waits for a 100 (RFC 9110 section 10.1.1).
        upgrade: whether it asks for an upgrade, to whatever (RFC 9110 section 7.8).
        websocket: whether that is one to WebSocket.
        told: whether a proxy may have said something in a noted field.
        underscores: whether there may be a field with "_" in its name.
        address: of the client, for who shows the request.
        request_id: what the request is called in scope and logs; "" without ids.
        complete: whether there is no body, so that the head is all of the request.
        line: the request line, if ``known.py`` has read it.
        received: when the head was complete, by the clock of whoever feeds the parser.
    """

    __slots__ = (
        "address",
        "complete",
        "expect_continue",
        "headers",
        "keep_alive",
        "line",
        "method",
        "noted",
        "received",
        "request_id",
        "target",
        "told",
        "underscores",
        "upgrade",
        "version",
        "websocket",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        line: RequestLine | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.noted: Sequence[tuple[bytes, bytes]] = ()
        self.keep_alive = keep_alive
        self.expect_continue = False
        self.complete = False
        self.upgrade = False
        self.websocket = False
        self.underscores = False
        self.told = True
        self.address = b""
        self.request_id = ""
        self.line = line
        self.received = 0.0

    @classmethod
    def of_refused(cls, raw: bytes) -> RequestHead:
        """As much as can be told of a head that was refused, for the access log."""
        method, _, rest = raw.partition(b"\r\n")[0].partition(b" ")
        target, _, version = rest.partition(b" ")
        return cls(
            method.decode("ascii") if _METHOD.match(method) else "-",
            target or b"-",
            "1.0" if version == b"HTTP/1.0" else "1.1",
            [],
            keep_alive=False,
        )


def bad_request_line(line: bytes) -> RemoteProtocolError:
    """The refusal of a ``line`` that llhttp, or we, could not take (RFC 9112 section 3)."""
    match = _LINE.match(line)
    if match is None:
        return RemoteProtocolError("malformed request line")
    if match[3] != b"1" or match[4] not in b"01":
        return RemoteProtocolError("HTTP version is not supported", 505)
    # RFC 9110 9.1: 501 for a method that is "unrecognized or not implemented".
    return RemoteProtocolError("method is not supported", 501)


class Framing:
    """How long the body is (RFC 9112 section 6.3): ``length`` bytes, or ``chunked``."""

    __slots__ = ("chunked", "length")

    def __init__(self, length: int = 0, chunked: bool = False) -> None:
        self.length = length
        self.chunked = chunked


_NO_BODY = Framing()
# The same, of a request with no field to look at but Host: of most requests.
PLAIN = Framing()


def check_fields(head: RequestHead) -> Framing:
    """Check the noted fields of ``head``, set its flags, and tell how its body is framed.

    Raises:
        RemoteProtocolError: one of them is wrong (RFC 9110 sections 7.2, 8.3, 8.6 and 10.1.1, RFC
            9112 sections 3.2 and 6.1).
    """
    if len(head.noted) == 1 and head.noted[0][0] == b"host":  # most requests by far
        _check_host(head.noted[0][1])
        return PLAIN
    framing = _NO_BODY
    connection: list[bytes] = []
    seen: set[bytes] = set()
    for name, value in head.noted:
        if name not in NOTED:
            continue
        if name == b"upgrade":
            # RFC 9110 7.8: "MUST ignore an Upgrade header field [...] in an HTTP/1.0 request"
            if head.upgrade and head.version == "1.1" and b"websocket" in tokens(value):
                head.websocket = True
            continue
        if name == b"connection":
            connection += tokens(value)
            continue
        if name == b"proxy-connection":
            continue  # RFC 9112 appendix C.2.2: of no meaning to a server
        if name == b"expect":
            _check_expect(head, value)
            continue
        if name in seen:
            raise RemoteProtocolError(f"two {name.decode('ascii')} fields")
        seen.add(name)
        if name == b"host":
            _check_host(value)
        elif name == b"content-length":
            framing = _length(value)
        elif name == b"transfer-encoding":
            framing = _coding(head, value)
    if b"host" not in seen and head.version == "1.1":
        raise RemoteProtocolError("no Host field")
    if b"transfer-encoding" in seen and b"content-length" in seen:
        raise RemoteProtocolError("Transfer-Encoding and Content-Length")
    if connection:
        # RFC 9112 9.3: close goes before everything, and 1.0 has to ask.
        asked = head.keep_alive or b"keep-alive" in connection
        head.keep_alive = asked and b"close" not in connection
    return framing


def _check_host(value: bytes) -> None:
    if not is_authority(value):
        raise RemoteProtocolError("malformed Host")


def _length(value: bytes) -> Framing:
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise RemoteProtocolError("malformed Content-Length")
    return Framing(length=int(value))


def _coding(head: RequestHead, value: bytes) -> Framing:
    if head.version == "1.0":
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
    if value.lower() != b"chunked":
        raise RemoteProtocolError("unknown transfer coding", 501)
    return Framing(chunked=True)


def _check_expect(head: RequestHead, value: bytes) -> None:
    if head.version == "1.0":
        return  # RFC 9110 10.1.1: MUST ignore the 100-continue expectation
    if value.lower() != b"100-continue":
        raise RemoteProtocolError("unknown expectation", 417)
    head.expect_continue = True
