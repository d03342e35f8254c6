"""``status``: what the workers do, once or again and again."""

from __future__ import annotations

import sys
import time

from gunicorn_asgi.worker.command.output import say
from gunicorn_asgi.worker.command.report import as_table, look
from gunicorn_asgi.worker.command.snapshot import as_json, requests_table, snapshot
from gunicorn_asgi.worker.command.target import Target

__all__ = ["status"]

# Seconds between two looks: as often as the workers write.
_INTERVAL = 1.0

# ECMA-48: cursor to the upper left corner, erase what is below.
_REDRAW = "\x1b[H\x1b[J"


def status(target: Target, *, watch: bool, json: bool, requests: bool = False) -> int:
    """Runs in: command line. Show the board; with ``watch`` until interrupted.

    ``requests``: show the open requests below the table; in the JSON they always are.

    Raises:
        NoMaster: the master is gone.
    """
    while True:
        if json:
            # One line a look, for those who read line by line.
            text = as_json(snapshot(target.board), indent=None if watch else 2)
        else:
            text = as_table(look(target.board))
            if requests:
                text += "\n\n" + requests_table(target.board)
            if watch and sys.stdout.isatty():
                text = _REDRAW + text
        target.insist()
        say(text)
        if not watch:
            return 0
        time.sleep(_INTERVAL)
