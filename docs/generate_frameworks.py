"""Writes docs/frameworks.md out of the matrix that tests/live/test_framework_matrix.py tries.

    PYTHONPATH=tests python docs/generate_frameworks.py

The versions are those that are installed, so run the matrix first, with the same Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from frameworks import CHECKS, EVERYWHERE, FRAMEWORKS, Framework

__all__ = ["PACKAGES", "page", "versions"]

_PAGE = Path(__file__).with_name("frameworks.md")
# Each package once, in the order in which the page names them.
PACKAGES = tuple(dict.fromkeys(name for each in FRAMEWORKS for name in each.packages))

_HEAD = """\
# Frameworks

<!-- Written by docs/generate_frameworks.py; edit tests/frameworks.py and the text there. -->

Each of these has an application under `tests/live/apps/frameworks/`, which
`tests/live/test_framework_matrix.py` serves by a real Gunicorn and asks over the wire. Every ASGI
application is named in the same way, `module:name`; an application that is not in the table is
served as well, if it speaks ASGI 2 or 3.

```sh
gunicorn -k gunicorn_asgi.Worker app:app
```

## Tried

The versions are those of the last run for this page, on Python 3.11. CI takes the newest of each
that the Python allows, on Python 3.10, 3.11 and 3.13, with Gunicorn 23.0.0 and 27.0.1.

"""

_NOTES = """\
## What to know

- **Flask and other WSGI applications** through `asgiref.wsgi.WsgiToAsgi` run in one thread per
  process, one request after the other, and through `a2wsgi.WSGIMiddleware` in a pool
  (`workers=10`). Neither knows WebSockets or the lifespan.
- **Django** disables all loggers that exist when its LOGGING does not say
  `"disable_existing_loggers": False`. Gunicorn's are among them: its log then ends at "Booting
  worker", though everything is served.
- **Django and Channels** know no lifespan; the worker sees that and goes on (`asgi_lifespan`
  "auto"). Channels' URLRouter raises when no route fits a WebSocket: the client gets a 500, and
  the log an error.
- **Litestar** logs exceptions only in debug mode, unless its LoggingConfig says
  `log_exceptions="always"`.
- **Sanic** is served as an ASGI application: what its own server has (workers, auto-reload, its
  TLS) is Gunicorn's here. `ws.recv()` gives None when the client has gone. A WebSocket at a path
  without a route makes it send `http.response.start`, which ASGI does not know there: the client
  gets a 500, and the log an error.
- **Server-sent events and WebSockets** end when their worker leaves, and their client opens them
  again: [drain.md](drain.md).

`tests/live/test_frameworks.py` and `tests/live/test_frameworks_websockets.py` go further with
FastAPI, Starlette and Django: files, ranges, uploads, threads, dependencies, rooms, close codes;
asked by requests, curl and the websockets library. `tests/live/test_tracing.py` and
`tests/live/test_error_reporting.py` do so with OpenTelemetry and Sentry.
"""


def _row(framework: Framework, told: Mapping[str, str]) -> str:
    packages = ", ".join(f"{name} {told[name]}" for name in framework.packages)
    return f"| {framework.name} | {packages} | {', '.join((*EVERYWHERE, *framework.checks))} |\n"


def page(told: Mapping[str, str]) -> str:
    """The whole of docs/frameworks.md, given the version of each of PACKAGES."""
    rows = "".join(_row(each, told) for each in FRAMEWORKS)
    checks = "".join(f"| {name} | {what} |\n" for name, what in CHECKS.items())
    return (
        f"{_HEAD}| framework | packages | what |\n|---|---|---|\n{rows}\n"
        f"| what | is |\n|---|---|\n{checks}\n{_NOTES}"
    )


def versions(text: str) -> dict[str, str]:
    """The version of each package that the page tells.

    Raises:
        ValueError: it does not tell that of each of PACKAGES.

    """
    names = "|".join(map(re.escape, PACKAGES))
    found = dict(re.findall(rf"(?<=[ ,])({names}) (\d+(?:\.\d+)+)(?=,| \|)", text))
    if set(found) != set(PACKAGES):
        raise ValueError(f"no version of {', '.join(sorted(set(PACKAGES) - set(found)))}")
    return found


if __name__ == "__main__":
    _PAGE.write_text(page({name: version(name) for name in PACKAGES}))
