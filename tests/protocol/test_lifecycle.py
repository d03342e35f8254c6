"""protocol/lifecycle.py: the life of a worker and the succession, walked from end to end."""

from __future__ import annotations

import itertools

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.lifecycle import (
    TRANSITIONS,
    Cause,
    Lifecycle,
    Member,
    Verdict,
    WorkerEvent,
    WorkerState,
    has_failed,
    is_accepting,
    succession,
)

__all__: list[str] = []

S, E, V = WorkerState, WorkerEvent, Verdict

# What the documents promise, written down once more: whoever changes the one has to argue here.
EXPECTED: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (S.BOOTING, E.BOOTED): S.READY,
    (S.BOOTING, E.BOOT_FAILED): S.FAILED,
    (S.BOOTING, E.LEAVE): S.EXITING,
    (S.BOOTING, E.QUIT): S.EXITING,
    (S.READY, E.HOLD): S.HOLDING,
    (S.READY, E.LEAVE): S.DRAINING,
    (S.READY, E.QUIT): S.EXITING,
    (S.HOLDING, E.HOLD): S.HOLDING,
    (S.HOLDING, E.STAY): S.READY,
    (S.HOLDING, E.LEAVE): S.DRAINING,
    (S.HOLDING, E.QUIT): S.EXITING,
    (S.DRAINING, E.LEAVE): S.DRAINING,
    (S.DRAINING, E.STAY): S.READY,
    (S.DRAINING, E.DRAINED): S.EXITING,
    (S.DRAINING, E.QUIT): S.EXITING,
    (S.EXITING, E.LEAVE): S.EXITING,
    (S.EXITING, E.QUIT): S.EXITING,
    (S.EXITING, E.DRAINED): S.EXITING,
    (S.EXITING, E.GONE): S.EXITED,
    (S.FAILED, E.LEAVE): S.FAILED,
    (S.FAILED, E.QUIT): S.FAILED,
    (S.EXITED, E.LEAVE): S.EXITED,
    (S.EXITED, E.QUIT): S.EXITED,
}

# A way into each state.
WAYS: dict[WorkerState, list[WorkerEvent]] = {
    S.BOOTING: [],
    S.READY: [E.BOOTED],
    S.HOLDING: [E.BOOTED, E.HOLD],
    S.DRAINING: [E.BOOTED, E.LEAVE],
    S.EXITING: [E.BOOTED, E.QUIT],
    S.FAILED: [E.BOOT_FAILED],
    S.EXITED: [E.BOOTED, E.QUIT, E.GONE],
}


def in_state(state: WorkerState) -> Lifecycle:
    """Lead a new worker there, by its gate."""
    lifecycle = Lifecycle()
    for event in WAYS[state]:
        lifecycle.fire(event)
    assert lifecycle.state is state
    return lifecycle


def test_a_worker_begins_booting() -> None:
    """It is not ready before its lifespan is up."""
    assert Lifecycle().state is S.BOOTING


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_event_leads_where_it_should_or_is_refused(
    state: WorkerState, event: WorkerEvent
) -> None:
    """All 56 pairs."""
    lifecycle = in_state(state)
    following = EXPECTED.get((state, event))
    if following is not None:
        assert lifecycle.fire(event) is following
        assert lifecycle.state is following
    else:
        with pytest.raises(LocalProtocolError, match=f"^can't {event.name} while {state.name}$"):
            lifecycle.fire(event)
        assert lifecycle.state is state


def test_the_table_names_every_state() -> None:
    """Also those where nothing happens any more."""
    assert set(TRANSITIONS) == set(S)


@pytest.mark.parametrize("state", [S.FAILED, S.EXITED])
def test_an_end_is_an_end(state: WorkerState) -> None:
    """No event leads out of it."""
    assert set(TRANSITIONS[state].values()) <= {state}


def test_a_rollback_ends_where_the_reload_began() -> None:
    """Any number of times: a worker may see many broken deploys."""
    lifecycle = in_state(S.READY)
    for _ in range(3):
        lifecycle.fire(E.HOLD)
        assert lifecycle.fire(E.STAY) is S.READY


@pytest.mark.parametrize("state", [S.HOLDING, S.DRAINING])
@pytest.mark.parametrize(("event", "after"), [(E.LEAVE, S.DRAINING), (E.QUIT, S.EXITING)])
def test_a_worker_that_was_taken_back_may_leave_again(
    state: WorkerState, event: WorkerEvent, after: WorkerState
) -> None:
    """STAY is no promise for ever."""
    lifecycle = in_state(state)
    lifecycle.fire(E.STAY)
    assert lifecycle.fire(event) is after


