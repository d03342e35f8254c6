"""``run`` and ``check``: Gunicorn with our settings as flags, and what it does not check itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from signal import SIGHUP, SIGTERM, SIGUSR2

import pytest

from kit.command import Run, Script, ask
from kit.master import Master, wait_until
from kit.wire import Wire

__all__: list[str] = []

# A module of this name must not be taken for gunicorn_asgi/worker, nor http for gunicorn/http.
APP = """
import http, sys

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    status = 500 if scope["path"] == "/healthz" else 200
    body = f"{scope['root_path']} {sys.flags.dev_mode} {http.HTTPStatus(200).phrase}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
FILES = {"worker.py": APP}

by_start = pytest.mark.parametrize("start", [Run, Script], ids=["-m", "script"])


def answer(master: Master) -> bytes:
    with Wire(master.connect()) as wire:
        return wire.request("GET", "/").body


# -- run -------------------------------------------------------------------------------------------


@by_start
def test_run_serves_with_flags_of_ours(start: type[Run]) -> None:
    """Flags that no Gunicorn knows, and one that some do."""
    flags = ("--root-path", "/api", "--asgi-drain-linger", "0.5")
    with start("worker:app", *flags, files=FILES, workers=2) as master:
        assert answer(master) == b"/api False OK"
        assert "Using worker: gunicorn_asgi.Worker" in master.log()


def test_a_flag_of_ours_takes_effect() -> None:
    """This application is not ready by its own word, so the first start fails loudly."""
    flags = ("--asgi-ready-check", "/healthz")
    with Run("worker:app", *flags, files=FILES, ready=None, checked=False) as master:
        assert master.wait_exit(20) == 3
        assert "/healthz answered with 500" in master.log()


def test_the_environment_wins_over_a_flag() -> None:
    env = {"GUNICORN_ROOT_PATH": "/env"}
    with Run("worker:app", "--root-path", "/flag", files=FILES, env=env) as master:
        assert answer(master) == b"/env False OK"


@pytest.mark.parametrize(
    ("flags", "config", "complaint", "status"),
    [
        (("--asgi-drain-linger", "soon"), "", r"Error: asgi_drain_linger is 'soon', which is", 1),
        ((), "asgi_max_rss = 'big'\n", r"Error: asgi_max_rss is 'big', which is not", 1),
        (("-w", "x"), "", r"gunicorn-asgi run: error: argument -w/--workers: invalid int", 2),
        (("--asgi-dream-linger", "1"), "", r"error: unrecognized arguments: --asgi-dream", 2),
    ],
)
def test_a_wrong_flag_refuses_the_start(
    flags: tuple[str, ...], config: str, complaint: str, status: int
) -> None:
    """With Gunicorn's own words and exit statuses."""
    with Run("worker:app", *flags, files=FILES, config=config, ready=None, checked=False) as master:
        assert master.wait_exit(20) == status
        assert re.search(complaint, master.log())
        assert "Traceback" not in master.log()


@by_start
def test_hup_reads_flags_and_config_file_again(start: type[Run]) -> None:
    """Gunicorn parses its command line at each reload, and ours begins with a word more."""
    with start("worker:app", "-w", "2", files=FILES, config="", workers=2) as master:
        master.write("gunicorn.conf.py", "root_path = '/new'\n")
        done = ask("reload", "--pid", str(master.pid))
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 of 2 workers ready" in done.stdout
        assert answer(master) == b"/new False OK"


@by_start
def test_usr2_starts_the_same_command_again(start: type[Run]) -> None:
    """Flags, options of the interpreter and sys.path are those of the first start."""
    options = ("-X", "dev") if start is Run else ()
    flags = ("--root-path", "/api", "-p", "pid")
    with start("worker:app", *flags, files=FILES, python_args=options) as master:
        expected = f"/api {start is Run} OK".encode()
        assert answer(master) == expected
        master.signal(SIGUSR2)
        done = ask("wait-ready", "--pidfile", str(master.dir / "pid.2"))
        assert (done.returncode, done.stderr) == (0, "")
        successor = master.new_master()
        assert successor is not None
        master.signal(SIGTERM)
        assert master.wait_exit(20) == 0
        master.adopt(successor)
        assert answer(master) == expected
        done = ask("reload", "--pid", str(successor))
        assert (done.returncode, done.stderr) == (0, "")
        assert answer(master) == expected
        os.kill(successor, SIGTERM)
        wait_until(lambda: not master.leftovers(), 20, "the end of the new master")


