"""Deploys that do not boot, each broken in a way of its own."""

from __future__ import annotations

from typing import NamedTuple

from kit.load import source

__all__ = ["BOOT_TIMEOUT", "BROKEN", "LOUD", "SETTINGS", "Broken"]

# Seconds; what hangs in C is ended by faulthandler's own thread 2 s later.
BOOT_TIMEOUT = 2
SETTINGS = {
    "GUNICORN_ASGI_BOOT_TIMEOUT": str(BOOT_TIMEOUT),
    "GUNICORN_ASGI_READY_CHECK": "/ready",
}


class Broken(NamedTuple):
    """One of them.

    Attributes:
        code: the text of ``app.py``.
        reason: pattern of what the line about the rollback says.
        trace: pattern of what the log shows besides, so that somebody can repair it.
        status: Gunicorn's exit status if the first start fails like this; 0: it goes on trying.
    """

    code: str
    reason: str
    trace: str
    status: int


_GONE = "a worker of it is gone"
_LATE = r"boot took longer than asgi_boot_timeout \(2 s\)"
_LATE_START = "lifespan startup or ready check took too long"


def _python(first: str = "", startup: str = "pass", answer: str = "pass") -> str:
    return source("broken", first=first, startup=startup, answer=answer)


BROKEN: dict[str, Broken] = {
    "syntax error": Broken("def app(:\n", "SyntaxError", r"File .*app\.py\", line 1", 3),
    "import error": Broken(
        _python("import no_such_thing"),
        "ModuleNotFoundError: No module named 'no_such_thing'",
        "import no_such_thing",
        3,
    ),
    "no application": Broken("a = 1\n", "Failed to find attribute 'app' in 'app'", "app", 4),
    "exit in import": Broken(_python("import sys; sys.exit()"), "SystemExit", r"sys\.exit\(\)", 3),
    "exit 3 in import": Broken(
        _python("import sys; sys.exit(3)"), "SystemExit: 3", r"sys\.exit\(3\)", 3
    ),
    "startup failed": Broken(
        _python(
            startup="""
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
            """
        ),
        "no database",
        "LifespanFailed",
        3,
    ),
    "startup raises": Broken(
        _python(startup="raise ValueError('no cache')"),
        "ValueError: no cache",
        r"raise ValueError\('no cache'\)",
        3,
    ),
    "not ready": Broken(
        _python(answer="status = 500 if scope['path'] == '/ready' else status"),
        "/ready answered with 500",
        "NotReady",
        3,
    ),
    "import hangs": Broken(_python("import time; time.sleep(60)"), _LATE, r"time\.sleep\(60\)", 3),
    "import hangs in C": Broken(
        _python("import collections, itertools; collections.deque(itertools.repeat(0), 0)"),
        _GONE,
        r"Timeout \(.*\)!\n(?:.*\n)*?.*app\.py\", line \d+ in <module>",
        0,
    ),
    "startup hangs": Broken(
        _python(startup="await asyncio.sleep(60)"), _LATE_START, "BootTimeout", 3
    ),
    "startup hangs and blocks": Broken(
        _python(startup="import time; time.sleep(60)"), _LATE, r"time\.sleep\(60\)", 3
    ),
    "never ready": Broken(
        _python(answer="await asyncio.sleep(60 * (scope['path'] == '/ready'))"),
        _LATE_START,
        "BootTimeout",
        3,
    ),
    "process ends": Broken(_python("os._exit(5)"), _GONE, "exited with code 5", 0),
    "process crashes": Broken(_python("os.kill(os.getpid(), 11)"), _GONE, "SIGSEGV|signal 11", 0),
}

# Those of which Gunicorn's arbiter learns by its own exit codes.
LOUD = [name for name, broken in BROKEN.items() if broken.status]
