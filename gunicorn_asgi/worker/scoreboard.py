"""Memory shared by the master and its workers: the header, which only the master writes.

One cell so far, the newest generation: a worker that is asked to leave compares it with its
own and so tells a reload from a stop. The slots of the workers will follow it.
"""

from __future__ import annotations

import mmap

__all__ = ["Scoreboard"]

_GENERATION = 0


class Scoreboard:
    """Runs in: master and worker. A shared page of 64-bit cells, each with one writer."""

    __slots__ = ("_cells", "_memory")

    def __init__(self) -> None:
        """Runs in: master. Before the first fork, so that every worker inherits the page."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._cells = memoryview(self._memory).cast("q")

    @property
    def generation(self) -> int:
        """Runs in: worker. Number of the newest generation, from 1."""
        return self._cells[_GENERATION]

    def next_generation(self) -> int:
        """Runs in: master. Count a reload and return the new generation's number."""
        self._cells[_GENERATION] += 1
        return self._cells[_GENERATION]
