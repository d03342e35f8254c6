"""protocol/proxy.py: headers cut anywhere, and bytes that are nothing at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.proxy import MAX_HEADER, ProxyHeader, measure, parse
from kit.proxying import SIGNATURE, binary, line, local, tls_value, tlv, with_checksum

__all__: list[str] = []

BOTH = frozenset({1, 2})
VALUES = tlv(0x02, b"a.example") + tls_value(tlv(0x21, b"TLSv1.3"), tlv(0x22, b"me"), flags=3)

WHOLE = {
    "line": line(),
    "line unknown": b"PROXY UNKNOWN\r\n",
    "line long": b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
    "binary": binary(),
    "binary local": local(),
    "binary unix": binary(block=bytes(216)),
    "binary values": with_checksum(VALUES),
    "binary large": binary(tail=tlv(0x28, bytes(2000))),
}
# What may follow: TLS, HTTP, another header, and bytes on which either might stumble.
BEHIND = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", line(), binary(), b"\n", b"\r\n\r\n", b"\0")


def read(pieces: list[bytes]) -> tuple[ProxyHeader | None, bytes, bytes]:
    """Do what aio/proxied.py does: the header, what was taken, and what is left in the socket."""
    taken = b""
    while pieces:
        extent = measure(taken + pieces[0], BOTH)
        if extent is None:
            return None, taken, b"".join(pieces)
        size = extent.size - len(taken)
        assert 0 < size <= len(pieces[0])
        taken, pieces = taken + pieces[0][:size], [pieces[0][size:], *pieces[1:]]
        if extent.whole:
            return parse(taken), b"", b"".join(pieces)
        pieces = pieces[not pieces[0] :]
    return None, taken, b""


@pytest.mark.parametrize("behind", BEHIND, ids=[repr(each)[2:9] for each in BEHIND])
@pytest.mark.parametrize("name", WHOLE)
def test_where_a_header_is_cut_makes_no_difference(name: str, behind: bytes) -> None:
    """TCP knows no messages; and nothing behind the header is taken, wherever the cut is."""
    data = WHOLE[name]
    expected = (parse(data), b"", behind)
    assert read([data + behind]) == expected
    assert read([bytes((each,)) for each in data + behind]) == expected
    for at in range(1, len(data)):
        assert read([data[:at], data[at:] + behind]) == expected, at


@pytest.mark.parametrize("name", WHOLE)
def test_a_header_without_its_end_is_waited_for(name: str) -> None:
    """All of it was taken, so that the socket is not readable while nothing comes."""
    data = WHOLE[name]
    for at in range(1, len(data)):
        assert read([data[:at]]) == (None, data[:at], b"")


@pytest.mark.parametrize(
    "data", [b"PROPFIND / HTTP/1.1\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n"]
)
def test_a_request_is_found_again_wherever_it_is_cut(data: bytes) -> None:
    """What was taken in vain, and what is left, make the whole of it."""
    for at in range(1, len(data)):
        header, taken, left = read([data[:at], data[at:]])
        assert header is None
        assert taken + left == data


def either(data: bytes) -> ProxyHeader | None:
    """Whatever comes, it is a header, none, or refused; and what is a header is so at any cut."""
    try:
        extent = measure(data, BOTH)
        if extent is None or not extent.whole:
            return None
        assert extent.size <= min(len(data), MAX_HEADER)
        return parse(data[: extent.size])
    except RemoteProtocolError:
        return None


# Most bytes are not even near to a header: so some are made that are.
_NEAR = st.one_of(
    st.binary(max_size=150).map(lambda tail: b"PROXY " + tail),
    st.text("TCP46UNKOW .:0123456789abcdef%\r\n", max_size=110).map(
        lambda tail: b"PROXY TCP4 " + tail.encode() + b"\r\n"
    ),
    st.binary(max_size=300).map(lambda tail: SIGNATURE + tail),
    st.binary(max_size=300).map(lambda tail: binary(tail=tail)),
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, 0x20, 0x30, 0xEA]), st.binary(max_size=20)),
        max_size=6,
    ).map(lambda values: binary(tail=b"".join(tlv(*each) for each in values))),
    st.lists(
        st.tuples(st.sampled_from([0x21, 0x22, 0x23, 0x28]), st.binary(max_size=20)), max_size=4
    ).map(lambda values: binary(tail=tls_value(*(tlv(*each) for each in values), flags=7))),
    st.tuples(st.integers(0x20, 0x21), st.integers(0, 255), st.binary(max_size=250)).map(
        lambda each: binary(block=each[2], command=each[0], kind=each[1])
    ),
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.binary(max_size=200), _NEAR), st.data())
def test_no_bytes_are_too_much(data: bytes, cut: st.DataObject) -> None:
    """A clean refusal, or a header; never another exception, and the same if it comes in two."""
    whole = either(data)
    if whole is not None:
        at = cut.draw(st.integers(1, len(data)))
        assert read([data[:at], data[at:]])[0] == whole


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_header_with_a_changed_byte_is_refused_or_read(name: str, change: st.DataObject) -> None:
    """One byte of a good one is replaced, left out or added."""
    data = WHOLE[name]
    at = change.draw(st.integers(0, len(data) - 1))
    put = change.draw(st.binary(max_size=2))
    either(data[:at] + put + data[at + 1 :])
