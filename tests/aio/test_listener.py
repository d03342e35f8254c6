"""aio/listener.py: the two ends of a connection, and whether its peer is believed."""

from __future__ import annotations

from typing import Any

import pytest

from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.protocol.proxy import ProxyHeader
from kit.fakes import FakeTransport
from kit.rig import listener

__all__: list[str] = []

PEER, OURS = ("192.0.2.1", 50000), ("192.0.2.2", 80)
CLIENT, TARGET = ("203.0.113.5", 1), ("203.0.113.6", 443)
NOBODY = Networks.parse([])


def told(client: Any, server: Any) -> ProxyHeader:  # noqa: ANN401 - addresses of any shape
    """A PROXY header that tells of these."""
    return ProxyHeader(False, client, server, False, {})


CASES: list[tuple[str, str | None, ProxyHeader | None, tuple[Any, Any]]] = [
    ("tcp", None, None, (PEER, OURS)),
    ("unix", "/run/a", None, (None, ("/run/a", None))),
    ("tcp told", None, told(CLIENT, TARGET), (CLIENT, TARGET)),
    ("unix told", "/run/a", told(CLIENT, TARGET), (CLIENT, TARGET)),
    ("told of a unix socket", None, told(None, ("/run/b", None)), (None, ("/run/b", None))),
    ("tcp not told", None, told(None, None), (PEER, OURS)),
    ("unix not told", "/run/a", told(None, None), (None, ("/run/a", None))),
]


@pytest.mark.parametrize(
    ("path", "header", "ends"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
def test_both_ends_are_those_of_the_header_or_of_the_socket(
    path: str | None, header: ProxyHeader | None, ends: tuple[Any, Any]
) -> None:
    """And whoever has no address is believed, as Gunicorn documents forwarded_allow_ips."""
    transport = FakeTransport(peername=PEER, sockname=OURS)
    client, server = ends
    for peers, trusted in ((Networks.parse([client[0]] if client else []), True), (NOBODY, False)):
        peer = listener(path).peer(transport, ForwardedPolicy(peers=peers), header)
        assert (peer.client, peer.server, peer.tls) == (client, server, False)
        assert peer.trusted == (trusted or client is None)


@pytest.mark.parametrize("ours", [OURS, None], ids=["ours", "neither"])
def test_a_peer_that_is_gone_already_is_not_believed(ours: tuple[str, int] | None) -> None:
    """getpeername(2), ENOTCONN: it has no address, and is no unix socket for that."""
    transport = FakeTransport(peername=None, sockname=ours)
    for peers in (NOBODY, Networks.parse(["192.0.2.1"]), Networks.parse(["*"])):
        peer = listener().peer(transport, ForwardedPolicy(peers=peers))
        assert (peer.client, peer.server, peer.trusted) == (None, ours, False)


def test_an_ipv6_address_is_cut_to_host_and_port() -> None:
    """ASGI, "client": flow and scope of the four-tuple are not part of it."""
    name: Any = ("::1", 5, 0, 0)
    peer = listener().peer(FakeTransport(peername=name, sockname=name), ForwardedPolicy())
    assert (peer.client, peer.server, peer.trusted) == (("::1", 5), ("::1", 5), True)
