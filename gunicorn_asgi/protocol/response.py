"""HTTP/1.1, the writing half: ASGI response messages to bytes.

One ``ResponseEncoder`` for each response decides the framing once, when the head goes out,
and holds the application to it afterwards. What the application says about framing and about
the connection is taken as a wish: ``content-length`` is obeyed and enforced, ``connection:
close`` is obeyed, ``transfer-encoding`` is ignored (ASGI: HTTP, "Response Start").

A message is checked as a whole before anything of it counts, so one that was refused has
changed nothing: whoever goes on rightly ends rightly.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from http import HTTPStatus

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.headers import bad_field_name, bad_field_value, tokens

__all__ = [
    "Framing",
    "ResponseEncoder",
    "accepts_trailers",
    "early_hints",
    "error_response",
    "reason_phrase",
]

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
# RFC 9110 has renamed these; older Pythons have the names of RFC 7231 and RFC 4918.
_REASONS |= {413: b"Content Too Large", 414: b"URI Too Long", 422: b"Unprocessable Content"}
_LINES = {
    version: {
        code: b"HTTP/%b %d %b\r\n" % (version.encode("ascii"), code, reason)
        for code, reason in _REASONS.items()
    }
    for version in ("1.0", "1.1")
}

# Statuses that say nothing about the body by themselves.
_PLAIN = {code: line for code, line in _LINES["1.1"].items() if code not in (204, 205, 304)}

# The Server field (RFC 9110 section 10.2.4). No version: it would only help an attacker.
_SERVER = b"server: gunicorn_asgi\r\n"


def _end(size: int) -> bytes:
    """The end of a head whose body has ``size`` bytes."""
    return b"content-length: %d\r\n\r\n" % size


# Made beforehand for the sizes of most answers.
_SMALL = 1024
_ENDS = [_end(size) for size in range(_SMALL)]


class Framing(IntEnum):
    """How the end of a response body is marked (RFC 9112 section 6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


def reason_phrase(status: int) -> bytes:
    """The reason phrase of ``status``, empty if it has none."""
    return _REASONS.get(status, b"")


class _Wishes:
    """What an application's header list says about connection and defaults."""

    __slots__ = ("close", "date", "options", "server")

    def __init__(self) -> None:
        self.close = False
        self.date = False
        self.server = False
        self.options: list[bytes] = []

    def note(self, name: bytes, value: bytes) -> bool:
        """Take one special field; whether it is to be written as it is."""
        if name == b"connection":
            self._connection(value)
            return False
        if name == b"date":
            self.date = True
        elif name == b"server":
            self.server = True
        # RFC 9112 6.1 and RFC 9110 7.6.1: framing and persistence are the server's alone.
        return name not in (b"transfer-encoding", b"keep-alive", b"proxy-connection")

    def _connection(self, value: bytes) -> None:
        for token in tokens(value):
            if token == b"close":
                self.close = True
            elif token != b"keep-alive":
                self.options.append(token)


# Of most responses; nobody writes to it.
_NO_WISHES = _Wishes()

_SPECIAL = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"server",
        b"transfer-encoding",
    }
)


