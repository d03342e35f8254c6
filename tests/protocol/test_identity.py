"""protocol/identity.py: what a request is called."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.identity import RequestIds, named, taken
from protocol.fuzz import FUZZ, VALUES, glued
from protocol.heads import head_of

__all__: list[str] = []

POLICY = ForwardedPolicy()
ID, PARENT = b"x-request-id", b"traceparent"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
# W3C Trace Context, its own example.
EXAMPLE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_made_ids_look_like_trace_ids_and_never_repeat() -> None:
    """32 hexadecimal digits in lower case, of which the first 16 are the worker's."""
    ids = RequestIds("0123456789abcdef")
    made = [ids.make() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"0123456789abcdef[0-9a-f]{16}", each) for each in made)
    assert not set(made) & {RequestIds("fedcba9876543210").make()}


def test_a_made_id_is_one_that_others_may_take() -> None:
    """As an id, and as the trace id of a traceparent."""
    made = RequestIds("0" * 16).make()
    assert taken(head_of([(ID, made.encode())]), POLICY) == made
    parent = b"00-%b-00f067aa0ba902b7-01" % made.encode()
    assert taken(head_of([(PARENT, parent)]), POLICY) == made


@pytest.mark.parametrize(
    "value",
    [
        *(b"a", b"0", b"A-b_c.d:e+f/g=h@i", b"x" * 128),
        b"7d444840-9dc0-11d1-b245-5ffdce74fad2",
        b"Root=1-67891233-abcdef012345678912345678",  # AWS
        b"cFd0Zm9vL2Jhcg==",
    ],
)
def test_a_proxys_id_is_taken(value: bytes) -> None:
    """1 to 128 characters that no log stumbles over."""
    assert taken(head_of([(ID, value)]), POLICY) == value.decode()


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"x" * 129,
            b"a b",
            b"a\tb",
            b"a\nb",
            b"a\n",
            b'"a"',
            b"a,b",
            b"a;b",
            b"%41",
            b"a\\",
        ),
        *(b"<a>", b"{a}", b"$a", b"a'", b"\xe9", "é".encode(), b"a\0", b"\x1b[31m", b"a\x85"),
    ],
)
def test_what_could_break_a_log_is_no_id(value: bytes) -> None:
    """Then the traceparent counts, or one is made."""
    assert taken(head_of([(ID, value)]), POLICY) is None
    assert taken(head_of([(ID, value), (PARENT, EXAMPLE)]), POLICY) == TRACE


def test_of_several_ids_the_nearest_proxys_counts() -> None:
    """A proxy that appends has written the last line."""
    assert taken(head_of([(ID, b"theirs"), (ID, b"ours")]), POLICY) == "ours"


@pytest.mark.parametrize(
    "value",
    [
        EXAMPLE,
        EXAMPLE[:-2] + b"00",
        EXAMPLE[:-2] + b"ff",
        # Versions to come may be longer.
        b"01" + EXAMPLE[2:],
        b"fe" + EXAMPLE[2:] + b"-more-to-come",
        b"01" + EXAMPLE[2:] + b"-",
    ],
)
def test_a_traceparent_has_an_id(value: bytes) -> None:
    """W3C Trace Context 3.2.2 and 4.1."""
    assert taken(head_of([(PARENT, value)]), POLICY) == TRACE
    assert taken(head_of([(PARENT, value), (ID, b"mine")]), POLICY) == "mine"


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"-", TRACE.encode(), EXAMPLE[3:], EXAMPLE[:-3], EXAMPLE[:-1], EXAMPLE + b"0"),
        *(EXAMPLE.upper(), b"ff" + EXAMPLE[2:], b"0" + EXAMPLE, b" " + EXAMPLE, EXAMPLE + b"\n"),
        EXAMPLE + b"-more",  # version 00 is 55 characters
        b"01" + EXAMPLE[2:] + b"more",
        b"00-" + b"0" * 32 + EXAMPLE[35:],
        EXAMPLE[:36] + b"0" * 16 + b"-01",
        EXAMPLE.replace(b"4bf", b"4bg"),
        EXAMPLE.replace(b"-", b"_"),
    ],
)
def test_a_broken_traceparent_has_none(value: bytes) -> None:
    """W3C Trace Context: it is then ignored."""
    assert taken(head_of([(PARENT, value)]), POLICY) is None


def test_two_traceparents_are_as_good_as_none() -> None:
    """W3C Trace Context: there is one at the most."""
    assert taken(head_of([(PARENT, EXAMPLE), (PARENT, EXAMPLE)]), POLICY) is None


def test_the_field_is_the_settings() -> None:
    """asgi_request_id_field, in exactly these letters."""
    own = replace(POLICY, request_id_field=b"x-own")
    assert taken(head_of([(ID, b"a"), (b"x-own", b"b")], own), own) == "b"
    assert taken(head_of([(ID, b"a"), (b"x_own", b"b")], own), own) is None
    assert taken(head_of([(b"x_request_id", b"b")]), POLICY) is None
    parent = replace(POLICY, request_id_field=PARENT)
    assert taken(head_of([(PARENT, EXAMPLE)], parent), parent) == EXAMPLE.decode()


NEAR = glued(b"00", b"-", TRACE.encode(), b"00f067aa0ba902b7", b"01", b"0" * 16, EXAMPLE)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from([ID, PARENT]), NEAR | VALUES), max_size=3))
def test_any_bytes_are_a_harmless_id_or_none(fields: list[tuple[bytes, bytes]]) -> None:
    """It goes into logs and into a response."""
    found = taken(head_of(fields), POLICY)
    assert found is None or re.fullmatch(r"[A-Za-z0-9._:+/=@-]{1,128}", found)


def test_a_request_is_named_in_the_log() -> None:
    """CVE-2020-7694: what came in cannot forge a line."""
    head = head_of(target=b"/a\x1b[31m\n\xe9", method="POST")
    assert named(head) == r"POST '/a\x1b[31m\né'"
    head.request_id = "given"
    assert named(head) == r"POST '/a\x1b[31m\né' (request given)"
