"""worker/recycle.py: being replaced, on a board without processes and by a master that listens."""

from __future__ import annotations

import os
import signal

import pytest

from boards import DEAD, new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.recycle import Recycler
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot
from kit.fakes import FakeLog

__all__: list[str] = []

S = WorkerState
MASTER = 77_777
TTIN, TTOU = signal.SIGTTIN, signal.SIGTTOU


class Scene:
    """A board, and what the master was told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.board: Scoreboard = new_board()
        self.board.begin_generation(2)
        self.log = FakeLog()
        self.told: list[int] = []
        self.error: type[OSError] | None = None
        self._kill = os.kill
        patch.setattr(os, "kill", self.kill)

    def kill(self, pid: int, number: int) -> None:
        """Remember what is for the master, and look for the others."""
        if pid != MASTER:
            self._kill(pid, number)
        elif self.error is not None:
            raise self.error
        else:
            self.told.append(number)

    def worker(self, state: WorkerState = S.READY) -> tuple[Slot, Recycler]:
        """Add a worker of the newest generation."""
        slot = new_worker(self.board, state)
        return slot, Recycler(self.board, slot, MASTER, self.log)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Nobody yet."""
    return Scene(monkeypatch)


def test_who_does_not_want_to_be_replaced_is_not(scene: Scene) -> None:
    """However often it is asked."""
    slot, recycler = scene.worker()
    scene.worker()
    assert not recycler.may_leave()
    assert scene.told == []
    assert not slot.get(Cell.RECYCLING)


def test_the_wish_is_logged_once_with_its_reason(scene: Scene) -> None:
    """Also if there is a second one meanwhile."""
    _, recycler = scene.worker()
    recycler.want("max_requests")
    recycler.want("asgi_max_rss")
    line = f"Worker to be replaced (pid: {os.getpid()}): max_requests"
    assert scene.log.lines("info") == [line]
    assert recycler.wanted == "max_requests"


def test_a_replacement_is_asked_for_once_and_waited_for(scene: Scene) -> None:
    """TTIN, a ready worker that is younger, the leave, and TTOU as the last act."""
    slot, recycler = scene.worker()
    scene.worker()
    recycler.want("max_requests")
    for _ in range(3):
        assert not recycler.may_leave()
    assert scene.told == [TTIN]
    assert slot.get(Cell.RECYCLING)
    new, _ = scene.worker(S.BOOTING)
    assert not recycler.may_leave()
    new.put(Cell.STATE, S.READY)
    assert recycler.may_leave()
    assert scene.told == [TTIN]
    assert slot.get(Cell.ENDED_AT) == 0
    recycler.give_back()
    assert scene.told == [TTIN, TTOU]
    assert slot.get(Cell.ENDED_AT) > 0


def test_a_replacement_that_dies_is_none(scene: Scene) -> None:
    """The arbiter forks another one, and that is waited for."""
    _, recycler = scene.worker()
    recycler.want("asgi_max_age")
    recycler.may_leave()
    new, _ = scene.worker(S.READY)
    new.put(Cell.PID, DEAD)
    assert not recycler.may_leave()
    scene.worker(S.READY)
    assert recycler.may_leave()


def test_the_workers_that_there_are_already_are_no_replacements(scene: Scene) -> None:
    """Younger ones than the one that asks."""
    _, recycler = scene.worker()
    for _ in range(3):
        scene.worker()
    recycler.want("max_requests")
    assert not recycler.may_leave()


def test_two_never_leave_together(scene: Scene) -> None:
    """The second asks once the first is gone."""
    first_slot, first = scene.worker()
    second_slot, second = scene.worker()
    first.want("max_requests")
    second.want("max_requests")
    first.may_leave()
    for _ in range(3):
        assert not second.may_leave()
    assert scene.told == [TTIN]
    assert not second_slot.get(Cell.RECYCLING)
    scene.worker()
    assert first.may_leave()
    assert not second.may_leave()
    first_slot.put(Cell.PID, DEAD)
    assert not second.may_leave()
    assert scene.told == [TTIN, TTIN]
    assert second_slot.get(Cell.RECYCLING)


