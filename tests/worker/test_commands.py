"""``status`` and ``metrics`` without a master: what they write, and where."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from boards import new_board, new_worker, owner
from gunicorn_asgi.worker.command.metrics import metrics
from gunicorn_asgi.worker.command.status import status
from gunicorn_asgi.worker.command.target import NoMaster

__all__: list[str] = []


@pytest.fixture
def target() -> Any:  # noqa: ANN401 - stands in for a Target
    """Of a server with one worker, which is busy."""
    board = new_board()
    board.begin_generation(1)
    new_worker(board).open_requests().begin(owner("/report"))
    return SimpleNamespace(board=board, insist=lambda: None)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_metrics_are_written_as_they_are_scraped(
    target: Any,  # noqa: ANN401
    openmetrics: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To standard output, and nothing behind the last line."""
    assert metrics(target, openmetrics=openmetrics) == 0
    text = capsys.readouterr().out
    assert "\ngunicorn_asgi_target_workers 1.0\n" in text
    assert text.endswith("# EOF\n") is openmetrics
    assert not text.endswith("\n\n")


def test_without_the_library_there_are_none(
    target: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, which says what to do."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert metrics(target, openmetrics=False) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "pip install 'gunicorn_asgi[metrics]'" in told.err


@pytest.mark.parametrize("command", ["metrics", "status"])
def test_what_a_master_has_left_behind_is_not_told(
    target: Any,  # noqa: ANN401
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ended while it was looked at."""

    def gone() -> None:
        raise NoMaster("master 1 is gone")

    target.insist = gone
    with pytest.raises(NoMaster):
        if command == "metrics":
            metrics(target, openmetrics=False)
        else:
            status(target, watch=False, json=False, requests=True)
    assert capsys.readouterr().out == ""


def test_open_requests_stand_below_the_table(
    target: Any,  # noqa: ANN401
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If they were asked for."""
    assert status(target, watch=False, json=False) == 0
    assert "/report" not in capsys.readouterr().out
    assert status(target, watch=False, json=False, requests=True) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("  GET /report")


def test_the_json_always_has_them(
    target: Any,  # noqa: ANN401
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(target, watch=False, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["target"] for each in found["open_requests"]] == ["/report"]


def test_a_terminal_is_drawn_anew_and_a_file_is_not(
    target: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--watch``, until the master is gone."""
    for terminal in (True, False):
        left = [None, None]

        def insist(left: list[None] = left) -> None:
            if not left:
                raise NoMaster("master 1 is gone")
            left.pop()

        target.insist = insist
        monkeypatch.setattr("gunicorn_asgi.worker.command.status._INTERVAL", 0.0)
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        with pytest.raises(NoMaster):
            status(target, watch=True, json=False)
        assert capsys.readouterr().out.count("\x1b[H\x1b[J") == 2 * terminal
