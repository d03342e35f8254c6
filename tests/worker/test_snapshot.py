"""The JSON of ``status`` and of the status page, and the table of open requests."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from boards import new_board, new_worker, owner
from gunicorn_asgi.worker.command.snapshot import as_json, open_requests, requests_table, snapshot
from gunicorn_asgi.worker.counters import BOUNDS, CLASSES, Counter, request_cell
from gunicorn_asgi.worker.scoreboard import ReloadVerdict, Scoreboard

__all__: list[str] = []

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"
TABLES = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]


@pytest.fixture
def board() -> Scoreboard:
    """Of a server of two workers, each busy with one request."""
    found = new_board()
    found.begin_generation(2)
    for target in ("/report?year=2026", "/other"):
        table = new_worker(found).open_requests()
        table.begin(owner(target, "POST", "abc", ("2001:db8::1", 5)))
    return found


def test_the_json_has_the_documented_keys(board: Scoreboard) -> None:
    """docs/command-line.md; a script may rely on them."""
    found = json.loads(as_json(snapshot(board)))
    assert list(found) == [
        *("master", "generation", "wanted", "since_s", "verdict", "reason"),
        *("ready", "ready_before", "workers", "time", "requests", "latency", "totals"),
        *("reloads", "open_requests"),
    ]
    assert [list(row) for row in found["workers"]] == 2 * [
        [
            *("generation", "pid", "state", "connections", "in_flight", "websockets"),
            *("requests", "lag_ms", "memory_bytes", "age_s", "error", "worker"),
        ]
    ]
    assert [list(row) for row in found["open_requests"]] == 2 * [
        ["pid", "progress", "method", "target", "request_id", "client", "age_s"]
    ]
    words = {word for line in TABLES for word in re.findall(r"`([a-z0-9_]+)`", line)}
    keys = {*found, *found["workers"][0], *found["open_requests"][0], *found["latency"]}
    assert keys | set(found["requests"]) | set(found["totals"]) | set(found["reloads"]) <= words


def test_every_number_has_a_key_of_its_own(board: Scoreboard) -> None:
    """Sums over the living and the dead."""
    one, gone = new_worker(board), new_worker(board, alive=False)
    for slot in (one, gone):
        for counter in Counter:
            slot.counters[counter] = counter * 10
        for row in range(len(CLASSES)):
            slot.counters[request_cell(row, row)] = row + 1
    board.note_verdict(board.begin_generation(2), ReloadVerdict.ROLLED_BACK)
    before = time.time()
    found = snapshot(board)
    assert before - 1 <= found["time"] <= time.time() + 1
    assert found["requests"] == {name: 2 * (row + 1) for row, name in enumerate(CLASSES)}
    rest = [0] * (len(BOUNDS) + 1 - len(CLASSES))
    counts = [2 * (row + 1) for row in range(len(CLASSES))] + rest
    assert found["latency"] == {"bounds": list(BOUNDS), "counts": counts}
    assert found["totals"] == {counter.name.lower(): counter * 20 for counter in Counter}
    assert found["reloads"] == {"succeeded": 0, "rolled_back": 1, "refused": 0}


def test_open_requests_are_those_of_living_workers_the_oldest_first(board: Scoreboard) -> None:
    """What a killed worker was busy with is over."""
    new_worker(board, alive=False).open_requests().begin(owner("/gone"))
    found = open_requests(board)
    assert [(each.pid, each.method, each.target) for each in found] == [
        (os.getpid(), "POST", "/report?year=2026"),
        (os.getpid(), "POST", "/other"),
    ]
    assert [(each.request_id, each.client) for each in found] == 2 * [("abc", "[2001:db8::1]:5")]
    assert all(0 <= each.age_s < 60 for each in found)


def test_an_empty_board_is_told_too() -> None:
    """Before the first fork."""
    found = snapshot(new_board())
    assert (found["workers"], found["open_requests"]) == ((), [])
    assert sum(found["latency"]["counts"]) == sum(found["totals"].values()) == 0


def test_json_is_one_line_unless_it_is_for_people(board: Scoreboard) -> None:
    """``status --watch --json`` writes a document a line; so does a stream of events."""
    assert "\n" not in as_json(snapshot(board))
    assert as_json(snapshot(board), indent=2).count("\n") > 20


def test_the_table_is_aligned(monkeypatch: pytest.MonkeyPatch, board: Scoreboard) -> None:
    """Ages and pids to the right, words to the left."""
    new_worker(board).open_requests().begin(owner(client=None))
    later = time.monotonic() + 65.5
    monkeypatch.setattr(time, "monotonic", lambda: later)
    pid = os.getpid()
    lines = requests_table(board).splitlines()
    assert lines[0].split() == ["age", "pid", "progress", "client", "id", "request"]
    assert lines[1] == f"1m05s  {pid}  waiting   [2001:db8::1]:5  abc  POST /report?year=2026"
    assert lines[3] == f"1m05s  {pid}  waiting   -                -    GET /"


def test_a_request_cannot_drive_the_terminal() -> None:
    """CWE-117: C1 controls may stand in a target."""
    board = new_board()
    board.begin_generation(1)
    new_worker(board).open_requests().begin(owner("/\x9b31m" + "x" * 200, request_id="a\x01b"))
    line = requests_table(board).splitlines()[1]
    assert "  a\\x01b  GET /\\x9b31mxxx" in line
    assert line.endswith("xxx...")
    assert line.isprintable()


def test_nothing_is_said_so() -> None:
    assert requests_table(new_board()) == "no open requests"
