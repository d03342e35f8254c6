"""What an operator sets is honoured, refused with a reason, or named: never dropped in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from signal import SIGHUP

import gunicorn
import pytest
from gunicorn.config import Config

from gunicorn_asgi.worker.arbiter import NOT_HONOURED
from kit.master import READY, Master
from kit.wire import Response, Wire
from settings_table import CONTRADICTIONS, HONOURED_VALUES, OTHER_VALUES, REFUSED_VALUES

__all__: list[str] = []

APP = {
    "app.py": """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    body = scope["root_path"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
}
KNOWN = Config().settings


def file(values: Mapping[str, object]) -> str:
    """A config file."""
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def ask(master: Master) -> Response:
    with Wire(master.connect()) as wire:
        return wire.request("GET", "/")


def refused(config: str, env: dict[str, str] | None = None, *args: str) -> str:
    """Start with that configuration; it must exit with status 1. What it has written."""
    with Master(
        "app:app", *args, files=APP, config=config, env=env, ready=None, checked=False
    ) as master:
        assert master.wait_exit(20) == 1
        return master.log()


# -- bad values at the start -----------------------------------------------------------------------

BAD_VALUES = [
    ("asgi_loop", "trio", "auto, uvloop, asyncio"),
    ("asgi_lifespan", "maybe", "auto, on, off"),
    ("asgi_disconnect_grace_period", "-1", "0 or more"),
    ("asgi_drain_linger", "soon", "0 or more"),
    ("websocket_max_message_size", "16M", "0 or more"),
    ("asgi_ws_deflate_level", "10", "a whole number from 0 to 9"),
    ("root_path", "api", 'begins with "/"'),
    ("asgi_shed_requests", "many", "a whole number, 0 or more"),
    ("asgi_forwarded_fields", "x-forwarded-for", "a list of forwarded, x-forwarded-host"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD_VALUES)
def test_a_bad_value_in_the_environment_stops_the_start_and_says_why(
    name: str, value: str, allowed: str
) -> None:
    """Exit status 1; name, value, source and what is allowed on standard error; no worker boots."""
    variable = f"GUNICORN_{name.upper()}"
    log = refused("", {variable: value})
    (line,) = re.findall(rf"^Error: {name} .*$", log, re.MULTILINE)
    assert f"is '{value}' ({variable})" in line
    assert allowed in line
    assert "Booting worker" not in log
    assert "Traceback" not in log


def test_a_bad_value_in_the_config_file_stops_the_start_and_says_why() -> None:
    """At the very first start, where the setting is unknown to Gunicorn."""
    log = refused("asgi_drain_linger = 'soon'\n")
    assert "Error: asgi_drain_linger is 'soon' (the config file), which is not a number" in log
    assert "Booting worker" not in log


def test_an_env_argument_counts_as_the_environment() -> None:
    """``gunicorn -e NAME=VALUE``: the arbiter exports it before it asks us."""
    log = refused("asgi_drain_linger = 3\n", None, "-e", "GUNICORN_ASGI_DRAIN_LINGER=soon")
    assert "asgi_drain_linger is 'soon' (GUNICORN_ASGI_DRAIN_LINGER)" in log


def test_a_python_config_counts_as_a_config_file() -> None:
    """``-c python:MODULE``, here inside GUNICORN_CMD_ARGS."""
    files = {**APP, "ourconf.py": "asgi_drain_linger = 'soon'\n"}
    with Master(
        "app:app",
        files=files,
        env={"GUNICORN_CMD_ARGS": "-c python:ourconf"},
        ready=None,
        checked=False,
    ) as master:
        assert master.wait_exit(20) == 1
        assert "Error: asgi_drain_linger is 'soon' (the config file)" in master.log()


# -- the same at a reload --------------------------------------------------------------------------


def test_a_bad_value_after_hup_is_logged_and_the_old_settings_serve_on() -> None:
    """A reload fails softly: the same master, fresh workers, the values of before."""
    with Master(
        "app:app",
        files=APP,
        config="raw_env = ['GUNICORN_ROOT_PATH=/old']\nasgi_drain_linger = 1\n",
        workers=2,
    ) as master:
        before = master.workers()
        assert ask(master).body == b"/old"
        master.write(
            "gunicorn.conf.py",
            "raw_env = ['GUNICORN_ROOT_PATH=/new']\nasgi_drain_linger = 'soon'\n",
        )
        mark = master.mark()
        master.signal(SIGHUP)
        line = master.wait_log(r"\[ERROR\].*Invalid setting after reload.*", after=mark)[0]
        assert "asgi_drain_linger is 'soon' (the config file)" in line
        assert "a number of seconds, 0 or more" in line
        master.wait_log(READY, after=mark, count=2)
        master.wait_workers(lambda pids: len(pids) == 2 and not set(pids) & set(before))
        assert ask(master).body == b"/old"
        assert master.log(mark).count("Invalid setting after reload") == 1


def test_a_mended_value_is_taken_at_the_next_hup() -> None:
    """And so is a value that is new: HUP means what it says."""
    with Master("app:app", files=APP, config="raw_env = ['GUNICORN_ROOT_PATH=/one']\n") as master:
        for text, body in (("two", b"/one"), ("/three", b"/three")):
            master.write("gunicorn.conf.py", f"raw_env = ['GUNICORN_ROOT_PATH={text}']\n")
            mark, before = master.mark(), master.workers()
            master.signal(SIGHUP)
            master.wait_log(READY, after=mark)
            old = set(before)
            master.wait_workers(lambda pids, old=old: len(pids) == 1 and not set(pids) & old)  # type: ignore[misc]
            assert ask(master).body == body


# -- set, but not honoured -------------------------------------------------------------------------


def test_every_setting_that_is_not_honoured_is_named_once() -> None:
    """All of them in one config file; the server serves, and says what it leaves out."""
    known = {name: value for name, value in OTHER_VALUES.items() if name in KNOWN}
    with Master("app:app", files=APP, config=file(known), workers=2) as master:
        assert ask(master).status == 200
        told = re.findall(r"The setting (\w+) is set but not honoured: (.*)", master.log())
        assert Counter(name for name, _ in told) == Counter(list(known))
        assert dict(told) == {name: NOT_HONOURED[name] for name in known}


def test_a_default_start_warns_of_nothing() -> None:
    """A warning that is always there is not read."""
    with Master("app:app", files=APP) as master:
        assert ask(master).status == 200
        assert "[WARNING]" not in master.log()


def test_a_setting_that_is_honoured_is_not_named() -> None:
    """What a proxy says of a request, the PROXY protocol, limits and files are the server's."""
    assert not set(HONOURED_VALUES) & set(NOT_HONOURED)
    with Master("app:app", files=APP, config=file(HONOURED_VALUES)) as master:
        assert ask(master).status == 200
        assert "[WARNING]" not in master.log()


def test_a_misspelt_name_is_told_with_a_suggestion() -> None:
    """Gunicorn drops unknown names without a word."""
    with Master("app:app", files=APP, config="asgi_drain_lingr = 3\n") as master:
        line = "unknown setting asgi_drain_lingr in the config file is ignored"
        assert f"{line}; did you mean asgi_drain_linger?" in master.log()


# -- refused ---------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, Mapping[str, object]]] = [
    *CONTRADICTIONS,
    *(
        (name, {name: value})
        for name, value, since in REFUSED_VALUES
        if gunicorn.version_info >= (since,)
    ),
]


@pytest.mark.parametrize(("name", "values"), REFUSALS)
def test_what_cannot_be_served_is_refused_at_the_start(
    name: str, values: Mapping[str, object]
) -> None:
    """By us, or by Gunicorn before us where a package is missing; in both cases with the name."""
    log = refused(file(values))
    assert re.search(rf"^Error: .*{name}", log, re.MULTILINE)
    assert "Booting worker" not in log
    assert "Traceback" not in log


def test_a_tls_context_that_cannot_be_built_is_refused_at_the_start() -> None:
    """In the master, with the reason; never plain HTTP on a TLS port."""
    log = refused("certfile = keyfile = 'app.py'\n")
    assert re.search(r"^Error: TLS cannot be set up: SSLError: ", log, re.MULTILINE)
    assert "Booting worker" not in log
