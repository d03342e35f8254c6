"""The PROXY protocol (docs, "Settings": proxy_protocol, proxy_allow_ips and
asgi_proxy_protocol_required): the scope tells of the client in front of the proxy, and whoever may
not say so is not believed.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from kit.master import Master
from kit.proxying import CLIENT, SERVER, binary, line, local, tls_value, tlv, with_checksum
from kit.tls import Certificates, client
from kit.wire import WebSocketWire, Wire, request

APP = """
import json

async def app(scope, receive, send):
    extensions = scope["extensions"]
    facts = {name: scope.get(name) for name in ("client", "server", "scheme")}
    facts["proxy"] = extensions.get("proxy_protocol")
    facts["tls"] = extensions.get("tls")
    text = json.dumps(facts, default=bytes.decode)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await receive()
        return
    assert scope["type"] == "http"
    length = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": text.encode()})
"""
# A flag, and version 1 alone, before Gunicorn 24.1.
OLD = isinstance(Config().proxy_protocol, bool)
MODES = ["v1"] if OLD else ["v1", "v2", "auto"]
OF = {"v1": {1}, "v2": {2}, "auto": {1, 2}}
BEST = MODES[-1]
# An address of this machine that proxy_allow_ips does not have.
STRANGER = "127.0.0.2"
ALL = [("v1", 1, line()), ("v2", 2, binary())]
HEADERS = [each[1:] for each in ALL if each[1] in OF[BEST]]
by_header = pytest.mark.parametrize(
    ("version", "header"), HEADERS, ids=[f"v{each[0]}" for each in HEADERS]
)


def master(*args: str, mode: str = BEST, loop: str = "auto", **more: Any) -> Master:
    config = f"proxy_protocol = {True if OLD else mode!r}\nkeepalive = 10\n"
    env = {
        "GUNICORN_ASGI_LOOP": loop,
        "GUNICORN_ASGI_FIRST_BYTE_TIMEOUT": "1",
        **more.pop("env", {}),
    }
    return Master("app:app", *args, files={"app.py": APP}, config=config, env=env, **more)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    """One worker on each loop, on both kinds of socket."""
    with master(bind=["tcp", "unix"], loop=request.param, access_log=True) as m:
        yield m
        assert "Traceback" not in m.log(), m.log()[-4000:]


@pytest.fixture(params=[0, 1], ids=["tcp", "unix"])
def wire(server: Master, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with Wire(server.connect(address=server.addresses[request.param])) as opened:
        yield opened


def stranger(m: Master) -> Wire:
    """A connection from an address that is not allowed."""
    assert isinstance(m.address, tuple)
    return Wire(socket.create_connection(m.address, 5, source_address=(STRANGER, 0)))


def ask(wire: Wire, header: bytes = b"") -> dict[str, Any]:
    wire.send(header + request())
    facts: dict[str, Any] = wire.recv_response().json()
    return facts


def own(wire: Wire) -> tuple[Any, Any]:
    """Both ends as the socket itself has them."""
    if wire.sock.family == socket.AF_UNIX:
        return None, [wire.sock.getpeername(), None]
    return list(wire.sock.getsockname()), list(wire.sock.getpeername())


def check_that_it_ends_without_an_answer(wire: Wire) -> None:
    assert wire.recv_some() == b""
    assert wire.wait_end() in ("eof", "reset")


# What the scope says


@by_header
def test_the_scope_tells_of_the_client(wire: Wire, version: int, header: bytes) -> None:
    for _ in range(2):  # each request of the connection
        facts = ask(wire, header)
        assert (facts["client"], facts["server"]) == (list(CLIENT), list(SERVER))
        assert (facts["scheme"], facts["proxy"]) == ("http", {"version": version})
        header = b""


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", *([] if OLD else [local(), binary(None)])]
)
def test_a_health_check_of_the_proxy_is_the_proxys_own(wire: Wire, header: bytes) -> None:
    facts = ask(wire, header)
    assert (facts["client"], facts["server"]) == own(wire)


@by_header
def test_a_header_may_come_in_pieces_and_with_the_request(
    wire: Wire, version: int, header: bytes
) -> None:
    data = header + request()
    for at in range(0, len(data), 7):
        wire.send(data[at : at + 7])
    assert wire.recv_response().json()["client"] == list(CLIENT)


@by_header
def test_a_websocket_is_told_the_same(wire: Wire, version: int, header: bytes) -> None:
    wire.send(header)
    ws = WebSocketWire(wire)
    assert ws.connect("/").status == 101
    facts = json.loads(ws.recv_text())
    assert (facts["client"], facts["scheme"]) == (list(CLIENT), "ws")
    ws.close()


def test_the_access_log_has_the_client(server: Master) -> None:
    before = len(server.access())
    with Wire(server.connect()) as wire:
        ask(wire, line())
    assert server.wait_access(before + 1)[-1].startswith(CLIENT[0])


if not OLD:

    def test_what_the_proxy_knows_of_the_client_is_told(wire: Wire) -> None:
        """Section 2.2: SNI, ALPN, an id, and the client's certificate, all under a checksum."""
        told = (tlv(0x21, b"TLSv1.3"), tlv(0x22, b"me, myself"), tlv(0x28, b"\x30\x00"))
        values = (
            tlv(0x01, b"http/1.1"),
            tlv(0x02, b"a.example"),
            tlv(0x05, b"id-1"),
            tls_value(*told, tlv(0x23, b"TLS_AES_128_GCM_SHA256"), flags=3),
        )
        facts = ask(wire, with_checksum(b"".join(values)))
        assert facts["scheme"] == "https"
        expected = {"version": 2, "alpn": "http/1.1", "authority": "a.example", "unique_id": "id-1"}
        assert facts["proxy"] == expected
        assert facts["tls"] == {
            "server_cert": None,
            "client_cert_chain": ["-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"],
            "client_cert_name": "CN=me\\, myself",
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": 0x1301,
        }


