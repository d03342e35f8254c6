"""The ASGI TLS extension, of real handshakes on both loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.tls import tls_extension
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.tlsnames import CIPHER_SUITES
from kit.fakes import FakeTransport
from kit.loopback import serving
from kit.message import request
from kit.rig import both_loops, until
from kit.tls import Certificates, client

if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []

KEYS = {
    "server_cert",
    "client_cert_chain",
    "client_cert_name",
    "client_cert_error",
    "tls_version",
    "cipher_suite",
}
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SUBJECT = '/C=AT/O=Ünï, "Cö" + <Söhne>;#/CN= client \\\\ one '
NAME = r"CN=\ client \\ one\ ,O=Ünï\, \"Cö\" \+ \<Söhne\>\;#,C=AT"


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    made = Certificates(tmp_path_factory.mktemp("certs"))
    made.sign("odd", "subjectAltName=DNS:odd", subject=SUBJECT.replace(" + ", r" \+ "))
    made.sign("between", authority=True)
    made.sign("far", by="between")
    # A byte that is no UTF-8, in a name that the authority has signed all the same.
    made.sign("unreadable", "subjectAltName=DNS:\udcff")
    # The client sends both.
    with open(made.cert("far"), "a") as file:
        file.write(made.pem("between"))
    return made


def server(certs: Certificates, verify: ssl.VerifyMode = ssl.CERT_OPTIONAL) -> ssl.SSLContext:
    """What tls_context makes of ca_certs and cert_reqs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs.cert("ca"))
    context.load_cert_chain(certs.cert("server"), certs.key("server"))
    context.verify_mode = verify
    return context


class Reporter(asyncio.Protocol):
    """Keeps what the extension says of each connection, sends one byte, and waits for its end."""

    def __init__(self, cert: str | None = None) -> None:
        self.cert = cert
        self.told: list[dict[str, Any]] = []
        self.open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append(tls_extension(transport, self.cert))
        self.open += 1
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"!")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open -= 1
        self.transport.close()  # asyncio of Python 3.10 wants to hear it in any case


async def extensions(
    context: ssl.SSLContext, connect: Callable[[tuple[str, int]], None], cert: str | None = None
) -> list[dict[str, Any]]:
    """What is told of the connections that ``connect`` makes, in a thread of its own."""
    reporter = Reporter(cert)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: reporter, "127.0.0.1", 0, ssl=context)
    try:
        address = server.sockets[0].getsockname()
        await asyncio.wait_for(loop.run_in_executor(None, connect, address), 10)
        await until(lambda: not reporter.open)
    finally:
        server.close()
        await server.wait_closed()
    return reporter.told


async def extension(
    context: ssl.SSLContext, peer: ssl.SSLContext, cert: str | None = None
) -> dict[str, Any]:
    """What is told of one connection."""

    def connect(address: tuple[str, int]) -> None:
        with peer.wrap_socket(
            socket.create_connection(address, 5), server_hostname="localhost"
        ) as s:
            assert s.recv(1) == b"!"

    (told,) = await extensions(context, connect, cert)
    assert set(told) == KEYS
    return told


@both_loops
async def test_a_client_without_a_certificate(certs: Certificates) -> None:
    told = await extension(server(certs), client(certs, version=TLS13), certs.pem("server"))
    assert told["server_cert"] == certs.pem("server")
    assert told["client_cert_chain"] == []
    assert told["client_cert_name"] is None
    assert told["client_cert_error"] is None


@both_loops
async def test_a_client_that_is_not_asked_for_its_certificate(certs: Certificates) -> None:
    told = await extension(server(certs, ssl.CERT_NONE), client(certs, "client"))
    assert told["server_cert"] is None
    assert (told["client_cert_chain"], told["client_cert_name"]) == ([], None)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
@both_loops
async def test_a_certificate_and_its_name(certs: Certificates, version: ssl.TLSVersion) -> None:
    told = await extension(server(certs), client(certs, "odd", version=version))
    assert told["client_cert_chain"][0] == certs.pem("odd")
    assert told["client_cert_name"] == NAME
    assert told["client_cert_error"] is None


@both_loops
async def test_the_chain_is_what_was_verified(certs: Certificates) -> None:
    """From 3.13 on; before, Python keeps it to itself."""
    told = await extension(server(certs, ssl.CERT_REQUIRED), client(certs, "far"))
    chain = [certs.pem(name) for name in ("far", "between", "ca")]
    assert told["client_cert_chain"] == (chain if sys.version_info >= (3, 13) else chain[:1])
    assert told["client_cert_name"] == "CN=far"


@pytest.mark.parametrize(
    ("version", "cipher", "numbers"),
    [
        (TLS12, "ECDHE-RSA-AES128-GCM-SHA256", (0x0303, 0xC02F)),
        (TLS12, "ECDHE-RSA-CHACHA20-POLY1305", (0x0303, 0xCCA8)),
        (TLS13, "", (0x0304, 0x1302)),
    ],
    ids=["RFC 5289", "RFC 7905", "RFC 8446"],
)
@both_loops
async def test_version_and_suite_are_those_of_the_wire(
    certs: Certificates, version: ssl.TLSVersion, cipher: str, numbers: tuple[int, int]
) -> None:
    """The numbers that IANA lists."""
    peer = client(certs, version=version)
    if cipher:
        peer.set_ciphers(cipher)
    told = await extension(server(certs), peer)
    assert (told["tls_version"], told["cipher_suite"]) == numbers


