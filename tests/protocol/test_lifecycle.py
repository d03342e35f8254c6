"""protocol/lifecycle.py: the life of a worker, its table walked from end to end."""

from __future__ import annotations

import itertools

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.lifecycle import TRANSITIONS, Cause, Lifecycle, WorkerEvent, WorkerState

__all__: list[str] = []

S, E = WorkerState, WorkerEvent

# What the documents promise, written down once more: whoever changes the one has to argue here.
EXPECTED: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (S.BOOTING, E.BOOTED): S.READY,
    (S.BOOTING, E.BOOT_FAILED): S.FAILED,
    (S.BOOTING, E.LEAVE): S.EXITING,
    (S.BOOTING, E.QUIT): S.EXITING,
    (S.READY, E.LEAVE): S.DRAINING,
    (S.READY, E.QUIT): S.EXITING,
    (S.DRAINING, E.LEAVE): S.DRAINING,
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
    """All 36 pairs."""
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


@pytest.mark.parametrize("state", [S.DRAINING, S.EXITING, S.EXITED])
def test_a_second_term_means_no_more_than_the_first(state: WorkerState) -> None:
    """The arbiter repeats TERM about once a second while a reload waits."""
    lifecycle = in_state(state)
    for _ in range(3):
        assert lifecycle.fire(E.LEAVE) is state


def test_every_cause_has_its_own_words() -> None:
    """The log says why a worker leaves."""
    assert len({cause.value for cause in Cause}) == len(Cause)
