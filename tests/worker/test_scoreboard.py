"""The memory that the master and its workers share: who writes what, and who sees it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import warnings
from enum import IntEnum
from typing import TYPE_CHECKING

import pytest

from boards import DEAD, new_board, new_worker, owner
from gunicorn_asgi.protocol.lifecycle import Member, WorkerState
from gunicorn_asgi.worker import scoreboard
from gunicorn_asgi.worker.counters import COUNTERS, Counter
from gunicorn_asgi.worker.scoreboard import (
    SLOTS,
    Cell,
    Header,
    ReloadVerdict,
    Scoreboard,
    milliseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__: list[str] = []

S = WorkerState


def descriptors() -> set[str]:
    """The open ones of this process; the one that lists them is gone again."""
    names = os.listdir("/proc/self/fd")
    return {name for name in names if os.path.exists(f"/proc/self/fd/{name}")}


def create(patch: pytest.MonkeyPatch) -> tuple[Scoreboard, int]:
    """A board as the master makes it, and the descriptor that it leaves open."""
    fds: list[int] = []
    truncate = os.ftruncate

    def remember(fd: int, size: int) -> None:
        fds.append(fd)
        truncate(fd, size)

    patch.setattr(os, "ftruncate", remember)
    board = Scoreboard.create()
    patch.setattr(os, "ftruncate", truncate)
    (fd,) = fds
    return board, fd


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoreboard]:
    """Found by no other test: it is closed at the end."""
    board, fd = create(monkeypatch)
    yield board
    os.close(fd)


def in_a_child(work: Callable[[], object]) -> None:
    """Fork; the child does ``work`` and never comes back into pytest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


# -- the board -------------------------------------------------------------------------------------


def test_a_new_board_knows_its_master_and_nobody_else(created: Scoreboard) -> None:
    """0 is the generation of nobody."""
    assert created.get(Header.MASTER) == os.getpid()
    assert created.get(Header.LAYOUT) == scoreboard._LAYOUT
    assert created.get(Header.GENERATION) == created.get(Header.TARGET) == 0
    assert created.used_slots() == []
    assert created.members() == []
    assert not created.has_served


def test_two_boards_are_two_memories() -> None:
    """A new master (USR2) counts for itself."""
    one, other = new_board(), new_board()
    one.begin_generation(3)
    new_worker(one)
    assert other.get(Header.GENERATION) == 0
    assert other.used_slots() == []


def test_generations_count_from_1_with_their_target_and_their_time() -> None:
    """Each reload may ask for another number of workers."""
    board, before = new_board(), milliseconds()
    assert [board.begin_generation(target) for target in (2, 4, 1)] == [1, 2, 3]
    assert (board.get(Header.GENERATION), board.get(Header.TARGET)) == (3, 1)
    assert before <= board.get(Header.RELOADED_AT) <= milliseconds()


def test_where_there_is_no_memfd_an_unlinked_file_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and the BSDs."""
    monkeypatch.delattr(os, "memfd_create")
    board, fd = create(monkeypatch)
    try:
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
        in_a_child(lambda: board.slots[0].put(Cell.REQUESTS, 5))
        assert board.slots[0].get(Cell.REQUESTS) == 5
    finally:
        os.close(fd)


# -- layout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "room"),
    [(Header, scoreboard._HEADER_CELLS), (Cell, scoreboard._SLOT_CELLS)],
    ids=["header", "slot"],
)
def test_every_cell_has_a_place_of_its_own(cells: type[IntEnum], room: int) -> None:
    """And none lies in its neighbour's."""
    assert [cell.value for cell in cells] == list(range(len(cells)))
    assert len(cells) <= room


