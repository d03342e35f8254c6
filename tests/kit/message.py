"""HTTP/1.1 messages as bytes: requests built, responses parsed strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Fields",
    "Framing",
    "Response",
    "Text",
    "WireError",
    "chunked",
    "field_pairs",
    "parse_fields",
    "parse_head",
    "request",
    "to_bytes",
]

Text = str | bytes
Fields = Mapping[str, Text] | Iterable[tuple[Text, Text]]
Framing = Literal["none", "length", "chunked", "close"]

_STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) (\d{3}) ([^\r\n]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")


class WireError(AssertionError):
    """The peer did something else than what the test expects, or than what RFC 9112 allows."""


def to_bytes(text: Text) -> bytes:
    """Encode what is text as ISO 8859-1, which is what header fields are."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


def field_pairs(headers: Fields) -> list[tuple[bytes, bytes]]:
    """Bring header fields in any form into the form of the wire."""
    items: Iterable[tuple[Text, Text]]
    items = headers.items() if hasattr(headers, "items") else headers
    return [(to_bytes(name), to_bytes(value)) for name, value in items]


def request(
    method: Text = "GET",
    path: Text = "/",
    headers: Fields = (),
    body: bytes = b"",
    version: str = "1.1",
) -> bytes:
    """Build one request; Host and Content-Length are added where needed and not given."""
    fields = field_pairs(headers)
    names = {name.lower() for name, _ in fields}
    if version == "1.1" and b"host" not in names:
        fields.insert(0, (b"Host", b"kit"))
    if body and not names & {b"content-length", b"transfer-encoding"}:
        fields.append((b"Content-Length", str(len(body)).encode()))
    lines = [b"%b %b HTTP/%b" % (to_bytes(method), to_bytes(path), version.encode())]
    lines += [b"%b: %b" % pair for pair in fields]
    return b"\r\n".join([*lines, b"", body])


def chunked(*parts: bytes, last: bool = True) -> bytes:
    """Frame the parts as chunks, with the last chunk unless more is to come."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return framed + (b"0\r\n\r\n" if last else b"")


@dataclass
class Response:
    """One response as it was on the wire; names of header fields are in lower case."""

    status: int
    reason: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    raw: bytes = b""
    framing: Framing = "none"
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def all(self, name: Text) -> list[bytes]:
        """Values of every field of that name."""
        wanted = to_bytes(name).lower()
        return [value for each, value in self.headers if each == wanted]

    def header(self, name: Text) -> bytes | None:
        """Return the value of the only field of that name, or None; two of them fail the test."""
        values = self.all(name)
        if len(values) > 1:
            raise WireError(f"{len(values)} fields {name!r}: {values!r}")
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection goes on after this response (RFC 9112, 9.3)."""
        options = b",".join(self.all(b"connection")).lower().replace(b" ", b"").split(b",")
        if b"close" in options or self.framing == "close":
            return False
        return self.version == "1.1" or b"keep-alive" in options


def parse_head(raw: bytes, *, head: bool) -> Response:
    """Parse a status line and header fields, up to the empty line, to a response without body."""
    line, *rest = raw[:-4].split(b"\r\n")
    parsed = _STATUS_LINE.fullmatch(line)
    if parsed is None:
        raise WireError(f"not a status line: {line!r}")
    version, status, reason = parsed[1].decode(), int(parsed[2]), parsed[3]
    response = Response(status, reason, version, parse_fields(rest), raw=raw)
    response.framing = _framing(response, head=head)
    return response


def parse_fields(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Parse field lines without their ends, strictly: no folding, no space before the colon."""
    fields = []
    for line in lines:
        parsed = _FIELD_LINE.fullmatch(line)
        if parsed is None:
            raise WireError(f"not a header field: {line!r}")
        fields.append((parsed[1].lower(), parsed[2]))
    return fields


def _framing(response: Response, *, head: bool) -> Framing:
    # RFC 9112, 6.3, in its order; what it calls an error is one here.
    codings = response.all(b"transfer-encoding")
    lengths = response.all(b"content-length")
    if codings and lengths:
        raise WireError(f"both Transfer-Encoding and Content-Length: {response.headers!r}")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise WireError(f"bad Content-Length: {lengths!r}")
    if codings and (response.version == "1.0" or codings != [b"chunked"]):
        raise WireError(f"bad Transfer-Encoding in HTTP/{response.version}: {codings!r}")
    if response.status < 200 or response.status == 204:
        # RFC 9110, 8.6 and RFC 9112, 6.1: neither field may be there.
        if codings or lengths:
            raise WireError(f"{response.status} with framing fields: {response.headers!r}")
        return "none"
    if head or response.status == 304:
        return "none"
    if codings:
        return "chunked"
    return "length" if lengths else "close"
