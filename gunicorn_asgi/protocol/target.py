"""The request line and its target (RFC 9112 section 3)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn_asgi.protocol.authority import is_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError

__all__ = ["RequestLine", "decode_path", "split_target"]


class RequestLine(NamedTuple):
    """What a request line says (RFC 9112 section 3); of HTTP/1.1, and in origin-form.

    Attributes:
        method, target: as received.
        raw_path, query: the parts of the target.
        path: the path, decoded as ASGI wants it.
        text: method and target.
    """

    method: str
    target: bytes
    raw_path: bytes
    query: bytes
    path: str
    text: bytes


def split_target(target: bytes, method: str) -> tuple[bytes, bytes, bytes | None, bool]:
    """The parts of a request target (RFC 9112 section 3.2).

    Returns:
        Path ("*" is one here) and query as received; the authority, which only the absolute-form
        has; whether it is an https URI.

    Raises:
        RemoteProtocolError: none of the forms that a server has to know, a fragment, or an
            authority that is empty, malformed or has userinfo (RFC 9110 section 4.2.4).
    """
    # A fragment is never sent (RFC 9110 7.1); whoever sends one is read differently elsewhere.
    if b"#" in target:
        raise RemoteProtocolError("fragment in the request target")
    before, _, query = target.partition(b"?")
    if target[:1] == b"/":
        return before, query, None, False
    if target == b"*" and method == "OPTIONS":
        return target, b"", None, False
    scheme, separator, rest = before.partition(b"://")
    scheme = scheme.lower()
    if not separator or scheme not in (b"http", b"https"):
        raise RemoteProtocolError("request target has no known form")
    authority, slash, path = rest.partition(b"/")
    if not is_authority(authority):
        raise RemoteProtocolError("malformed authority in the request target")
    return (slash + path) or b"/", query, authority, scheme == b"https"


def decode_path(raw_path: bytes) -> str:
    """The path as ASGI wants it: percent-decoded, in UTF-8."""
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    # Invalid UTF-8 is left open by the specification; every server replaces it by U+FFFD.
    return raw_path.decode("utf-8", "replace")
