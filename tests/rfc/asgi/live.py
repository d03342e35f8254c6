"""What only a real server can show: addresses, TLS, and lifespan around real connections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any, NamedTuple

from kit.master import Address, Master, wait_until
from kit.tls import Certificates, client
from kit.wire import WebSocketWire, Wire, request
from rfc.asgi.rule import Rules

__all__ = ["LISTS", "Servers", "servers"]

LISTS = HTTP, LIFESPAN, TLS = Rules("http"), Rules("lifespan"), Rules("tls")

APP = (Path(__file__).parent / "live_app.py").read_text()


class Servers(NamedTuple):
    """A plain server, on TCP and on a unix socket, and one with TLS whose clients may have a
    certificate; and how others are started."""

    plain: Master
    tls: Master
    certs: Certificates
    start: Callable[..., Master]


@contextmanager
def servers(loop: str, folder: Path) -> Iterator[Servers]:
    """Run them, in the folder of the certificates, with workers on that loop."""
    certs = Certificates(folder)
    env = {"GUNICORN_ASGI_LOOP": loop}

    def start(*args: str, **options: Any) -> Master:
        files = {"app.py": APP, **options.pop("files", {})}
        return Master("app:app", *args, files=files, env=env, **options)

    authority = ("--ca-certs", certs.cert("ca"), "--cert-reqs", "1")
    with start(workers=2, bind=["tcp", "unix"]) as plain, start(*certs.args(), *authority) as tls:
        yield Servers(plain, tls, certs, start)
        for each in (plain, tls):
            assert "[ERROR]" not in each.log(), each.log()[-4000:]


def ask(server: Master, path: str = "/", *, websocket: bool = False, **to: Any) -> dict[str, Any]:
    """What the application tells of one request; ``to`` is for ``Master.connect``."""
    with Wire(server.connect(**to)) as wire:
        if not websocket:
            facts: dict[str, Any] = wire.request("GET", path).json()
            return facts
        peer = WebSocketWire(wire)
        assert peer.connect(path).status == 101
        facts = json.loads(peer.recv_text())
        return facts


def noted(server: Master) -> list[str]:
    """What the applications of all workers have gone through, in its order."""
    path = server.dir / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines]


# -- addresses -------------------------------------------------------------------------------------


def _split(addresses: list[Address]) -> tuple[Any, Any]:
    tcp, unix = sorted(addresses, key=lambda each: isinstance(each, str))
    return tcp, unix


@HTTP("Connection Scope", "http scope: client", "http scope: server", "websocket scope: client")
def addresses_on_tcp_are_text_and_integers(on: Servers) -> None:
    """Client and server, the former with the port of its own end."""
    (host, port), _ = _split(on.plain.addresses)
    for websocket in (False, True):
        scope = ask(on.plain, websocket=websocket)["scope"]
        assert scope["server"] == [["str", host], ["int", port]]
        assert scope["client"][0] == ["str", "127.0.0.1"]
        assert scope["client"][1][0] == "int"
    with Wire(on.plain.connect()) as wire:
        own = wire.sock.getsockname()[1]
        assert wire.request("GET", "/").json()["scope"]["client"][1] == ["int", own]


@HTTP("Connection Scope", "http scope: client", "http scope: server", "websocket scope: server")
def addresses_on_a_unix_socket_are_its_path_and_none(on: Servers) -> None:
    """Server is (path, None), since 2.2; of the client nothing is known."""
    _, path = _split(on.plain.addresses)
    for websocket in (False, True):
        scope = ask(on.plain, websocket=websocket, address=path)["scope"]
        assert scope["server"] == [["str", path], ["NoneType", None]]
        assert scope["client"] == ["NoneType", None]


@HTTP("Connection Scope", "http scope: scheme", "websocket scope: scheme")
def schemes_on_tls_are_https_and_wss(on: Servers) -> None:
    """By the connection itself."""
    told = [
        ask(on.tls, websocket=websocket, tls=client(on.certs))["scope"]["scheme"]
        for websocket in (False, True)
    ]
    assert told == [["str", "https"], ["str", "wss"]]


# -- tls -------------------------------------------------------------------------------------------

KEYS = "TLS Connection Scope"


@TLS(
    KEYS,
    *("tls extension", "tls extension: server_cert", "tls extension: tls_version"),
    "tls extension: cipher_suite",
)
def a_connection_with_tls_says_so(on: Servers) -> None:
    """Our certificate in PEM, and the numbers of version and suite; for http and websocket."""
    for websocket in (False, True):
        tls = ask(on.tls, websocket=websocket, tls=client(on.certs))["scope"]["extensions"]["tls"]
        assert tls["server_cert"] == ["str", on.certs.pem("server")]
        assert tls["tls_version"] == ["int", 0x0304]
        assert tls["cipher_suite"][0] == "int"
        assert 0x1301 <= tls["cipher_suite"][1] <= 0x1305


@TLS(
    KEYS,
    *("tls extension: client_cert_chain", "tls extension: client_cert_name"),
    "tls extension: client_cert_error",
)
def a_client_with_a_certificate_is_known_by_it(on: Servers) -> None:
    """The chain in PEM, the client's own first, and its subject as in RFC 4514."""
    for websocket in (False, True):
        context = client(on.certs, "client")
        tls = ask(on.tls, websocket=websocket, tls=context)["scope"]["extensions"]["tls"]
        assert tls["client_cert_chain"][0] == ["str", on.certs.pem("client")]
        assert tls["client_cert_name"] == ["str", "CN=client"]
        assert tls["client_cert_error"] == ["NoneType", None]


