"""protocol/peer.py: the networks of forwarded_allow_ips and proxy_allow_ips."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gunicorn_asgi.protocol.peer import Networks

__all__: list[str] = []


@pytest.mark.parametrize(
    ("entries", "host", "trusted"),
    [
        (["127.0.0.1", "::1"], "127.0.0.1", True),
        (["127.0.0.1", "::1"], "::1", True),
        (["127.0.0.1", "::1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["192.0.2.0/30", "10.0.0.0/8"], "192.0.2.3", True),
        (["192.0.2.0/30", "10.0.0.0/8"], "192.0.2.4", False),
        (["0.0.0.0/0"], "203.0.113.9", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:DB8:0::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),  # what the kernel calls a peer on the link
        # RFC 4291 2.5.5.2: a socket for both families says ::ffff:10.0.0.1.
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "::ffff:11.0.0.1", False),
        (["::ffff:10.0.0.0/104"], "10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.1"], "10.0.0.1", True),
        (["::ffff:10.0.0.1"], "10.0.0.2", False),
        (["::ffff:0:0/96"], "10.0.0.1", True),
        (["::/0"], "2001:db8::1", True),
        # Nobody, everybody.
        ([], "127.0.0.1", False),
        (["*"], "203.0.113.9", True),
        (["*"], "2001:db8::1", True),
        (["*"], "", True),
        (["10.0.0.1", "*"], "203.0.113.9", True),
        # What is no address.
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "localhost", False),
        (["10.0.0.0/8"], "10.0.0.1:80", False),
        (["10.0.0.0/8"], "/run/app.sock", False),
    ],
)
def test_a_peer_is_trusted_by_its_address(entries: list[str], host: str, trusted: bool) -> None:
    """Gunicorn's forwarded_allow_ips: addresses, CIDR, "*"."""
    assert Networks.parse(entries).trusts(host) is trusted


def test_what_was_found_of_an_address_is_remembered_and_bounded() -> None:
    """Of each connection it is asked; of the whole internet not everybody can be remembered."""
    networks = Networks.parse(["10.0.0.0/8"])
    hosts = [f"{net}.{a}.{b}.1" for net in (10, 11) for a in range(50) for b in range(50)]
    for _ in range(2):
        assert [networks.trusts(host) for host in hosts] == [h.startswith("10.") for h in hosts]
    assert 0 < len(networks._found) <= 1024
    assert networks == Networks.parse(["10.0.0.0/8"])
    assert "11.0.0.1" not in repr(networks)


@pytest.mark.parametrize("entries", [[], ["127.0.0.1"], ["*"]])
def test_a_unix_socket_is_always_trusted(entries: list[str]) -> None:
    """Gunicorn: peers without an IP address are "treated as allowed, unconditionally"."""
    assert Networks.parse(entries).trusts(None)


def test_the_star_trusts_whoever_connects_and_nobody_behind() -> None:
    """With "*", the right-most address of X-Forwarded-For is the client."""
    networks = Networks.parse(["10.0.0.0/8", "*"])
    assert networks.lists(ip_address("10.0.0.1"))
    assert networks.lists(ip_address("::ffff:10.0.0.1"))
    assert not networks.lists(ip_address("203.0.113.9"))
    assert not Networks.parse(["*"]).lists(ip_address("127.0.0.1"))


def test_the_entries_may_come_from_an_iterator() -> None:
    """They are walked once."""
    assert Networks.parse(iter(["10.0.0.1", "*"])) == Networks.parse(["10.0.0.1", "*"])


@pytest.mark.parametrize(
    "entry", ["", " ", "localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "**"]
)
def test_what_is_no_network_is_an_error(entry: str) -> None:
    """As in Gunicorn's own config, host bits included."""
    with pytest.raises(ValueError, match=r".+"):
        Networks.parse([entry])
