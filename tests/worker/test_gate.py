"""worker/gate.py: what TERM and the passing of time mean to one worker, told a board and a time."""

from __future__ import annotations

import os
import socket

import pytest

from boards import DEAD, new_board, new_worker
from gunicorn_asgi.protocol.lifecycle import Verdict, WorkerState
from gunicorn_asgi.worker import gate
from gunicorn_asgi.worker.gate import Gate, Order, master_has_closed
from gunicorn_asgi.worker.scoreboard import Cell, Header, ReloadVerdict, Scoreboard, Slot
from kit.fakes import FakeLog

__all__: list[str] = []

S = WorkerState
# Far from 0, which is what an empty cell holds.
NOW = 1_000_000


class Scene:
    """A board, a time that is set by hand, and whether the master is stopping."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.board: Scoreboard = new_board()
        self.now = NOW
        self.stopping: bool | None = False
        patch.setattr(gate, "milliseconds", lambda: self.now)

    def reload(self, target: int = 1) -> None:
        """Begin a generation, now."""
        self.board.begin_generation(target)
        self.board.put(Header.RELOADED_AT, self.now)

    def worker(self, state: WorkerState = S.READY, *, alive: bool = True, **cells: int) -> Slot:
        """Add a worker of the newest generation, whose heart has just beaten."""
        slot = new_worker(self.board, state, alive=alive)
        slot.put(Cell.BEAT_AT, self.now)
        for name, value in cells.items():
            slot.put(Cell[name.upper()], value)
        return slot

    def gate(self, slot: Slot) -> Gate:
        """The gate of that worker."""
        return Gate(self.board, slot, lambda: self.stopping)

    def old_and_new(self, *new: WorkerState, target: int = 1) -> tuple[Gate, list[Slot]]:
        """An old worker's gate, and the founders of a reload."""
        self.reload()
        old = self.worker(confirmed=1)
        self.reload(target)
        return self.gate(old), [self.worker(state) for state in new]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Empty."""
    return Scene(monkeypatch)


# -- on_term() -------------------------------------------------------------------------------------


def test_a_term_of_a_server_that_stops_means_leave(scene: Scene) -> None:
    """In every situation: also where successors boot, and where a reload has failed."""
    for state in (S.BOOTING, S.READY, S.FAILED):
        scene.board = new_board()
        old, _ = scene.old_and_new(state)
        scene.stopping = True
        assert old.on_term() is Order.LEAVE


@pytest.mark.parametrize("stopping", [False, None])
def test_a_term_to_the_newest_generation_means_leave(scene: Scene, stopping: bool | None) -> None:
    """TTOU. None: a master of another user, of whom nothing is seen."""
    scene.reload(2)
    mine, _ = scene.worker(confirmed=1), scene.worker(confirmed=1)
    scene.stopping = stopping
    assert scene.gate(mine).on_term() is Order.LEAVE


@pytest.mark.parametrize(
    ("states", "target", "order"),
    [
        ([S.BOOTING], 1, Order.HOLD),
        ([S.READY, S.BOOTING], 2, Order.HOLD),
        # While all are ready it asks just the same; what follows is while_holding's.
        ([S.READY], 1, Order.HOLD),
        ([S.FAILED, S.BOOTING], 2, Order.IGNORE),
        ([S.FAILED], 1, Order.IGNORE),
    ],
)
@pytest.mark.parametrize("stopping", [False, None])
def test_a_term_to_an_old_one_means_hold_while_there_is_hope(
    scene: Scene, states: list[WorkerState], target: int, order: Order, stopping: bool | None
) -> None:
    """A founder that has failed and still lives is what is too many, not the old one."""
    old, _ = scene.old_and_new(*states, target=target)
    scene.stopping = stopping
    assert old.on_term() is order


@pytest.mark.parametrize(
    ("later", "order"),
    [(0, Order.IGNORE), (1_999, Order.IGNORE), (2_000, Order.LEAVE), (60_000, Order.LEAVE)],
)
def test_a_term_after_a_failed_reload_is_an_echo_for_a_while(
    scene: Scene, later: int, order: Order
) -> None:
    """The arbiter repeats it about once a second; what comes later is TTOU."""
    old, (new,) = scene.old_and_new(S.FAILED)
    assert old.on_term() is Order.IGNORE
    new.put(Cell.PID, DEAD)
    scene.now += later
    new_beat(scene)
    assert old.on_term() is order


def new_beat(scene: Scene) -> None:
    """Let every heart beat now."""
    for slot in scene.board.used_slots():
        slot.put(Cell.BEAT_AT, scene.now)


def test_the_echo_counts_from_when_the_failed_ones_were_last_seen(scene: Scene) -> None:
    """A boot that fails after a minute: the reload itself is long ago by then."""
    old, (new,) = scene.old_and_new(S.BOOTING)
    scene.now += 60_000
    new_beat(scene)
    assert old.while_holding() is Verdict.HOLD
    new.put(Cell.PID, DEAD)
    scene.now += 1_500
    new_beat(scene)
    assert old.on_term() is Order.IGNORE
    scene.now += 1_500
    new_beat(scene)
    assert old.on_term() is Order.LEAVE


@pytest.mark.parametrize("how", ["lag", "beat"])
def test_a_busy_worker_hears_the_echo_later(scene: Scene, how: str) -> None:
    """By as much as its loop is late: a TERM waits for it."""
    old, (new,) = scene.old_and_new(S.FAILED)
    assert old.on_term() is Order.IGNORE
    new.put(Cell.PID, DEAD)
    scene.now += 6_000
    mine = scene.board.slots[0]
    if how == "lag":
        mine.put(Cell.BEAT_AT, scene.now)
        mine.put(Cell.LAG, 5_000_000)
    assert old.on_term() is Order.IGNORE


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        ({"recycling": 1}, Order.IGNORE),
        ({"recycling": 0}, Order.LEAVE),
        ({"recycling": 1, "pid": DEAD, "ended_at": NOW - 1_900}, Order.IGNORE),
        ({"recycling": 1, "pid": DEAD, "ended_at": NOW - 2_000}, Order.LEAVE),
    ],
    ids=["one recycles", "nobody does", "it has just gone", "it is long gone"],
)
def test_a_term_while_another_one_recycles_is_meant_for_that_one(
    scene: Scene, cells: dict[str, int], order: Order
) -> None:
    """Its SIGTTOU makes the arbiter tell the oldest, which may be somebody else."""
    scene.reload(2)
    mine = scene.worker(confirmed=1)
    scene.worker(S.DRAINING, alive=True, **cells)
    assert scene.gate(mine).on_term() is order


def test_a_term_to_the_one_that_recycles_itself_means_leave(scene: Scene) -> None:
    """It is the one that is meant."""
    scene.reload(2)
    mine, _ = scene.worker(recycling=1), scene.worker()
    assert scene.gate(mine).on_term() is Order.LEAVE


# -- while_holding() -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "target", "verdict"),
    [
        ([S.BOOTING], 1, Verdict.HOLD),
        ([S.READY, S.BOOTING], 2, Verdict.HOLD),
        ([S.READY, S.READY], 2, Verdict.DRAIN),
        ([S.READY, S.FAILED], 2, Verdict.STAY),
    ],
)
def test_who_holds_waits_for_the_verdict(
    scene: Scene, states: list[WorkerState], target: int, verdict: Verdict
) -> None:
    """The table itself is in test_lifecycle.py."""
    old, _ = scene.old_and_new(*states, target=target)
    assert old.while_holding() is verdict
    scene.stopping = None
    assert old.while_holding() is verdict


def test_who_holds_drains_when_the_server_stops(scene: Scene) -> None:
    """TERM during a slow boot: nobody waits for it any more."""
    old, _ = scene.old_and_new(S.BOOTING)
    scene.stopping = True
    assert old.while_holding() is Verdict.DRAIN


def test_a_second_reload_is_waited_for_from_its_beginning(scene: Scene) -> None:
    """Two HUPs: the founders of the first decide nothing any more."""
    old, _ = scene.old_and_new(S.READY)
    assert old.while_holding() is Verdict.DRAIN
    scene.reload()
    assert old.while_holding() is Verdict.HOLD
    scene.worker()
    assert old.while_holding() is Verdict.DRAIN


# -- the newest generation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "complete"), [(S.READY, True), (S.BOOTING, False), (S.FAILED, False)]
)
def test_a_generation_is_confirmed_once_it_is_complete(
    scene: Scene, state: WorkerState, complete: bool
) -> None:
    """By each of its workers, in its own slot."""
    scene.reload(2)
    mine, _ = scene.worker(), scene.worker(state)
    assert scene.gate(mine).confirm() is complete
    assert mine.get(Cell.CONFIRMED) == complete


def test_a_complete_reload_is_a_verdict(scene: Scene) -> None:
    """One, whichever workers tell; the start is none."""
    for _ in range(3):
        scene.reload(2)
        for mine in (scene.worker(), scene.worker()):
            scene.gate(mine).confirm()
        for mine in scene.board.used_slots():
            scene.gate(mine).confirm()
    assert scene.board.count_verdicts()[ReloadVerdict.SUCCEEDED] == 2


def test_what_was_confirmed_stays_confirmed(scene: Scene) -> None:
    """A crash a minute later is no failed reload."""
    scene.reload(2)
    mine, other = scene.worker(), scene.worker()
    own = scene.gate(mine)
    assert own.confirm()
    other.put(Cell.PID, DEAD)
    assert own.confirm()
    scene.reload(2)
    assert own.confirm()


def test_an_older_generation_is_not_confirmed_any_more(scene: Scene) -> None:
    """It never was complete, and now others are asked."""
    scene.reload(2)
    mine, other = scene.worker(), scene.worker(S.BOOTING)
    own = scene.gate(mine)
    scene.reload(2)
    other.put(Cell.STATE, S.READY)
    assert not own.confirm()


@pytest.mark.parametrize(
    ("other", "old", "gives_way"),
    [
        (S.FAILED, S.HOLDING, True),
        (S.FAILED, S.READY, True),
        (S.FAILED, S.DRAINING, False),
        (S.BOOTING, S.HOLDING, False),
        (S.READY, S.HOLDING, False),
    ],
)
def test_a_founder_gives_way_if_its_twin_failed_and_an_old_one_serves(
    scene: Scene, other: WorkerState, old: WorkerState, gives_way: bool
) -> None:
    """No old one left: half a new generation is better than nothing."""
    scene.reload()
    scene.worker(old, confirmed=1)
    scene.reload(2)
    mine, _ = scene.worker(), scene.worker(other)
    assert scene.gate(mine).must_give_way() is gives_way


@pytest.mark.parametrize("founder", [0, 1], ids=["later", "of an older generation"])
def test_whoever_is_no_founder_of_the_newest_does_not_give_way(scene: Scene, founder: int) -> None:
    """A replacement of an old worker, forked from repaired code, is wanted."""
    scene.reload()
    scene.worker(S.READY, confirmed=1)
    scene.reload()
    mine = scene.worker(founder=founder)
    if founder:
        scene.reload()
    scene.worker(S.FAILED)
    assert not scene.gate(mine).must_give_way()


def test_the_newest_generation_is_read_from_the_board(scene: Scene) -> None:
    """It grows under a worker's feet."""
    scene.reload()
    own = scene.gate(scene.worker())
    assert (own.newest, own.is_newest) == (1, True)
    scene.reload()
    assert (own.newest, own.is_newest) == (2, False)


