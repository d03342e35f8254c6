"""aio/opening.py and aio/listener.py: whose PROXY header is read, and what a scope says then."""

from __future__ import annotations

import ast
import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.limits import DrainSchedule
from gunicorn_asgi.protocol.peer import Networks
from gunicorn_asgi.protocol.proxy import ProxyPolicy
from kit.loopback import Peer, Serving, anonymous_tls, serving
from kit.message import request
from kit.proxying import CLIENT, SERVER, binary, line, local, tls_value, tlv
from kit.rig import Receive, Scope, Send, both_loops, parse_responses, respond, turns, until
from kit.ws import handshake

__all__: list[str] = []

NEVER = 3600.0
LOOPBACK, NOBODY = Networks.parse(["127.0.0.1"]), Networks.parse(["192.0.2.1"])


def policy(
    *versions: int,
    peers: Networks = LOOPBACK,
    required: bool = False,
    trusted: Networks = LOOPBACK,
) -> Policy:
    """The PROXY protocol from ``peers``, forwarded fields from ``trusted``."""
    proxy = ProxyPolicy(frozenset(versions or (1, 2)), peers, required)
    return Policy(ForwardedPolicy(peers=trusted), proxy)


async def facts(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the scope says of the connection."""
    names = ("scheme", "client", "server")
    extensions = {name: scope["extensions"].get(name) for name in ("proxy_protocol", "tls")}
    await respond(send, repr((*(scope[name] for name in names), extensions)).encode())


async def ask(peer: Peer, header: bytes = b"", *fields: tuple[str, str]) -> tuple[Any, ...]:
    """Send a header and a request at once; scheme, client, server and extensions."""
    peer.send(header + request("GET", "/", fields))
    await until(lambda: peer.received)
    (response,) = parse_responses(peer.received)
    assert response.status == 200
    told: tuple[Any, ...] = ast.literal_eval(response.body.decode())
    return told


def ends(served: Serving, peer: Peer) -> tuple[Any, Any]:
    """Client and server as the socket has them."""
    sock = served.socks[0]
    if isinstance(sock.getsockname(), str):
        return None, (sock.getsockname(), None)
    return peer.writer.get_extra_info("sockname"), sock.getsockname()


# -- what the scope says ---------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize(("data", "version"), [(line(), 1), (binary(), 2)], ids=["v1", "v2"])
@both_loops
async def test_the_scope_has_the_ends_of_the_clients_connection(
    tmp_path: Path, data: bytes, version: int, unix: bool
) -> None:
    """ASGI, "client" and "server": from the header, on each kind of socket."""
    path = tmp_path / "app.sock" if unix else None
    async with serving(facts, path=path, policy=policy()) as served:
        peer = await served.connect()
        told = {"proxy_protocol": {"version": version}, "tls": None}
        assert await ask(peer, data) == ("http", CLIENT, SERVER, told)
        # Every request of the connection.
        assert repr(CLIENT).encode() in (await peer.get()).body
        assert served.log.lines() == []


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    "data", [b"PROXY UNKNOWN\r\n", local(), binary(None)], ids=["UNKNOWN", "LOCAL", "UNSPEC"]
)
@both_loops
async def test_without_addresses_both_ends_are_the_sockets(
    tmp_path: Path, data: bytes, unix: bool
) -> None:
    """Sections 2.1 and 2.2: "use the real connection's parameters"."""
    path = tmp_path / "app.sock" if unix else None
    async with serving(facts, path=path, policy=policy(required=True)) as served:
        peer = await served.connect()
        assert (await ask(peer, data))[1:3] == ends(served, peer)


@both_loops
async def test_a_client_on_a_unix_socket_of_the_proxy_has_no_address() -> None:
    """Section 2.2, 0x31."""
    async with serving(facts, policy=policy()) as served:
        data = binary(block=bytes(108) + b"/run/proxy.sock".ljust(108, b"\0"))
        told = await ask(await served.connect(), data)
        assert told[1:3] == (None, ("/run/proxy.sock", None))


@both_loops
async def test_the_scope_says_what_the_proxy_knows_of_the_clients_tls() -> None:
    """Our own connection is plain: the scheme is the client's all the same."""
    values = tlv(0x02, b"a.example") + tls_value(tlv(0x21, b"TLSv1.3"), tlv(0x22, b"me"), flags=3)
    async with serving(facts, policy=policy()) as served:
        scheme, *_, told = await ask(await served.connect(), binary(tail=values))
        assert scheme == "https"
        assert told["proxy_protocol"] == {"version": 2, "authority": "a.example"}
        assert (told["tls"]["tls_version"], told["tls"]["client_cert_name"]) == (0x0304, "CN=me")


@both_loops
async def test_a_websockets_scope_says_the_same() -> None:
    """It is made by other code."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})

    async with serving(app, policy=policy()) as served:
        peer = await served.connect()
        peer.send(binary(tail=tls_value()) + handshake())
        await until(lambda: b"101" in peer.received)
        (scope,) = scopes
        assert (scope["scheme"], scope["client"], scope["server"]) == ("wss", CLIENT, SERVER)
        assert {"tls", "proxy_protocol"} <= set(scope["extensions"])


@both_loops
async def test_tls_follows_the_header() -> None:
    """A proxy that passes TLS on: the header comes in the clear, before the handshake."""
    async with serving(facts, tls=anonymous_tls(), policy=policy()) as served:
        for data in (line(), binary()):
            # The raw connection sends the header, and the same socket goes on with TLS.
            peer = await tls_behind(served, data)
            scheme, client, server, told = await ask(peer)
            assert (scheme, client, server) == ("https", CLIENT, SERVER)
            assert told["tls"]["tls_version"] == 0x0303


async def tls_behind(served: Serving, data: bytes) -> Peer:
    """Connect, send ``data``, and then do a TLS handshake."""
    loop = asyncio.get_running_loop()
    host, port = served.socks[0].getsockname()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, host, port)
    transport.write(data)
    context = anonymous_tls(ssl.PROTOCOL_TLS_CLIENT)
    secure = await loop.start_tls(transport, protocol, context)
    assert secure is not None
    peer = Peer(reader, asyncio.StreamWriter(secure, protocol, reader, loop))
    served.peers.append(peer)
    return peer


@both_loops
async def test_the_clients_tls_is_told_rather_than_the_proxys() -> None:
    """A proxy that speaks TLS on both sides: the client is whom the header tells of."""
    async with serving(facts, tls=anonymous_tls(), policy=policy()) as served:
        value = tls_value(tlv(0x21, b"TLSv1.3"), tlv(0x22, b"me"), flags=3)
        *_, told = await ask(await tls_behind(served, binary(tail=value)))
        assert (told["tls"]["tls_version"], told["tls"]["client_cert_name"]) == (0x0304, "CN=me")


FORWARDED = ("X-Forwarded-For", "203.0.113.5")


@pytest.mark.parametrize(
    ("data", "trusted", "client"),
    [
        (line(), [CLIENT[0]], "203.0.113.5"),
        (line(), ["127.0.0.1"], CLIENT[0]),
        (b"PROXY UNKNOWN\r\n", ["127.0.0.1"], "203.0.113.5"),
        (b"PROXY UNKNOWN\r\n", [CLIENT[0]], "127.0.0.1"),
        (b"", ["127.0.0.1"], "203.0.113.5"),
    ],
    ids=["client trusted", "proxy trusted", "unknown trusted", "unknown", "no header"],
)
@both_loops
async def test_forwarded_fields_are_believed_of_the_client_and_not_of_the_proxy(
    data: bytes, trusted: list[str], client: str
) -> None:
    """forwarded_allow_ips: the proxy has only passed on what its client has sent."""
    async with serving(facts, policy=policy(trusted=Networks.parse(trusted))) as served:
        assert (await ask(await served.connect(), data, FORWARDED))[1][0] == client


# -- no header -------------------------------------------------------------------------------------


@both_loops
async def test_without_a_header_a_connection_is_served_as_itself() -> None:
    """As Gunicorn does; asgi_proxy_protocol_required changes it."""
    async with serving(facts, policy=policy()) as served:
        peer = await served.connect()
        told = await ask(peer)
        assert told[1:3] == ends(served, peer)
        assert told[3]["proxy_protocol"] is None


@pytest.mark.parametrize("at", range(1, 6))
@both_loops
async def test_a_request_that_begins_like_a_header_is_served(at: int) -> None:
    """PROPFIND, and its first bytes come alone."""
    async with serving(policy=policy()) as served:
        peer = await served.connect()
        raw = request("PROPFIND", "/p")
        peer.send(raw[:at])
        await turns(50)
        peer.send(raw[at:])
        await until(lambda: peer.received)
        (response,) = parse_responses(peer.received)
        assert (response.status, response.body) == (200, b"/p")


@both_loops
async def test_a_request_behind_a_blank_line_is_served() -> None:
    """RFC 9112 section 2.2, and the first bytes of a header of version 2."""
    async with serving(policy=policy()) as served:
        peer = await served.connect()
        peer.send(b"\r\n")
        await turns(50)
        assert (await peer.get("/p")).body == b"/p"


@both_loops
async def test_what_is_neither_a_header_nor_tls_is_closed() -> None:
    """Bytes that were taken cannot be given back to the handshake."""
    async with serving(tls=anonymous_tls(), policy=policy()) as served:
        peer = await served.connect()
        peer.send(b"PRO")
        await turns(50)
        peer.send(b"PFIND / HTTP/1.1\r\n\r\n")
        await until(lambda: peer.ended)
        assert peer.received == b""
        (text,) = served.log.lines("warning")
        assert text.endswith("'it sent neither a PROXY header nor TLS'")


@both_loops
async def test_a_header_that_is_off_is_a_malformed_request() -> None:
    """proxy_protocol = off: nothing is looked for."""
    async with serving(facts) as served:
        peer = await served.connect()
        peer.send(line() + request())
        await until(lambda: peer.ended)
        assert parse_responses(peer.received)[0].status == 400


# -- who is believed -------------------------------------------------------------------------------


@both_loops
async def test_whoever_is_not_allowed_is_served_as_itself() -> None:
    """proxy_allow_ips."""
    async with serving(facts, policy=policy(peers=NOBODY)) as served:
        peer = await served.connect()
        assert (await ask(peer))[1:3] == ends(served, peer)


@pytest.mark.parametrize("data", [line(), binary()], ids=["v1", "v2"])
@both_loops
async def test_a_header_of_whoever_is_not_allowed_is_a_malformed_request(data: bytes) -> None:
    """It must not be believed, and not be skipped either."""
    async with serving(facts, policy=policy(peers=NOBODY)) as served:
        peer = await served.connect()
        peer.send(data + request())
        await until(lambda: peer.ended)
        assert parse_responses(peer.received)[0].status == 400


@both_loops
async def test_unix_sockets_are_always_allowed(tmp_path: Path) -> None:
    """As Gunicorn documents proxy_allow_ips."""
    chosen = policy(peers=NOBODY, required=True)
    async with serving(facts, path=tmp_path / "app.sock", policy=chosen) as served:
        assert (await ask(await served.connect(), line()))[1] == CLIENT


@pytest.mark.parametrize(
    ("peers", "first", "reason"),
    [
        (LOOPBACK, request(), "'it sent no PROXY header'"),
        (LOOPBACK, b"PROPFIND / HTTP/1.1\r\n\r\n", "'it sent no PROXY header'"),
        (LOOPBACK, b"", "'it sent no PROXY header in time'"),
        (NOBODY, line() + request(), "'it is not one of proxy_allow_ips'"),
        (NOBODY, b"", "'it is not one of proxy_allow_ips'"),
    ],
    ids=["request", "nearly", "silent", "not allowed", "not allowed and silent"],
)
@both_loops
async def test_whoever_has_to_send_a_header_and_does_not_is_closed(
    peers: Networks, first: bytes, reason: str
) -> None:
    """asgi_proxy_protocol_required: without an answer, and with a line."""
    chosen = policy(peers=peers, required=True)
    async with serving(facts, policy=chosen, first_byte=0.05) as served:
        peer = await served.connect()
        peer.send(first)
        await until(lambda: peer.ended)
        assert peer.received == b""
        port = peer.writer.get_extra_info("sockname")[1]
        assert served.log.lines() == [f"Refused a connection from 127.0.0.1:{port}: {reason}"]


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@both_loops
async def test_a_broken_header_is_closed_with_one_line(tmp_path: Path, unix: bool) -> None:
    """Without an answer; and whatever it says, the log keeps one line."""
    path = tmp_path / "app.sock" if unix else None
    async with serving(facts, path=path, policy=policy()) as served:
        peer = await served.connect()
        peer.send(b"PROXY TCP4 \x1b[31m\r\r\n" + request())
        await until(lambda: peer.ended)
        assert peer.received == b""
        (text,) = served.log.lines()
        name = "unix socket" if unix else "127.0.0.1:"
        assert text.startswith(f"Refused a connection from {name}")
        assert text.isprintable()


@both_loops
async def test_broken_headers_do_not_flood_the_log() -> None:
    """Each is a line, up to a limit: with "*" anybody could write as many."""
    async with serving(facts, policy=policy()) as served:
        for _ in range(40):
            peer = await served.connect()
            peer.send(b"PROXY \r\n")
            await until(lambda peer=peer: peer.ended)  # type: ignore[misc]
        assert 0 < len(served.log.lines()) < 40


@pytest.mark.parametrize("first", [b"", b"PROXY "], ids=["silent", "half"])
@both_loops
async def test_a_header_that_does_not_come_is_closed_in_time(first: bytes) -> None:
    """asgi_first_byte_timeout."""
    async with serving(facts, policy=policy(), first_byte=0.02) as served:
        peer = await served.connect()
        peer.send(first)
        await until(lambda: peer.ended)
        assert peer.received == b""
        assert len(served.log.lines("warning")) == bool(first)


@both_loops
async def test_without_a_limit_a_header_is_waited_for() -> None:
    """asgi_first_byte_timeout = 0."""
    async with serving(facts, policy=policy(), first_byte=0.0) as served:
        peer = await served.connect()
        await turns(100)
        assert not peer.ended
        assert (await ask(peer, line()))[1] == CLIENT


@both_loops
async def test_a_health_check_that_only_connects_is_nobodys_business() -> None:
    """No line but for those who look for it, even where a header is required."""
    async with serving(facts, policy=policy(required=True)) as served:
        peer = await served.connect()
        await until(lambda: served.server._opening)
        await peer.close()
        await until(lambda: not served.server._opening)
        assert served.log.lines("info", "warning", "error") == []


@both_loops
async def test_a_silent_proxy_does_not_hold_up_the_end() -> None:
    """Limits.drain_linger: whoever is not open by then is given up."""
    async with serving(facts, policy=policy(), drain_linger=0.02, first_byte=NEVER) as served:
        peer = await served.connect()
        await until(lambda: served.server._opening)
        served.server.suspend()
        await served.server.end(DrainSchedule(NEVER, NEVER, NEVER, NEVER), 1012)
        await until(lambda: peer.ended)


@both_loops
async def test_a_proxy_that_sends_its_header_during_the_drain_is_served() -> None:
    """It was accepted before."""
    async with serving(facts, policy=policy(), linger=0.01) as served:
        peer = await served.connect()
        await until(lambda: served.server._opening)
        served.server.suspend()
        schedule = DrainSchedule(NEVER, NEVER, NEVER, NEVER)
        ending = asyncio.ensure_future(served.server.end(schedule, 1012))
        await turns(20)
        assert (await ask(peer, line()))[1] == CLIENT
        await peer.close()
        await ending


@both_loops
async def test_a_drain_that_is_taken_back_gives_nobody_up() -> None:
    """The successors are gone: whoever opens goes on."""
    async with serving(facts, policy=policy(), drain_linger=0.02, first_byte=NEVER) as served:
        peer = await served.connect()
        await until(lambda: served.server._opening)
        served.server.suspend()
        served.server.drain(1012, 0.0)
        served.server.resume()
        over = asyncio.Event()
        served.state.loop.call_later(0.1, over.set)
        await over.wait()
        assert (await ask(peer, line()))[1] == CLIENT


# -- TLS -------------------------------------------------------------------------------------------


@both_loops
async def test_a_tls_handshake_that_does_not_end_is_closed_in_time() -> None:
    """asgi_tls_handshake_timeout."""
    async with serving(tls=anonymous_tls(), tls_handshake=0.05) as served:
        peer = await served.connect()
        peer.send(b"\x16\x03\x01")
        await until(lambda: peer.ended)
        assert served.log.lines("warning", "error") == []


class Watched:
    """The running loop; it remembers how connections are made."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.options: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the loop has
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Remember, and do it without the goodbye, which asyncio of Python 3.10 does not know."""
        self.options.append(dict(options))
        options.pop("ssl_shutdown_timeout", None)
        return await self._loop.connect_accepted_socket(*args, **options)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"tls_handshake": 7.0, "linger": 3.0}, (7.0, 3.0)),
        ({"tls_handshake": 0.0, "linger": 0.0}, (None, None)),
    ],
    ids=["limits", "none"],
)
@both_loops
async def test_tls_has_its_limits(
    limits: dict[str, Any], expected: tuple[float | None, float | None]
) -> None:
    """Handshake and goodbye; 0 is the loop's own, which is called None there."""
    async with serving(tls=anonymous_tls(), **limits) as served:
        watched: Any = Watched(served.state.loop)
        served.state.loop = watched
        assert (await (await served.connect(tls=True)).get()).status == 200
        (options,) = watched.options
        assert (options["ssl_handshake_timeout"], options["ssl_shutdown_timeout"]) == expected


@both_loops
async def test_plain_connections_have_no_options_of_tls() -> None:
    """asyncio refuses them."""
    async with serving() as served:
        watched: Any = Watched(served.state.loop)
        served.state.loop = watched
        assert (await (await served.connect()).get()).status == 200
        assert watched.options == [{"ssl": None}]


@both_loops
async def test_a_context_that_is_replaced_serves_the_next_connection() -> None:
    """A renewed certificate: whoever is connected stays, the next one sees it."""
    async with serving(tls=anonymous_tls()) as served:
        before = await served.connect(tls=True)
        broken = anonymous_tls()
        broken.minimum_version = broken.maximum_version = ssl.TLSVersion.TLSv1_3
        (listener,) = served.server._listeners
        good, listener.tls = listener.tls, broken
        with pytest.raises(OSError):  # noqa: PT011 - whatever OpenSSL calls it
            await served.connect(tls=True)
        listener.tls = good
        after = await served.connect(tls=True)
        for peer in (before, after):
            assert (await peer.get()).status == 200


@both_loops
async def test_the_certificate_of_the_listener_is_told() -> None:
    """ASGI TLS extension 0.2, server_cert."""
    async with serving(facts, tls=anonymous_tls()) as served:
        (listener,) = served.server._listeners
        listener.server_cert = "PEM"
        *_, told = await ask(await served.connect(tls=True))
        assert told["tls"]["server_cert"] == "PEM"
