"""What happened to one request, and the shapes in which Gunicorn's loggers and hooks want it.

``gunicorn.glogging.Logger.atoms(resp, req, environ, request_time)`` reads a few attributes of
three objects. Here they are built from a record, and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from gunicorn_asgi.protocol.head import RequestHead
from gunicorn_asgi.protocol.response import reason_phrase
from gunicorn_asgi.protocol.tlsnames import TLS_NAMES

__all__ = [
    "FIELDS",
    "AccessRecord",
    "RequestView",
    "ResponseView",
    "Value",
    "WebSocketFigures",
    "atom_of",
    "environ_of",
    "variables_of",
]

Value = int | float | str | None


class WebSocketFigures:
    """What went through a WebSocket.

    Attributes:
        received, sent: messages.
        bytes_received: bytes of frames; those sent are ``AccessRecord.sent``.
    """

    __slots__ = ("bytes_received", "received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.bytes_received = 0


class _Elapsed(timedelta):
    """Gunicorn's loggers read only ``seconds`` and ``microseconds``; a WebSocket may last days."""

    @property
    def seconds(self) -> int:
        return self.days * 86400 + super().seconds


@dataclass(slots=True)
class AccessRecord:
    """One finished exchange.

    Attributes:
        head: the request.
        scope: its ASGI scope; empty if the request was refused before one was made.
        status: what the client got; 499 if it left before the response was complete. Of a
            WebSocket that has ended, its close code (RFC 6455 section 7.1.5).
        headers: the application's response fields.
        sent: response body bytes handed to the transport; a WebSocket's bytes of frames.
        duration: seconds from the complete head to the end of the response.
        figures: of a WebSocket that has ended, None for everything else.
        received: bytes of the request body that had come in by then.
        first_byte: seconds from the complete head to the head of the response (of a WebSocket:
            to the answer of its handshake), None if there was none.
        pieces: ``http.response.body`` messages with ``more_body``, and files in the place of such
            ones: 0 if the response was sent whole.
    """

    head: RequestHead
    scope: dict[str, Any]
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    sent: int
    duration: float
    figures: WebSocketFigures | None = None
    received: int = 0
    first_byte: float | None = None
    pieces: int = 0

    @property
    def opening(self) -> bool:
        """Whether it is of a WebSocket that was accepted, and is not over."""
        return self.status == 101 and self.figures is None

    @property
    def elapsed(self) -> timedelta:
        """``duration`` as Gunicorn's loggers want it."""
        return _Elapsed(seconds=self.duration)

    @property
    def microseconds(self) -> int:
        """``duration``, rounded as in ``elapsed``."""
        fraction, whole = math.modf(self.duration)
        return int(whole) * 1_000_000 + round(fraction * 1e6)


def _request_id(record: AccessRecord) -> Value:
    return record.head.request_id or None


def _bytes_in(record: AccessRecord) -> Value:
    return record.received if record.figures is None else record.figures.bytes_received


def _tls_version(record: AccessRecord) -> Value:
    told: object = record.scope
    for name in ("extensions", "tls", "tls_version"):
        if not isinstance(told, dict):  # the application had it, and may have put anything there
            return None
        told = told.get(name)
    return TLS_NAMES.get(told) if isinstance(told, int) else None


def _figure(name: str) -> Callable[[AccessRecord], Value]:
    def of(record: AccessRecord) -> Value:
        value: Value = getattr(record.figures, name, None)
        return value

    return of


# What access_log_format can name beyond Gunicorn's own atoms, and what makes it. None: not known.
FIELDS: Mapping[str, Callable[[AccessRecord], Value]] = MappingProxyType(
    {
        "request_id": _request_id,
        "ttfb": lambda record: record.first_byte,
        "bytes_in": _bytes_in,
        "bytes_out": lambda record: record.sent,
        "body_messages": lambda record: record.pieces,
        "http_version": lambda record: record.head.version,
        "tls_version": _tls_version,
        "ws_received": _figure("received"),
        "ws_sent": _figure("sent"),
        "ws_bytes_received": _figure("bytes_received"),
    }
)


def atom_of(value: Value) -> int | str:
    """``value`` as access_log_format shows it: seconds with 6 decimals, "-" for None."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return "-" if value is None else value


def _text(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


class RequestView:
    """A request as Gunicorn's hooks and loggers know it (``gunicorn.http.message.Request``).

    Attributes:
        method, uri, path, query, version: of the request line, as Gunicorn names them.
        headers: pairs of upper-cased name and value, as in Gunicorn.
        scheme, remote_addr: of the connection.
        scope: the ASGI scope.
    """

    def __init__(self, head: RequestHead, scope: dict[str, Any]) -> None:
        client = scope.get("client")
        self.method = head.method
        self.uri = head.target.decode("latin-1")
        self.path = scope.get("path", self.uri)
        self.query = scope.get("query_string", b"").decode("latin-1")
        self.version = tuple(int(digit) for digit in head.version.split("."))
        self.headers = [(name.upper(), value) for name, value in _text(head.headers)]
        self.scheme = scope.get("scheme", "http")
        self.remote_addr = client or ("", -1)
        self.scope = scope


class ResponseView:
    """A response as Gunicorn's hooks and loggers know it (``gunicorn.http.wsgi.Response``).

    Attributes:
        status: code and reason phrase; status_code: the code alone.
        headers: pairs of name and value.
        sent: body bytes; response_length: the same.
        record: what ``FIELDS`` are made of.
    """

    def __init__(self, record: AccessRecord) -> None:
        reason = reason_phrase(record.status).decode("ascii")
        self.status = f"{record.status} {reason}".rstrip()
        self.status_code = record.status
        self.headers = _text(record.headers)
        self.sent = record.sent
        self.response_length = record.sent
        self.record = record


def environ_of(
    head: RequestHead, scope: dict[str, Any], figures: WebSocketFigures | None = None
) -> dict[str, Any]:
    """The part of a WSGI environ that access_log_format can name (``%({...}e)s``)."""
    environ = variables_of(head, scope, figures)
    for name, value in _text(head.headers):
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def variables_of(
    head: RequestHead, scope: dict[str, Any], figures: WebSocketFigures | None = None
) -> dict[str, Any]:
    """What ``environ_of`` has beside the request's fields.

    Of a WebSocket that has ended also WS_RECEIVED and WS_SENT (messages) and WS_BYTES_RECEIVED.
    """
    client = scope.get("client")
    server = scope.get("server") or ("", None)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method,
        "RAW_URI": head.target.decode("latin-1"),
        "PATH_INFO": scope.get("path", ""),
        "SCRIPT_NAME": scope.get("root_path", ""),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        "SERVER_NAME": server[0],
        "wsgi.url_scheme": scope.get("scheme", "http"),
    }
    if client is not None:
        environ["REMOTE_ADDR"] = client[0]
        environ["REMOTE_PORT"] = str(client[1])
    if server[1] is not None:
        environ["SERVER_PORT"] = str(server[1])
    if head.request_id:
        environ["REQUEST_ID"] = head.request_id  # an X-Request-ID that came in is HTTP_X_...
    if figures is not None:
        environ["WS_RECEIVED"] = str(figures.received)
        environ["WS_SENT"] = str(figures.sent)
        environ["WS_BYTES_RECEIVED"] = str(figures.bytes_received)
    return environ
