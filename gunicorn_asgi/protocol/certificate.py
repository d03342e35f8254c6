"""What can be read off an X.509 certificate without a library for it: its subject, its end."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

__all__ = ["certificate_pem", "distinguished_name", "not_after", "to_pem"]

# RFC 4514 3: the short names that everybody has to understand, by OpenSSL's long ones. For all
# others OpenSSL's name is the registered one (emailAddress, serialNumber, givenName ...).
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}

# RFC 4514 2.4: a leading space or "#", a trailing space, and these anywhere.
_SPECIAL = re.compile(r'^[ #]|["+,;<>\\\0]| \Z')

# RFC 7468 5; OpenSSL takes the first of a file for the server's own, the others for its chain.
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")

# RFC 5280 4.1.2.5, by tag: UTCTime, and GeneralizedTime from 2050 on.
_REST = rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z"
_TIMES = {0x17: re.compile(rb"()(\d\d)" + _REST), 0x18: re.compile(rb"(\d\d)(\d\d)" + _REST)}


def distinguished_name(subject: Iterable[Iterable[tuple[str, str | bytes]]]) -> str:
    """Write a name as RFC 4514 does: ``CN=client,O=Example``, the last attribute first.

    An attribute without a name stands there by its number, and its value as text all the same.

    Args:
        subject: as ``ssl.SSLSocket.getpeercert()`` has it; a value of bytes is a BIT STRING.
    """
    names = ["+".join(_SHORT.get(n, n) + "=" + _value(v) for n, v in each) for each in subject]
    return ",".join(reversed(names))


def _value(value: str | bytes) -> str:
    if isinstance(value, bytes):  # x500UniqueIdentifier: 2.4, "#" and the octets
        return "#" + value.hex()
    return _SPECIAL.sub(_escaped, value)


def _escaped(found: re.Match[str]) -> str:
    return "\\00" if found[0] == "\0" else "\\" + found[0]


def certificate_pem(pem: bytes) -> str | None:
    """The first certificate of a file in PEM, in the usual form; None if there is none."""
    der = _first(pem)
    return to_pem(der) if der else None


def to_pem(der: bytes) -> str:
    """A certificate in PEM (RFC 7468 section 5.1)."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


def not_after(pem: bytes) -> str | None:
    """The end of validity of the first certificate of a file in PEM, "2026-05-01 12:00:00 UTC".

    Returns:
        None if it cannot be told; whether a certificate is one, OpenSSL decides.
    """
    try:
        return _date(*_validity(_first(pem)))
    except LookupError:  # it ends too soon, or has another type in that place
        return None


def _first(pem: bytes) -> bytes:
    found = _PEM.search(pem)
    try:
        return binascii.a2b_base64(found[1]) if found else b""
    except binascii.Error:
        return b""


def _validity(der: bytes) -> tuple[int, bytes]:
    """Tag and content of notAfter (RFC 5280 4.1): Certificate, tbsCertificate, the fifth of it."""
    _, content, _ = _element(der)
    _, content, _ = _element(content)
    tag, _, rest = _element(content)
    if tag == 0xA0:  # version, which only the first version of X.509 does without
        _, _, rest = _element(rest)
    for _ in ("signature", "issuer"):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, rest = _element(validity)  # notBefore
    return _element(rest)[:2]


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content, and what follows (X.690 8.1.3, definite form)."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + size], data[start + size :]


def _date(tag: int, content: bytes) -> str | None:
    found = _TIMES[tag].fullmatch(content)
    if found is None:
        return None
    century, year, month, day, hour, minute, second = (each.decode() for each in found.groups())
    if not century:  # RFC 5280 4.1.2.5.1
        century = "20" if int(year) < 50 else "19"
    return f"{century}{year}-{month}-{day} {hour}:{minute}:{second} UTC"
