"""HTTP/1.1, the reading half: bytes to request heads and bodies, on httptools (llhttp).

Theory of operation
-------------------
One ``feed()`` may hold several pipelined requests. What is behind the next one stays bytes until
its turn (``hold()``): parsed, a request of 26 bytes takes a kilobyte.

What llhttp does, and what is done here
---------------------------------------
llhttp gets complete heads, and nothing else. A head is collected here until its blank line has
come in; while it has not, its size, lines and characters are checked as they come, so that a
malformed or an endless one is refused at once and holds a bounded buffer. That also makes the
answer independent of where the network has cut the bytes. What llhttp lets pass is refused by
``protocol/head.py``; bodies are framed by ``protocol/body.py``.

So an Upgrade other than to WebSocket needs no care (RFC 9110 section 7.8: "A server MAY ignore a
received Upgrade header field"): llhttp stops behind the head, where it would stop anyway.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import httptools

from gunicorn_asgi.protocol.body import Body, ChunkedBody, SizedBody
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import (
    PLAIN,
    Framing,
    RequestHead,
    bad_request_line,
    check_fields,
)
from gunicorn_asgi.protocol.known import Field, Fields, KnownLines
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.target import RequestLine

__all__ = ["RequestParser", "RequestSink"]


class RequestSink(Protocol):
    """Who is told what the parser found."""

    def on_head(self, head: RequestHead) -> None:
        """A head is complete; if ``head.complete``, so is the request."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, de-chunked."""

    def on_message_complete(self) -> None:
        """The body is complete, and with it the request."""


# What no part of a head may hold, beside a bare CR and a bare LF.
_CONTROLS = bytes([*range(9), 11, 12, *range(14, 32), 127])

# Behind these llhttp may take the connection for closed where we do not: it confuses the two.
_CONNECTION = (b"connection", b"proxy-connection")

# How a request line ends; llhttp takes HTTP/2.0, RTSP/1.0 and several spaces as well.
_VERSIONS = (b" HTTP/1.1\r", b" HTTP/1.0\r")

# Where a request line begins: RFC 9110 5.6.2, tchar.
_METHOD_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")

# RFC 9112 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
_MAX_BLANK = 16

# At most so many bytes of fields are kept to be compared with those of the next request.
_SAME = 2048


