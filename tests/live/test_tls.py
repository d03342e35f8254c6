"""TLS: Gunicorn's settings are obeyed, and a context that cannot be built stops the start."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.master import Master, wait_until
from kit.tls import Certificates, client
from kit.wire import WebSocketWire, Wire, WireError, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

APPS = Path(__file__).parent / "apps"
MIB = 1 << 20

WEBSOCKET = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
"""

NOTHING = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, certs: Certificates) -> Iterator[Master]:
    """One worker on each loop, with a certificate."""
    env = {"GUNICORN_ASGI_LOOP": request.param}
    files = {"app.py": (APPS / "wire.py").read_text()}
    with Master("app:app", *certs.args(), "--keep-alive", "10", files=files, env=env) as master:
        yield master
        assert "Traceback" not in master.log(), master.log()[-4000:]


@pytest.fixture
def wire(server: Master, certs: Certificates) -> Iterator[Wire]:
    """One encrypted connection, on which an end without close_notify is an error."""
    plain = server.connect()
    context = client(certs)
    sock = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
    with Wire(sock) as opened:
        yield opened


def test_a_connection_is_kept_and_the_scheme_is_https(server: Master, wire: Wire) -> None:
    assert server.base_url == f"https://127.0.0.1:{server.port}"
    for _ in range(3):
        response = wire.request("GET", "/scope")
        assert response.keeps_alive
        scope = json.loads(response.body)
        assert scope["scheme"] == "https"
        assert scope["client"] == list(wire.sock.getsockname())


def test_pipelined_requests_over_tls(wire: Wire) -> None:
    wire.send(request("POST", "/echo", body=b"first") + request("GET", "/pieces"))
    assert [wire.recv_response().body for _ in range(2)] == [b"first", b"onetwothree"]


@pytest.mark.parametrize("framed", [False, True], ids=["length", "chunked"])
def test_an_upload_over_tls_arrives_whole(wire: Wire, framed: bool) -> None:
    body = bytes(range(256)) * 20_000
    if framed:
        wire.send(request("POST", "/digest", {"Transfer-Encoding": "chunked"}))
        wire.send(chunked(body[:MIB], body[MIB:]))
    else:
        wire.send(request("POST", "/digest", body=body))
    assert wire.recv_response().text == hashlib.sha256(body).hexdigest()


def test_chunks_go_both_ways_over_tls(wire: Wire) -> None:
    wire.send(request("POST", "/piecewise-echo", {"Transfer-Encoding": "chunked"}))
    assert wire.sock.version() in ("TLSv1.2", "TLSv1.3")  # type: ignore[attr-defined]
    for number in range(20):
        wire.send(chunked(b"%d" % number, last=False))
        if number == 0:
            assert wire.recv_head().framing == "chunked"
        assert wire.recv_chunk() == b"%d" % number
    wire.send(chunked())
    assert wire.recv_chunk() is None


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_end_of_a_response_is_told_by_close_notify(wire: Wire, version: str) -> None:
    """RFC 8446, 6.1: without it, an attacker could have cut the response."""
    wire.send(request("GET", "/pieces", {"Connection": "close"}, version=version))
    assert wire.recv_response().body == b"onetwothree"
    wire.recv_eof()


def test_an_early_answer_to_an_upload_can_be_read_over_tls(wire: Wire) -> None:
    """RFC 9112, 9.6; TLS has no half-close that a client could be told by."""
    wire.send(request("POST", "/reject", {"Content-Length": str(100 * 65536)}))
    for _ in range(30):
        wire.send(b"x" * 65536)
    response = wire.recv_response()
    assert (response.status, response.body) == (413, b"too large " * 2000)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_disconnect_is_delivered_over_tls(
    server: Master, certs: Certificates, wire: Wire, end: str
) -> None:
    def state() -> str:
        with Wire(server.connect(tls=client(certs))) as other:
            return str(other.request("GET", f"/events?name={end}").json().get("state"))

    wire.send(request("POST", f"/disconnected?name={end}", body=b"body"))
    wait_until(lambda: state() == "waiting", 5, "the application to wait")
    getattr(wire, end)()
    wait_until(lambda: state() == "told", 5, "the application to be told")


