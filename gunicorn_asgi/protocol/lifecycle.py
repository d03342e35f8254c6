"""The life of a worker process, and how one generation of workers succeeds another.

A worker is BOOTING until the application is imported and its lifespan is up; READY while it
accepts; HOLDING while it still accepts but was asked to leave for successors that are not ready
yet; DRAINING while the last requests end; EXITING while lifespan.shutdown runs; EXITED. A worker
that never became ready is FAILED.

Gunicorn's arbiter asks an old worker to leave as soon as it has forked the new ones, and asks
again about once a second for as long as there are more workers than it wants. So TERM alone does
not say what is wanted; the board, which all workers can read, does. What follows from a snapshot
of the board is decided here, without a clock and without a process:

- the newest generation is complete once every founder of it, a worker forked by the reload
  itself, has become ready. Then the older ones drain;
- it has failed once one founder has, or is gone. Then the older ones stay, and the founders
  that did boot leave. A founder that was told to leave has not failed, it is not counted;
- a worker forked later, in place of one that died, decides nothing: a generation that was
  complete cannot fail any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import NamedTuple

from gunicorn_asgi.protocol.machine import Machine

__all__ = [
    "TRANSITIONS",
    "Cause",
    "Lifecycle",
    "Member",
    "Outcome",
    "Verdict",
    "WorkerEvent",
    "WorkerState",
    "has_failed",
    "is_accepting",
    "outcome",
    "succession",
]


class WorkerState(IntEnum):
    """What a worker is doing; the number in its slot, the word in its process title."""

    BOOTING = 0
    READY = 1
    HOLDING = 2
    DRAINING = 3
    EXITING = 4
    FAILED = 5
    EXITED = 6


class WorkerEvent(IntEnum):
    """What happens to a worker. LEAVE is any cause to end gracefully, QUIT any to end at once."""

    BOOTED = 0
    BOOT_FAILED = 1
    HOLD = 2
    STAY = 3
    LEAVE = 4
    QUIT = 5
    DRAINED = 6
    GONE = 7


class Cause(Enum):
    """Why a worker leaves; the value is the phrase in the log."""

    TERM = "SIGTERM"
    QUIT = "SIGQUIT"
    SUCCEEDED = "its successors are ready"
    ROLLBACK = "its generation has failed"
    RELOAD = "code changed"
    RECYCLE = "max_requests"
    ORPHAN = "the master is gone"
    EXIT = "the application asked to exit"


_S = WorkerState
_E = WorkerEvent

TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    _S.BOOTING: {
        _E.BOOTED: _S.READY,
        _E.BOOT_FAILED: _S.FAILED,
        # Nothing was accepted yet, so nothing has to be drained.
        _E.LEAVE: _S.EXITING,
        _E.QUIT: _S.EXITING,
    },
    _S.READY: {_E.HOLD: _S.HOLDING, _E.LEAVE: _S.DRAINING, _E.QUIT: _S.EXITING},
    _S.HOLDING: {
        _E.HOLD: _S.HOLDING,
        _E.STAY: _S.READY,  # rollback
        _E.LEAVE: _S.DRAINING,
        _E.QUIT: _S.EXITING,
    },
    _S.DRAINING: {
        _E.LEAVE: _S.DRAINING,
        _E.STAY: _S.READY,  # the successors are gone: somebody has to serve
        _E.DRAINED: _S.EXITING,
        _E.QUIT: _S.EXITING,
    },
    _S.EXITING: {
        _E.LEAVE: _S.EXITING,
        _E.QUIT: _S.EXITING,
        _E.DRAINED: _S.EXITING,
        _E.GONE: _S.EXITED,
    },
    # A last TERM may come while the interpreter goes down.
    _S.FAILED: {_E.LEAVE: _S.FAILED, _E.QUIT: _S.FAILED},
    _S.EXITED: {_E.LEAVE: _S.EXITED, _E.QUIT: _S.EXITED},
}


class Lifecycle(Machine[WorkerState, WorkerEvent]):
    """The worker's machine."""

    __slots__ = ()

    transitions = TRANSITIONS

    def __init__(self) -> None:
        super().__init__(WorkerState.BOOTING)


class Member(NamedTuple):
    """What the board says of one worker.

    Attributes:
        generation: number of the reload it belongs to.
        founder: whether the reload itself has forked it.
        state: its WorkerState.
        alive: whether its process exists.
        confirmed: whether it has seen its generation complete.
        stopped: whether it was told to leave before its generation was complete.
        recycling: whether it leaves, or is about to, with a replacement asked for.
    """

    generation: int
    founder: bool
    state: WorkerState
    alive: bool
    confirmed: bool
    stopped: bool
    recycling: bool


class Verdict(Enum):
    """What becomes of the generation before the newest."""

    HOLD = "hold"
    DRAIN = "drain"
    STAY = "stay"


def is_accepting(member: Member) -> bool:
    """Whether ``member`` takes new connections."""
    return member.alive and member.state in (WorkerState.READY, WorkerState.HOLDING)


def has_failed(member: Member) -> bool:
    """Whether ``member`` never became ready, or has ended while nobody had told it to."""
    if member.state is WorkerState.FAILED:
        return True
    return not (member.alive or member.stopped or member.confirmed)


def succession(newest: int, target: int, members: Iterable[Member]) -> Verdict:
    """What a worker of an older generation has to do.

    Args:
        newest: number of the newest generation.
        target: how many founders it has.
        members: everything on the board.

    Returns:
        DRAIN: the newest generation is complete, or leaves itself because the server stops.
        STAY: it has failed.
        HOLD: neither is known yet.
    """
    own = [m for m in members if m.generation == newest]
    if any(m.confirmed for m in own):
        return Verdict.DRAIN
    founders = [m for m in own if m.founder]
    if any(has_failed(m) for m in founders):
        return Verdict.STAY
    # Fewer are wanted by now (TTOU), or none: then the server stops.
    wanted = target - sum(m.stopped for m in founders)
    ready = sum(is_accepting(m) and not m.stopped for m in founders)
    return Verdict.DRAIN if ready >= wanted else Verdict.HOLD


class Outcome(Enum):
    """What became of the newest generation, for those who ask from outside."""

    PENDING = "pending"
    COMPLETE = "complete"
    REFUSED = "refused"
    FAILED = "failed"


def outcome(newest: int, target: int, members: Iterable[Member], refused: bool) -> Outcome:
    """Whether the last reload has come to its end, and to which.

    Unlike ``succession`` it relies on what the workers have confirmed: a founder that is ready
    may still be gone before they have seen it.

    Args:
        newest: number of the newest generation.
        target: how many founders it has.
        members: everything on the board.
        refused: whether it began with the old configuration, as the new one was refused.

    Returns:
        COMPLETE: it serves.
        REFUSED: it serves, with the old configuration.
        FAILED: one of its founders has, and the generation before stays.
        PENDING: none of these, yet.
    """
    everybody = list(members)
    own = [m for m in everybody if m.generation == newest]
    older = any(is_accepting(m) for m in everybody if m.generation < newest)
    # The latter: founders have failed, but the arbiter forked others until there were enough.
    alone = not older and 0 < target <= sum(is_accepting(m) for m in own)
    if alone or any(m.confirmed for m in own):
        return Outcome.REFUSED if refused else Outcome.COMPLETE
    failed = any(has_failed(m) for m in own if m.founder)
    return Outcome.FAILED if failed else Outcome.PENDING
