"""``metrics``: the text that Prometheus scrapes, without a request to the server."""

from __future__ import annotations

from gunicorn_asgi.status.exposition import MISSING, OPENMETRICS, MissingLibrary, render
from gunicorn_asgi.worker.command.output import complain, say
from gunicorn_asgi.worker.command.target import Target

__all__ = ["metrics"]


def metrics(target: Target, *, openmetrics: bool) -> int:
    """Runs in: command line. Write the metrics; 1 without the library that builds the text.

    Raises:
        NoMaster: the master is gone.
    """
    try:
        text, _ = render(target.board, OPENMETRICS if openmetrics else "")
    except MissingLibrary:
        complain(MISSING)
        return 1
    target.insist()
    say(text.decode(), end="")
    return 0
