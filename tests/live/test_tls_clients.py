"""TLS without a proxy: what an application learns of a client, names, versions, who is refused."""

from __future__ import annotations

import json
import re
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.tls import Certificates, client, openssl, shown
from kit.wire import WebSocketWire, Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__: list[str] = []

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HANDSHAKE = 1.0
TOO_LONG = r"could not be opened: .*taking longer than 1"

APP = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    told = json.dumps(scope["extensions"].get("tls"))
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": told})
        await receive()
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told.encode()})
"""


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    made = Certificates(tmp_path_factory.mktemp("certs"))
    made.sign("Jane", subject="/C=AT/O=Org, Inc./CN=Jane")
    for name in ("shop.example.org", "wiki.example.org"):
        made.sign(name, f"subjectAltName=DNS:{name}")
    return made


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, certs: Certificates) -> Iterator[Master]:
    """One worker on each loop, whose clients may show a certificate."""
    env = {
        "GUNICORN_ASGI_LOOP": request.param,
        "GUNICORN_ASGI_TLS_HANDSHAKE_TIMEOUT": str(HANDSHAKE),
    }
    authority = ("--ca-certs", certs.cert("ca"), "--cert-reqs", "1")
    # Ciphers for every version, so that nothing but the version can be what is refused.
    args = (*certs.args(), *authority, "--ciphers", "DEFAULT:@SECLEVEL=0", "--log-level", "debug")
    with Master("app:app", *args, files={"app.py": APP}, env=env) as master:
        yield master
        assert "Traceback" not in master.log(), master.log()[-4000:]
        assert "[ERROR]" not in master.log(), master.log()[-4000:]


def told(server: Master, context: ssl.SSLContext) -> dict[str, object]:
    """What the application is told of that client."""
    with Wire(server.connect(tls=context)) as wire:
        seen: dict[str, object] = wire.request("GET", "/").json()
        return seen


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_client_certificate_is_in_the_scope(
    server: Master, certs: Certificates, version: ssl.TLSVersion
) -> None:
    """Of each request of the connection, and of a WebSocket."""
    context = client(certs, "Jane", version=version)
    with Wire(server.connect(tls=context)) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        first, second = (wire.request("GET", "/").json() for _ in range(2))
        assert first == second
        assert first["server_cert"] == certs.pem("server") == shown(wire.sock)
        assert first["client_cert_chain"][0] == certs.pem("Jane")
        assert first["client_cert_name"] == r"CN=Jane,O=Org\, Inc.,C=AT"
        assert first["client_cert_error"] is None
        assert first["tls_version"] == {TLS12: 0x0303, TLS13: 0x0304}[version]
        name, _, _ = wire.sock.cipher() or ("", "", 0)
        suites = {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}
        assert first["cipher_suite"] == suites[name]
    with WebSocketWire(server.connect(tls=context)) as ws:
        assert ws.connect().status == 101
        seen = json.loads(ws.recv_text())
        assert {**seen, "cipher_suite": None} == {**first, "cipher_suite": None}
        ws.close(1000)


def test_a_client_without_a_certificate_has_none_in_the_scope(
    server: Master, certs: Certificates
) -> None:
    """Behind one that had."""
    assert told(server, client(certs, "client"))["client_cert_name"] == "CN=client"
    seen = told(server, client(certs))
    assert (seen["client_cert_chain"], seen["client_cert_name"]) == ([], None)
    assert seen["server_cert"] == certs.pem("server")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)],
    ids=["http/1.1", "both", "none"],
)
def test_http_1_1_is_negotiated(
    server: Master, certs: Certificates, offered: list[str], chosen: str | None
) -> None:
    """RFC 7301: as browsers and curl ask."""
    context = client(certs)
    if offered:
        context.set_alpn_protocols(offered)
    with Wire(server.connect(tls=context)) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        assert wire.sock.selected_alpn_protocol() == chosen
        assert wire.request("GET", "/").status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_tls_1_2_is_the_least(server: Master, certs: Certificates, version: str) -> None:
    """RFC 8996; the ciphers alone would do for all of them."""
    context = client(certs, version=ssl.TLSVersion[version])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if version == "TLSv1_2":
        assert told(server, context)["tls_version"] == 0x0303
        return
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
        told(server, context)


def test_early_data_is_not_offered(server: Master, certs: Certificates) -> None:
    """RFC 8446, 8: a request in it could be replayed."""
    address = ("-connect", f"127.0.0.1:{server.port}", "-servername", "localhost")
    asked = request("GET", "/", {"Connection": "close"})
    options = ("-CAfile", certs.cert("ca"), "-tls1_3", "-ign_eof")
    text = openssl("s_client", *address, *options, stdin=asked).decode(errors="replace")
    assert "HTTP/1.1 200" in text
    assert "Max Early Data: 0" in text


# -- who does not come through the handshake -------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a hello"])
def test_a_handshake_that_does_not_end_is_given_up(
    server: Master, certs: Certificates, sent: bytes
) -> None:
    """``asgi_tls_handshake_timeout``: not before, and it costs nobody else anything."""
    (worker,) = server.workers()
    told(server, client(certs))  # uvloop opens /dev/null with its first connection, once
    fds = server.fds(worker)
    mark, begun = server.mark(), time.monotonic()
    wires = [Wire(server.connect()) for _ in range(20)]
    for wire in wires:
        wire.send(sent)
    for wire in wires:
        assert wire.wait_end() == "eof"
        assert time.monotonic() - begun >= HANDSHAKE - 0.01  # uvloop counts in milliseconds
        wire.close()
    wait_until(lambda: server.fds(worker) <= fds, 10, "the descriptors to be closed")
    server.wait_log(TOO_LONG, after=mark, count=20)


def test_a_handshake_that_drips_is_given_up(server: Master) -> None:
    """A byte now and then is no progress: the whole handshake has that time."""
    hello = ssl.MemoryBIO()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
        ssl.MemoryBIO(), hello, server_hostname="x"
    )
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    mark, begun = server.mark(), time.monotonic()
    with Wire(server.connect(timeout=HANDSHAKE / 20)) as wire:
        for byte in hello.read():
            try:
                wire.send(bytes([byte]))
                if wire.sock.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("the whole hello was taken")
    assert time.monotonic() - begun >= HANDSHAKE
    server.wait_log(TOO_LONG, after=mark)


def test_plain_http_on_a_tls_port_costs_one_line(server: Master) -> None:
    """For who looks for it: at level debug. No answer, no access-log line, no traceback."""
    mark = server.mark()
    with Wire(server.connect()) as wire:
        wire.send(request("GET", "/"))
        wire.wait_end()
    server.wait_log("could not be opened", after=mark)
    with Wire(server.connect()) as wire:
        wire.send(request("GET", "/"))
        wire.wait_end()
    server.wait_log("could not be opened", after=mark, count=2)
    lines = server.log(mark).splitlines()
    assert len(lines) == 2, lines
    assert all("[DEBUG]" in line and "HTTP_REQUEST" in line for line in lines), lines


# -- the ssl_context hook --------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "tls.md"


def example(word: str) -> str:
    """The code on the page that has that word in it."""
    codes: list[str] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = (each for each in codes if word in each)
    return found


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_each_name_has_its_certificate(certs: Certificates, loop: str) -> None:
    """SNI (RFC 6066, 3), as on the page; a name that nobody knows gets that of certfile."""
    config = example("sni_callback")
    names = {"example.org": "server", "shop": "shop.example.org", "wiki": "wiki.example.org"}
    for file, name in names.items():
        for suffix, path in ((".pem", certs.cert(name)), (".key", certs.key(name))):
            assert f"/etc/tls/{file}{suffix}" in config
            config = config.replace(f"/etc/tls/{file}{suffix}", path)
    env = {"GUNICORN_ASGI_LOOP": loop}
    with Master("app:app", files={"app.py": APP}, config=config, env=env) as master:
        for name in ("shop.example.org", "wiki.example.org", "localhost"):
            context = client(certs)
            context.set_alpn_protocols(["h2", "http/1.1"])
            sock = context.wrap_socket(master.connect(), server_hostname=name)
            with Wire(sock) as wire:
                assert shown(sock) == certs.pem("server" if name == "localhost" else name)
                assert sock.selected_alpn_protocol() == "http/1.1"
                # Which one the client has seen is not known.
                assert wire.request("GET", "/").json()["server_cert"] is None
        assert "Traceback" not in master.log()


def test_the_application_of_the_page_knows_its_clients(certs: Certificates) -> None:
    """With a certificate, and without."""
    authority = ("--ca-certs", certs.cert("ca"), "--cert-reqs", "1")
    files = {"app.py": example("client_cert_name")}
    with Master("app:app", *certs.args(), *authority, files=files) as master:
        with Wire(master.connect(tls=client(certs, "Jane"))) as wire:
            response = wire.request("GET", "/")
            assert (response.status, response.text) == (200, r"Hello CN=Jane,O=Org\, Inc.,C=AT")
        with Wire(master.connect(tls=client(certs))) as wire:
            assert wire.request("GET", "/").status == 403