@TLS(
    KEYS,
    *("tls extension: client_cert_chain", "tls extension: client_cert_name"),
    "tls extension: client_cert_error",
)
def a_client_without_a_certificate_has_none(on: Servers) -> None:
    """An empty chain, no name, no error; the keys are there."""
    tls = ask(on.tls, tls=client(on.certs))["scope"]["extensions"]["tls"]
    assert tls["client_cert_chain"] == []
    assert tls["client_cert_name"] == tls["client_cert_error"] == ["NoneType", None]


@TLS("When to use this extension", "tls extension")
def a_connection_without_tls_has_no_such_extension(on: Servers) -> None:
    """It is forbidden there, on TCP and on unix sockets."""
    for address in on.plain.addresses:
        assert "tls" not in ask(on.plain, address=address)["scope"]["extensions"]


# -- lifespan --------------------------------------------------------------------------------------


@LIFESPAN("Lifespan State", "http scope: state", "websocket scope: state", "lifespan scope: state")
def each_scope_gets_a_shallow_copy_of_the_state(on: Servers) -> None:
    """What a request changes in it is its own; what is in it belongs to all."""
    seen, shared = set(), []
    for number in range(6):
        before = ask(on.tls, websocket=number % 2 == 1, tls=client(on.certs))["state"]
        seen.add(before["seen"])
        shared.append(before["shared"])
    assert seen == {0}
    assert shared == list(range(shared[0], shared[0] + 6))


@LIFESPAN("Lifespan Protocol", "lifespan.startup: type")
def lifespan_runs_once_in_each_worker_and_in_its_loop(on: Servers) -> None:
    """In the same event loop as the requests."""
    assert ask(on.plain)["state"]["loop"] is True
    assert sorted(noted(on.plain)) == ["lifespan.startup"] * 2 + ["started"] * 2


@LIFESPAN("Startup Complete", "lifespan.startup.complete: type")
def no_connection_is_served_before_startup_is_complete(on: Servers) -> None:
    """Whoever connects earlier waits."""
    with on.start(ready=None, files={"startup.closed": ""}) as server:
        wait_until(lambda: noted(server), 20, "lifespan.startup")
        with Wire(server.connect(20)) as wire:
            wire.send(request("GET", "/noted"))
            assert noted(server) == ["lifespan.startup"]
            server.write("startup.open", "")
            assert wire.recv_response().status == 200
        assert noted(server) == ["lifespan.startup", "started", "request", "response"]


@LIFESPAN(
    "Shutdown; Shutdown Complete",
    "lifespan.shutdown: type",
    "lifespan.shutdown.complete: type",
)
def shutdown_comes_behind_the_last_connection_and_is_awaited(on: Servers) -> None:
    """Nobody is accepted any more, all connections are closed; and the process waits for it."""
    gates = {"request.closed": "", "shutdown.closed": ""}
    with on.start(files=gates) as server:
        (pid,) = server.workers()
        with Wire(server.connect()) as wire:
            wire.send(request("GET", "/noted"))
            wait_until(lambda: "request" in noted(server), 5, "the request")
            server.signal(SIGTERM)
            server.wait_log(r"Worker leaving", 5)
            assert "lifespan.shutdown" not in noted(server)
            server.write("request.open", "")
            assert wire.recv_response().status == 200
            wire.recv_eof()
        wait_until(lambda: "lifespan.shutdown" in noted(server), 10, "lifespan.shutdown")
        assert noted(server)[-2:] == ["response", "lifespan.shutdown"]
        assert server.workers() == [pid]
        server.write("shutdown.open", "")
        assert server.wait_exit() == 0
        assert noted(server)[-1] == "ended"


@LIFESPAN("Startup Failed", "lifespan.startup.failed: message", "lifespan.startup.failed: type")
def a_server_whose_startup_failed_logs_the_message_and_ends(on: Servers) -> None:
    """In the error log, with the text of the application; it never accepts."""
    with on.start(ready=None, checked=False, files={"broken": ""}) as server:
        assert server.wait_exit(20) != 0
        assert "no database" in server.log()
