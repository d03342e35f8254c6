"""What the board says, in words and numbers for people and scripts.

The fields of ``Report`` and ``WorkerRow`` are an interface: docs/command-line.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from gunicorn_asgi.protocol.lifecycle import (
    Member,
    Outcome,
    WorkerState,
    is_accepting,
    outcome,
)
from gunicorn_asgi.worker.scoreboard import Cell, Header, Scoreboard, Slot, milliseconds

__all__ = ["Report", "WorkerRow", "as_table", "columns", "duration", "lag_ms", "look"]

# Workers beat at least once a second (milliseconds). What is beyond it is lag that the worker
# itself cannot tell yet, because its loop does not turn.
_BEAT = 1_000

_COLUMNS = (
    *("gen", "pid", "state", "conns", "in flight", "ws", "requests", "lag ms", "MiB", "age"),
    "worker",
)


@dataclass(frozen=True)
class WorkerRow:
    """Runs in: worker and command line. One worker; the fields are those in the JSON."""

    generation: int
    pid: int
    state: str
    connections: int
    in_flight: int
    websockets: int
    requests: int
    lag_ms: float
    memory_bytes: int
    age_s: float
    error: str
    worker: int


@dataclass(frozen=True)
class Report:
    """Runs in: worker and command line. One look at a board; the fields are those in the JSON.

    Attributes:
        wanted: how many workers the newest generation wants.
        since_s: how long ago it began.
        verdict: value of an Outcome.
        reason: why it failed, or was refused its configuration; empty otherwise.
        ready: how many workers of the newest generation accept.
        ready_before: how many older ones do.
    """

    master: int
    generation: int
    wanted: int
    since_s: float
    verdict: str
    reason: str
    ready: int
    ready_before: int
    workers: tuple[WorkerRow, ...]


def look(board: Scoreboard) -> Report:
    """Runs in: worker and command line. Read the board."""
    now = milliseconds()
    newest, wanted = board.get(Header.GENERATION), board.get(Header.TARGET)
    found = [(slot, slot.member()) for slot in board.used_slots()]
    members = [member for _, member in found]
    refusal = board.refusal(newest)
    verdict = outcome(newest, wanted, members, bool(refusal))
    accepting = [member for member in members if is_accepting(member)]
    ready = sum(member.generation == newest for member in accepting)
    failed = _failed(found, newest, wanted, verdict)
    living = [slot for slot, member in found if member.alive and slot not in failed]
    return Report(
        master=board.get(Header.MASTER),
        generation=newest,
        wanted=wanted,
        since_s=_seconds(now - board.get(Header.RELOADED_AT)),
        verdict=verdict.value,
        reason=_reason(verdict, failed, refusal),
        ready=ready,
        ready_before=len(accepting) - ready,
        workers=tuple(_row(slot, now) for slot in sorted([*failed, *living], key=_order)),
    )


def _failed(
    found: Sequence[tuple[Slot, Member]], newest: int, wanted: int, verdict: Outcome
) -> list[Slot]:
    """The slots of the newest generation to be shown although nobody is in them any more.

    Not more than it wanted workers: a worker that does not boot may be forked again and again.
    """
    failed = [
        slot
        for slot, member in found
        if member.generation == newest
        and (
            member.state is WorkerState.FAILED
            # Killed, or crashed, without a word. Not of interest once others have come.
            or (verdict is Outcome.FAILED and member.founder and _was_cut_short(member))
        )
    ]
    return sorted(failed, key=_order)[-wanted:]


def _was_cut_short(member: Member) -> bool:
    return not member.alive and member.state in (WorkerState.BOOTING, WorkerState.READY)


def _order(slot: Slot) -> int:
    return slot.get(Cell.AGE)


def _reason(verdict: Outcome, failed: Sequence[Slot], refusal: str) -> str:
    texts = [refusal.strip()] if refusal else []
    if verdict is Outcome.FAILED:
        told = next((text for text in (slot.read_text().strip() for slot in failed) if text), "")
        gone = ", ".join(str(slot.get(Cell.PID)) for slot in failed)
        silent = f"ended without a word: worker {gone}" if gone else "a worker of it has left"
        texts.append(told or silent)
    return "\n\n".join(texts)


def _row(slot: Slot, now: int) -> WorkerRow:
    state = WorkerState(slot.get(Cell.STATE)).name.lower()
    if state != "failed" and not slot.alive:
        state = "gone"
    return WorkerRow(
        generation=slot.get(Cell.GENERATION),
        pid=slot.get(Cell.PID),
        state=state,
        connections=slot.get(Cell.CONNECTIONS),
        in_flight=slot.get(Cell.IN_FLIGHT),
        websockets=slot.get(Cell.WEBSOCKETS),
        requests=slot.get(Cell.REQUESTS),
        lag_ms=round(lag_ms(slot, now), 1),
        memory_bytes=slot.get(Cell.RSS),
        age_s=_seconds((slot.get(Cell.ENDED_AT) or now) - slot.get(Cell.CLAIMED_AT)),
        error=slot.read_text().strip(),
        worker=slot.get(Cell.NUMBER),
    )


def lag_ms(slot: Slot, now: int) -> float:
    """Runs in: worker and command line. The lag of a worker's loop (milliseconds) at ``now``.

    As the worker has measured it, or for how long its heartbeat is overdue.
    """
    beat = slot.get(Cell.BEAT_AT)
    overdue = (slot.get(Cell.ENDED_AT) or now) - beat - _BEAT if beat else 0
    return max(slot.get(Cell.LAG) / 1000, float(overdue))


def _seconds(ms: int) -> float:
    return round(max(0, ms) / 1000, 1)


def as_table(report: Report) -> str:
    """Runs in: command line. The report for people."""
    cells = [_COLUMNS, *(_cells(row) for row in report.workers)]
    lines = [_headline(report), "", *columns(cells, left={2})]
    if report.reason:
        lines += ["", report.reason.splitlines()[-1]]
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]], left: Set[int]) -> list[str]:
    """Runs in: command line. A line for each row: words to the left, numbers to the right.

    ``left`` are the numbers of the columns that hold words.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = (
            text.ljust(width) if index in left else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return lines


def _headline(report: Report) -> str:
    event = "reloaded" if report.generation > 1 else "started"
    serving = f"{report.ready} of {report.wanted} ready"
    if report.ready_before:
        serving += f", {report.ready_before} older"
    return (
        f"master {report.master}, generation {report.generation}, "
        f"{event} {duration(report.since_s)} ago: {report.verdict}, {serving}"
    )


def _cells(row: WorkerRow) -> tuple[str, ...]:
    return (
        str(row.generation),
        str(row.pid or "-"),
        row.state,
        str(row.connections),
        str(row.in_flight),
        str(row.websockets),
        str(row.requests),
        f"{row.lag_ms:.1f}",
        f"{row.memory_bytes / 2**20:.1f}",
        duration(row.age_s),
        str(row.worker),
    )


def duration(seconds: float) -> str:
    """Runs in: command line. 9s, 4m05s, 3h07m, 2d04h."""
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole}s"
    if not hours:
        return f"{minutes}m{whole % 60:02}s"
    if not days:
        return f"{hours}h{minutes % 60:02}m"
    return f"{days}d{hours % 24:02}h"
