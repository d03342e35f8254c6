"""outcome(): what became of a reload, for whoever asks from outside. One row a situation."""

from __future__ import annotations

import pytest

from gunicorn_asgi.protocol.lifecycle import Member, Outcome, WorkerState, outcome

__all__: list[str] = []

S = WorkerState


def member(
    generation: int,
    state: WorkerState = S.READY,
    *,
    founder: bool = True,
    alive: bool = True,
    confirmed: bool = False,
    stopped: bool = False,
) -> Member:
    return Member(generation, founder, state, alive, confirmed, stopped, False)


OLD = member(1, confirmed=True)
HELD = member(1, S.HOLDING, confirmed=True)
GONE = member(1, S.EXITED, alive=False, confirmed=True)

CASES: list[tuple[str, Outcome, int, list[Member]]] = [
    ("nobody was forked yet", Outcome.PENDING, 2, []),
    ("they boot", Outcome.PENDING, 2, [OLD, member(2, S.BOOTING), member(2, S.BOOTING)]),
    ("one is ready", Outcome.PENDING, 2, [OLD, member(2), member(2, S.BOOTING)]),
    ("all are, but nobody has seen it", Outcome.PENDING, 2, [HELD, member(2), member(2)]),
    ("one has seen it", Outcome.COMPLETE, 2, [HELD, member(2), member(2, confirmed=True)]),
    ("a first start", Outcome.COMPLETE, 2, [member(2), member(2)]),
    ("a first start, half of it", Outcome.PENDING, 2, [member(2), member(2, S.BOOTING)]),
    ("one fails", Outcome.FAILED, 2, [OLD, member(2), member(2, S.FAILED, alive=False)]),
    ("one fails and still ends", Outcome.FAILED, 2, [OLD, member(2), member(2, S.FAILED)]),
    ("one is killed", Outcome.FAILED, 2, [OLD, member(2), member(2, S.BOOTING, alive=False)]),
    ("one crashes", Outcome.FAILED, 2, [HELD, member(2), member(2, S.READY, alive=False)]),
    (
        "one crashes after it was complete",
        Outcome.COMPLETE,
        2,
        [GONE, member(2, confirmed=True), member(2, alive=False, confirmed=True)],
    ),
    (
        "founders that were complete are gone",
        Outcome.COMPLETE,
        2,
        [member(2, founder=False, confirmed=True), member(2, S.BOOTING, founder=False)],
    ),
    (
        "one told to leave while it booted",
        Outcome.PENDING,
        2,
        [OLD, member(2, S.EXITED, alive=False, stopped=True), member(2, S.BOOTING)],
    ),
    (
        "a failed first start that was mended by another fork",
        Outcome.COMPLETE,
        2,
        [member(2), member(2, S.FAILED, alive=False), member(2, founder=False)],
    ),
    (
        "a failed one that others join while an old one serves",
        Outcome.FAILED,
        1,
        [OLD, member(2, S.FAILED, alive=False), member(2, founder=False)],
    ),
    (
        "the failure of a generation before",
        Outcome.PENDING,
        1,
        [OLD, member(1, S.FAILED, alive=False), member(2, S.BOOTING)],
    ),
]


@pytest.mark.parametrize(
    ("expected", "target", "members"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_outcome_of_a_reload(expected: Outcome, target: int, members: list[Member]) -> None:
    """In any order, as slots are taken again in any order."""
    assert outcome(2, target, members, False) is expected
    assert outcome(2, target, members[::-1], False) is expected


@pytest.mark.parametrize(
    ("expected", "target", "members"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_refused_configuration_turns_complete_into_refused_and_nothing_else(
    expected: Outcome, target: int, members: list[Member]
) -> None:
    wanted = Outcome.REFUSED if expected is Outcome.COMPLETE else expected
    assert outcome(2, target, members, True) is wanted


def test_a_board_without_a_generation_is_pending() -> None:
    """It was made, and the master has not come further."""
    assert outcome(0, 0, [], False) is Outcome.PENDING