@both_loops
async def test_a_resumed_session_has_the_name_and_the_certificate(certs: Certificates) -> None:
    """Nobody sends a certificate then: it is in the session (RFC 5246, 7.3)."""
    peer = client(certs, "client", version=TLS12)
    reused: list[bool | None] = []

    def connect(address: tuple[str, int]) -> None:
        session = None
        for _ in range(2):
            plain = socket.create_connection(address, 5)
            with peer.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                assert sock.recv(1) == b"!"
                session = sock.session
                reused.append(sock.session_reused)

    first, second = await extensions(server(certs), connect)
    assert reused == [False, True]
    assert second["client_cert_chain"] == [certs.pem("client")]
    assert second["client_cert_name"] == "CN=client"
    assert {**second, "client_cert_chain": first["client_cert_chain"]} == first


@both_loops
async def test_a_certificate_that_python_cannot_read_ends_its_connection(
    certs: Certificates,
) -> None:
    """The loops read it for themselves, and stumble; it is told, and nobody else is concerned."""
    loop, told = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))

    def connect(address: tuple[str, int]) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            peer = client(certs, "unreadable", version=TLS12)
            peer.wrap_socket(socket.create_connection(address, 5), server_hostname="localhost")
        with client(certs, "client").wrap_socket(
            socket.create_connection(address, 5), server_hostname="localhost"
        ) as sock:
            sock.sendall(request("GET", "/", {"Connection": "close"}))
            assert sock.recv(12) == b"HTTP/1.1 200"
            while sock.recv(65536):
                pass

    async with serving(tls=server(certs)) as served:
        address = served.socks[0].getsockname()
        await asyncio.wait_for(loop.run_in_executor(None, connect, address), 10)
        (line,) = served.log.lines("debug")
        assert "could not be opened: UnicodeDecodeError" in line
    assert len(told) == 1
    assert "handshake" in told[0]


# -- what no handshake here can bring about --------------------------------------------------------


class Strange:
    """Stands for an ``SSLObject`` of a later OpenSSL."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    suite = "TLS_UNHEARD_OF"

    def __init__(self, leaf: bytes | None = None, **chains: list[bytes]) -> None:
        self.leaf = leaf
        for name, chain in chains.items():
            setattr(self, name, lambda chain=chain: chain)

    def version(self) -> str | None:
        return "TLSv1.9"

    def cipher(self) -> tuple[str, str, int] | None:
        return (self.suite, "TLSv1.9", 512)

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self.leaf


def told_of(tls: object, peercert: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the extension says of that transport."""
    extra = {"ssl_object": tls, "peercert": peercert}
    return tls_extension(FakeTransport(extra=extra), None)


def test_what_is_unheard_of_has_no_number() -> None:
    """None is allowed for both (ASGI, TLS extension)."""
    told = told_of(Strange())
    assert (told["tls_version"], told["cipher_suite"]) == (None, None)


def test_every_suite_of_openssl_has_its_number() -> None:
    """Those of the table, and those that are too rare for it."""
    strange = Strange()
    strange.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    strange.context.set_ciphers("ALL:eNULL:@SECLEVEL=0")
    found = {each["name"]: each["id"] & 0xFFFF for each in strange.context.get_ciphers()}
    assert set(found) - set(CIPHER_SUITES)
    for strange.suite, number in found.items():
        assert told_of(strange)["cipher_suite"] == number


def test_a_connection_that_can_tell_nothing_has_all_the_keys() -> None:
    told = told_of(None)
    assert set(told) == KEYS
    assert told.pop("client_cert_chain") == []
    assert set(told.values()) == {None}


def test_the_verified_chain_is_taken_where_there_is_one() -> None:
    """On every Python here; and only the certificate itself where OpenSSL has no chain."""
    both = [ssl.DER_cert_to_PEM_cert(each) for each in (b"leaf", b"authority")]
    told = told_of(Strange(b"leaf", get_verified_chain=[b"leaf", b"authority"]))
    assert told["client_cert_chain"] == both
    assert told_of(Strange(b"leaf", get_verified_chain=[]))["client_cert_chain"] == both[:1]
    assert told_of(Strange(b"leaf"))["client_cert_chain"] == both[:1]


def test_a_certificate_that_is_none_is_handed_on_without_an_error() -> None:
    """It is for OpenSSL to judge, and for the application to read."""
    told = told_of(Strange(b"\xff\0 no DER at all"), {"notAfter": "never"})
    assert ssl.PEM_cert_to_DER_cert(told["client_cert_chain"][0]) == b"\xff\0 no DER at all"
    assert told["client_cert_name"] is None
    assert told_of(Strange(b"x"), {"subject": ()})["client_cert_name"] == ""


def test_a_certificate_that_was_replaced_during_the_handshake_is_not_told() -> None:
    """The client has seen the one before, which nobody has any more."""
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    with socket.socket() as sock:
        listener = Listener(sock, contexts[1], "the new one")
        for context, cert in zip(contexts, (None, "the new one"), strict=True):
            extra = {"ssl_object": Strange(), "sslcontext": context}
            peer = listener.peer(FakeTransport(extra=extra), ForwardedPolicy())
            assert peer.extensions["tls"]["server_cert"] == cert
