"""Certificates of an authority of our own, made by the openssl command, and clients for them."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Certificates", "client", "openssl", "shake_hands", "shown"]

# Ten times quicker to make than RSA.
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_RSA = ("-newkey", "rsa:2048")


def openssl(*args: str, stdin: bytes = b"") -> bytes:
    """Run the command; what it writes."""
    done = subprocess.run(["openssl", *args], input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


class Certificates:
    """An authority, and what it has signed.

    Each lies in two files, ``cert(name)`` and ``key(name)``. From the start there are "ca",
    "server" (RSA, for localhost), "client", and "foreign", which is a key only.
    """

    def __init__(self, path: Path) -> None:
        """Make all of them in that directory."""
        self.path = path
        # Python 3.13 verifies strictly (RFC 5280, 4.2.1.3): an authority says what its key may do.
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", *_EC, *self._out("ca"), "-subj", "/CN=kit authority", *usage)
        self.sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1", rsa=True)
        self.sign("client", "subjectAltName=DNS:client")
        openssl("genrsa", "-out", self.key("foreign"), "2048")

    def cert(self, name: str) -> str:
        """Path of that certificate."""
        return str(self.path / f"{name}.pem")

    def key(self, name: str) -> str:
        """Path of that key, not encrypted."""
        return str(self.path / f"{name}.key")

    def pem(self, name: str) -> str:
        """That certificate, the first of its file, as Python's ssl module writes it."""
        first, end, _ = Path(self.cert(name)).read_text().partition("-----END CERTIFICATE-----")
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(first + end))

    def sign(
        self,
        name: str,
        extension: str = "subjectAltName=DNS:localhost",
        *,
        subject: str = "",
        days: int = 30,
        by: str = "ca",
        authority: bool = False,
        rsa: bool = False,
    ) -> None:
        """Make a key and a certificate for it; in UTF-8, and with "+" for two names in one."""
        constraints = f"basicConstraints=critical,CA:{str(authority).upper()}"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign") if authority else ()
        openssl(
            *(
                "req",
                "-x509",
                *(_RSA if rsa else _EC),
                *self._out(name),
                "-utf8",
                "-multivalue-rdn",
            ),
            *("-subj", subject or f"/CN={name}", "-addext", extension, "-days", str(days)),
            *("-addext", constraints, *usage),
            *("-CA", self.cert(by), "-CAkey", self.key(by)),
        )

    def install(self, name: str, cert: Path, key: Path) -> None:
        """Put that pair where a server reads it, in one step for each of the files."""
        for source, target in ((self.cert(name), cert), (self.key(name), key)):
            fresh = target.with_name(target.name + ".kit-new")
            shutil.copyfile(source, fresh)
            fresh.replace(target)

    def args(self) -> tuple[str, ...]:
        """The command line of a server that has a certificate."""
        return ("--certfile", self.cert("server"), "--keyfile", self.key("server"))

    def _out(self, name: str) -> list[str]:
        return ["-nodes", "-keyout", self.key(name), "-out", self.cert(name)]


def client(
    certs: Certificates, cert: str = "", *, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client that checks the server's certificate, and may have one of its own."""
    context = ssl.create_default_context(cafile=certs.cert("ca"))
    if cert:
        context.load_cert_chain(certs.cert(cert), certs.key(cert))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def shake_hands(
    server: ssl.SSLContext,
    *,
    alpn: Sequence[str] = (),
    ciphers: str = "",
    cert: tuple[str, str] | None = None,
    session: ssl.SSLSession | None = None,
    peer: ssl.SSLContext | None = None,
    **attributes: object,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory with a client that checks nothing; both ends of it.

    ``cert`` is the client's own, with its key; ``attributes`` are those of its context.
    """
    peer = peer or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    peer.check_hostname, peer.verify_mode = False, ssl.CERT_NONE
    for name, value in attributes.items():
        setattr(peer, name, value)
    if ciphers:
        peer.set_ciphers(ciphers)
    if alpn:
        peer.set_alpn_protocols(alpn)
    if cert:
        peer.load_cert_chain(*cert)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        peer.wrap_bio(down, up, session=session),
        server.wrap_bio(up, down, server_side=True),
    )
    for end in ends * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends


def shown(end: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The certificate that the other end has shown, as Python's ssl module writes it."""
    der = end.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)