# What a trailer section may not hold (RFC 9110 section 6.5.1): fields for framing, routing,
# authentication, request modifiers, response control and content format, named by RFC 7230
# section 4.1.2 and, of the connection, RFC 9110 section 7.6.1. A recipient that merged one of
# them into the header section would be led astray.
_NOT_IN_TRAILERS = frozenset(
    {
        *(b"content-length", b"trailer", b"transfer-encoding"),
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"),
        *(b"host", b"cache-control", b"expect", b"max-forwards", b"pragma", b"range"),
        *(b"if-match", b"if-modified-since", b"if-none-match", b"if-range"),
        *(b"if-unmodified-since", b"authorization", b"proxy-authenticate"),
        *(b"proxy-authorization", b"www-authenticate", b"cookie", b"set-cookie"),
        *(b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning"),
        *(b"content-encoding", b"content-range", b"content-type"),
    }
)


def _not_in_trailers(name: bytes, value: bytes) -> bool:
    raise LocalProtocolError(f"not a field for trailers: {name!r}")


# Lines of fields that were checked before, and that nothing depends on: an application sends the
# same ones again and again. So many of so many bytes at most, then all are forgotten.
_KNOWN: dict[tuple[bytes, bytes], bytes] = {}
_KNOWN_LINES = 1024
_KNOWN_SIZE = 256
# Secrets, and of one client each.
_PRIVATE = frozenset({b"set-cookie", b"authorization"})


def _line(name: bytes, value: bytes) -> bytes:
    """A field as a line.

    Raises:
        LocalProtocolError: a field that cannot be sent (RFC 9110 section 5.5; response splitting).
    """
    if not (isinstance(name, bytes) and isinstance(value, bytes)):
        raise LocalProtocolError(f"header is not made of bytes: {name!r}: {value!r}")
    if bad_field_name(name):
        raise LocalProtocolError(f"header name is no token: {name!r}")
    if bad_field_value(value):
        raise LocalProtocolError(f"control character in header {name!r}: {value!r}")
    return b"%b: %b\r\n" % (name, value)


def _trailer(name: bytes, value: bytes) -> bytes:
    """A trailer as a line; raises as ``_line`` does."""
    line = _line(name, value)
    if name.lower() in _NOT_IN_TRAILERS:
        raise LocalProtocolError(f"not a field for trailers: {name!r}")
    return line


def _length(value: bytes, before: int | None) -> int:
    """The value of a content-length, which may have been told ``before``."""
    if not value.isdigit() or len(value) > 18:  # int() refuses some thousand digits its own way
        raise LocalProtocolError(f"content-length is no number: {value!r}")
    length = int(value)
    if before is not None and before != length:
        raise LocalProtocolError(f"two content-lengths: {before} and {length}")
    return length


# See protocol/exchange.py.
_NO_BODY, _LENGTH, _CHUNKED, _CLOSE = Framing


class ResponseEncoder:
    """The bytes of one response: once ``head()``, then ``body()`` and ``file()``; or ``whole()``.

    Attributes:
        framing: how its body ends; known once ``head()`` was called.
        remaining: body bytes still owed with _LENGTH.
        keep_alive: whether the connection may live on after it.
        status: the status code.
        announced: whether the response lasts until the last of its trailers, be they sent or not.
    """

    __slots__ = (
        "_fields",
        "_head_only",
        "_http10",
        "_last_chunk",
        "_length",
        "_plain",
        "_trailing",
        "_wishes",
        "announced",
        "framing",
        "keep_alive",
        "remaining",
        "status",
    )

    def __init__(
        self, method: str, version: str, status: int, headers: Iterable[Iterable[bytes]]
    ) -> None:
        """Check and keep what the application has begun its response with.

        Args:
            method, version: of the request.
            status: 200 to 999.
            headers: the application's fields.

        Raises:
            LocalProtocolError: one of them cannot be sent.
        """
        if type(status) is not int and isinstance(status, int):
            status = int(status)  # frameworks hand on an HTTPStatus as it is
        if type(status) is not int or not 200 <= status <= 999:
            raise LocalProtocolError(f"status is not an int from 200 to 999: {status!r}")
        fields = []
        length, wishes = None, _NO_WISHES
        known = _KNOWN.get
        for field in headers:
            try:
                name, value = field
            except (TypeError, ValueError) as exc:
                raise LocalProtocolError(f"headers are not pairs: {exc}") from None
            if name == b"content-length" and type(value) is bytes:  # digits need no more checks
                length = _length(value, length)
                continue
            try:
                line = known(field)  # type: ignore[call-overload]
            except TypeError:  # a list, or made of something that is not bytes
                line = None
            if line is not None:
                fields.append(line)
                continue
            line = _line(name, value)
            lowered = name.lower()
            if lowered == b"content-length":
                length = _length(value, length)
                continue
            if lowered in _SPECIAL:
                wishes = _Wishes() if wishes is _NO_WISHES else wishes
                if not wishes.note(lowered, value):
                    continue
            elif len(line) <= _KNOWN_SIZE and lowered not in _PRIVATE:
                if len(_KNOWN) >= _KNOWN_LINES:
                    _KNOWN.clear()
                _KNOWN[name, value] = line
            fields.append(line)
        self.status = status
        self.framing = _NO_BODY
        self.remaining = 0
        self.keep_alive = False
        self.announced = False
        self._fields = fields
        self._length: int | None = length
        self._wishes = wishes
        self._head_only = method == "HEAD"
        self._http10 = version == "1.0"
        self._last_chunk = b"0\r\n\r\n"
        self._trailing = False
        # The status line, if neither the request nor the response asks for anything special.
        self._plain: bytes | None = None
        if wishes is _NO_WISHES and not (self._head_only or self._http10):
            self._plain = _PLAIN.get(status)

    def announce_trailers(self, accepted: bool) -> None:
        """There will be trailers; they are sent if the client has ``accepted`` them.

        And only in a chunked body (RFC 9110 section 6.5), so one is made unless the application
        has told its length.
        """
        self.announced = True
        self._plain = None
        self._trailing = accepted and not self._http10

    def whole(self, date: bytes, body: bytes, keep_alive: bool) -> bytes | None:
        """Head and body at once, if there is nothing special about them; else None.

        That is what most responses are: the same as ``head()`` and ``body()``, in half of the time.
        """
        size = len(body)
        line, length = self._plain, self._length
        if line is None or not (keep_alive and (length is None or length == size)):
            return None
        self.keep_alive = True
        self.framing = _LENGTH
        end = _ENDS[size] if size < _SMALL else _end(size)
        return b"".join([line, *self._fields, date, _SERVER, end, body])

    def head(self, date: bytes, final: int | None, keep_alive: bool) -> bytes:
        """The status line and the header section.

        Args:
            date: a complete Date line, used if the application sent none.
            final: the whole body's length (bytes) if it is known now, else None.
            keep_alive: whether client and server let the connection live on.
        """
        wishes = self._wishes
        self.keep_alive = keep_alive and not wishes.close
        out = [self._status_line(), *self._fields]
        if not wishes.date:
            out.append(date)
        if not wishes.server:
            out.append(_SERVER)
        self._frame(self._length, final, out)
        self._connection(wishes.options, out)
        out.append(b"\r\n")
        return b"".join(out)

    def body(self, data: bytes, last: bool = False) -> bytes:
        """``data`` framed; empty where the response has no body (RFC 9110 section 6.4.1).

        Raises:
            LocalProtocolError: more bytes than content-length promised, or fewer with the
                ``last``; nothing was changed.
        """
        framing = self.framing
        if framing is _LENGTH:
            self._owe(len(data), last)
            return data
        if framing is _CHUNKED:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            return chunk + self._last_chunk if last else chunk
        return data if framing is _CLOSE else b""

    def file(self, size: int, last: bool) -> tuple[bytes, bytes]:
        """What goes before and behind ``size`` body bytes that come from elsewhere.

        Raises:
            LocalProtocolError: as for ``body()``.
        """
        framing = self.framing
        if framing is _LENGTH:
            self._owe(size, last)
        elif framing is _CHUNKED:
            before, behind = (b"%x\r\n" % size, b"\r\n") if size else (b"", b"")
            return before, behind + self._last_chunk if last else behind
        return b"", b""

    def trailers(self, headers: Iterable[Iterable[bytes]], last: bool) -> bytes:
        """The trailers as lines, checked and then dropped where they cannot be sent.

        Raises:
            LocalProtocolError: a field that cannot be sent, or not as a trailer.
        """
        out = [_trailer(name, value) for name, value in headers]
        if not self._trailing:
            return b""
        if last:
            out.append(b"\r\n")
        return b"".join(out)

    def _owe(self, size: int, last: bool) -> None:
        remaining = self.remaining - size
        if remaining < 0:
            raise LocalProtocolError("response body is longer than its content-length")
        if last and remaining:
            raise LocalProtocolError("response body is shorter than its content-length")
        self.remaining = remaining

    def _status_line(self) -> bytes:
        version = "1.0" if self._http10 else "1.1"
        line = _LINES[version].get(self.status)
        return line or b"HTTP/%b %d \r\n" % (version.encode("ascii"), self.status)

    def _frame(self, length: int | None, final: int | None, out: list[bytes]) -> None:
        """Decide the framing (RFC 9112 section 6.3, RFC 9110 section 8.6)."""
        status = self.status
        trailing, self._trailing = self._trailing, False
        if status == 204:
            return  # RFC 9110 8.6: MUST NOT send a Content-Length field with a 204
        if status == 205:
            out.append(b"content-length: 0\r\n")  # RFC 9110 15.3.6: no content, and that is said
            return
        if trailing:
            final = None
        if status == 304 or self._head_only:
            # The field tells what a GET would have got; nothing to say where nobody knows.
            if length is None and status != 304 and final:
                length = final
            if length is not None:
                out.append(b"content-length: %d\r\n" % length)
            return
        if length is None:
            length = final
        if length is not None:
            self.framing = _LENGTH
            self.remaining = length
            out.append(b"content-length: %d\r\n" % length)
        elif self._http10:
            self.framing = _CLOSE
            self.keep_alive = False
        else:
            self.framing = _CHUNKED
            out.append(b"transfer-encoding: chunked\r\n")
            if trailing:
                self._trailing = True
                self._last_chunk = b"0\r\n"

    def _connection(self, options: list[bytes], out: list[bytes]) -> None:
        """The Connection field (RFC 9112 sections 9.3 and 9.6)."""
        if not self.keep_alive:
            options = [*options, b"close"]
        elif self._http10:
            options = [*options, b"keep-alive"]
        if options:
            out.append(b"connection: %b\r\n" % b", ".join(options))


def accepts_trailers(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's fields, with lower-cased names, say ``TE: trailers``.

    RFC 9110 section 10.1.4: a list, whose member "trailers" has no weight.
    """
    return any(name == b"te" and b"trailers" in tokens(value) for name, value in headers)


def early_hints(links: Iterable[bytes]) -> bytes:
    """A 103 with one Link field for each value, empty without any (RFC 8297 section 2).

    Raises:
        LocalProtocolError: a value that cannot be sent (CVE-2020-5249: response splitting).
    """
    out = [_line(b"link", link) for link in links]
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % b"".join(out) if out else b""


def error_response(
    status: int,
    date: bytes,
    *,
    version: str = "1.1",
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A complete answer of the server's own, after which the connection closes.

    Its text is the reason phrase alone: the client never reads our internals.
    """
    body = reason_phrase(status) + b"\n"
    fields = [(b"content-type", b"text/plain; charset=utf-8"), *headers]
    encoder = ResponseEncoder(method, version, status, fields)
    return encoder.head(date, len(body), keep_alive=False) + encoder.body(body)
