"""The short way of the access log: lines are gathered, and none is lost, whatever happens."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

import pytest
from gunicorn.glogging import Logger

from accesslogs import FORM, Short, access_logger, line, record
from gunicorn_asgi.worker import accesslines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__: list[str] = []


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Short]:
    """On a file."""
    path = tmp_path / "access.log"
    with access_logger(path, access_log_format=FORM) as log:
        yield Short(path, log)


class Stream:
    """Where a handler writes."""

    def __init__(self, full: bool = False) -> None:
        """``full``: nothing goes in."""
        self.full = full
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        """As a file's."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.writes.append(text)

    def flush(self) -> None:
        """As a file's."""


# -- gathered --------------------------------------------------------------------------------------


def test_lines_are_written_at_the_end_of_the_turn_in_their_order(short: Short) -> None:
    """All by one write."""
    short.take("/1", "/2", "/3")
    assert short.text() == ""
    assert len(short.turns.due) == 1
    short.turns.end()
    assert short.text() == line("/1") + line("/2") + line("/3")
    short.turns.end()
    short.take("/4")
    short.turns.end()
    assert short.text().splitlines()[3:] == [line("/4").rstrip()]
    assert short.long == []


def test_so_many_lines_do_not_wait(short: Short) -> None:
    """64: what a kill may take away is bounded."""
    targets = [f"/{number}" for number in range(65)]
    short.take(*targets)
    assert short.text() == "".join(map(line, targets[:64]))
    short.turns.end()
    assert short.text() == "".join(map(line, targets))


def test_each_write_is_one_that_a_pipe_takes_whole(short: Short) -> None:
    """Standard output is one pipe for all workers: no line may end up inside another's."""
    stream = Stream()
    own = short.handler.setStream(stream)  # type: ignore[attr-defined]
    targets = ["/" + "x" * (number * 37 % 900) for number in range(60)]
    targets[20] = "/" + "y" * 9000  # longer than a pipe takes: it has a write for itself
    short.take(*targets)
    short.turns.end()
    short.handler.setStream(own)  # type: ignore[attr-defined]
    assert "".join(stream.writes) == "".join(map(line, targets))
    assert all(each.endswith("\n") for each in stream.writes)
    long = [each for each in stream.writes if len(each) > select.PIPE_BUF]
    assert long == [line(targets[20])]
    assert len(stream.writes) < 20


@pytest.mark.parametrize("size", [*range(15, 19), 31, 32, 33, 48])
def test_pieces_are_cut_at_line_ends(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Whatever the lengths: every line, once, in order, and none cut."""
    monkeypatch.setattr(accesslines, "_PIECE", 16)
    for first in range(18):
        lines = ["a" * first, "b" * (size - first if size > first else 0), "c" * 15, "", "d" * 16]
        pieces = list(accesslines._pieces(lines))
        assert "\n".join(pieces) == "\n".join(lines)
        assert all(len(each) < 16 or "\n" not in each for each in pieces)


def test_a_line_that_the_stream_cannot_encode_is_lost_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As through logging, which tells of it."""
    path = tmp_path / "access.log"
    with access_logger(path, access_log_format="%(U)s") as log:
        (handler,) = log.access_log.handlers
        handler.encoding = "ascii"
        handler.close()
        handler.stream = handler._open()
        short = Short(path, log)
        for text in ("/a", "/日", "/b"):
            exchange = record()
            exchange.scope["path"] = text
            short.lines.take(exchange)
        short.turns.end()
    assert path.read_text() == "/a\n/b\n"
    assert "UnicodeEncodeError" in capsys.readouterr().err


# -- nothing is lost -------------------------------------------------------------------------------


def test_a_log_that_is_moved_keeps_what_was_written_and_the_new_one_gets_the_rest(
    short: Short,
) -> None:
    """USR1 in the middle of a turn: Gunicorn's Logger.reopen_files."""
    short.take("/1")
    short.turns.end()
    short.take("/2")
    moved = short.path.rename(short.path.with_suffix(".1"))
    short.log.reopen_files()
    short.take("/3")
    short.turns.end()
    assert moved.read_text() == line("/1")
    assert short.text() == line("/2") + line("/3")


def test_a_handler_that_was_closed_opens_its_file_again(short: Short) -> None:
    """dictConfig() of an application closes all handlers there are."""
    short.handler.close()
    short.take("/1")
    short.turns.end()
    assert short.text() == line("/1")


def test_what_is_left_at_the_end_of_the_process_is_written_then(short: Short) -> None:
    """SIGABRT ends a loop in the middle of a turn."""
    short.take("/1")
    short.lines._leave()
    assert short.text() == line("/1")
    short.lines._leave()
    assert short.text() == line("/1")


def test_a_fork_of_the_applications_writes_nothing_of_it(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy of the lines is not its own."""
    short.take("/1")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    short.lines._leave()
    assert short.text() == ""
    short.turns.end()
    assert short.text() == line("/1")


def test_behind_the_last_turn_lines_go_the_long_way(short: Short) -> None:
    """The loop is closed, and a task of it ends."""
    short.turns.closed = True
    short.take("/1")
    assert [each.head.target for each in short.long] == [b"/1"]


# -- errors stay away from requests ----------------------------------------------------------------


def test_a_full_disk_is_told_by_logging_and_costs_no_request(
    short: Short, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handler.handleError, as for every line; the next ones are tried again."""
    stream = Stream(full=True)
    own = short.handler.setStream(stream)  # type: ignore[attr-defined]
    short.take(*["/"] * 65)
    short.turns.end()
    told = capsys.readouterr().err
    assert told.count("--- Logging error ---") == 2
    assert "No space left on device" in told
    stream.full = False
    short.take("/1")
    short.turns.end()
    assert stream.writes == [line("/1")]
    short.handler.setStream(own)  # type: ignore[attr-defined]


def test_a_file_that_does_not_open_is_told_and_costs_no_request(
    short: Short, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gets past logging, Gunicorn's logger tells in the error log; so do we."""
    told: list[str] = []
    monkeypatch.setattr(Logger, "exception", lambda _self, text: told.append(text))
    short.handler.close()
    short.path.unlink()
    short.path.mkdir()
    short.take(*["/"] * 65)
    short.turns.end()
    assert told == ["Exception in the access log"] * 2
    short.path.rmdir()
    short.take("/1")
    short.turns.end()
    assert short.text() == line("/1")


def test_a_record_that_makes_no_line_goes_the_long_way_in_its_turn(short: Short) -> None:
    """The lines before it are written before it, those behind it behind it."""
    odd = record()
    odd.head.target = None  # type: ignore[assignment]
    seen: list[str] = []
    short.lines._long_way = lambda _record: seen.append(short.text())
    short.take("/1")
    short.lines.take(odd)
    short.take("/2")
    short.turns.end()
    assert seen == [line("/1")]
    assert short.text() == line("/1") + line("/2")