def test_no_cell_is_another_cell_and_no_text_another_text() -> None:
    """A different value in each, first and last slot included; then all are read again."""
    board = new_board()
    slots = [board.slots[0], board.slots[1], board.slots[-1]]
    for header in Header:
        board.put(header, -1 - header)
    for number, slot in enumerate(slots):
        slot.write_text(f"text {number}" * 1000)
        for cell in Cell:
            slot.put(cell, 1000 * number + cell)
    assert [board.get(header) for header in Header] == [-1 - header for header in Header]
    for number, slot in enumerate(slots):
        assert [slot.get(cell) for cell in Cell] == [1000 * number + cell for cell in Cell]
        assert slot.read_text().endswith(f"text {number}")


def test_no_part_of_a_slot_lies_in_another() -> None:
    """Counters, table and report too, of neighbours and of the last one."""
    board = new_board()
    slots = [board.slots[0], board.slots[1], board.slots[-1]]
    for number, slot in enumerate(slots):
        for index in range(len(slot.counters)):
            slot.counters[index] = 1000 * number + index
        slot.give_report(number, f"report {number} " * 10_000)
        table = slot.open_requests()
        while table.begin(owner(f"/{number}")):
            pass
        slot.write_text(f"text {number}" * 1000)
        for cell in set(Cell) - {Cell.LINES, Cell.REPORT_GIVEN}:
            slot.put(cell, -number)
    board.note_verdict(2, ReloadVerdict.SUCCEEDED)
    for number, slot in enumerate(slots):
        assert list(slot.counters) == [1000 * number + index for index in range(COUNTERS)]
        assert len(slot.read_report()) == 64 * 1024 - 1
        assert slot.read_report().startswith(f"report {number} ")
        assert {entry.target for entry in slot.read_requests()} == {f"/{number}"}
        assert slot.read_text().endswith(f"text {number}")
        others = set(Cell) - {Cell.LINES, Cell.REPORT_GIVEN}
        assert {slot.get(cell) for cell in others} == {-number}
    assert sum(board.count_verdicts().values()) == 1


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1])
def test_a_cell_holds_64_bits(value: int) -> None:
    """Memory in bytes, and milliseconds since the start of the machine."""
    slot = new_worker(new_board())
    slot.put(Cell.RSS, value)
    assert slot.get(Cell.RSS) == value


# -- shared ----------------------------------------------------------------------------------------


def test_the_master_sees_what_a_worker_writes_and_the_other_way_round() -> None:
    """Shared, not copied: an old worker learns of the generation after its own."""
    board = new_board()
    board.begin_generation(1)
    slot = board.claim(True, 1)
    to_child, from_child = os.pipe(), os.pipe()

    def work() -> None:
        slot.put(Cell.PID, os.getpid())
        slot.put(Cell.STATE, S.READY)
        slot.write_text("from the worker")
        os.write(from_child[1], b"!")
        os.read(to_child[0], 1)
        slot.put(Cell.REQUESTS, 10 * board.get(Header.GENERATION))

    def check() -> None:
        assert os.read(from_child[0], 1) == b"!"
        assert slot.get(Cell.PID) not in (0, os.getpid())
        assert slot.get(Cell.STATE) == S.READY
        assert slot.read_text() == "from the worker"
        board.begin_generation(1)
        os.write(to_child[1], b"!")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        # Never back into pytest, whatever happens.
        try:
            work()
        finally:
            os._exit(0)
    try:
        check()
    finally:
        for fd in (*to_child, *from_child):
            os.close(fd)
        os.waitpid(pid, 0)
    assert slot.get(Cell.REQUESTS) == 20


COUNT = 20_000


