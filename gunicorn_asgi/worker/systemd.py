"""What systemd is told beyond Gunicorn's ``READY=1``, which is sent before any worker boots.

``STATUS=`` has the generation that serves and the verdict of the last reload, for ``systemctl
status``; ``WATCHDOG=1`` goes out with each beat for as long as no worker is stuck. One worker
speaks for all: the first on the board that accepts and whose loop turns. If it is stuck itself,
or there is none, nobody says that all is well, which is what the watchdog is for.

The unit needs ``NotifyAccess=all``: systemd otherwise listens to the master alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from gunicorn import systemd
from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.lifecycle import Outcome, WorkerState, is_accepting, outcome
from gunicorn_asgi.worker.gate import Gate
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, Slot, milliseconds

__all__ = ["Notifier", "speaker"]

# Beats come once a second, or oftener. Three are missed by a stuck loop, not by a busy machine.
_STALE = 3_000

# A worker that boots or goes down has no beat, and limits of its own.
_BEATING = frozenset({WorkerState.READY, WorkerState.HOLDING, WorkerState.DRAINING})

# systemd shows the text on one line.
_MAX_TEXT = 300


def _is_fresh(slot: Slot) -> bool:
    return milliseconds() - slot.get(Cell.BEAT_AT) < _STALE


def speaker(slots: Iterable[Slot]) -> Slot | None:
    """Runs in: worker. The one that speaks for all: one that has died or hangs must not."""
    return next((each for each in slots if is_accepting(each.member()) and _is_fresh(each)), None)


def _in_words(board: Scoreboard, slots: Iterable[Slot], reason: Callable[[], str]) -> str:
    """What the board says, in one line."""
    newest, target = board.get(Header.GENERATION), board.get(Header.TARGET)
    members = [slot.member() for slot in slots]
    serving = [m.generation for m in members if is_accepting(m)]
    before = max((generation for generation in serving if generation < newest), default=0)
    refusal = board.refusal(newest)
    verdict = outcome(newest, target, members, bool(refusal))
    if verdict is Outcome.PENDING:
        return f"{'reloading: ' if before else ''}generation {newest} boots"
    if verdict is Outcome.FAILED:
        failed = f"generation {newest} failed to boot: {reason()}"
        return f"rolled back to generation {before}: {failed}" if before else failed
    count = serving.count(newest)
    text = f"generation {newest} serves, {count} worker{'s' if count != 1 else ''}"
    if verdict is Outcome.REFUSED:
        last = refusal.strip().splitlines()[-1:]
        text += f", with the old configuration: {''.join(last)}"
    return text


class Notifier:
    """Runs in: worker. Speaks to systemd, where there is one."""

    def __init__(self, board: Scoreboard, slot: Slot, gate: Gate, master: int, log: Logger) -> None:
        """Runs in: worker."""
        self._board = board
        self._slot = slot
        self._gate = gate
        self._log = log
        self._told = ""
        self._wanted = "NOTIFY_SOCKET" in os.environ
        # systemd names the main process; after USR2 that is not the parent of every worker.
        watched = os.environ.get("WATCHDOG_PID", str(master)) == str(master)
        self._watched = self._wanted and watched and "WATCHDOG_USEC" in os.environ

    def tell(self) -> None:
        """Runs in: worker. The board may have changed: say what it says, if that is news."""
        if not self._wanted:
            return
        slots = self._board.used_slots()
        if not self._speaks(slots):
            self._told = ""  # whoever speaks meanwhile may say something else
            return
        text = _in_words(self._board, slots, self._gate.reason)
        text = " ".join(text.split())[:_MAX_TEXT]
        if text != self._told:
            self._told = text
            self._send(f"STATUS={text}")

    def beat(self) -> None:
        """Runs in: worker. This worker lives; if all do, tell the watchdog."""
        if not self._watched:
            return
        slots = self._board.used_slots()
        beating = (slot for slot in slots if slot.get(Cell.STATE) in _BEATING and slot.alive)
        if self._speaks(slots) and all(_is_fresh(slot) for slot in beating):
            self._send("WATCHDOG=1")

    def _speaks(self, slots: Iterable[Slot]) -> bool:
        return speaker(slots) is self._slot

    def _send(self, text: str) -> None:
        systemd.sd_notify(text, self._log)