class RequestParser:
    """Bytes in, calls to a ``RequestSink`` out. One for each connection.

    Attributes:
        surplus: whether bytes came in behind the last request of the connection.
        refused: what came in of the head that ``feed()`` refused, or that was given up.
    """

    __slots__ = (
        "_blank",
        "_body",
        "_headers",
        "_held",
        "_holding",
        "_keep_alive",
        "_kept",
        "_known",
        "_limits",
        "_line",
        "_lines",
        "_noted",
        "_parser",
        "_said",
        "_same",
        "_sink",
        "_spent",
        "_target",
        "refused",
        "surplus",
    )

    def __init__(self, sink: RequestSink, limits: Limits, known: KnownLines) -> None:
        """``known`` has the same limits, and says which fields are put into ``noted``."""
        self._sink = sink
        self._limits = limits
        self._known = known
        # Connection
        self._spent = False
        self._parser: httptools.HttpRequestParser | None = None
        self._holding = False
        self._kept = b""  # what came in meanwhile
        # The fields of the last request, from the end of its request line on, and what they said;
        # at first, those of another connection.
        self._same, self._said = known.last
        # Head
        self._held = bytearray()
        self._line = 0  # where the line begins that is not complete
        self._lines = 0
        self._blank = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._noted: list[tuple[bytes, bytes]] = []
        self._keep_alive = False
        self.refused = b""
        self.surplus = False
        # Body
        self._body: Body | None = None

    @property
    def idle(self) -> bool:
        """Whether no byte of a next request has come in."""
        return self._body is None and not self._held and not self._kept

    def feed(self, data: bytes) -> bytes | None:
        """Parse ``data``; what follows the last request of the connection is ignored.

        Returns:
            The bytes behind a WebSocket handshake, after which the parser is spent; else None.

        Raises:
            RemoteProtocolError: the request is malformed or too large.
        """
        try:
            while data and not self._spent:
                body = self._body
                if body is not None:
                    data = body.feed(data)
                    if body.complete:
                        self._complete()
                    continue
                if self._holding:
                    self._kept += data
                    break
                if not self._held:
                    line = data.find(b"\r\n")
                    # Most requests have the fields of the one before.
                    if data.startswith(self._same, line):
                        request = self._known.requests.get(data[:line])
                        if request is not None:
                            end = line + len(self._same)
                            self._read_again(request, end < len(data))
                            data = data[end:] if end < len(data) else b""
                            continue
                end = -1
                if not self._held and data[0] > 32:
                    end = data.find(b"\r\n\r\n")
                if end < 0:
                    data, end = self._collect(data)
                    if end < 0:
                        break
                end += 4
                if self._read_head(data, end):
                    return data[end:]
                data = data[end:] if end < len(data) else b""
            self.surplus = self.surplus or (self._spent and bool(data))
        except RemoteProtocolError:
            self._spent = True
            raise
        return None

    def hold(self) -> None:
        """Take no further head: what comes in behind this request is kept as it is."""
        self._holding = True

    def release(self) -> bytes:
        """Take heads again; returns what was kept, to be fed once more."""
        self._holding = False
        kept, self._kept = self._kept, b""
        return kept

    def give_up(self) -> None:
        """The time for a head is over: what is there of it is refused."""
        self._spent = True
        self.refused = bytes(self._held)

    def close(self) -> None:
        """Break the reference cycles with httptools and the sink; nothing is fed any more."""
        self._spent = True
        self._body = None
        self._kept = b""
        self._parser = None
        del self._sink

    # httptools

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a complete field."""
        name = name.lower()
        value = value.rstrip(b" \t")  # RFC 9110 5.5: no part of it; llhttp strips the front only
        field = (name, value)
        self._headers.append(field)
        if name in self._known.to_note:
            self._noted.append(field)

    # A head that is not complete

    def _collect(self, data: bytes) -> tuple[bytes, int]:
        """Hold ``data`` until a head is complete.

        Returns:
            All that was held and where the head's last line ends, -1 if it is not complete.
        """
        held = self._held
        start = len(held)
        held += data
        if not self._lines:
            start = self._skip_blank(start)
        end = held.find(b"\r\n\r\n", max(0, start - 3))
        try:
            if end < 0:
                self._check_held(max(0, start - 1))
                return b"", -1
            self._check_start()
        except RemoteProtocolError:
            self.refused = bytes(held)
            raise
        complete = bytes(held)
        self._forget()
        return complete, end

    def _forget(self) -> None:
        self._held = bytearray()
        self._line = self._lines = self._blank = 0

    def _skip_blank(self, start: int) -> int:
        """Drop the blank lines in front of a request line; returns where to search on."""
        held = self._held
        blank = 0
        while held.startswith(b"\r\n", blank):
            blank += 2
        if blank:
            del held[:blank]
            self._blank += blank
            start = max(0, start - blank)
        if self._blank > _MAX_BLANK:
            raise RemoteProtocolError("blank lines in front of a request")
        return start

    def _check_held(self, start: int) -> None:
        """Refuse what no further byte can mend; ``start``: from where it was not looked at."""
        held, limits = self._held, self._limits
        if held and held != b"\r":
            self._check_start()
        if self._is_wrong(start):
            raise RemoteProtocolError("control character, bare CR or bare LF in the head")
        while (end := held.find(b"\r\n", max(self._line, start))) >= 0:
            self._check_line(end - self._line)
            if not self._lines and (
                held.count(b" ", 0, end) != 2 or not held.startswith(_VERSIONS, end - 9)
            ):
                raise bad_request_line(bytes(held[:end]))
            self._lines += 1
            self._line = start = end + 2
        self._check_line(len(held) - self._line - held.endswith(b"\r"))
        if self._lines - 1 > limits.request_fields:
            raise RemoteProtocolError("too many header fields", 431)
        if len(held) > limits.head_size:
            raise RemoteProtocolError("request head is too large", 431)

    def _is_wrong(self, start: int) -> bool:
        """By counting: a regular expression that says the same takes twenty times as long."""
        held = self._held
        if start and held[start] == 10:
            start += 1  # it was looked at, with the CR in front of it
        new = held[start:]
        ends = new.count(b"\r\n")
        return not (
            new.count(b"\n") == ends
            and new.count(b"\r") == ends + new.endswith(b"\r")
            and len(new.translate(None, _CONTROLS)) == len(new)
        )

    def _check_start(self) -> None:
        """llhttp skips a bare CR or LF here; what begins with neither may be TLS, or anything."""
        if not _METHOD_START.match(self._held):
            raise RemoteProtocolError("malformed request line")

    def _check_line(self, size: int) -> None:
        """``size`` bytes of a line are there, without its end."""
        limits = self._limits
        if not self._lines:
            if 0 < limits.request_line < size:
                raise RemoteProtocolError("request line is too long", 414)
        elif 0 < limits.request_field_size < size + 2:
            raise RemoteProtocolError("header field is too long", 431)

    # A complete head

    def _read_again(self, request: RequestLine, more: bool) -> None:
        """Tell the sink of a request with the fields of the one before; ``more`` is behind it."""
        method, target, _, _, _, _ = request
        headers, noted, framing, keep_alive, underscores, told = self._said
        head = RequestHead(method, target, "1.1", headers, keep_alive, request)
        head.noted = noted
        head.underscores = underscores
        head.told = told
        if framing is PLAIN:
            head.complete = True
            if not keep_alive:
                self._spent = True
                self.surplus = more
        else:
            self._keep_alive = keep_alive
            self._body = SizedBody(self._sink, framing.length)
        self._sink.on_head(head)

    def _read_head(self, data: bytes, end: int) -> bool:
        """Parse the head in ``data[:end]``, and tell the sink; whether it is a WebSocket's."""
        self._blank = 0
        try:
            head = self._recall(data, end)
            if head is not None:
                framing = self._known.check(head)
            else:
                head = self._parse(data, end)
                framing = check_fields(head)
            if framing is not PLAIN:
                self._begin_body(head, framing)
        except RemoteProtocolError:
            self.refused = data[:end]
            raise
        if head.line is not None and not (framing.chunked or head.expect_continue):
            self._keep(data[data.find(b"\r\n") : end], head, framing)
        self._keep_alive = head.keep_alive
        head.complete = self._body is None
        if head.websocket or (head.complete and not head.keep_alive):
            self._spent = True
            self.surplus = end < len(data) and not head.websocket
        self._sink.on_head(head)
        return head.websocket

    def _keep(self, fields: bytes, head: RequestHead, framing: Framing) -> None:
        """Have the next head compared with this one, whose lines were read by ``known.py``.

        So nothing in it asks for an upgrade or for a transfer coding.
        """
        if len(fields) > _SAME:
            return
        self._same = fields
        self._said = Fields(
            head.headers,
            head.noted,
            framing if framing.length else PLAIN,
            head.keep_alive,
            head.underscores,
            head.told,
        )
        self._known.keep(fields, self._said)

    def _recall(self, data: bytes, end: int) -> RequestHead | None:
        """Read the head line by line; None if llhttp has to."""
        known = self._known
        lines = data[: end - 4].split(b"\r\n")
        if len(lines) - 1 > self._limits.request_fields:
            return None
        line = lines.pop(0)
        request = known.requests.get(line) or known.read_request(line)
        if request is None:
            return None
        headers: list[Any] = list(map(known.fields.get, lines))  # None where unknown
        noted: list[Field] = []
        index = -1
        for _ in range(headers.count(None)):
            index = headers.index(None, index + 1)
            field = known.noted.get(lines[index])
            if field is not None:
                noted.append(field)
            else:
                read = known.read_field(lines[index])
                if read is None:
                    return None
                field, to_note = read
                if to_note:
                    noted.append(field)
            headers[index] = field
        head = RequestHead(request.method, request.target, "1.1", headers, True, request)
        head.noted = noted
        return head

    def _parse(self, data: bytes, end: int) -> RequestHead:
        limits = self._limits
        line = data.find(b"\r\n")
        if data.count(b" ", 0, line) != 2 or not data.startswith(_VERSIONS, line - 9):
            raise bad_request_line(data[:line])
        if 0 < limits.request_line < line:
            raise RemoteProtocolError("request line is too long", 414)
        if 0 < limits.request_field_size < end:
            self._check_field_sizes(data[line + 2 : end])
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers = []
        self._noted = []
        upgrade = False
        try:
            parser.feed_data(data if end == len(data) else data[:end])
        except httptools.HttpParserUpgrade:
            upgrade = True
        except httptools.HttpParserInvalidMethodError:
            raise bad_request_line(data[:line]) from None
        except httptools.HttpParserError as exc:
            if str(exc).startswith("Invalid method"):  # one of RTSP's
                raise bad_request_line(data[:line]) from None
            # RFC 9112 6.1: 501 for a transfer coding that is not understood.
            unknown_coding = str(exc).startswith("Request has invalid `Transfer-Encoding`")
            raise RemoteProtocolError(str(exc), 501 if unknown_coding else 400) from None
        if len(self._headers) > limits.request_fields:
            raise RemoteProtocolError("too many header fields", 431)
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise RemoteProtocolError("CONNECT is not supported", 501)
        head = RequestHead(
            method,
            self._target,
            "1.1" if data[line - 1] == 49 else "1.0",
            self._headers,
            keep_alive=data[line - 1] == 49,
        )
        head.noted = self._noted
        head.underscores = data.find(b"_", line, end) >= 0
        head.upgrade = upgrade
        return head

    def _check_field_sizes(self, fields: bytes) -> None:
        limit = self._limits.request_field_size
        if max(map(len, fields.split(b"\r\n"))) + 2 > limit:
            raise RemoteProtocolError("header field is too long", 431)

    def _begin_body(self, head: RequestHead, framing: Framing) -> None:
        """Prepare for the body; llhttp, which would wait for it too, is done with."""
        length = framing.length
        has_body = framing.chunked or length > 0
        if head.websocket and has_body:
            raise RemoteProtocolError("a WebSocket handshake with a body")
        if 0 < self._limits.request_body < length:
            raise RemoteProtocolError("request body is too large", 413)
        # RFC 9110 10.1.1: nobody waits with a body that is not there.
        head.expect_continue = head.expect_continue and has_body
        if has_body or head.upgrade or any(name in _CONNECTION for name, _ in head.noted):
            self._parser = None
        if framing.chunked:
            self._body = ChunkedBody(self._sink, self._limits)
        elif length:
            self._body = SizedBody(self._sink, length)

    def _complete(self) -> None:
        self._body = None
        self._spent = not self._keep_alive
        self._sink.on_message_complete()
