"""Who may see the status pages.

The client counts, as the scope has it: what a proxy in ``forwarded_allow_ips`` says of it is in
there. Doubtful is a client on this very machine, which ``asgi_status_allow`` admits by default: it
may be a proxy that does not say for whom it asks, or a browser that was sent here by a page out of
the internet (DNS rebinding). Both mostly give themselves away.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from gunicorn_asgi.protocol.authority import split_authority
from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.peer import Networks, unmapped

__all__ = ["refusal"]

# What proxies add to a request, beside everything that begins with "x-forwarded".
_FORWARDING = frozenset(
    {
        *(b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip"),
        *(b"x-original-forwarded-for", b"x-envoy-external-address", b"x-arr-clientip"),
        *(b"cf-connecting-ip", b"true-client-ip", b"fastly-client-ip", b"fly-client-ip"),
    }
)


def refusal(scope: Mapping[str, Any], allowed: Networks) -> str:
    """Why the client of an HTTP ``scope`` is not admitted; empty if it is.

    Clients of a unix socket are on this machine too.
    """
    if allowed.anyone:
        return ""
    client, server = scope.get("client"), scope.get("server")
    if client is None:
        # A TCP client that is gone already has no address either.
        if server is None or server[1] is not None:
            return "its address is not known"
    elif not allowed.trusts(client[0]):
        return "it is not in asgi_status_allow"
    elif not _is_loopback(client[0]):
        return ""
    headers = scope["headers"]
    if any(name in _FORWARDING or name.startswith(b"x-forwarded") for name, _ in headers):
        return "a proxy has forwarded it, and for whom is not believed or not known"
    if not all(_is_local(value) for name, value in headers if name == b"host"):
        return "it asks for a host that is not this one"
    return ""


def _is_loopback(host: str) -> bool:
    """Also of names, which are nobody's address: False."""
    try:
        return unmapped(ip_address(host)).is_loopback
    except ValueError:
        return False


def _is_local(authority: bytes) -> bool:
    """Whether a Host field names this machine: localhost, a loopback address, a name without dot.

    No page out of the internet has a host of these.
    """
    try:
        host = split_authority(authority)[0].decode("ascii").lower().rstrip(".")
    except RemoteProtocolError:
        return not authority
    bare = host.strip("[]")
    return _is_loopback(bare) or host.endswith(".localhost") or not ("." in bare or ":" in bare)
