"""What a worker was busy with that was killed, or has crashed: SIGKILL, the OOM killer, a segfault.

It could not say so itself. The master names, with each fork, who is to tell of those that have been
lost meanwhile, so that each is told of once, and by a worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from gunicorn.glogging import Logger

from gunicorn_asgi.protocol.identity import name_of
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.openrequests import OpenEntry
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot

__all__ = ["in_words", "tell_of_the_lost"]

# Requests that are told of in a line.
_REQUESTS = 20


def tell_of_the_lost(board: Scoreboard, slot: Slot, log: Logger, *, shown: bool) -> None:
    """Runs in: worker. Tell of those that the worker in ``slot`` was named for.

    ``shown`` is asgi_open_requests: without it nothing is known of their requests.
    """
    own = slot.get(Cell.AGE)
    for other in board.used_slots():
        if own and other.get(Cell.OBITUARY) == own:
            found = other.read_requests()
            words = "; ".join(in_words(found, _REQUESTS)) or ("none" if shown else "not known")
            state = WorkerState(other.get(Cell.STATE)).name.lower()
            log.error(
                "Worker ended without a word (pid: %s) while %s, open requests: %d (%s)",
                *(other.get(Cell.PID), state, len(found), words),
            )


def in_words(entries: Sequence[OpenEntry], most: int) -> list[str]:
    """Runs in: worker and command line. The oldest ``most`` requests, and how many more.

    GET '/search?q=a' (request 4bf92f35) of 192.0.2.1:40000, 3.1 s old
    """
    now = time.monotonic()
    words = []
    for each in entries[:most]:
        client = f" of {each.client}" if each.client else ""
        age = now - each.received
        name = name_of(each.method, each.target, each.request_id)
        words.append(f"{name}{client}, {age:.1f} s old")
    return [*words, f"and {len(entries) - most} more"] if len(entries) > most else words
