"""protocol/headers.py: tokens, field values, lists and the Date field."""

from __future__ import annotations

import string

import pytest

from gunicorn_asgi.protocol.headers import bad_field_name, bad_field_value, tokens

__all__: list[str] = []

TCHAR = ("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters).encode("ascii")
BYTES = [bytes([byte]) for byte in range(256)]


def test_a_field_name_is_made_of_tchar_only() -> None:
    """RFC 9110 5.6.2, byte by byte: alone, at the end, in the middle and in front."""
    for byte in BYTES:
        bad = byte not in [bytes([each]) for each in TCHAR]
        for name in (byte, b"x" + byte, b"x" + byte + b"y", byte + b"y"):
            assert bad_field_name(name) is bad, name


@pytest.mark.parametrize("name", [b"", b":status", b"a b", b"a\n", b"a\r\n", b"\xc3\xa9", b"a:"])
def test_no_token_is_no_field_name(name: bytes) -> None:
    """RFC 9110 5.1; a final LF, which `$` in a regular expression would allow, among them."""
    assert bad_field_name(name)


def test_a_field_value_holds_no_control_character() -> None:
    """RFC 9110 5.5, byte by byte; HTAB and obs-text may be there."""
    for byte in BYTES:
        bad = (byte < b"\x20" and byte != b"\t") or byte == b"\x7f"
        for value in (byte, b"x" + byte, b"x" + byte + b"y", byte + b"y"):
            assert bad_field_value(value) is bad, value


def test_an_empty_field_value_is_fine() -> None:
    """RFC 9110 5.5: field-value = *field-content."""
    assert not bad_field_value(b"")


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b" , ,\t,", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, Upgrade", [b"keep-alive", b"upgrade"]),
        (b"foo , ,bar,charlie", [b"foo", b"bar", b"charlie"]),  # the RFC's own example
        (b"\ta\t,\tb ", [b"a", b"b"]),
        (b"a b", [b"a b"]),
        (b"a\xa0", [b"a\xa0"]),  # no OWS: RFC 9110 5.6.3
        (b"a,a", [b"a", b"a"]),
    ],
)
def test_a_list_has_no_empty_members(value: bytes, members: list[bytes]) -> None:
    """RFC 9110 5.6.1.2: "A recipient MUST parse and ignore [...] empty list elements"."""
    assert tokens(value) == members
