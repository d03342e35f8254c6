"""protocol/ against bytes that nobody would think of, and against those that somebody has.

The corpus is in tests/fuzz/corpus, a folder for each target; `make fuzz` looks for more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.inputs import CORPUS, TARGETS, load
from fuzz.run import attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__: list[str] = []

FILES = [(target, name) for target in TARGETS for name in load(target)]

# Every single cut of what is shorter than this (bytes), fewer of what is longer.
SHORT = 200

# The same examples in every run: what fails here fails for everybody.
repeatable = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize(("target", "name"), FILES, ids=[f"{each[0]}/{each[1]}" for each in FILES])
def test_the_corpus_gets_clean_answers(target: str, name: str) -> None:
    """In one piece, where its name says, byte by byte, and in two pieces."""
    data, cuts = load(target)[name]
    check = TARGETS[target].check
    check(data, cuts)
    check(data, range(len(data)))
    for at in range(1, len(data), 1 + len(data) // SHORT * 7):
        check(data, [at])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_to_it_gets_clean_answers(target: str) -> None:
    """A few of the inputs that `make fuzz` makes without end."""

    @repeatable
    @given(TARGETS[target].inputs, st.lists(st.integers(1, 400), max_size=3))
    def check(data: bytes, cuts: list[int]) -> None:
        TARGETS[target].check(data, cuts)

    check()


def test_what_fails_is_found_and_made_small() -> None:
    """The runner itself, on a promise that is not kept: of all inputs, the shortest one."""

    def check(data: bytes, _: Sequence[int]) -> None:
        assert b"\0" not in data

    found = attempt(check, st.binary(), seed=1)
    assert found is not None
    assert found[:2] == (b"\0", [])
    assert "AssertionError" in found[2]
    assert attempt(lambda data, cuts: None, st.binary(), seed=1) is None


def test_the_corpus_is_small_and_can_be_read() -> None:
    """A file for each idea, called by it; no target without one, and no folder without a target."""
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == set(TARGETS)
    for target, name in FILES:
        assert (CORPUS / target / name).stat().st_size <= 4096, name
        assert re.fullmatch(r"[a-z0-9.-]+(@[0-9,]+)?", name), name
    assert len(FILES) > 200
