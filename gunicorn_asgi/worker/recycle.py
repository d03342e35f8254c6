"""Replacing a worker that has lived long enough, without a hole.

Gunicorn forks a replacement only when a worker has ended, so for as long as the application
takes to import there is one worker less, or none. Instead the worker asks the arbiter for one
more (SIGTTIN), serves on until that one is ready, drains, and gives the place back (SIGTTOU)
with its last breath. A flag in its slot tells the others that the TERM which the arbiter then
sends to the oldest is meant for the one that is leaving already, and that it is not their turn.
"""

from __future__ import annotations

import os
import signal

from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.lifecycle import is_accepting
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, Slot, milliseconds

__all__ = ["Recycler"]


class Recycler:
    """Runs in: worker. One worker's wish to be replaced.

    Attributes:
        wanted: why it wants to, empty while it does not.
        recalled: whether it serves only because its successors have died.
    """

    def __init__(self, board: Scoreboard, slot: Slot, master: int, log: Logger) -> None:
        """Runs in: worker."""
        self._board = board
        self._slot = slot
        self._master = master
        self._log = log
        self._asked = False
        self._alone = False
        # Another reload makes the wish void: it replaces this worker anyway, or has failed.
        self._until = slot.get(Cell.GENERATION)
        self.wanted = ""
        self.recalled = False

    def want(self, reason: str) -> None:
        """Runs in: worker. Ask to be replaced; idempotent."""
        if not self.wanted:
            self.wanted = reason
            self._log.info("Worker to be replaced (pid: %s): %s", os.getpid(), reason)

    def want_successor(self) -> None:
        """Runs in: worker. Ask for a worker of the newest generation, after a recall.

        The arbiter would fork none: it counts this one.
        """
        if self._asked and self._until == self._newest:
            self._age = self._youngest()  # the arbiter replaces the one that it has forked
        else:
            self._asked = False
        self._until = self._newest
        self.wanted = "recalled"
        self.recalled = True

    def may_leave(self) -> bool:
        """Runs in: worker. Go one step further; whether the replacement is ready."""
        if not self.wanted:
            return False
        if self._until != self._newest:
            self._slot.put(Cell.RECYCLING, 0)
            return False
        if not self._asked and self._is_my_turn():
            self._ask()
        return self._alone or (self._asked and self._replacement_is_ready())

    def give_back(self) -> None:
        """Runs in: worker. The last act: let the arbiter want one worker less again."""
        if self._asked and not self._alone and self._until == self._newest:
            self._slot.put(Cell.ENDED_AT, milliseconds())
            self._signal(signal.SIGTTOU)

    @property
    def _newest(self) -> int:
        return self._board.get(Header.GENERATION)

    def _is_my_turn(self) -> bool:
        """Whether nobody else is being replaced; two at the same moment settle it by the index."""
        others = [s for s in self._board.used_slots() if s is not self._slot and s.alive]
        if any(s.get(Cell.RECYCLING) for s in others):
            self._slot.put(Cell.RECYCLING, 0)
            return False
        self._slot.put(Cell.RECYCLING, 1)
        if any(s.get(Cell.RECYCLING) and s.index < self._slot.index for s in others):
            self._slot.put(Cell.RECYCLING, 0)
            return False
        return True

    def _ask(self) -> None:
        self._asked = True
        self._age = self._youngest()
        if not self._signal(signal.SIGTTIN):
            self._alone = True
            self._slot.put(Cell.RECYCLING, 0)

    def _youngest(self) -> int:
        return max(s.get(Cell.AGE) for s in self._board.used_slots())

    def _replacement_is_ready(self) -> bool:
        return any(
            slot.get(Cell.AGE) > self._age and is_accepting(slot.member())
            for slot in self._board.used_slots()
        )

    def _signal(self, number: signal.Signals) -> bool:
        try:
            os.kill(self._master, number)
        except PermissionError:
            self._log.warning(
                "No replacement before this worker leaves: the master is another user's process"
            )
            return False
        except ProcessLookupError:
            return False
        return True