@pytest.mark.parametrize("state", [S.DRAINING, S.EXITING, S.EXITED])
def test_a_second_term_means_no_more_than_the_first(state: WorkerState) -> None:
    """The arbiter repeats TERM about once a second while a reload waits."""
    lifecycle = in_state(state)
    for _ in range(3):
        assert lifecycle.fire(E.LEAVE) is state


def test_every_cause_has_its_own_words() -> None:
    """The log says why a worker leaves."""
    assert len({cause.value for cause in Cause}) == len(Cause)


# -- succession(): what a board means for the generation before the newest -------------------------

NEWEST = 5


def member(
    state: WorkerState = S.READY,
    generation: int = NEWEST,
    *,
    founder: bool = True,
    alive: bool = True,
    confirmed: bool = False,
    stopped: bool = False,
) -> Member:
    return Member(generation, founder, state, alive, confirmed, stopped, False)


READY, BOOTING = member(), member(S.BOOTING)
SEEN = member(confirmed=True)
BROKEN = member(S.FAILED)
KILLED = member(S.BOOTING, alive=False)
CRASHED = member(alive=False)
TOLD = member(S.EXITED, alive=False, stopped=True)
LATER = member(founder=False)
OLD = member(generation=NEWEST - 1, confirmed=True)

BOARDS: list[tuple[str, Verdict, int, list[Member]]] = [
    # nothing is known yet
    ("no founder is forked", V.HOLD, 1, []),
    ("only old ones", V.HOLD, 2, [OLD, OLD]),
    ("one of two is forked and ready", V.HOLD, 2, [READY]),
    ("one of two boots", V.HOLD, 2, [READY, BOOTING]),
    ("both boot", V.HOLD, 2, [BOOTING, BOOTING]),
    ("one that came later is ready, it decides nothing", V.HOLD, 1, [BOOTING, LATER]),
    ("two that came later are no two founders", V.HOLD, 2, [READY, LATER, LATER]),
    ("the application asked one to exit, it still drains", V.HOLD, 1, [member(S.DRAINING)]),
    # complete
    ("the only one is ready", V.DRAIN, 1, [OLD, READY]),
    ("both are ready", V.DRAIN, 2, [OLD, READY, READY]),
    ("more than wanted", V.DRAIN, 1, [READY, READY]),
    ("one that holds for a still newer one accepts too", V.DRAIN, 1, [member(S.HOLDING)]),
    (
        "one that came later has failed, that decides nothing",
        V.DRAIN,
        1,
        [
            READY,
            member(S.FAILED, founder=False, alive=False),
        ],
    ),
    (
        "the generation before has failed, that is over",
        V.DRAIN,
        1,
        [
            READY,
            member(S.FAILED, NEWEST - 1, alive=False),
        ],
    ),
    # complete is complete
    ("one has seen it, and the others crashed", V.DRAIN, 3, [SEEN, CRASHED, CRASHED]),
    ("one has seen it, and was killed", V.DRAIN, 2, [READY, member(alive=False, confirmed=True)]),
    (
        "one has seen it, and is gone in peace",
        V.DRAIN,
        1,
        [
            member(S.EXITED, alive=False, confirmed=True),
        ],
    ),
    (
        "one has seen it, and a replacement fails",
        V.DRAIN,
        1,
        [
            member(alive=False, confirmed=True),
            member(S.FAILED, founder=False, alive=False),
        ],
    ),
    # failed
    ("one has failed and goes", V.STAY, 2, [READY, BROKEN]),
    ("one has failed and is gone", V.STAY, 2, [READY, member(S.FAILED, alive=False)]),
    ("one has failed while the other boots", V.STAY, 2, [BOOTING, BROKEN]),
    ("one was killed while it booted", V.STAY, 2, [READY, KILLED]),
    ("one was ready and crashed", V.STAY, 2, [READY, CRASHED]),
    ("one has failed, enough are ready besides", V.STAY, 1, [READY, BROKEN]),
    ("one has failed, and one that came later is ready", V.STAY, 1, [BROKEN, LATER]),
    ("the application asked one to exit, and it did", V.STAY, 1, [member(S.EXITED, alive=False)]),
    ("one crashed while it drained by itself", V.STAY, 1, [member(S.DRAINING, alive=False)]),
    # fewer are wanted by now: TTOU, TERM
    ("one of two was told to go, the other is ready", V.DRAIN, 2, [READY, TOLD]),
    ("one of two was told to go, the other boots", V.HOLD, 2, [BOOTING, TOLD]),
    ("one of two was told to go, the other has failed", V.STAY, 2, [BROKEN, TOLD]),
    ("one was told to go and drains", V.DRAIN, 2, [READY, member(S.DRAINING, stopped=True)]),
    ("both were told to go: the server stops", V.DRAIN, 2, [TOLD, TOLD]),
    ("one was told to go before its twin was forked", V.HOLD, 2, [TOLD]),
]


