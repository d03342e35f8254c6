"""What a start has to import, and what it leaves to those who need it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gunicorn_asgi.worker import arbiter, statusdesk
from kit.fakes import FakeLog

__all__: list[str] = []

# Together a fifth of what a start would take beyond Gunicorn's own.
LATER = {
    *("difflib", "gunicorn_asgi.status", "gunicorn_asgi.status.app"),
    *(
        "gunicorn_asgi.worker.command",
        "gunicorn_asgi.worker.metrics",
        "gunicorn_asgi.worker.statsd",
    ),
    *("importlib.resources", "prometheus_client", "sysconfig"),
}


def imported(code: str) -> set[str]:
    """What a new process has imported after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_a_start_imports_nothing_that_many_a_worker_never_needs() -> None:
    """8 ms of the status page, and more."""
    bare = imported("import gunicorn.app.wsgiapp, gunicorn.arbiter, gunicorn.workers.base")
    ours = imported("import gunicorn_asgi")
    assert "gunicorn_asgi.aio.websocket" in ours
    assert (ours - bare) & LATER == set()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", {"uvloop"}),
        ("GUNICORN_ASGI_LOOP=asyncio", set()),
        ("GUNICORN_ASGI_STATUS_BIND=127.0.0.1:0", {"uvloop", "gunicorn_asgi.status.app"}),
        ("statsd", {"uvloop", "gunicorn_asgi.worker.statsd"}),
    ],
    ids=["plain", "asyncio", "status", "statsd"],
)
def test_the_master_imports_what_its_workers_will_need(setting: str, expected: set[str]) -> None:
    """What is read from the disk later may be of another version; and uvloop's memory is shared."""
    code = f"""
import os
name, _, value = {setting!r}.partition("=")
if value:
    os.environ[name] = value
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd
from gunicorn_asgi.worker.arbiter import check
config = Config()
config.set("statsd_host", "127.0.0.1:1")
check(config, (Statsd if name == "statsd" else Logger)(config))
"""
    needed = {"gunicorn_asgi.status.app", "gunicorn_asgi.worker.statsd", "uvloop"}
    assert imported(code) & needed == expected


def test_what_cannot_be_imported_at_a_reload_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the master would end the server."""

    def broken(*_args: object) -> None:
        raise SyntaxError("half an upgrade")

    monkeypatch.setattr(statusdesk, "import_needed", broken)
    log: Any = FakeLog()
    arbiter._import_needed(Any, log)  # type: ignore[arg-type]
    assert log.lines("error") == [
        "What the workers need cannot be imported: SyntaxError('half an upgrade')"
    ]
