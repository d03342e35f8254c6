"""The life of a worker process as a table.

BOOTING until the application is imported and its lifespan is up; READY while it accepts;
DRAINING while the last requests end; EXITING while lifespan.shutdown runs; EXITED. A worker
that never became ready is FAILED. TERM may come again and again (the arbiter repeats it about
once a second while a reload waits), so a second one must not mean more than the first.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from gunicorn_asgi.protocol.errors import LocalProtocolError

__all__ = ["TRANSITIONS", "Cause", "Lifecycle", "WorkerEvent", "WorkerState"]


class WorkerState(IntEnum):
    """What a worker is doing; the process title tells it."""

    BOOTING = 0
    READY = 1
    DRAINING = 2
    EXITING = 3
    FAILED = 4
    EXITED = 5


class WorkerEvent(IntEnum):
    """What happens to a worker. LEAVE is any cause to end gracefully, QUIT any to end at once."""

    BOOTED = 0
    BOOT_FAILED = 1
    LEAVE = 2
    QUIT = 3
    DRAINED = 4
    GONE = 5


class Cause(Enum):
    """Why a worker leaves; the value is the word in the log."""

    TERM = "SIGTERM"
    QUIT = "SIGQUIT"
    RELOAD = "code changed"
    RECYCLE = "max_requests"
    ORPHAN = "the master is gone"
    EXIT = "the application asked to exit"


TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    WorkerState.BOOTING: {
        WorkerEvent.BOOTED: WorkerState.READY,
        WorkerEvent.BOOT_FAILED: WorkerState.FAILED,
        # Nothing was accepted yet, so nothing has to be drained.
        WorkerEvent.LEAVE: WorkerState.EXITING,
        WorkerEvent.QUIT: WorkerState.EXITING,
    },
    WorkerState.READY: {
        WorkerEvent.LEAVE: WorkerState.DRAINING,
        WorkerEvent.QUIT: WorkerState.EXITING,
    },
    WorkerState.DRAINING: {
        WorkerEvent.LEAVE: WorkerState.DRAINING,
        WorkerEvent.DRAINED: WorkerState.EXITING,
        WorkerEvent.QUIT: WorkerState.EXITING,
    },
    WorkerState.EXITING: {
        WorkerEvent.LEAVE: WorkerState.EXITING,
        WorkerEvent.QUIT: WorkerState.EXITING,
        WorkerEvent.DRAINED: WorkerState.EXITING,
        WorkerEvent.GONE: WorkerState.EXITED,
    },
    # A last TERM may come while the interpreter goes down.
    WorkerState.FAILED: {
        WorkerEvent.LEAVE: WorkerState.FAILED,
        WorkerEvent.QUIT: WorkerState.FAILED,
    },
    WorkerState.EXITED: {
        WorkerEvent.LEAVE: WorkerState.EXITED,
        WorkerEvent.QUIT: WorkerState.EXITED,
    },
}


class Lifecycle:
    """The gate of the worker's machine.

    Attributes:
        state: the current WorkerState.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = WorkerState.BOOTING

    def fire(self, event: WorkerEvent) -> WorkerState:
        """Take ``event`` and return the new state; the only writer of ``state``.

        Raises:
            LocalProtocolError: the event is not allowed in this state.
        """
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"can't {event.name} while {self.state.name}") from None
        return self.state