@pytest.mark.parametrize(
    ("verdict", "target", "members"), [b[1:] for b in BOARDS], ids=[b[0] for b in BOARDS]
)
def test_a_board_has_its_verdict(verdict: Verdict, target: int, members: list[Member]) -> None:
    """In any order: slots are taken again in any order."""
    for order in itertools.permutations(members):
        assert succession(NEWEST, target, order) is verdict


FLAGS = (False, True)
EVERY = [
    member(state, founder=founder, alive=alive, confirmed=confirmed, stopped=stopped)
    for state in S
    for founder, alive, confirmed, stopped in itertools.product(FLAGS, FLAGS, FLAGS, FLAGS)
]
FOUNDERS = [each for each in EVERY if each.founder]


def every_board() -> list[tuple[int, tuple[Member, ...]]]:
    """Every pair of founders there can be, and how many of them are wanted."""
    pairs = list(itertools.combinations_with_replacement(FOUNDERS, 2))
    return list(itertools.product((1, 2), pairs))


def test_nobody_drains_before_there_are_as_many_successors_as_wanted() -> None:
    """Of every board: the promise of a reload, from the side of whoever has to leave."""
    for target, founders in every_board():
        if succession(NEWEST, target, founders) is V.DRAIN:
            ready = sum(is_accepting(each) and not each.stopped for each in founders)
            told = sum(each.stopped for each in founders)
            assert any(each.confirmed for each in founders) or ready + told >= target, founders


def test_a_generation_that_was_seen_complete_never_fails() -> None:
    """Of every board: a crash later is the arbiter's to mend, old code is not brought back."""
    for target, founders in every_board():
        seen = any(each.confirmed for each in founders)
        failed = any(has_failed(each) for each in founders)
        stays = succession(NEWEST, target, founders) is V.STAY
        assert stays == (failed and not seen), founders


def test_nobody_holds_for_founders_of_whom_nothing_can_come_any_more() -> None:
    """Of every board where all are gone: else the old ones would hold for ever."""
    for target, founders in every_board():
        if not any(each.alive for each in founders):
            assert succession(NEWEST, target, founders) is not V.HOLD, founders


def test_whoever_is_no_founder_of_the_newest_generation_has_no_say() -> None:
    """Of every board of one founder, with every other beside it that has confirmed nothing."""
    for one, other in itertools.product(FOUNDERS, EVERY):
        alone = succession(NEWEST, 1, [one])
        assert succession(NEWEST, 1, [one, other._replace(generation=NEWEST - 1)]) is alone
        if not other.confirmed:
            late = other._replace(founder=False)
            assert succession(NEWEST, 1, [one, late]) is alone
            assert succession(NEWEST, 1, [one, late._replace(recycling=True)]) is alone


def test_a_later_worker_that_has_seen_it_complete_remembers_it() -> None:
    """The founders' slots are used again in the end, by workers that replace them."""
    late = member(S.READY)._replace(founder=False, confirmed=True)
    assert succession(NEWEST, 4, [late]) is V.DRAIN


@pytest.mark.parametrize("state", S)
def test_only_the_living_accept(state: WorkerState) -> None:
    """And of them those that are READY or HOLDING."""
    assert is_accepting(member(state)) == (state in (S.READY, S.HOLDING))
    assert not is_accepting(member(state, alive=False))


@pytest.mark.parametrize("state", S)
def test_whoever_ends_untold_has_failed(state: WorkerState) -> None:
    """Killed, crashed, or out of itself; FAILED is failed at once."""
    assert has_failed(member(state, alive=False))
    assert has_failed(member(state)) == (state is S.FAILED)
    if state is not S.FAILED:
        assert not has_failed(member(state, alive=False, stopped=True))
        assert not has_failed(member(state, alive=False, confirmed=True))
