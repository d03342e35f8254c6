"""Request heads as the parser makes them, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Iterable

from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import NOTED, RequestHead

__all__ = ["Fields", "head_of"]

Fields = Iterable[tuple[bytes, bytes]]

_POLICY = ForwardedPolicy()


def head_of(
    fields: Fields = (),
    policy: ForwardedPolicy = _POLICY,
    target: bytes = b"/",
    *,
    method: str = "GET",
    version: str = "1.1",
    host: bytes | None = b"h",
) -> RequestHead:
    """A request with a Host field, ``fields`` behind it, and the attributes of ``RequestParser``.

    What it notes and how it finds underscores is proved in test_h1.py.
    """
    headers = [] if host is None else [(b"host", host)]
    headers += fields
    head = RequestHead(method, target, version, headers, True)
    head.noted = [pair for pair in headers if pair[0] in NOTED | policy.noted]
    head.underscores = any(b"_" in name or b"_" in value for name, value in headers)
    return head
