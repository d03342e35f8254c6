"""Behind a real nginx, with both sides configured by what stands in docs/proxies.md.

The blocks are taken out of the page; only addresses and files are put into them. So a page that
does not work fails here.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.master import Address, Master, free_port, wait_until
from kit.nginx import NGINX, Nginx, stream_module
from kit.proxying import line
from kit.tls import Certificates, client
from kit.wire import WebSocketWire, Wire, request

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI"), reason="nginx is not installed"
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxies.md"
APP = """
import json

async def app(scope, receive, send):
    facts = {name: scope[name] for name in ("client", "scheme")}
    facts["headers"] = {n.decode(): v.decode("latin-1") for n, v in scope["headers"]}
    facts["id"] = scope["extensions"]["gunicorn_asgi.request"]["id"]
    text = json.dumps(facts)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await receive()
        return
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""
# An address of this machine that is neither nginx's nor in forwarded_allow_ips.
CLIENT = "127.0.0.9"
SPOOFED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https, gopher",
    "X-Forwarded-SSL": "on",
    "X-Forwarded-Host": "evil",
    "Forwarded": "for=6.6.6.6;proto=https;host=evil",
    "SCRIPT_NAME": "/evil",
    "X_Request_ID": "evil",
    "X-Request-ID": "evil",
}


# -- the page ------------------------------------------------------------------------------------


def block(title: str, language: str) -> str:
    """The first block in that language below that heading, and above the next one."""
    _, heading, below = PAGE.read_text().partition(f"# {title}\n")
    assert heading, f"no {title!r}"
    # A comment in a block begins as a heading of the first level does.
    section = re.split(r"^##+ ", below, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, f"no {language} below {title!r}"
    return found[1]


def put(text: str, changes: dict[str, str]) -> str:
    """``text`` with other addresses and files in it."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} in {text}"
        text = text.replace(old, new)
    return text


def test_nginx_closes_idle_connections_before_we_do() -> None:
    """Else a request may meet one that has just been closed."""
    ours = re.search(r"^keepalive = (\d+)$", block("nginx", "python"), re.MULTILINE)
    assert ours is not None
    for title in ("nginx", "Over a unix socket"):
        text = block(title, "nginx")
        assert "    keepalive 32;\n" in text
        its = re.search(r"^    keepalive_timeout (\d+)s;$", text, re.MULTILINE)
        assert its is not None
        assert int(ours[1]) > int(its[1])


# -- the http module -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Front:
    """What clients connect to.

    Attributes:
        ports: by the scheme that is spoken there.
        certs: the authority that has signed nginx's certificate.
    """

    master: Master
    ports: dict[str, int]
    certs: Certificates

    def connect(self, scheme: str) -> Wire:
        """From an address of one's own."""
        sock = connect(self.ports[scheme])
        if scheme == "http":
            return Wire(sock)
        return Wire(client(self.certs).wrap_socket(sock, server_hostname="example.org"))


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5, (CLIENT, 0))


@pytest.fixture(scope="module")
def master() -> Iterator[Master]:
    """On both kinds of socket; ``-b`` wins over the page's bind."""
    config = block("nginx", "python") + block("Request ids", "python")
    settings: dict[str, Any] = {"config": config, "files": {"app.py": APP}, "access_log": True}
    with Master("app:app", bind=["tcp", "unix"], **settings) as running:
        yield running


def upstream(address: Address) -> str:
    """The page's, for that address."""
    if isinstance(address, tuple):
        found = re.search(r"^upstream app \{.*?^\}\n", block("nginx", "nginx"), re.M | re.S)
        assert found is not None
        return put(found[0], {"127.0.0.1:8000": f"{address[0]}:{address[1]}"})
    return put(block("Over a unix socket", "nginx"), {"/run/myapp/gunicorn.sock": address})