@pytest.mark.slow
def test_nothing_is_lost_where_each_has_a_cell_of_its_own() -> None:
    """Rule 4 of docs/contributing.md: two processes that count in one cell lose increments."""
    board = new_board()
    board.begin_generation(2)
    slots = [board.claim(True, age) for age in (1, 2)]

    def count(number: int) -> None:
        for _ in range(COUNT):
            slots[number].put(Cell.REQUESTS, slots[number].get(Cell.REQUESTS) + 1)

    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        processes = [context.Process(target=count, args=(number,)) for number in (0, 1)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
    assert [slot.get(Cell.REQUESTS) for slot in slots] == [COUNT, COUNT]


# -- claim -----------------------------------------------------------------------------------------


def test_a_claimed_slot_says_whose_it_is_and_nothing_of_who_had_it_before() -> None:
    """But for BOOTS: it tells whether this server has ever served."""
    board = new_board()
    board.begin_generation(1)
    slot = board.slots[0]
    for cell in Cell:
        slot.put(cell, 77)
    slot.put(Cell.PID, DEAD)
    slot.write_text("the reason of another")
    before = milliseconds()
    claimed = board.claim(True, 9)
    assert claimed is slot
    assert before <= slot.get(Cell.CLAIMED_AT) <= milliseconds()
    told = {cell: slot.get(cell) for cell in Cell if slot.get(cell) and cell is not Cell.CLAIMED_AT}
    assert told == {
        Cell.GENERATION: 1,
        Cell.FOUNDER: 1,
        Cell.AGE: 9,
        Cell.BOOTS: 77,
        Cell.NUMBER: 1,
    }
    assert slot.read_text() == ""


def test_a_slot_is_taken_again_only_once_its_worker_is_gone_and_last_of_all() -> None:
    """What an ended worker has left is read for a while."""
    board = new_board()
    board.begin_generation(1)
    living = [new_worker(board) for _ in range(2)]
    gone = new_worker(board, alive=False)
    assert [slot.index for slot in (*living, gone)] == [0, 1, 2]
    for index in range(3, SLOTS):
        assert board.claim(False, index).index == index
    # All but one are about to be forked, or alive.
    assert board.claim(False, 999) is gone


def test_a_worker_gets_the_least_number_that_nobody_alive_has() -> None:
    """It is a label of metrics: slots, of which there are hundreds, would be too many names."""
    board = new_board()
    board.begin_generation(3)
    slots = [new_worker(board) for _ in range(3)]
    assert [slot.get(Cell.NUMBER) for slot in slots] == [1, 2, 3]
    slots[1].put(Cell.PID, DEAD)
    slots[0].put(Cell.PID, DEAD)
    later = [new_worker(board) for _ in range(3)]
    assert [slot.get(Cell.NUMBER) for slot in later] == [1, 2, 4]


def test_a_slot_that_was_claimed_is_not_claimed_again_before_its_worker_has_written_its_pid() -> (
    None
):
    """Two forks in a row."""
    board = new_board()
    board.begin_generation(2)
    one, other = board.claim(True, 1), board.claim(True, 2)
    assert one is not other
    assert one.alive
    assert other.alive


def test_a_board_without_a_free_slot_takes_one_all_the_same() -> None:
    """The master may not raise (an exception in its loop ends the server)."""
    board = new_board()
    board.begin_generation(SLOTS)
    for _ in range(SLOTS):
        new_worker(board)
    assert board.claim(True, 1).get(Cell.PID) == 0


@pytest.mark.parametrize(
    ("pid", "seconds_old", "alive"),
    [(0, 0, True), (0, 11, False), (os.getpid(), 9999, True), (1, 9999, True), (DEAD, 0, False)],
    ids=["about to be forked", "never forked", "ours", "another user's", "gone"],
)
def test_a_worker_is_alive_while_its_process_is(pid: int, seconds_old: int, alive: bool) -> None:
    """By signal 0; a fork that fails (EAGAIN) leaves a slot without a pid."""
    board = new_board()
    board.begin_generation(1)
    slot = new_worker(board, seconds_old=seconds_old)
    slot.put(Cell.PID, pid)
    assert slot.alive is alive


def test_a_process_that_may_not_be_signalled_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """EPERM: it exists, and is another user's."""
    board = new_board()
    board.begin_generation(1)
    slot = new_worker(board)

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert slot.alive


# -- what is read ----------------------------------------------------------------------------------


def test_a_member_is_what_its_slot_says() -> None:
    """Flag by flag: each of these has its own effect on a verdict."""
    board = new_board()
    board.begin_generation(1)
    board.begin_generation(1)
    plain = Member(2, True, S.READY, True, False, False, False)
    assert new_worker(board).member() == plain
    assert new_worker(board, S.HOLDING).member() == plain._replace(state=S.HOLDING)
    assert new_worker(board, founder=False).member() == plain._replace(founder=False)
    assert new_worker(board, alive=False).member() == plain._replace(alive=False)
    assert new_worker(board, confirmed=1).member() == plain._replace(confirmed=True)
    assert new_worker(board, stopped=1).member() == plain._replace(stopped=True)
    assert new_worker(board, recycling=1).member() == plain._replace(recycling=True)


def test_members_are_everybody_but_oneself() -> None:
    """Slots that nobody had are nobody."""
    board = new_board()
    board.begin_generation(2)
    one, other = new_worker(board), new_worker(board, S.BOOTING)
    assert board.used_slots() == [one, other]
    assert board.members() == [one.member(), other.member()]
    assert board.members(without=one) == [other.member()]


def test_a_server_has_served_once_one_worker_was_ready_and_for_ever_after() -> None:
    """Also when its slot was claimed again: from then on no boot may halt the arbiter."""
    board = new_board()
    board.begin_generation(1)
    slot = new_worker(board, S.FAILED)
    served = [board.has_served]
    slot.put(Cell.BOOTS, 1)
    served.append(board.has_served)
    slot.claim(2, True, 5)
    served.append(board.has_served)
    assert served == [False, True, True]


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "one line", "two\nlines\n", "Umlaute: äöü \U0001f40d"])
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    """A traceback of whatever language."""
    slot = new_worker(new_board())
    slot.write_text("something longer that was there before, and must not shine through")
    slot.write_text(text)
    assert slot.read_text() == text


