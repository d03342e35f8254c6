"""protocol/rfc7239.py: the Forwarded field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.rfc7239 import Element, parse_forwarded
from protocol.fuzz import FUZZ, VALUES, glued

__all__: list[str] = []


@pytest.mark.parametrize(
    ("lines", "elements"),
    [
        # RFC 7239 4, its own examples.
        ([b'for="_gazonk"'], [{"for": "_gazonk"}]),
        ([b'For="[2001:db8:cafe::17]:4711"'], [{"for": "[2001:db8:cafe::17]:4711"}]),
        (
            [b"for=192.0.2.60;proto=http;by=203.0.113.43"],
            [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}],
        ),
        ([b"for=192.0.2.43, for=198.51.100.17"], [{"for": "192.0.2.43"}, {"for": "198.51.100.17"}]),
        # RFC 7239 7.1: several lines are one list.
        (
            [b'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown'],
            [{"for": "192.0.2.43"}, {"for": "[2001:db8:cafe::17]"}, {"for": "unknown"}],
        ),
        (
            [b"for=192.0.2.43", b'for="[2001:db8:cafe::17]", for=unknown'],
            [{"for": "192.0.2.43"}, {"for": "[2001:db8:cafe::17]"}, {"for": "unknown"}],
        ),
        # Names in any case, values as they are.
        ([b"HOST=Example.com;pRoTo=HTTPS"], [{"host": "Example.com", "proto": "HTTPS"}]),
        # RFC 9110 5.6.4: quoted-string.
        ([b'host="a:80"'], [{"host": "a:80"}]),
        ([rb'host="a\"b\\c\,d"'], [{"host": 'a"b\\c,d'}]),
        ([b'host=""'], [{"host": ""}]),
        ([b'host="a,b;c=d"'], [{"host": "a,b;c=d"}]),
        ([b'host="a\tb\xe9"'], [{"host": "a\tb\xe9"}]),
        # Extensions are carried along.
        ([b"secret=x;for=a"], [{"secret": "x", "for": "a"}]),
        ([b"x!#$%&'*+-.^_`|~=a"], [{"x!#$%&'*+-.^_`|~": "a"}]),
        # The same parameter in two elements.
        ([b"for=a,for=a"], [{"for": "a"}, {"for": "a"}]),
        # RFC 9110 5.6.1.2: empty members are ignored; forwarded-element may be empty as well.
        ([b""], []),
        ([b","], []),
        ([b" , ,, "], []),
        ([b";"], []),
        ([b",for=a,,for=b,"], [{"for": "a"}, {"for": "b"}]),
        ([b"for=a;;proto=http;"], [{"for": "a", "proto": "http"}]),
        ([b"for=a", b"", b"for=b"], [{"for": "a"}, {"for": "b"}]),
        # White space: around commas (RFC 9110 5.6.1), and around semicolons (5.6.6).
        ([b"for=a\t ,\tfor=b"], [{"for": "a"}, {"for": "b"}]),
        ([b"for=a ; proto=http"], [{"for": "a", "proto": "http"}]),
        ([b" for=a "], [{"for": "a"}]),
    ],
)
def test_elements_are_what_section_4_says(lines: list[bytes], elements: list[Element]) -> None:
    """RFC 7239 4."""
    assert parse_forwarded(lines) == elements


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"=a",
        b"for",
        b"for=",
        b"for=;proto=http",
        b"for =a",
        b"for= a",
        b"for=a b",
        b"for=a proto=http",
        b'for="a"proto=http',
        b'for="a" "b"',
        b'for="a',
        b'for=a"',
        b'for="a\\"',
        b'for="a\\',
        b'for=""a',
        b"for=a:80",  # a colon asks for quotes
        b"for=[::1]",
        b"host=a/b",
        b"(for)=a",
        b"for=a;,=",
        b"for==a",
        b"f\xf6r=a",
        b"for=\xe9",
        b'for="a\0"',
        b'for="a\x7f"',
        b'for="a\r\nb"',
        b'for="a\\\n"',
        # RFC 7239 4: "MUST NOT occur more than once"
        b"for=a;for=b",
        b"for=a;for=a",
        b"for=a;FOR=b",
        b"for=a;proto=http;for=b",
        b"for=ok, for=a;for=b",
        # An end of the element that is not one.
        b'for=a;host="b, for=c',
    ],
)
def test_what_has_not_this_syntax_is_refused(value: bytes) -> None:
    """RFC 7239 4: all of it, wherever the mistake is."""
    for lines in ([value], [b"for=good", value], [value, b"for=good"]):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_forwarded(lines)
        assert caught.value.status_hint == 400


def test_a_quoted_string_ends_in_its_line() -> None:
    """Or a client could leave one open, and hide in it what its proxy adds."""
    assert parse_forwarded([b'for="a,b"']) == [{"for": "a,b"}]
    with pytest.raises(RemoteProtocolError):
        parse_forwarded([b'for="a', b'b"'])


def test_the_work_is_bounded() -> None:
    """More than 16 KiB is refused before it is parsed: 431."""
    assert len(parse_forwarded([b"for=a," * 2730])) == 2730
    with pytest.raises(RemoteProtocolError) as caught:
        parse_forwarded([b"for=a," * 1400, b"for=b," * 1400])
    assert caught.value.status_hint == 431


NEAR = glued(
    *(b"for=", b"proto=", b'"', b"\\", b",", b";", b" ", b"=", b"a", b"192.0.2.1", b'for="[::1]:1"')
)


@FUZZ
@given(st.lists(NEAR | VALUES, max_size=3))
def test_any_bytes_are_parsed_or_refused(lines: list[bytes]) -> None:
    """Nothing but RemoteProtocolError comes out."""
    try:
        elements = parse_forwarded(lines)
    except RemoteProtocolError:
        return
    for element in elements:
        assert element
        assert all(name == name.lower() for name in element)


NAMES = st.sampled_from(["for", "by", "proto", "host", "x-y"])
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)


@FUZZ
@given(st.lists(st.dictionaries(NAMES, TEXTS, min_size=1), max_size=4))
def test_what_is_written_is_read(elements: list[Element]) -> None:
    """Every value can be quoted, and comes back."""
    quoted = [
        ";".join(
            f'{name}="{value}"'
            for name, value in (
                (name, value.replace("\\", "\\\\").replace('"', '\\"'))
                for name, value in element.items()
            )
        )
        for element in elements
    ]
    assert parse_forwarded([", ".join(quoted).encode()]) == elements