# -- the blind spot --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "alive", "nobody"),
    [
        (S.READY, True, False),
        (S.HOLDING, True, False),
        (S.READY, False, True),
        (S.DRAINING, True, True),
        (S.BOOTING, True, True),
    ],
)
def test_nobody_serves_if_nobody_else_accepts(
    scene: Scene, state: WorkerState, alive: bool, nobody: bool
) -> None:
    """Asked by one that drains, and does not count."""
    scene.reload()
    old = scene.worker(S.DRAINING)
    scene.reload()
    scene.worker(state, alive=alive)
    assert scene.gate(old).nobody_serves() is nobody


@pytest.mark.parametrize("stopping", [True, None])
def test_nobody_is_recalled_into_a_server_that_stops_or_may_stop(
    scene: Scene, stopping: bool | None
) -> None:
    """None: it cannot be seen, and a worker that serves on after a stop would be worse."""
    scene.reload()
    old = scene.gate(scene.worker(S.DRAINING))
    assert old.nobody_serves()
    scene.stopping = stopping
    assert not old.nobody_serves()


@pytest.mark.parametrize(
    ("state", "has"), [(S.READY, True), (S.HOLDING, True), (S.BOOTING, False), (S.FAILED, False)]
)
def test_a_successor_is_one_of_the_newest_generation_that_accepts(
    scene: Scene, state: WorkerState, has: bool
) -> None:
    """Without one a drain is a stop: 1001 for WebSockets."""
    old, _ = scene.old_and_new(state)
    assert old.has_successor() is has