@pytest.mark.parametrize("filler", ["x", "ü"])
def test_a_long_text_keeps_its_end(filler: str) -> None:
    """The last line of a traceback is the one that tells; a character cut in two is no error."""
    slot = new_worker(new_board())
    slot.write_text(filler * 10_001 + "\nValueError: the end")
    text = slot.read_text()
    assert text.endswith(filler + "\nValueError: the end")
    assert 1000 < len(text) < scoreboard._TEXT_SIZE


def test_what_is_no_unicode_is_replaced() -> None:
    """A lone surrogate comes out of a file name that is none (PEP 383)."""
    slot = new_worker(new_board())
    slot.write_text("no such file: \udcff")
    assert slot.read_text() == "no such file: ?"


# -- from outside ----------------------------------------------------------------------------------


def test_the_board_of_a_master_is_found_by_its_pid(created: Scoreboard) -> None:
    """Through /proc, by the same user; what is written later is seen too."""
    found = Scoreboard.of_master(os.getpid())
    created.begin_generation(2)
    new_worker(created, S.HOLDING, requests=7)
    assert found.get(Header.GENERATION) == 1
    (slot,) = found.used_slots()
    assert slot.get(Cell.REQUESTS) == 7
    assert slot.member().state is S.HOLDING


def test_who_looks_cannot_write(created: Scoreboard) -> None:
    """Mapped to be read only."""
    assert created.get(Header.MASTER) == os.getpid()
    found = Scoreboard.of_master(os.getpid())
    with pytest.raises(TypeError):
        found.put(Header.GENERATION, 5)
    with pytest.raises(TypeError):
        found.slots[0].put(Cell.STATE, 1)
    with pytest.raises(TypeError):
        found.slots[0].write_text("mine")


def test_looking_leaves_no_descriptor_open(created: Scoreboard) -> None:
    """``status --watch`` looks once a second."""
    assert created.get(Header.MASTER) == os.getpid()
    before = descriptors()
    Scoreboard.of_master(os.getpid())
    assert descriptors() == before


