"""The gate between two generations, as one worker sees it.

Reads the board, remembers what it has seen, and says what TERM and the passing of time mean.
It changes nothing but this worker's own slot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import Enum

from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.lifecycle import (
    Member,
    Verdict,
    WorkerState,
    is_accepting,
    succession,
)
from gunicorn_asgi.worker.scoreboard import (
    Cell,
    Header,
    ReloadVerdict,
    Scoreboard,
    Slot,
    milliseconds,
)

__all__ = ["Gate", "Order", "master_has_closed"]

# A TERM may reach a busy worker a little after the reason for it has gone: the arbiter repeats
# it once a second while there are more workers than it wants.
_ECHO = 2_000


class Order(Enum):
    """Runs in: worker. What a TERM means."""

    LEAVE = "leave"
    HOLD = "hold"
    IGNORE = "ignore"


def master_has_closed(master: int, inodes: frozenset[int]) -> bool | None:
    """Runs in: worker. Whether the master has closed its listening sockets, so is stopping.

    ``Arbiter.stop`` closes them before it tells the workers; nothing else does while they are
    wanted. None where it cannot be seen: no /proc, or a master of another user.
    """
    folder = f"/proc/{master}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return not any(_inode(f"{folder}/{name}") in inodes for name in names)


def _inode(path: str) -> int:
    """The inode behind ``path``, 0 if it is gone."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


class Gate:
    """Runs in: worker. Decides when this worker may leave, and when it has to stay."""

    def __init__(self, board: Scoreboard, slot: Slot, stopping: Callable[[], bool | None]) -> None:
        """Runs in: worker."""
        self._board = board
        self._slot = slot
        self._stopping = stopping
        self._generation = slot.get(Cell.GENERATION)
        self._seen_newest_at = 0
        self._told_of = 0

    @property
    def newest(self) -> int:
        """Runs in: worker. The newest generation."""
        return self._board.get(Header.GENERATION)

    @property
    def is_newest(self) -> bool:
        """Runs in: worker. Whether this worker belongs to the newest generation."""
        return self.newest == self._generation

    def on_term(self) -> Order:
        """Runs in: worker. What the TERM that just came means."""
        if self._stopping():
            return Order.LEAVE
        if self.is_newest:
            # The one that has asked for its own replacement is meant; the arbiter picks the oldest.
            return Order.IGNORE if self._somebody_recycles() else Order.LEAVE
        members = self._members()
        if self._newest_is_alive(members):
            self._seen_newest_at = milliseconds()
            verdict = succession(self.newest, self._board.get(Header.TARGET), members)
            # Failed, but not all of it is gone yet: it is these that are too many.
            return Order.IGNORE if verdict is Verdict.STAY else Order.HOLD
        # The newest generation has failed and is gone. Either this is the arbiter's last echo of
        # that reload, or it wants fewer workers.
        seen = max(self._seen_newest_at, self._board.get(Header.RELOADED_AT))
        return Order.IGNORE if self._is_echo(seen) else Order.LEAVE

    def while_holding(self) -> Verdict:
        """Runs in: worker. Whether to hold on, to drain, or to stay after a rollback."""
        if self._stopping():
            return Verdict.DRAIN
        members = self._members()
        if self._newest_is_alive(members):
            self._seen_newest_at = milliseconds()
        return succession(self.newest, self._board.get(Header.TARGET), members)

    def successors_failed(self) -> bool:
        """Runs in: worker. Whether there is a newer generation, and it has failed."""
        return not self.is_newest and self.while_holding() is Verdict.STAY

    def has_successor(self) -> bool:
        """Runs in: worker. Whether a worker of the newest generation accepts."""
        return any(is_accepting(m) and m.generation == self.newest for m in self._members())

    def confirm(self) -> bool:
        """Runs in: worker. Whether its generation is complete; remembered in the slot."""
        if not self._slot.get(Cell.CONFIRMED):
            verdict = succession(
                self._generation, self._board.get(Header.TARGET), self._board.members()
            )
            complete = self.is_newest and verdict is Verdict.DRAIN
            self._slot.put(Cell.CONFIRMED, complete)
            if complete:
                self._board.note_verdict(self._generation, ReloadVerdict.SUCCEEDED)
        return bool(self._slot.get(Cell.CONFIRMED))

    def must_give_way(self) -> bool:
        """Runs in: worker. Whether its generation has failed while an older one still serves."""
        if not (self._slot.get(Cell.FOUNDER) and self.is_newest):
            return False
        members = self._members()
        older = any(is_accepting(m) and m.generation < self._generation for m in members)
        target = self._board.get(Header.TARGET)
        return older and succession(self._generation, target, members) is Verdict.STAY

    def nobody_serves(self) -> bool:
        """Runs in: worker. Whether nobody accepts, although the server does not stop."""
        if any(is_accepting(m) for m in self._members()):
            return False  # the usual answer, twenty times a second: without a look at /proc
        return self._stopping() is False

    def speaks(self) -> bool:
        """Runs in: worker. Whether this worker logs for its generation: the first that serves."""
        return not any(
            is_accepting(slot.member()) and slot.get(Cell.GENERATION) == self._generation
            for slot in self._board.used_slots()
            if slot.index < self._slot.index
        )

    def tell_rollback(self, log: Logger) -> None:
        """Runs in: worker. Log, once and by one worker, that the old generation stays."""
        newest = self.newest
        self._board.note_verdict(newest, ReloadVerdict.ROLLED_BACK)
        if self._told_of != newest and self.speaks():
            log.error(
                "Rolled back to generation %d: generation %d failed to boot: %s",
                self._generation,
                newest,
                self.reason(),
            )
        self._told_of = newest

    def reason(self) -> str:
        """Runs in: worker. Why the newest generation failed, as its workers have written."""
        texts = (
            slot.read_text()
            for slot in self._board.used_slots()
            if slot.get(Cell.GENERATION) == self.newest
            and slot.get(Cell.STATE) == WorkerState.FAILED
        )
        lines = next((text for text in texts if text), "").strip().splitlines()
        return lines[-1] if lines else "a worker of it is gone"

    def _somebody_recycles(self) -> bool:
        """Whether another worker leaves for its replacement, or just did."""
        others = (slot for slot in self._board.used_slots() if slot is not self._slot)
        return any(
            slot.get(Cell.RECYCLING) and (slot.alive or self._is_echo(slot.get(Cell.ENDED_AT)))
            for slot in others
        )

    def _is_echo(self, moment: int) -> bool:
        """Whether a TERM that comes now may have been sent when it was ``moment``.

        One that is busy hears it later, by as much as its own heart beats late.
        """
        now = milliseconds()
        late = max(self._slot.get(Cell.LAG) // 1000, now - self._slot.get(Cell.BEAT_AT))
        return now - moment < _ECHO + late

    def _members(self) -> list[Member]:
        return self._board.members(without=self._slot)

    def _newest_is_alive(self, members: Sequence[Member]) -> bool:
        return any(
            m.alive and m.founder and m.generation == self.newest and not m.stopped for m in members
        )
