"""What systemd is told, from a board that says what the test wants it to say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from gunicorn.systemd import sd_notify

from gunicorn_asgi.protocol.lifecycle import WorkerState
from gunicorn_asgi.worker.gate import Gate
from gunicorn_asgi.worker.scoreboard import Cell, Scoreboard, Slot, milliseconds
from gunicorn_asgi.worker.systemd import Notifier
from kit.fakes import FakeLog
from kit.notify import NotifySocket

S = WorkerState
MASTER = os.getppid()


class Place(NamedTuple):
    """One worker on the board; all of them live in the process of the test."""

    generation: int
    state: WorkerState
    confirmed: bool = False
    text: str = ""


ONE = [Place(1, S.READY, True), Place(1, S.READY, True)]
HELD = [Place(1, S.HOLDING, True), Place(1, S.HOLDING, True)]
FAILED = Place(2, S.FAILED, text="Traceback:\nImportError: nope\n")
WORDS: dict[str, tuple[list[Place], str, str]] = {
    "a first start": ([Place(1, S.READY), Place(1, S.BOOTING)], "", "generation 1 boots"),
    "all serve": (ONE, "", "generation 1 serves, 2 workers"),
    "one is left": (ONE[:1], "", "generation 1 serves, 1 worker"),
    "a reload": ([*HELD, Place(2, S.BOOTING)], "", "reloading: generation 2 boots"),
    "half a reload": (
        [*HELD, Place(2, S.READY), Place(2, S.BOOTING)],
        "",
        "reloading: generation 2 boots",
    ),
    "a good reload": (
        [Place(1, S.DRAINING, True), Place(2, S.READY, True), Place(2, S.READY)],
        "",
        "generation 2 serves, 2 workers",
    ),
    "a rollback": (
        [*ONE, FAILED],
        "",
        "rolled back to generation 1: generation 2 failed to boot: ImportError: nope",
    ),
    "a rollback to nobody": (
        [FAILED, FAILED, Place(2, S.READY)],
        "",
        "generation 2 failed to boot: ImportError: nope",
    ),
    "a refused configuration": (
        [Place(2, S.READY, True)],
        "Traceback:\nNameError: x\n",
        "generation 2 serves, 1 worker, with the old configuration: NameError: x",
    ),
}


def make_board(places: list[Place], refusal: str = "") -> Scoreboard:
    board = Scoreboard.create()
    newest = max(place.generation for place in places)
    for generation in range(1, newest + 1):
        board.begin_generation(2, refusal if generation == newest else "")
        for place in places:
            if place.generation == generation:
                slot = board.claim(True, 1)
                slot.put(Cell.PID, os.getpid())
                slot.put(Cell.STATE, place.state)
                slot.put(Cell.CONFIRMED, place.confirmed)
                slot.put(Cell.BEAT_AT, milliseconds())
                slot.write_text(place.text)
    return board


def notifier(board: Scoreboard, slot: Slot) -> Notifier:
    return Notifier(board, slot, Gate(board, slot, lambda: False), MASTER, FakeLog())


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    with NotifySocket() as notify:
        monkeypatch.setenv("NOTIFY_SOCKET", notify.path)
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        yield notify


def heard(systemd: NotifySocket) -> list[str]:
    """Everything so far: what is sent later is heard later."""
    sd_notify("KIT=END", FakeLog())
    systemd.wait("KIT=END")
    texts = [each.text for each in systemd.heard if each.text != "KIT=END"]
    systemd.heard.clear()
    return texts


@pytest.mark.parametrize("case", WORDS)
def test_status_in_words(systemd: NotifySocket, case: str) -> None:
    places, refusal, words = WORDS[case]
    board = make_board(places, refusal)
    for slot in board.used_slots():
        notifier(board, slot).tell()
    # Whoever else is on the board is silent.
    assert heard(systemd) == [f"STATUS={words}"]


def test_what_was_told_is_not_told_again_until_it_changes(systemd: NotifySocket) -> None:
    board = make_board(ONE)
    first, second = board.used_slots()
    speaker = notifier(board, first)
    speaker.tell()
    speaker.tell()
    assert heard(systemd) == ["STATUS=generation 1 serves, 2 workers"]
    second.put(Cell.STATE, S.EXITED)
    speaker.tell()
    assert heard(systemd) == ["STATUS=generation 1 serves, 1 worker"]


def test_one_that_hangs_silences_the_watchdog_but_not_the_news(systemd: NotifySocket) -> None:
    board = make_board(ONE)
    first, second = board.used_slots()
    first.put(Cell.BEAT_AT, milliseconds() - 60_000)
    speaker = notifier(board, second)
    speaker.tell()
    speaker.beat()
    assert heard(systemd) == ["STATUS=generation 1 serves, 2 workers"]
    first.put(Cell.BEAT_AT, milliseconds())
    for slot in (first, second):
        notifier(board, slot).beat()
    assert heard(systemd) == ["WATCHDOG=1"]


@pytest.mark.parametrize("state", [S.BOOTING, S.EXITING, S.FAILED, S.EXITED])
def test_the_watchdog_does_not_ask_those_who_have_no_beat(
    systemd: NotifySocket, state: WorkerState
) -> None:
    board = make_board([*ONE, Place(1, state)])
    first, _, other = board.used_slots()
    other.put(Cell.BEAT_AT, 0)
    notifier(board, first).beat()
    assert heard(systemd) == ["WATCHDOG=1"]


def test_a_draining_worker_that_hangs_silences_the_watchdog(systemd: NotifySocket) -> None:
    board = make_board([*ONE, Place(1, S.DRAINING)])
    first, _, other = board.used_slots()
    other.put(Cell.BEAT_AT, milliseconds() - 60_000)
    notifier(board, first).beat()
    assert heard(systemd) == []


@pytest.mark.parametrize(
    ("variable", "value", "fed"),
    [
        ("WATCHDOG_PID", str(MASTER), True),
        ("WATCHDOG_PID", "1" if MASTER != 1 else "2", False),
        ("WATCHDOG_USEC", None, False),
    ],
)
def test_whose_watchdog_is_fed(
    systemd: NotifySocket,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str | None,
    fed: bool,
) -> None:
    """sd_watchdog_enabled(3): WATCHDOG_PID is the main process, and may be left out."""
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    board = make_board(ONE)
    notifier(board, board.used_slots()[0]).beat()
    assert heard(systemd) == (["WATCHDOG=1"] if fed else [])


def test_without_systemd_the_board_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    board = make_board(ONE)
    silent = notifier(board, board.used_slots()[0])
    monkeypatch.setattr(board, "used_slots", None)
    silent.tell()
    silent.beat()
