"""The page that the master and its workers share."""

from __future__ import annotations

import os
import warnings

import pytest

from gunicorn_asgi.worker.scoreboard import Scoreboard

__all__: list[str] = []


def test_generations_count_from_1() -> None:
    """0 is the generation of nobody."""
    board = Scoreboard()
    assert board.generation == 0
    assert [board.next_generation() for _ in range(3)] == [1, 2, 3]
    assert board.generation == 3


def test_two_boards_are_two_pages() -> None:
    """A new master (USR2) counts for itself."""
    one, other = Scoreboard(), Scoreboard()
    one.next_generation()
    assert other.generation == 0


def fork() -> int:
    """os.fork, from a test process that may have threads; the child only does what stands there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_a_worker_sees_what_the_master_writes_after_the_fork() -> None:
    """The page is shared, not copied: an old worker learns of the generation after its own."""
    board = Scoreboard()
    assert board.next_generation() == 1
    to_child, from_child = os.pipe(), os.pipe()
    pid = fork()
    if pid == 0:
        # Never back into pytest, whatever happens.
        try:
            os.write(from_child[1], bytes([board.generation]))
            os.read(to_child[0], 1)
            os.write(from_child[1], bytes([board.generation]))
        finally:
            os._exit(0)
    try:
        assert os.read(from_child[0], 1) == bytes([1])
        board.next_generation()
        os.write(to_child[1], b"!")
        assert os.read(from_child[0], 1) == bytes([2])
    finally:
        os.waitpid(pid, 0)
        for fd in (*to_child, *from_child):
            os.close(fd)


def test_a_worker_cannot_set_the_generation_by_accident() -> None:
    """One writer: the master, and only by counting (rule 4 of docs/design.md)."""
    board = Scoreboard()
    with pytest.raises(AttributeError):
        board.generation = 5  # type: ignore[misc]  # it has no setter, which is the point
    with pytest.raises(AttributeError):
        board.other = 5  # type: ignore[attr-defined]  # slots
