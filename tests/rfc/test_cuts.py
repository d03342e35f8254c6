"""TCP has no messages (RFC 9112, 2.2): what is true of bytes in one piece is true of the pieces.

Against the parser alone. What is refused further up, by what a target or a forwarded field says, is
a good head here.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.fuzz import FUZZ
from protocol.streams import Stream
from rfc.case import Case
from rfc.cases import limits
from rfc.run import TOPICS

__all__: list[str] = []

CASES = [case for topic in TOPICS.values() for case in topic]
GOOD = {case.slug: case for case in CASES if not case.statuses}
BAD = {case.slug: case for case in CASES if case.statuses}
# Not at every byte: a body of 100 000 bytes has nothing to say at most of them.
LONG = 3000
CUTTABLE = sorted(name for name in GOOD if len(GOOD[name].raw) <= LONG)
# Behind these the connection lives on, so that they can follow each other.
LASTING = sorted(name for name in CUTTABLE if not GOOD[name].closes)


def parse(*pieces: bytes) -> Stream:
    """The limits are those of the worker that gets the same bytes."""
    return Stream(*pieces, request_body=limits.BODY)


def places(case: Case) -> range:
    """Where to cut it: everywhere, or at about a hundred places if it is long."""
    size = len(case.raw)
    return range(1, size, 1 if size <= LONG else size // 97)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_stream_is_the_same_wherever_it_is_cut(name: str) -> None:
    """In two pieces at every byte, and byte by byte."""
    case = GOOD[name]
    whole = parse(case.raw)
    assert whole.status is None
    assert whole.sink.complete == len(case.seen)
    for at in places(case):
        assert parse(case.raw[:at], case.raw[at:]).seen == whole.seen, case.raw[:at]
    if len(case.raw) <= LONG:
        assert parse(*(bytes([byte]) for byte in case.raw)).seen == whole.seen


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stream_is_refused_wherever_it_is_cut(name: str) -> None:
    """With the same status, behind as many good requests."""
    case = BAD[name]
    whole = parse(case.raw)
    wanted = (whole.status, whole.sink.complete)
    for at in places(case):
        cut = parse(case.raw[:at], case.raw[at:])
        assert (cut.status, cut.sink.complete) == wanted, case.raw[:at]


@FUZZ
@given(st.sampled_from(CUTTABLE), st.data())
def test_a_good_stream_is_the_same_in_any_number_of_pieces(name: str, data: st.DataObject) -> None:
    raw = GOOD[name].raw
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    assert parse(*pieces(raw, cuts)).seen == parse(raw).seen


@FUZZ
@given(st.lists(st.sampled_from(LASTING), min_size=2, max_size=5), st.data())
def test_a_good_stream_is_the_same_behind_any_other(names: list[str], data: st.DataObject) -> None:
    """What came before leaves no trace, in one piece or in many."""
    alone = [parse(GOOD[name].raw) for name in names]
    raw = b"".join(GOOD[name].raw for name in names)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    together = parse(*pieces(raw, cuts))
    assert together.heads == [head for stream in alone for head in stream.heads]
    assert together.sink.bodies == [body for stream in alone for body in stream.sink.bodies]
    assert together.sink.complete == len(together.heads)
    assert together.status is None


@FUZZ
@given(st.sampled_from(LASTING), st.sampled_from(sorted(BAD)), st.data())
def test_a_bad_stream_is_refused_behind_any_other(good: str, bad: str, data: st.DataObject) -> None:
    """And not what is in front of it."""
    first, second = GOOD[good].raw, BAD[bad].raw
    raw = first + second
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6))
    alone, before = parse(second), parse(first)
    together = parse(*pieces(raw, cuts))
    assert together.status == alone.status
    assert together.sink.complete == before.sink.complete + alone.sink.complete
