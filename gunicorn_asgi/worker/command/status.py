"""``status``: what the workers do, once or again and again."""

from __future__ import annotations

import sys
import time

from gunicorn_asgi.worker.command.output import say
from gunicorn_asgi.worker.command.report import as_json, as_table, look
from gunicorn_asgi.worker.command.target import Target

__all__ = ["status"]

# Seconds between two looks: as often as the workers write.
_INTERVAL = 1.0

# ECMA-48: cursor to the upper left corner, erase what is below.
_REDRAW = "\x1b[H\x1b[J"


def status(target: Target, *, watch: bool, json: bool) -> int:
    """Runs in: command line. Show the board; with ``watch`` until interrupted.

    Raises:
        NoMaster: the master is gone.
    """
    while True:
        report = look(target.board)
        target.insist()
        if json:
            # One line a look, for those who read line by line.
            say(as_json(report, indent=None if watch else 2))
        else:
            redraw = watch and sys.stdout.isatty()
            say((_REDRAW if redraw else "") + as_table(report))
        if not watch:
            return 0
        time.sleep(_INTERVAL)
