"""aio/listener.py: the two ends of a connection, and whether its peer is believed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.protocol.proxy import ProxyHeader
from kit.fakes import FakeTransport
from kit.loopback import Bind, listen
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


@pytest.mark.parametrize("bind", [("127.0.0.1", 0), ("::1", 0), "unix", "abstract"], ids=str)
def test_what_is_accepted_is_what_the_socket_would_have_accepted(tmp_path: Path, bind: Any) -> None:  # noqa: ANN401
    """socket.accept(): a socket, not inheritable, that has both names; and the peer's address."""
    where: Bind = bind
    if isinstance(bind, str):
        names = {"unix": str(tmp_path / "a"), "abstract": f"\0gunicorn_asgi-{os.getpid()}"}
        where = names[bind]
    with listen(where) as sock, socket.socket(sock.family) as client:
        client.connect(sock.getsockname())
        accepted, address = Listener(sock).accept()
        with accepted:
            assert isinstance(accepted, socket.socket)
            assert accepted.family is sock.family
            assert accepted.type is socket.SOCK_STREAM
            assert accepted.getpeername() == address == client.getsockname()
            assert accepted.getsockname() == sock.getsockname()
            assert not accepted.get_inheritable()
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
        assert client.recv(1) == b""


def test_nobody_is_accepted_where_nobody_waits() -> None:
    """accept(2), EAGAIN: a neighbour was faster."""
    with listen(("127.0.0.1", 0)) as sock, pytest.raises(BlockingIOError):
        Listener(sock).accept()


def test_a_socket_with_an_accept_of_its_own_is_asked() -> None:
    """Whatever somebody has made of it."""

    class Own(socket.socket):
        def accept(self) -> Any:  # noqa: ANN401 - typeshed's is no tuple of these
            return "accepted"

    with listen(("127.0.0.1", 0), Own) as sock:
        told: Any = Listener(sock).accept()
        assert told == "accepted"