# -- what is said ----------------------------------------------------------------------------------


def test_one_worker_speaks_for_its_generation(scene: Scene) -> None:
    """The first that serves; one line for a rollback and not four."""
    scene.reload(3)
    slots = [scene.worker(S.HOLDING) for _ in range(3)]
    assert [scene.gate(slot).speaks() for slot in slots] == [True, False, False]
    slots[0].put(Cell.PID, DEAD)
    assert [scene.gate(slot).speaks() for slot in slots[1:]] == [True, False]


def test_one_of_another_generation_does_not_keep_it_from_speaking(scene: Scene) -> None:
    """Each speaks for its own."""
    scene.reload()
    scene.worker()
    scene.reload()
    assert scene.gate(scene.worker()).speaks()


def test_the_reason_is_the_last_line_of_a_traceback_of_the_newest_generation(scene: Scene) -> None:
    """Not that of the reload before, which has failed too."""
    scene.reload()
    old = scene.gate(scene.worker())
    scene.reload()
    scene.worker(S.FAILED, alive=False).write_text("Traceback\nKeyError: 'before'\n")
    scene.reload(2)
    scene.worker()
    scene.worker(S.FAILED).write_text("Traceback\n  File\nValueError: this one\n")
    assert old.reason() == "ValueError: this one"