def test_what_is_not_tls_does_not_hurt(server: Master, certs: Certificates) -> None:
    """Plain HTTP, nonsense, silence, and a client that trusts nobody; then all is as before."""
    (worker,) = server.workers()
    with Wire(server.connect(tls=client(certs))) as wire:
        assert wire.request("GET", "/pieces").status == 200
        # Without this one; libuv keeps a descriptor in reserve from its first connection on.
        fds = server.fds(worker) - 1
    silent = []
    for number in range(20):
        for data in (request("GET", "/pieces"), b"\x16\x03\x01" + b"\xff" * 200, b"\0" * 50):
            with Wire(server.connect()) as plain:
                plain.send(data)
                plain.wait_end()
        with pytest.raises(ssl.SSLError), server.connect(tls=ssl.create_default_context()):
            pass
        silent.append(Wire(server.connect()))
        if number % 2:
            silent[-1].send(b"\x16\x03\x01\x02")
    with Wire(server.connect(tls=client(certs))) as wire:
        assert wire.request("GET", "/pieces").status == 200
    for number, each in enumerate(silent):
        each.abort() if number % 2 else each.close()
    wait_until(lambda: server.fds(worker) <= fds, 10, "the descriptors to be closed")
    assert server.workers() == [worker]


def test_failed_handshakes_do_not_use_up_the_connections(certs: Certificates) -> None:
    """worker_connections: a place that was never a connection is free again."""
    args = (*certs.args(), "--worker-connections", "2")
    with Master("app:app", *args, files={"app.py": NOTHING}) as master:
        for _ in range(5):
            wires = [Wire(master.connect()) for _ in range(6)]
            for wire in wires:
                wire.send(b"GET / HTTP/1.1\r\n\r\n")
            for wire in wires:
                wire.wait_end()
                wire.close()
            with Wire(master.connect(tls=client(certs))) as encrypted:
                assert encrypted.request("GET", "/").body == b"ok"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_websocket_over_tls(certs: Certificates, loop: str) -> None:
    env = {"GUNICORN_ASGI_LOOP": loop}
    with Master("app:app", *certs.args(), files={"app.py": WEBSOCKET}, env=env) as master:
        with WebSocketWire(master.connect(tls=client(certs))) as ws:
            assert ws.connect().status == 101
            assert ws.recv_text() == "wss"
            for size in (1, 1000, 100_000, MIB):
                ws.send_bytes(b"x" * size)
                assert ws.recv_bytes() == b"x" * size
            ws.close(1000)
            assert ws.recv_close() == (1000, "")
            ws.recv_eof()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_slow_reader_over_tls_costs_a_buffer(certs: Certificates, loop: str) -> None:
    env = {"GUNICORN_ASGI_LOOP": loop}
    files = {"app.py": (APPS / "flow.py").read_text()}
    with Master("app:app", *certs.args(), files=files, env=env) as master:
        (worker,) = master.workers()

        def progress() -> dict[str, int]:
            with Wire(master.connect(tls=client(certs))) as wire:
                told: dict[str, int] = wire.request("GET", "/progress").json()
                return told

        assert progress()["sent"] == 0
        idle = master.memory(worker)
        for path in ("/many", "/one"):
            sent = progress()["sent"]
            with Wire(master.connect(timeout=20, tls=client(certs))) as wire:
                wire.send(request("GET", path))
                assert wire.recv_head().status == 200
                for _ in range(10):
                    assert progress()["sent"] - sent <= 12 * MIB
                    assert master.memory(worker) - idle < 10_000_000
                size = 0
                while size < 50 * MIB:
                    piece = wire.recv_chunk() if path == "/many" else wire.recv_exact(MIB)
                    assert piece is not None
                    size += len(piece)
                    assert master.memory(worker) - idle < 10_000_000


# Settings