@pytest.mark.parametrize("mode", MODES)
def test_only_the_version_of_the_setting_is_read(mode: str) -> None:
    with master(mode=mode) as m:
        for _, version, header in ALL:
            with Wire(m.connect()) as wire:
                wire.send(header + request())
                response = wire.recv_response()
                assert response.status == (200 if version in OF[mode] else 400)


def test_tls_follows_the_header(tmp_path: Path, loop_kind: str) -> None:
    """A proxy that passes TLS on, and cannot know more of it than its server name."""
    certs = Certificates(tmp_path)
    with master(*certs.args(), loop=loop_kind) as m:
        for version, header in HEADERS:
            plain = m.connect()
            plain.sendall(header)
            with Wire(client(certs).wrap_socket(plain, server_hostname="localhost")) as wire:
                facts = ask(wire)
                assert (facts["scheme"], facts["client"]) == ("https", list(CLIENT))
                assert facts["proxy"] == {"version": version}
                assert facts["tls"]["tls_version"] in (0x0303, 0x0304)
        with Wire(m.connect(tls=client(certs))) as wire:
            assert ask(wire)["client"] == own(wire)[0]


# Who is not believed


@by_header
def test_a_stranger_is_served_and_not_believed(server: Master, version: int, header: bytes) -> None:
    with stranger(server) as wire:
        assert ask(wire)["client"] == own(wire)[0]
    with stranger(server) as wire:
        wire.send(header + request())
        assert wire.recv_response().status == 400
        assert wire.wait_end() == "eof"


def test_whoever_sends_no_header_is_served_as_itself(wire: Wire) -> None:
    """As Gunicorn does: a request may even begin as a header does."""
    wire.send(b"PR")
    facts = ask(wire, b"OPFIND / HTTP/1.1\r\nHost: kit\r\n\r\n")
    assert (facts["client"], facts["server"]) == own(wire)


def test_where_a_header_is_required_nobody_is_served_without(loop_kind: str) -> None:
    env = {"GUNICORN_ASGI_PROXY_PROTOCOL_REQUIRED": "true"}
    with master(bind=["tcp", "unix"], loop=loop_kind, env=env) as m:
        for address in m.addresses:
            for first in (request(), b"PROPFIND / HTTP/1.1\r\n\r\n", b""):
                with Wire(m.connect(address=address)) as wire:
                    wire.send(first)
                    check_that_it_ends_without_an_answer(wire)
            with Wire(m.connect(address=address)) as wire:
                assert ask(wire, line())["client"] == list(CLIENT)
        with stranger(m) as wire:
            wire.send(line() + request())
            check_that_it_ends_without_an_answer(wire)
        refused = re.compile(r"Refused a connection from (.*?:?)[0-9]*: '(.*)'$", re.MULTILINE)
        without = ["it sent no PROXY header"] * 2 + ["it sent no PROXY header in time"]
        assert refused.findall(m.log()) == [
            *(("127.0.0.1:", each) for each in without),
            *(("unix socket", each) for each in without),
            (f"{STRANGER}:", "it is not one of proxy_allow_ips"),
        ]


# What goes wrong


@pytest.mark.parametrize(
    "data", [b"PROXY TCP4 \x1b[31m\r\n", b"PROXY " + b"x" * 200, binary(command=0x2F)][: 3 - OLD]
)
def test_a_broken_header_is_closed_without_an_answer(
    server: Master, wire: Wire, data: bytes
) -> None:
    mark = server.mark()
    wire.send(data + request())
    check_that_it_ends_without_an_answer(wire)
    server.wait_log(r"\[WARNING\] Refused a connection from \S.*: [\"']PROXY [ -~]+$", after=mark)


def test_a_header_that_does_not_come_is_closed_at_the_timeout(server: Master) -> None:
    """asgi_first_byte_timeout, 1 s here. Only who has begun is worth a line."""
    mark = server.mark()
    with contextlib.ExitStack() as stack:
        for data in (b"", b"PROXY TCP4 192.0.2.7"):
            for address in server.addresses:
                wire = stack.enter_context(Wire(server.connect(address=address)))
                wire.send(data)
                stack.callback(check_that_it_ends_without_an_answer, wire)
    assert len(re.findall("PROXY header is incomplete: it took too long", server.log(mark))) == 2
