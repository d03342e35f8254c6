"""What is read off a certificate, against what the openssl command reads."""

from __future__ import annotations

import random
import re
import ssl
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gunicorn_asgi.protocol.certificate import certificate_pem, distinguished_name, not_after
from kit.tls import Certificates, openssl

if TYPE_CHECKING:
    Subject = tuple[tuple[tuple[str, Any], ...], ...]

__all__: list[str] = []


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    return Certificates(tmp_path_factory.mktemp("certs"))


def one(value: str | bytes) -> Subject:
    """A subject of one attribute."""
    return ((("commonName", value),),)


# -- RFC 4514 --------------------------------------------------------------------------------------

NAMES: dict[str, tuple[Subject, str]] = {
    "empty": ((), ""),
    "the last comes first (2.1)": (
        ((("countryName", "AT"),), (("organizationName", "Org"),), (("commonName", "me"),)),
        "CN=me,O=Org,C=AT",
    ),
    "several attributes in one (2.2)": (
        ((("domainComponent", "net"),), (("commonName", "a"), ("userId", "b"))),
        "CN=a+UID=b,DC=net",
    ),
    "short names (3)": (
        tuple(
            ((name, "x"),)
            for name in ("localityName", "stateOrProvinceName", "organizationalUnitName")
        ),
        "OU=x,ST=x,L=x",
    ),
    "street (3)": (((("streetAddress", "x"),),), "STREET=x"),
    "other names as they are": (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
    "no name but a number": (((("1.3.6.1.4.1.1466.0", "x"),),), "1.3.6.1.4.1.1466.0=x"),
    "special characters (2.4)": (one('a,b+c"d\\e<f>g;h'), r"CN=a\,b\+c\"d\\e\<f\>g\;h"),
    "a leading number sign (2.4)": (one("#a#"), r"CN=\#a#"),
    "spaces at the ends (2.4)": (one("  a  "), r"CN=\  a \ "),
    "one space": (one(" "), r"CN=\ "),
    "a NUL (2.4)": (one("good\0evil"), r"CN=good\00evil"),
    "a line break stays": (one("a\nb"), "CN=a\nb"),
    "UTF-8 stays": (one("Lučić \U0001f511"), "CN=Lučić \U0001f511"),
    "an equals sign stays": (one("a=b"), "CN=a=b"),
    "no value": (one(""), "CN="),
    "bits": (((("x500UniqueIdentifier", b"\x01\xff"),),), "x500UniqueIdentifier=#01ff"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_written_as_rfc_4514_says(case: str) -> None:
    subject, text = NAMES[case]
    assert distinguished_name(subject) == text


SUBJECTS = {
    "plain": "/C=AT/ST=Wien/L=Wien/O=Org/OU=Unit/CN=me",
    "special": '/O=A, "B" + C;D <E>\\\\ F/CN=#me ',
    "unicode": "/CN=Lučić/O=Österreich \U0001f511",
    "other": "/DC=net/DC=example/UID=u/street=s/emailAddress=a@example.net/serialNumber=7",
}


@pytest.mark.parametrize("case", SUBJECTS)
def test_openssl_writes_the_same_name(certs: Certificates, case: str) -> None:
    """RFC 4514 is RFC 2253 in newer words, and a reader of either understands both."""
    certs.sign(case, subject=SUBJECTS[case])
    form = "RFC2253,-esc_msb,utf8"
    told = openssl("x509", "-in", certs.cert(case), "-noout", "-subject", "-nameopt", form)
    text = told.decode().removeprefix("subject=").removesuffix("\n").replace("street=", "STREET=")
    assert distinguished_name(_decoded(certs.cert(case))["subject"]) == text


def _decoded(path: str) -> dict[str, Any]:
    """What ``getpeercert()`` would tell of it."""
    found: dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
    return found


# -- the end of validity ---------------------------------------------------------------------------


def end_by_openssl(path: str) -> str:
    told = openssl("x509", "-in", path, "-noout", "-enddate").decode()
    end = datetime.strptime(told.strip() + " +0000", "notAfter=%b %d %H:%M:%S %Y GMT %z")
    return end.strftime("%Y-%m-%d %H:%M:%S UTC")


@pytest.mark.parametrize("days", [1, 365, 10000, 40000], ids=lambda days: f"{days} days")
def test_the_end_is_what_openssl_says(certs: Certificates, days: int) -> None:
    """From 2050 on it is written in another type (RFC 5280, 4.1.2.5)."""
    certs.sign(f"d{days}", days=days)
    path = certs.cert(f"d{days}")
    assert not_after(Path(path).read_bytes()) == end_by_openssl(path)


def test_a_certificate_of_the_first_version_has_an_end(certs: Certificates, tmp_path: Path) -> None:
    """It has no version field, so that everything else moves up (RFC 5280, 4.1.2.1)."""
    openssl("req", "-new", "-key", certs.key("server"), "-subj", "/CN=old", "-out", f"{tmp_path}/r")
    path = f"{tmp_path}/old.pem"
    openssl("x509", "-req", "-in", f"{tmp_path}/r", "-signkey", certs.key("server"), "-out", path)
    assert "Version: 1 " in openssl("x509", "-in", path, "-noout", "-text").decode()
    assert not_after(Path(path).read_bytes()) == end_by_openssl(path)


def test_a_date_of_the_last_century() -> None:
    """RFC 5280, 4.1.2.5.1: from 50 on a year of two digits is one of the last century."""
    assert not_after(_with_end(b"\x17\x0d991231235959Z")) == "1999-12-31 23:59:59 UTC"
    assert not_after(_with_end(b"\x17\x0d491231235959Z")) == "2049-12-31 23:59:59 UTC"


@pytest.mark.parametrize("end", [b"\x17\x03abc", b"\x18\x0d991231235959Z", b"\x17\x0d9912312", b""])
def test_an_end_that_is_none_is_not_told(end: bytes) -> None:
    assert not_after(_with_end(end)) is None


def _with_end(end: bytes) -> bytes:
    """A certificate that consists of what is read, and of nothing else."""
    validity = b"\x17\x0d000101000000Z" + end
    fields = b"\xa0\x00" + b"\x02\x00" + b"\x30\x00" * 2 + bytes([0x30, len(validity)]) + validity
    signed = bytes([0x30, len(fields)]) + fields
    return ssl.DER_cert_to_PEM_cert(bytes([0x30, len(signed)]) + signed).encode()


def test_what_is_no_certificate_has_no_end(certs: Certificates) -> None:
    """Cut anywhere, and with any byte changed: told or not, nothing is raised."""
    der = ssl.PEM_cert_to_DER_cert(certs.pem("client"))
    chance = random.Random(5280)
    for at in range(len(der)):
        spoilt = bytearray(der)
        spoilt[at] = chance.randrange(256)
        for each in (der[:at], bytes(spoilt)):
            told = not_after(ssl.DER_cert_to_PEM_cert(each).encode())
            assert told is None or re.fullmatch(r"\d{4}(-\d\d){2} \d\d(:\d\d){2} UTC", told)


# -- the first of a file ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_the_first_certificate_of_a_file_is_taken(certs: Certificates, end: str) -> None:
    """Behind a key, a comment or a table of its fields, before those of its chain."""
    pieces = [Path(certs.key("server")), Path(certs.cert("server")), Path(certs.cert("ca"))]
    text = "our certificate\n" + "".join(path.read_text() for path in pieces)
    assert certificate_pem(text.replace("\n", end).encode()) == certs.pem("server")


def test_a_file_without_a_certificate_has_none(certs: Certificates) -> None:
    for data in (b"", Path(certs.key("server")).read_bytes(), certs.pem("server")[:-2].encode()):
        assert certificate_pem(data) is None
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    assert certificate_pem(begin + b"\nAAAAA\n" + end) is None
    assert not_after(begin + b"\nAAAAA\n" + end) is None
