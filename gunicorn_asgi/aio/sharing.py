"""A worker's share of a burst of connections, and no more, where others accept from its socket.

The kernel wakes up all of them, and whoever runs first may have taken a hundred before the next one
gets a processor. Those that stay, because they are kept alive, make it the busiest for long. So
whoever grows quickly stops accepting for a moment. Connections that come and go do not make it
grow, and are never braked.
"""

from __future__ import annotations

__all__ = ["PAUSE", "Share"]

# After so many connections more than there were lately, nobody is accepted for PAUSE seconds: a
# worker still takes some 3,000 in a second.
_STEP = 4
PAUSE = 0.001
# How long (seconds) it is remembered how many there were.
_MEMORY = 1.0


class Share:
    """Says when a worker has taken enough for the moment."""

    __slots__ = ("_forget_at", "_most")

    def __init__(self) -> None:
        self._most = 0
        self._forget_at = 0.0

    def is_taken(self, count: int, now: float) -> bool:
        """Whether to pause, with ``count`` open connections, the one just accepted among them.

        ``now`` is the loop's time.
        """
        forgotten = now >= self._forget_at
        if not forgotten and count < self._most + _STEP:
            return False
        self._most = count
        self._forget_at = now + _MEMORY
        return not forgotten
