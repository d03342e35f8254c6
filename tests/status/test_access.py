"""status/access.py: who is admitted, and what gives a proxy away."""

from __future__ import annotations

import pytest

from berths import LOOPBACK, http_scope
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.status.access import refusal

__all__: list[str] = []

LOCAL = ("127.0.0.1", 50000)
OTHER = ("203.0.113.9", 50000)
SOCKET = ("/run/app.sock", None)
LISTED = "it is not in asgi_status_allow"
PROXIED = "a proxy has forwarded it, and for whom is not believed or not known"
FOREIGN = "it asks for a host that is not this one"
UNKNOWN = "its address is not known"


@pytest.mark.parametrize(
    ("client", "server", "allow", "expected"),
    [
        (LOCAL, ("127.0.0.1", 80), LOOPBACK, ""),
        (("127.8.9.1", 5), ("127.0.0.1", 80), LOOPBACK, ""),
        (("::1", 5), ("::1", 80), LOOPBACK, ""),
        (("::ffff:127.0.0.1", 5), ("::1", 80), LOOPBACK, ""),
        (OTHER, ("192.0.2.1", 80), LOOPBACK, LISTED),
        (("::ffff:203.0.113.9", 5), ("::1", 80), LOOPBACK, LISTED),
        (("testclient", 5), ("testserver", 80), LOOPBACK, LISTED),
        (OTHER, ("192.0.2.1", 80), ("203.0.113.0/24",), ""),
        (LOCAL, ("127.0.0.1", 80), ("203.0.113.0/24",), LISTED),
        (OTHER, ("192.0.2.1", 80), ("*",), ""),
        (LOCAL, ("127.0.0.1", 80), (), LISTED),
        # A unix socket, whose file says who may connect.
        (None, SOCKET, LOOPBACK, ""),
        (None, SOCKET, (), ""),
        # A TCP client that has gone; a server that does not tell.
        (None, ("127.0.0.1", 80), LOOPBACK, UNKNOWN),
        (None, None, LOOPBACK, UNKNOWN),
    ],
)
def test_the_client_has_to_be_listed(
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    allow: tuple[str, ...],
    expected: str,
) -> None:
    """Setting: asgi_status_allow."""
    scope = http_scope("/", client=client, server=server)
    assert refusal(scope, Networks.parse(allow)) == expected


@pytest.mark.parametrize("client", [LOCAL, None], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    "name",
    [
        *("x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host"),
        *("x-forwarded-proto", "cf-connecting-ip", "true-client-ip", "x-client-ip"),
    ],
)
def test_what_a_proxy_forwards_does_not_come_from_here(
    name: str, client: tuple[str, int] | None
) -> None:
    """Not even if it says so: whoever is behind a careless proxy can write "127.0.0.1" there."""
    scope = http_scope("/", (name, "127.0.0.1"), client=client, server=SOCKET)
    assert refusal(scope, Networks.parse(LOOPBACK)) == PROXIED


def test_a_client_that_a_trusted_proxy_has_named_may_be_listed() -> None:
    """Its address is in the scope; the field that it was in is still among the headers."""
    scope = http_scope("/", ("x-forwarded-for", OTHER[0]), ("host", "example.com"), client=OTHER)
    assert refusal(scope, Networks.parse([OTHER[0]])) == ""


@pytest.mark.parametrize("client", [LOCAL, None], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", ""),
        ("LOCALHOST:9100", ""),
        ("localhost.:9100", ""),
        ("app.localhost:80", ""),
        ("127.0.0.1:9100", ""),
        ("[::1]:9100", ""),
        ("myhost", ""),
        ("", ""),
        # A page of evil.example, whose name now leads to 127.0.0.1; a proxy that passes Host on.
        ("evil.example", FOREIGN),
        ("evil.example:9100", FOREIGN),
        ("localhost.evil.example", FOREIGN),
        ("127.0.0.1.evil.example", FOREIGN),
        ("notlocalhost.com", FOREIGN),
        ("192.0.2.7", FOREIGN),
        ("[2001:db8::1]:80", FOREIGN),
        ("a b", FOREIGN),
    ],
)
def test_who_comes_from_here_asks_for_this_host(
    host: str, expected: str, client: tuple[str, int] | None
) -> None:
    """DNS rebinding, and proxies that say nothing of their clients."""
    scope = http_scope("/", ("host", host), client=client, server=SOCKET)
    assert refusal(scope, Networks.parse(LOOPBACK)) == expected


def test_everybody_may_be_everybody() -> None:
    """With "*" nothing is looked at."""
    scope = http_scope("/", ("via", "x"), ("host", "evil.example"), client=None, server=None)
    assert refusal(scope, Networks.parse(["*"])) == ""