def test_a_broken_config_file_at_hup_does_not_end_the_server() -> None:
    """The guard works for this application object, too; here it is our flag that is refused."""
    with Run("worker:app", files=FILES, config="") as master:
        master.write("gunicorn.conf.py", "asgi_drain_linger = 'soon'\n")
        master.signal(SIGHUP)
        master.wait_log(r"The configuration could not be loaded, the old one stays: ValueError")
        master.wait_log(r"Worker ready", count=2)
        assert answer(master) == b" False OK"


# -- check -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate, and two keys of which one belongs to it."""
    folder = tmp_path_factory.mktemp("certs")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kit"]
    for name in ("own", "other"):
        command = [*new, "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    (folder / "garbage.pem").write_text("garbage")
    return folder


MODULES = {
    "app": "async def app(scope, receive, send): ...\ndef create(path=None): return app\n",
    "broken": "import no_such_thing\n",
    "exits": "import sys\nsys.exit('not today')\n",
    "dies": "import os\nos._exit(7)\n",
    "hangs": "import time\ntime.sleep(600)\n",
    "raises": "def create(): raise ValueError('no secret key')\n",
    "wsgi": "def app(environ, start_response): ...\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with applications of every kind."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def check(
    folder: Path, *args: str, env: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Exit status, what is said of each part, and standard error."""
    done = ask("check", *args, cwd=folder, env=env)
    parts: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(" ")
        parts[name] = (parts.get(name, "") + "\n" + re.sub(r" +", " ", rest.strip())).strip()
    return done.returncode, parts, done.stderr


def test_check_says_of_each_part_that_it_is_in_order(folder: Path, certs: Path) -> None:
    tls = ("--certfile", f"{certs}/own.pem", "--keyfile", f"{certs}/own.key")
    status, parts, errors = check(folder, "-w", "3", "--asgi-loop", "asyncio", *tls, "app:app")
    assert (status, errors) == (0, "")
    assert parts == {
        "config": "ok workers: 3, bind: 127.0.0.1:8000",
        "worker": "ok gunicorn_asgi.Worker",
        "settings": "ok",
        "tls": f"ok certfile {certs}/own.pem, keyfile {certs}/own.key",
        "app": "ok app:app",
    }


@pytest.mark.parametrize("app", ["app:create()", "app:create('/x')", "app:create(path='/x')"])
def test_check_calls_a_factory(folder: Path, app: str) -> None:
    assert check(folder, app)[:2] == (0, {**check(folder, "app:app")[1], "app": f"ok {app}"})


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        (
            "no_such_thing:app",
            "Cannot load 'no_such_thing:app': No module named 'no_such_thing'",
        ),
        ("broken:app", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("app:nix", "Cannot load 'app:nix': Failed to find attribute 'nix' in 'app'"),
        ("app:create(1, 2)", r"Cannot load .*: TypeError: create\(\) takes from 0 to 1 positional"),
        ("app:__name__", "Cannot load .*: Application object must be callable; "),
        ("app:create", r"Cannot serve .*: it is a function .*, write 'app:create\(\)', quoted"),
        ("raises:create()", "ValueError: no secret key"),
        ("wsgi:app", "Cannot serve 'wsgi:app': it is a WSGI application, "),
        ("exits:app", "SystemExit: not today"),
        ("dies:app", "the import ended the process, status 7"),
    ],
)
def test_check_says_what_is_wrong_with_the_application(
    folder: Path, app: str, complaint: str
) -> None:
    """One line; the traceback, where there is one, is on standard error."""
    status, parts, errors = check(folder, app)
    assert status == 1
    assert re.match(f"FAILED {complaint}", parts["app"]), parts
    assert ("Traceback" in errors) is complaint.startswith(("Mod", "Val", "System"))


def test_check_does_not_wait_for_ever(folder: Path) -> None:
    """As a worker would not."""
    status, parts, _ = check(folder, "--asgi-boot-timeout", "1", "hangs:app")
    complaint = "FAILED the import took longer than asgi_boot_timeout (1 s)"
    assert (status, parts["app"]) == (1, complaint)


@pytest.mark.parametrize(
    ("args", "part", "complaint"),
    [
        (("-k", "sync"), "worker", "sync is not gunicorn_asgi.Worker"),
        (("-k", "nosuch.Worker"), "worker", "class uri 'nosuch.Worker' invalid or not found"),
        (("-b", "127.0.0.1:http"), "config", "'http' is not a valid port number."),
        (("-e", "NOVALUE"), "config", "environment setting 'NOVALUE' invalid"),
        (("-e", "GUNICORN_ASGI_LOOP=trio"), "settings", "asgi_loop is 'trio'"),
        (
            ("--asgi-proxy-protocol-required", "1"),
            "settings",
            "asgi_proxy_protocol_required is True, but proxy_protocol is ",
        ),
        (("--asgi-term-delay", "30"), "settings", "asgi_term_delay is 30"),
    ],
)
def test_check_finds_what_check_config_leaves_out(
    folder: Path, args: tuple[str, ...], part: str, complaint: str
) -> None:
    """And goes on to the other parts, so that one run shows all there is to mend."""
    status, parts, _ = check(folder, *args, "app:app")
    assert status == 1
    assert parts[part].startswith(f"FAILED {complaint}"), parts
    assert "ok" in {word.split()[0] for name, word in parts.items() if name != part}
    assert parts["app"] == "ok app:app"


@pytest.mark.parametrize(
    ("cert", "key", "complaint"),
    [
        ("nosuch.pem", "own.key", "FileNotFoundError"),
        ("garbage.pem", "own.key", "SSLError"),
        ("own.pem", "other.key", "SSLError: .*KEY_VALUES_MISMATCH"),
    ],
)
def test_check_builds_the_tls_context(
    folder: Path, certs: Path, cert: str, key: str, complaint: str
) -> None:
    """The line names the files: OpenSSL does not."""
    tls = ("--certfile", f"{certs}/{cert}", "--keyfile", f"{certs}/{key}")
    status, parts, _ = check(folder, *tls, "app:app")
    assert status == 1
    pattern = f"FAILED TLS cannot be set up: {complaint}.*certfile .*/{cert}, keyfile .*/{key}"
    assert re.match(pattern, parts["tls"]), parts


@pytest.mark.parametrize(
    ("config", "status", "complaint"),
    [
        ("def\n", 1, "SyntaxError"),
        ("workers = 'many'\n", 1, "Invalid value for workers: many"),
        ("asgi_drain_linger = 'soon'\n", 1, "Error: asgi_drain_linger is 'soon'"),
    ],
)
def test_check_refuses_a_broken_config_file(
    folder: Path, config: str, status: int, complaint: str
) -> None:
    (folder / "gunicorn.conf.py").write_text(config)
    found, parts, errors = check(folder, "app:app")
    assert found == status
    assert parts == {"config": "FAILED the reason is on standard error"}
    assert complaint in errors


def test_check_names_what_is_set_and_not_honoured(folder: Path) -> None:
    """Notes, not failures: the server starts with these, and logs the same sentences."""
    (folder / "gunicorn.conf.py").write_text("threads = 4\nasgi_drain_lingre = 3\n")
    status, parts, _ = check(folder, "app:app")
    assert status == 0
    assert parts["settings"] == (
        "note The setting threads is set but not honoured: "
        "one event loop serves all requests of a worker\n"
        "note unknown setting asgi_drain_lingre in the config file is ignored; "
        "did you mean asgi_drain_linger?\n"
        "ok"
    )


def test_check_reads_the_config_file_and_goes_where_it_says(folder: Path) -> None:
    """Application, directory and path from the file, as Gunicorn takes them."""
    (folder / "site").mkdir()
    (folder / "lib").mkdir()
    (folder / "site" / "inner.py").write_text("from helper import app\n")
    (folder / "lib" / "helper.py").write_text(MODULES["app"])
    text = f"chdir = {str(folder / 'site')!r}\npythonpath = {str(folder / 'lib')!r}\n"
    (folder / "other.py").write_text(text + "wsgi_app = 'inner:app'\n")
    status, parts, _ = check(folder, "-c", "other.py")
    assert (status, parts["app"]) == (0, "ok inner:app")


def test_check_sets_the_environment_before_the_import(folder: Path) -> None:
    (folder / "env.py").write_text("import os\nos.environ['SECRET']\n" + MODULES["app"])
    assert check(folder, "env:app")[0] == 1
    assert check(folder, "-e", "SECRET=x", "env:app")[0] == 0


def test_what_the_import_does_stays_in_a_child(folder: Path) -> None:
    """Even a process that it starts and that outlives it holds nothing up."""
    code = (
        "import os, subprocess, sys, threading\n"
        "open('importer', 'w').write(str(os.getpid()))\n"
        "open('parent', 'w').write(str(os.getppid()))\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "print('hello from the import')\n"
    )
    (folder / "busy.py").write_text(code + MODULES["app"])
    done = ask("check", "busy:app", cwd=folder)
    assert done.returncode == 0
    assert "hello from the import\n" in done.stdout
    importer = int((folder / "importer").read_text())
    assert importer != int((folder / "parent").read_text())
    assert not os.path.exists(f"/proc/{importer}")


def test_check_shows_gunicorn_s_help_with_our_flags(folder: Path) -> None:
    done = ask("check", "--help", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: gunicorn-asgi check ")
    assert "--asgi-drain-linger" in done.stdout
