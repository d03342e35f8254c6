"""Memory shared by the master, its workers and whoever asks about them.

A file in memory (memfd; elsewhere an unlinked one), made by the master before the first fork:
a header, and for each worker a slot, counters, a text, a table of open requests, and room for a
report. Cells are 64-bit integers. Each has one writer: the header is the master's, a slot is the
master's until the fork and its worker's after, and nobody increments what another may write (two
processes lose half of such increments). Verdicts are bytes that several may write, all the same.

Times are in milliseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from enum import IntEnum

from gunicorn_asgi.protocol.lifecycle import Member, WorkerState
from gunicorn_asgi.worker.counters import COUNTERS
from gunicorn_asgi.worker.openrequests import (
    TABLE_SIZE,
    OpenEntry,
    OpenRequests,
    clear_table,
    read_table,
)

__all__ = ["SLOTS", "Cell", "Header", "ReloadVerdict", "Scoreboard", "Slot", "milliseconds"]

# More than any sane number of workers, twice over: an ended worker's slot is read for a while.
SLOTS = 256

_HEADER_CELLS = 16
_SLOT_CELLS = 32
_TEXT_SIZE = 4096
_REPORT_SIZE = 64 * 1024
_CELL = 8
_COUNTERS = _HEADER_CELLS + SLOTS * _SLOT_CELLS
_TEXTS = (_COUNTERS + SLOTS * COUNTERS) * _CELL
_HEADER_TEXT = _TEXTS + SLOTS * _TEXT_SIZE
_VERDICTS = _HEADER_TEXT + _TEXT_SIZE
# Of so many generations; of later ones it is not remembered.
_VERDICTS_SIZE = 64 * 1024
_REQUESTS = _VERDICTS + _VERDICTS_SIZE
_REPORTS = _REQUESTS + SLOTS * TABLE_SIZE
# 30 MB, of which the kernel only spends what was once written.
_SIZE = _REPORTS + SLOTS * _REPORT_SIZE

_NAME = "gunicorn_asgi"


class Header(IntEnum):
    """Runs in: master and worker. Cells of the header, written by the master."""

    LAYOUT = 0
    MASTER = 1
    GENERATION = 2
    TARGET = 3
    RELOADED_AT = 4
    # The last generation that began with the configuration before it: the new one was refused.
    REFUSED = 5
    # The inode of the first listening socket; 0 if the master has none (reuse_port).
    LISTENER = 6


class Cell(IntEnum):
    """Runs in: master and worker. Cells of a slot; the first four are written by the master."""

    GENERATION = 0
    FOUNDER = 1
    AGE = 2
    CLAIMED_AT = 3
    PID = 4
    STATE = 5
    CONFIRMED = 6
    STOPPED = 7
    RECYCLING = 8
    BEAT_AT = 9
    READY_AT = 10
    ENDED_AT = 11
    REQUESTS = 12
    CONNECTIONS = 13
    IN_FLIGHT = 14
    WEBSOCKETS = 15
    LAG = 16
    RSS = 17
    BOOTS = 18
    # The number of the last report that was asked for, written by who asks; of the last given.
    REPORT_ASKED = 19
    REPORT_GIVEN = 20
    # The age of the worker that is to tell of this one, which was lost; written by the master.
    OBITUARY = 21
    # The least that no living worker has: its name in metrics, of which there are but a few.
    NUMBER = 22
    # How many lines of the table of open requests were ever used.
    LINES = 23


class ReloadVerdict(IntEnum):
    """Runs in: master and worker. What became of a reload."""

    SUCCEEDED = 1
    ROLLED_BACK = 2
    REFUSED = 3


# The number of this layout, so that a reader of another version does not misread it.
_LAYOUT = 3


def milliseconds() -> int:
    """Runs in: master and worker. Now, by the monotonic clock."""
    return time.monotonic_ns() // 1_000_000


def _write_text(memory: mmap.mmap, at: int, text: str) -> None:
    """Keep the end of ``text``."""
    data = text.encode("utf-8", "replace")[-(_TEXT_SIZE - 1) :]
    memory[at : at + len(data) + 1] = data + b"\0"


def _read_text(memory: mmap.mmap, at: int, size: int = _TEXT_SIZE) -> str:
    raw = bytes(memory[at : at + size])
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


class Slot:
    """Runs in: master and worker. One worker's part of the board.

    Attributes:
        index: its number.
        counters: see ``Counter``; they outlive the worker.
    """

    __slots__ = ("_base", "_cells", "_memory", "_report", "_requests", "_text", "counters", "index")

    def __init__(self, memory: mmap.mmap, cells: memoryview, index: int) -> None:
        """Runs in: master and worker."""
        self._memory = memory
        self._cells = cells
        self._base = _HEADER_CELLS + index * _SLOT_CELLS
        self._text = _TEXTS + index * _TEXT_SIZE
        self._requests = _REQUESTS + index * TABLE_SIZE
        self._report = _REPORTS + index * _REPORT_SIZE
        first = _COUNTERS + index * COUNTERS
        self.counters = cells[first : first + COUNTERS]
        self.index = index

    def get(self, cell: Cell) -> int:
        """Runs in: master and worker. The value of ``cell``."""
        value: int = self._cells[self._base + cell]
        return value

    def put(self, cell: Cell, value: int) -> None:
        """Runs in: master and worker. Write a cell (master: before the fork)."""
        self._cells[self._base + cell] = value

    def claim(self, generation: int, founder: bool, age: int) -> None:
        """Runs in: master. Make it ready for the worker about to be forked."""
        clear_table(self._memory, self._requests, self.get(Cell.LINES))
        for cell in Cell:
            if cell is not Cell.BOOTS:  # it tells whether this server has ever served
                self.put(cell, 0)
        self.write_text("")
        self.put(Cell.FOUNDER, founder)
        self.put(Cell.AGE, age)
        self.put(Cell.CLAIMED_AT, milliseconds())
        self.put(Cell.GENERATION, generation)

    def write_text(self, text: str) -> None:
        """Runs in: master and worker. Keep why it failed (master: clear it)."""
        _write_text(self._memory, self._text, text)

    def read_text(self) -> str:
        """Runs in: master and worker. The text, empty if there is none."""
        return _read_text(self._memory, self._text)

    def open_requests(self) -> OpenRequests:
        """Runs in: worker. The table of its requests, to be written."""

        def use(lines: int) -> None:
            self.put(Cell.LINES, lines)

        return OpenRequests(self._memory, self._requests, use)

    def read_requests(self) -> list[OpenEntry]:
        """Runs in: worker and command line. The requests it is, or was, busy with."""
        return read_table(self._memory, self._requests, self.get(Cell.LINES))

    def ask_report(self) -> int:
        """Runs in: command line. Ask the worker for a report; its number."""
        number = self.get(Cell.REPORT_ASKED) + 1
        self.put(Cell.REPORT_ASKED, number)
        return number

    def give_report(self, number: int, text: str) -> None:
        """Runs in: watchdog thread. Give the report that was asked for, its beginning if long."""
        data = text.encode("utf-8", "replace")[: _REPORT_SIZE - 1]
        self._memory[self._report : self._report + len(data) + 1] = data + b"\0"
        self.put(Cell.REPORT_GIVEN, number)

    def read_report(self) -> str:
        """Runs in: command line. The last report given."""
        return _read_text(self._memory, self._report, _REPORT_SIZE)

    @property
    def used(self) -> bool:
        """Runs in: master and worker. Whether it was ever claimed."""
        return self.get(Cell.GENERATION) > 0

    @property
    def alive(self) -> bool:
        """Runs in: master and worker. Whether its process exists, or is about to be forked."""
        pid = self.get(Cell.PID)
        if not pid:
            return milliseconds() - self.get(Cell.CLAIMED_AT) < 10_000
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def lost(self) -> bool:
        """Runs in: master. Whether its worker was killed or has crashed, and nobody tells of it."""
        return (
            bool(self.get(Cell.PID))
            and not (self.get(Cell.OBITUARY) or self.get(Cell.ENDED_AT))
            and self.get(Cell.STATE) not in (WorkerState.FAILED, WorkerState.EXITED)
            and not self.alive
        )

    def member(self) -> Member:
        """Runs in: worker. What it says, for a verdict."""
        return Member(
            self.get(Cell.GENERATION),
            bool(self.get(Cell.FOUNDER)),
            WorkerState(self.get(Cell.STATE)),
            self.alive,
            bool(self.get(Cell.CONFIRMED)),
            bool(self.get(Cell.STOPPED)),
            bool(self.get(Cell.RECYCLING)),
        )


class Scoreboard:
    """Runs in: master and worker. The whole of it.

    Attributes:
        slots: all slots, used or not.
    """

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        """Runs in: master, and in whoever reads a board by its descriptor."""
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._memory = mmap.mmap(fd, _SIZE, access=access)
        self._cells = memoryview(self._memory)[:_TEXTS].cast("q")
        self.slots = [Slot(self._memory, self._cells, index) for index in range(SLOTS)]
        self._next = 0

    @classmethod
    def create(cls) -> Scoreboard:
        """Runs in: master. A new board; its descriptor stays open, for others to find it."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile(prefix=_NAME) as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _SIZE)
        board = cls(fd)
        board.put(Header.LAYOUT, _LAYOUT)
        board.put(Header.MASTER, os.getpid())
        return board

    @classmethod
    def of_master(cls, pid: int, *, writable: bool = False) -> Scoreboard:
        """Runs in: command line. The board of the master ``pid`` of the same user, to be read.

        Only who asks for a report needs it ``writable``.

        Raises:
            LookupError: there is no such process, it has no board, or it may not be read.
        """
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError as exc:
            raise LookupError(f"process {pid} cannot be looked at: {exc.strerror}") from None
        for name in names:
            path = f"{folder}/{name}"
            try:
                if f"memfd:{_NAME}" not in os.readlink(path):
                    continue
                fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
            except OSError:
                continue
            try:
                board = cls(fd, writable=writable)
            except ValueError:  # shorter than ours, so another version's
                continue
            finally:
                os.close(fd)
            if board.get(Header.LAYOUT) == _LAYOUT:
                return board
        raise LookupError(f"process {pid} is no gunicorn_asgi master of this version")

    def get(self, cell: Header) -> int:
        """Runs in: master and worker. A cell of the header."""
        value: int = self._cells[cell]
        return value

    def put(self, cell: Header, value: int) -> None:
        """Runs in: master. Write a cell of the header."""
        self._cells[cell] = value

    def begin_generation(self, target: int, refusal: str = "") -> int:
        """Runs in: master. Count a reload that will fork ``target`` founders.

        ``refusal`` is why they get the configuration of the generation before.
        """
        generation = self.get(Header.GENERATION) + 1
        if refusal:
            _write_text(self._memory, _HEADER_TEXT, refusal)
            self.put(Header.REFUSED, generation)
            self.note_verdict(generation, ReloadVerdict.REFUSED)
        self.put(Header.TARGET, target)
        self.put(Header.RELOADED_AT, milliseconds())
        self.put(Header.GENERATION, generation)
        return generation

    def refusal(self, generation: int) -> str:
        """Runs in: command line. Why this generation has the old configuration, or nothing."""
        if self.get(Header.REFUSED) != generation:
            return ""
        return _read_text(self._memory, _HEADER_TEXT)

    def note_verdict(self, generation: int, verdict: ReloadVerdict) -> None:
        """Runs in: master and worker. What became of a reload; the first word counts.

        The start of the server is generation 1, and no reload.
        """
        at = _VERDICTS + generation
        if 1 < generation < _VERDICTS_SIZE and not self._memory[at]:
            self._memory[at] = verdict

    def count_verdicts(self) -> dict[ReloadVerdict, int]:
        """Runs in: worker and command line. How many reloads ended in which way."""
        told = self._memory[_VERDICTS : _VERDICTS + _VERDICTS_SIZE]
        return {verdict: told.count(verdict) for verdict in ReloadVerdict}

    def claim(self, founder: bool, age: int) -> Slot:
        """Runs in: master. The next slot whose worker is gone, for one about to be forked.

        That one is also to tell of the workers that were lost meanwhile.
        """
        for offset in range(SLOTS):
            slot = self.slots[(self._next + offset) % SLOTS]
            if not slot.used or not slot.alive:
                break
        self._next = slot.index + 1
        for other in self.slots:
            if other.lost:
                other.put(Cell.OBITUARY, age)
        slot.claim(self.get(Header.GENERATION), founder, age)
        taken = {each.get(Cell.NUMBER) for each in self.used_slots() if each.alive}
        slot.put(Cell.NUMBER, next(number for number in range(1, SLOTS + 2) if number not in taken))
        return slot

    def used_slots(self) -> list[Slot]:
        """Runs in: worker. The slots that were ever claimed."""
        return [slot for slot in self.slots if slot.used]

    def members(self, without: Slot | None = None) -> list[Member]:
        """Runs in: worker. Everybody, but the one in slot ``without``."""
        return [slot.member() for slot in self.used_slots() if slot is not without]

    @property
    def has_served(self) -> bool:
        """Runs in: worker. Whether any worker of this server has ever been ready."""
        return any(slot.get(Cell.BOOTS) for slot in self.slots)