def test_without_a_traceback_the_reason_is_that_it_is_gone(scene: Scene) -> None:
    """SIGKILL, or an exit in C."""
    old, _ = scene.old_and_new(S.BOOTING)
    assert old.reason() == "a worker of it is gone"


@pytest.mark.parametrize(
    ("state", "failed"), [(S.BOOTING, False), (S.READY, False), (S.FAILED, True)]
)
def test_a_worker_sees_its_successors_fail_without_being_told_to_leave(
    scene: Scene, state: WorkerState, failed: bool
) -> None:
    """They may be gone before the arbiter sends TERM to anybody."""
    old, new = scene.old_and_new(state, target=2)
    assert old.successors_failed() is failed
    assert scene.gate(new[0]).successors_failed() is False


def test_a_rollback_is_told_once_and_by_one(scene: Scene) -> None:
    """For each generation that fails, whoever is asked first and however often."""
    scene.reload(2)
    gates = [scene.gate(scene.worker(confirmed=1)) for _ in range(2)]
    log = FakeLog()
    for _ in range(2):
        scene.reload()
        scene.worker(S.FAILED).write_text("ValueError: no\n")
        for each in (gates[1], gates[0], gates[0], gates[1]):
            each.tell_rollback(log)
    told = "Rolled back to generation 1: generation {} failed to boot: ValueError: no"
    assert log.lines("error") == [told.format(2), told.format(3)]
    assert scene.board.count_verdicts()[ReloadVerdict.ROLLED_BACK] == 2


# -- the master's sockets --------------------------------------------------------------------------


def test_a_master_that_has_its_sockets_open_is_not_stopping() -> None:
    """Arbiter.stop closes them before it tells the workers; one of several is enough."""
    with socket.socket() as one, socket.socket() as other:
        inodes = frozenset(os.fstat(each.fileno()).st_ino for each in (one, other))
        assert master_has_closed(os.getpid(), inodes) is False
        other.close()
        assert master_has_closed(os.getpid(), inodes) is False
    assert master_has_closed(os.getpid(), inodes) is True


def test_a_master_that_cannot_be_looked_at_is_not_judged() -> None:
    """Gone, another user's, or no /proc at all."""
    assert master_has_closed(DEAD, frozenset({1})) is None