def test_two_that_ask_at_the_same_moment_are_settled_by_their_slots(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either had written."""
    first_slot, _ = scene.worker()
    second_slot, second = scene.worker()
    put = Slot.put

    def meanwhile(slot: Slot, cell: Cell, value: int) -> None:
        if slot.index == second_slot.index and cell is Cell.RECYCLING and value:
            put(first_slot, Cell.RECYCLING, 1)
        put(slot, cell, value)

    monkeypatch.setattr(Slot, "put", meanwhile)
    second.want("max_requests")
    assert not second.may_leave()
    assert scene.told == []
    assert not second_slot.get(Cell.RECYCLING)


@pytest.mark.parametrize("asked", [False, True])
def test_a_reload_makes_the_wish_void(asked: bool, scene: Scene) -> None:
    """It replaces this worker anyway, and sets the number of workers: nothing is given back."""
    slot, recycler = scene.worker()
    recycler.want("max_requests")
    if asked:
        recycler.may_leave()
    scene.board.begin_generation(2)
    scene.worker()
    assert not recycler.may_leave()
    assert not slot.get(Cell.RECYCLING)
    recycler.give_back()
    assert scene.told == [TTIN] * asked


def test_nothing_is_given_back_that_was_not_asked_for(scene: Scene) -> None:
    """TERM, or TTOU: the arbiter wants one less already."""
    _, recycler = scene.worker()
    recycler.give_back()
    recycler.want("max_requests")
    recycler.give_back()
    assert scene.told == []


def test_without_permission_it_leaves_without_a_replacement(scene: Scene) -> None:
    """A master that is root's: as Gunicorn's own workers do, and said so."""
    slot, recycler = scene.worker()
    scene.error = PermissionError
    recycler.want("max_requests")
    assert recycler.may_leave()
    assert not slot.get(Cell.RECYCLING)
    (line,) = scene.log.lines("warning")
    assert line.startswith("No replacement before this worker leaves")
    scene.error = None
    recycler.give_back()
    assert scene.told == []


def test_a_master_that_is_gone_is_no_error(scene: Scene) -> None:
    """The heartbeat sees it too, and ends the worker."""
    _, recycler = scene.worker()
    scene.error = ProcessLookupError
    recycler.want("max_requests")
    assert recycler.may_leave()
    assert scene.log.lines("warning") == []


# -- a recall --------------------------------------------------------------------------------------


def test_one_that_was_recalled_wants_a_worker_of_the_newest_generation(scene: Scene) -> None:
    """The arbiter counts the old one, so it would fork none."""
    slot, recycler = scene.worker(S.DRAINING)
    scene.board.begin_generation(1)
    new, _ = scene.worker()
    new.put(Cell.PID, DEAD)
    slot.put(Cell.STATE, S.READY)
    recycler.want_successor()
    assert recycler.recalled
    assert not recycler.may_leave()
    assert scene.told == [TTIN]
    scene.worker()
    assert recycler.may_leave()
    recycler.give_back()
    assert scene.told == [TTIN, TTOU]


def test_one_that_is_recalled_again_waits_for_the_one_that_the_arbiter_forks(scene: Scene) -> None:
    """It is wanted already: a second TTIN would be one too many."""
    slot, recycler = scene.worker(S.DRAINING)
    scene.board.begin_generation(1)
    slot.put(Cell.STATE, S.READY)
    recycler.want_successor()
    recycler.may_leave()
    new, _ = scene.worker()
    assert recycler.may_leave()
    new.put(Cell.PID, DEAD)
    recycler.want_successor()
    assert not recycler.may_leave()
    assert scene.told == [TTIN]
    scene.worker()
    assert recycler.may_leave()


def test_one_that_is_recalled_after_a_further_reload_asks_anew(scene: Scene) -> None:
    """The reload has set the number of workers."""
    _, recycler = scene.worker()
    scene.board.begin_generation(1)
    recycler.want_successor()
    recycler.may_leave()
    scene.board.begin_generation(1)
    recycler.want_successor()
    assert not recycler.may_leave()
    assert scene.told == [TTIN, TTIN]