def test_a_process_that_is_gone_has_no_board() -> None:
    """With its number and the reason."""
    with pytest.raises(LookupError, match=f"process {DEAD} cannot be looked at: No such file"):
        Scoreboard.of_master(DEAD)


def test_a_process_without_a_board_is_no_master() -> None:
    """Whatever else it has open."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        message = f"process {process.pid} is no gunicorn_asgi master of this version"
        with pytest.raises(LookupError, match=message):
            Scoreboard.of_master(process.pid)
        process.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("layout", [0, 1, 99])
def test_the_board_of_another_version_is_not_misread(created: Scoreboard, layout: int) -> None:
    """Its cells lie elsewhere."""
    created.put(Header.LAYOUT, layout)
    with pytest.raises(LookupError, match="of this version"):
        Scoreboard.of_master(os.getpid())


def test_a_shorter_board_of_another_version_is_not_misread() -> None:
    """It cannot even be mapped."""
    fd = os.memfd_create(scoreboard._NAME)
    try:
        os.ftruncate(fd, 100)
        with pytest.raises(LookupError, match="of this version"):
            Scoreboard.of_master(os.getpid())
    finally:
        os.close(fd)


# -- what outlives a worker ------------------------------------------------------------------------


def test_counters_outlive_the_worker_and_what_it_was_busy_with_does_not() -> None:
    """A sum over all slots never goes down; the next one starts with an empty table."""
    board = new_board()
    board.begin_generation(1)
    slot = new_worker(board, alive=False)
    slot.counters[Counter.STALLS] = 5
    slot.open_requests().begin(owner("/x"))
    slot.put(Cell.REQUESTS, 7)
    board._next = slot.index
    assert board.claim(False, 2) is slot
    assert slot.counters[Counter.STALLS] == 5
    assert slot.read_requests() == []
    assert slot.get(Cell.REQUESTS) == 0


def test_reloads_are_counted_once_however_many_workers_tell() -> None:
    """The first word counts: a refused configuration also brings up workers."""
    board = new_board()
    for _ in range(4):
        board.begin_generation(2)
    board.note_verdict(1, ReloadVerdict.SUCCEEDED)  # the start is no reload
    board.note_verdict(2, ReloadVerdict.SUCCEEDED)
    board.note_verdict(2, ReloadVerdict.SUCCEEDED)
    board.note_verdict(3, ReloadVerdict.ROLLED_BACK)
    board.note_verdict(4, ReloadVerdict.REFUSED)
    board.note_verdict(4, ReloadVerdict.SUCCEEDED)
    board.note_verdict(10**6, ReloadVerdict.SUCCEEDED)  # beyond what is remembered
    assert board.count_verdicts() == dict.fromkeys(ReloadVerdict, 1)


def test_a_refused_configuration_is_a_verdict() -> None:
    """Written by the master, before there are workers."""
    board = new_board()
    board.begin_generation(1)
    board.begin_generation(1, "a typo")
    assert board.count_verdicts()[ReloadVerdict.REFUSED] == 1


# -- reports ---------------------------------------------------------------------------------------


def test_a_report_is_asked_for_by_number_and_given_under_it(created: Scoreboard) -> None:
    """By another process of the same user, which then reads it."""
    slot = new_worker(created)
    asking = Scoreboard.of_master(os.getpid(), writable=True).slots[slot.index]
    assert [asking.ask_report(), asking.ask_report()] == [1, 2]
    assert slot.get(Cell.REPORT_ASKED) == 2
    slot.give_report(2, "tasks: none \u2026")
    assert (asking.get(Cell.REPORT_GIVEN), asking.read_report()) == (2, "tasks: none \u2026")


def test_who_only_looks_cannot_write(created: Scoreboard) -> None:
    """`status` changes nothing, whatever it does wrong."""
    slot = new_worker(created)
    with pytest.raises(TypeError):
        Scoreboard.of_master(os.getpid()).slots[slot.index].ask_report()