def served(master: Master, context: ssl.SSLContext) -> bool:
    """Whether that client gets an answer; with TLS 1.3 it is told only after its handshake."""
    try:
        with Wire(master.connect(tls=context)) as wire:
            return wire.request("GET", "/").body == b"ok"
    except (ssl.SSLError, ConnectionError, WireError):
        return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_required_client_certificate_is_required(certs: Certificates, loop: str) -> None:
    """ca_certs and cert_reqs."""
    args = (*certs.args(), "--ca-certs", certs.cert("ca"), "--cert-reqs", "2")
    env = {"GUNICORN_ASGI_LOOP": loop}
    with Master("app:app", *args, files={"app.py": NOTHING}, env=env) as master:
        assert served(master, client(certs, "client"))
        assert not served(master, client(certs))
        older = client(certs)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not served(master, older)
        assert served(master, client(certs, "client"))
        assert "Traceback" not in master.log()


def test_an_optional_client_certificate_is_optional(certs: Certificates) -> None:
    args = (*certs.args(), "--ca-certs", certs.cert("ca"), "--cert-reqs", "1")
    with Master("app:app", *args, files={"app.py": NOTHING}) as master:
        assert served(master, client(certs))
        assert served(master, client(certs, "client"))


def test_only_the_ciphers_of_the_setting_are_spoken(certs: Certificates) -> None:
    cipher = "ECDHE-RSA-AES256-GCM-SHA384"
    context = client(certs)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    other = client(certs)
    other.maximum_version = ssl.TLSVersion.TLSv1_2
    other.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with Master("app:app", *certs.args(), files={"app.py": NOTHING}) as master:
        assert served(master, other)
    with Master("app:app", *certs.args(), "--ciphers", cipher, files={"app.py": NOTHING}) as master:
        with master.connect(tls=context) as sock:
            assert isinstance(sock, ssl.SSLSocket)
            assert (sock.cipher() or ("",))[0] == cipher
        assert served(master, context)
        assert not served(master, other)


HOOK = """
import ssl
def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
"""


def test_the_ssl_context_hook_decides(certs: Certificates) -> None:
    older = client(certs)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with Master("app:app", *certs.args(), files={"app.py": NOTHING}) as master:
        assert served(master, older)
    with Master("app:app", *certs.args(), files={"app.py": NOTHING}, config=HOOK) as master:
        assert served(master, client(certs))
        assert not served(master, older)


# A context that cannot be built

RAISES = "def ssl_context(config, factory):\n    raise ValueError('no luck today')\n"
RETURNS_NONE = "def ssl_context(config, factory):\n    return None\n"
REFUSED = {
    "a key of somebody else": ((), "foreign", "", "KEY_VALUES_MISMATCH|key values mismatch"),
    "a missing key": ((), "missing", "", "missing.key|No such file"),
    "no such cipher": (("--ciphers", "NO-SUCH-CIPHER"), "server", "", "(?i)cipher"),
    "a missing authority": (("--ca-certs", "missing.pem"), "server", "", "missing.pem|No such"),
    "a hook that raises": ((), "server", RAISES, "no luck today"),
    "a hook without a context": ((), "server", RETURNS_NONE, "(?i)ssl_context|SSLContext"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_context_that_cannot_be_built_is_refused_at_start(certs: Certificates, case: str) -> None:
    """In the master, with the reason and a status that is not 0; never plain HTTP instead."""
    more, key, config, reason = REFUSED[case]
    args = ("--certfile", certs.cert("server"), "--keyfile", certs.key(key), *more)
    master = Master(
        "app:app", *args, files={"app.py": NOTHING}, config=config, ready=None, checked=False
    )
    with master:
        assert master.wait_exit(15) != 0
        master.wait_log(reason)
        log = master.log()
        assert "Worker ready" not in log
        assert "Booting worker" not in log


def test_a_certificate_that_is_no_certificate_is_refused_at_start(certs: Certificates) -> None:
    args = ("--certfile", certs.key("server"), "--keyfile", certs.key("server"))
    with Master("app:app", *args, files={"app.py": NOTHING}, ready=None, checked=False) as master:
        assert master.wait_exit(15) != 0
        master.wait_log(r"TLS cannot be set up: SSLError: ")
        assert "Booting worker" not in master.log()
