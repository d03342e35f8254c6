"""What people really get wrong in the first five minutes: one line says what, and what to do.

The master ends with Gunicorn's own exit status. At a reload the same mistake is a failed boot like
any other: the generation before it serves on.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGHUP

import pytest

from kit.load import source
from kit.master import Master
from kit.wire import Wire, request

__all__: list[str] = []

FILES = {
    "site.cfg": "",
    "shop/__init__.py": "",
    "shop/main.py": """
async def app(scope, receive, send): ...
def create_app(): return app
""",
    "wsgi.py": """
def app(environ, start_response): ...
""",
    "dj.py": """
from django.conf import settings
settings.configure()
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
""",
}
WRAP = (
    r"wrap it, a2wsgi\.WSGIMiddleware\({0}\) or asgiref\.wsgi\.WsgiToAsgi\({0}\), or .*-k gthread"
)

# The path; the line; the exit status.
PATHS = {
    "no such module": (
        "shpo.main:app",
        r"No module named 'shpo' in \S+; did you mean 'shop.main:app'",
        3,
    ),
    "a file": ("shop/main.py:app", r"'shop/main.py' is a path, .*did you mean 'shop\.main:app'", 3),
    "no colon": (
        "shop.main.app",
        r"No module named 'shop\.main\.app'.*; did you mean 'shop\.main:app'",
        3,
    ),
    "no such name": ("shop.main:ap", r"attribute 'ap' in 'shop\.main'; .* 'shop\.main:app'", 4),
    "a package": ("shop:main", r"'shop\.main' is a module; did you mean 'shop\.main:app'", 4),
    "a factory": ("shop.main:create_app", r"takes no arguments.*'shop\.main:create_app\(\)'", 4),
    "wsgi": ("wsgi:app", "it is a WSGI application.*" + WRAP.format("app"), 4),
    "django's wsgi": (
        "dj",
        r"it is Django's WSGI application.* asgi\.py .*" + WRAP.format("application"),
        4,
    ),
}


def said(m: Master) -> list[str]:
    """Lines that a worker or the master has written about it, without the arbiter's own."""
    lines = m.log().splitlines()
    quiet = r"\[INFO\]|\[ERROR\] (Worker \(pid:|Shutting down: |Reason: )"
    return [line for line in lines if line and not re.search(quiet, line)]


@pytest.mark.parametrize("name", PATHS)
def test_a_wrong_application_is_told_of_in_one_line(name: str) -> None:
    """At the boot, and not at the first request; no traceback, since none has a line of theirs."""
    path, line, status = PATHS[name]
    with Master(path, files=FILES, ready=None) as m:
        assert m.wait_exit(20) == status
        (only,) = said(m)
        assert re.search(rf"\[ERROR\] Cannot (load|serve) '{re.escape(path)}': ", only), only
        assert re.search(line, only), only


@contextmanager
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_is_told_by_gunicorn() -> None:
    """It tries for five seconds, and its words are clear."""
    with taken() as port, Master("shop.main:app", bind=f"127.0.0.1:{port}", ready=None) as m:
        assert m.wait_exit(30) == 1
        assert f"Connection in use: ('127.0.0.1', {port})" in m.log()
        assert said(m)[-1].endswith(f"Can't connect to ('127.0.0.1', {port})")


# What refuses the start before anything is forked: files that stand in front of the real ones on
# sys.path, environment, exit status, the last line.
OLD = "import gunicorn; gunicorn.version_info = (22, 0, 0); gunicorn.__version__ = '22.0.0'\n"
REFUSED = {
    "an old gunicorn": (
        {"sitecustomize.py": OLD},
        {},
        r"Error: Gunicorn is 22\.0\.0, and gunicorn_asgi needs 23 or newer: "
        r"pip install 'gunicorn>=23'",
    ),
    "no uvloop": (
        {"sitecustomize.py": "import sys; sys.modules['uvloop'] = None\n"},
        {"GUNICORN_ASGI_LOOP": "uvloop"},
        r"Error: asgi_loop is 'uvloop', which is not installed: pip install uvloop, or .*'asyncio'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_with_refuses_the_start_in_one_line(name: str) -> None:
    files, env, line = REFUSED[name]
    with Master("shop.main:app", files={**FILES, **files}, env=env, ready=None) as m:
        assert m.wait_exit(20) == 1
        (only,) = said(m)
        assert re.fullmatch(line, only), only


def test_an_unknown_setting_is_told_with_a_suggestion_and_the_server_starts() -> None:
    """In the environment as in the config file."""
    env = {"GUNICORN_ASGI_DRAIN_LINGRE": "1"}
    with Master("app:app", files={"app.py": source("well")}, config="asgi_lop = 1", env=env) as m:
        first, second = said(m)
        assert first.endswith("asgi_lop in the config file is ignored; did you mean asgi_loop?")
        assert second.endswith(
            "unknown setting GUNICORN_ASGI_DRAIN_LINGRE in the environment is ignored; did you "
            "mean GUNICORN_ASGI_DRAIN_LINGER?"
        )


def test_at_a_reload_it_is_rolled_back_as_any_boot_that_fails() -> None:
    """With the same line."""
    with Master("app:app", "--graceful-timeout", "3", files={"app.py": source("old")}) as m:
        mark = m.mark()
        m.write("app.py", FILES["wsgi.py"])
        m.signal(SIGHUP)
        line = r"Cannot serve 'app:app': it is a WSGI application, .*-k gthread$"
        m.wait_log(r"Generation 2 failed to boot \(pid: \d+\): " + line, after=mark)
        m.wait_log(r"Rolled back to .*generation 2 failed to boot: " + line, after=mark)
        assert "Traceback" not in m.log(mark)
        with Wire(m.connect()) as wire:
            wire.send(request("GET", "/"))
            assert wire.recv_response().body == b"old"
