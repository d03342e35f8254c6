"""What an application is told of a TLS connection: the ASGI TLS extension, 0.2."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from gunicorn_asgi.protocol.certificate import distinguished_name
from gunicorn_asgi.protocol.tlsnames import CIPHER_SUITES, TLS_VERSIONS

__all__ = ["tls_extension"]


def tls_extension(transport: asyncio.BaseTransport, server_cert: str | None) -> dict[str, Any]:
    """Make ``scope["extensions"]["tls"]`` of a connection whose handshake is over.

    Raises nothing, whatever the client's certificate looks like.

    Args:
        transport: of asyncio or uvloop, encrypted.
        server_cert: our own certificate, PEM; None if it is not known which one was sent.

    Returns:
        The keys of the extension (ASGI, TLS extension 0.2), all of them, always:

        - ``server_cert`` (str or None): as given.
        - ``client_cert_chain`` (list of str): PEM, the client's own first. What follows it has been
          verified too, and is there from Python 3.13 on, if the session is not a resumed one.
        - ``client_cert_name`` (str or None): its subject, RFC 4514.
        - ``client_cert_error``: None. A certificate that does not verify ends the handshake.
        - ``tls_version`` (int or None): 0x0303 is TLS 1.2, 0x0304 TLS 1.3.
        - ``cipher_suite`` (int or None): IANA's number, 0x1301 for instance.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    subject = (transport.get_extra_info("peercert") or {}).get("subject")
    return {
        "server_cert": server_cert,
        "client_cert_chain": [] if tls is None else _chain(tls),
        "client_cert_name": None if subject is None else distinguished_name(subject),
        "client_cert_error": None,
        "tls_version": None if tls is None else TLS_VERSIONS.get(tls.version() or ""),
        "cipher_suite": None if tls is None else _suite(tls),
    }


def _chain(tls: ssl.SSLObject) -> list[str]:
    """The client's certificate and those that vouch for it; empty if it has shown none."""
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return []
    # Public from 3.13 on. A resumed session has no chain, only the certificate itself.
    verified: list[bytes] = getattr(tls, "get_verified_chain", list)()
    return [ssl.DER_cert_to_PEM_cert(each) for each in verified or [leaf]]


def _suite(tls: ssl.SSLObject) -> int | None:
    name = (tls.cipher() or ("",))[0]
    number = CIPHER_SUITES.get(name)
    if number is None:
        # A rare one. SSL_CIPHER_get_id(3): the lower two bytes are those of the wire.
        ids = (each["id"] & 0xFFFF for each in tls.context.get_ciphers() if each["name"] == name)
        number = next(ids, None)
    return number