@pytest.fixture(scope="module", params=[0, 1], ids=["tcp", "unix"])
def front(
    master: Master, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """nginx, in front of one of the two."""
    certs = Certificates(tmp_path_factory.mktemp("certs"))
    certs.sign("site", "subjectAltName=DNS:example.org")
    ports = {"http": free_port(), "https": free_port()}
    text = block("nginx", "nginx")
    text = re.sub(r"^upstream app \{.*?^\}\n", "UPSTREAM\n", text, flags=re.M | re.S)
    changes = {
        "UPSTREAM\n": upstream(master.addresses[request.param]),
        "listen 80;": f"listen 127.0.0.1:{ports['http']};",
        "listen 443 ssl;": f"listen 127.0.0.1:{ports['https']} ssl;",
        "/etc/tls/example.org.pem": certs.cert("site"),
        "/etc/tls/example.org.key": certs.key("site"),
    }
    with Nginx(master.address, put(text, changes)):
        yield Front(master, ports, certs)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("target", "host"),
    [("/", "Example.ORG"), ("http://example.org/", "evil")],
    ids=["host", "target"],
)
def test_the_application_is_told_of_the_client_and_not_of_nginx(
    front: Front, scheme: str, target: str, host: str
) -> None:
    """Whatever the client makes up."""
    with front.connect(scheme) as wire:
        response = wire.request("GET", target, {"Host": host, **SPOOFED})
    assert response.status == 200, response
    facts = response.json()
    headers = facts["headers"]
    assert (facts["client"], facts["scheme"]) == ([CLIENT, 0], scheme)
    assert headers["host"] == "example.org"
    assert re.fullmatch("[0-9a-f]{32}", facts["id"])
    assert headers["x-request-id"] == facts["id"]
    assert response.header("x-request-id") == facts["id"].encode()
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == (CLIENT, scheme)
    # nginx keeps the connection.
    assert "connection" not in headers
    assert not [name for name in headers if "_" in name]
    logged = re.compile(rf"{CLIENT} .* 200 [0-9]+ {facts['id']}")
    wait_until(lambda: [x for x in front.master.access() if logged.fullmatch(x)], 10, "the line")


@pytest.mark.parametrize(("scheme", "told"), [("http", "ws"), ("https", "wss")])
def test_a_websocket_comes_through_and_is_told_the_same(
    front: Front, scheme: str, told: str
) -> None:
    """Upgrade and Connection are of the hop, so nginx has to write them."""
    with WebSocketWire(front.connect(scheme)) as ws:
        assert ws.connect("/", headers=SPOOFED, host="example.org").status == 101
        facts = json.loads(ws.recv_text())
    assert (facts["client"], facts["scheme"]) == ([CLIENT, 0], told)
    assert facts["headers"]["host"] == "example.org"
    assert facts["headers"]["x-request-id"] == facts["id"] != "evil"


# -- the stream module ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxied() -> Iterator[Master]:
    """Speaks the PROXY protocol, and requires it."""
    config = block("The PROXY protocol", "python")
    with Master("app:app", bind=["tcp", "unix"], config=config, files={"app.py": APP}) as running:
        yield running


def told(wire: Wire, before: bytes = b"") -> dict[str, Any]:
    """What the application is, by a client that makes things up."""
    wire.send(before + request(headers={"X-Forwarded-Proto": "https", "X-Request-ID": "own"}))
    facts: dict[str, Any] = wire.recv_response().json()
    return facts


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_behind_a_proxy_header_the_client_has_to_be_trusted(proxied: Master, index: int) -> None:
    """It is the peer then, and not the proxy, whose address is in forwarded_allow_ips."""
    for address, scheme in ((CLIENT, "http"), ("127.0.0.1", "https")):
        with Wire(proxied.connect(address=proxied.addresses[index])) as wire:
            facts = told(wire, line((address, 4711)))
            assert (facts["client"], facts["scheme"]) == ([address, 4711], scheme)
            assert (facts["id"] == "own") is (scheme == "https")
    with Wire(proxied.connect(address=proxied.addresses[index])) as wire:
        wire.send(request())
        assert wire.wait_end() in ("eof", "reset")


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_nginxs_stream_module_tells_who_the_client_is(proxied: Master, index: int) -> None:
    """proxy_protocol on."""
    load = stream_module()
    if load is None:
        pytest.skip("nginx has no stream module")
    address, port = proxied.addresses[index], free_port()
    server = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else f"unix:{address}"
    changes = {"127.0.0.1:8000": server, "listen 443;": f"listen 127.0.0.1:{port};"}
    text = put(block("nginx, in its stream module", "nginx"), changes)
    with Nginx(address, main=load + text), Wire(connect(port)) as wire:
        for _ in range(2):
            facts = told(wire)
            assert facts["client"] == list(wire.sock.getsockname())
            assert (facts["scheme"], facts["id"] == "own") == ("http", False)
