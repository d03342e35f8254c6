"""The units of systemd/ under a real systemd: a user manager in namespaces of its own.

The unit is the shipped one, its hardening included; only paths, port and user are the test's.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.load import Load, source
from kit.master import free_port
from kit.systemd import UserManager
from kit.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "gunicorn-asgi.service"
SOCKET = "gunicorn-asgi.socket"
BROKEN = "raise ImportError('nope')\n"

# What an administrator would write by `systemctl edit`. The interpreter of the tests may live in
# a home or in /tmp, which the unit hides; there is no user myapp; 30 s would be long for a test.
DROP_IN = """\
[Service]
User=
Group=
ProtectHome=tmpfs
BindReadOnlyPaths={paths}
Environment=PYTHONPATH={pythonpath}
Environment="GUNICORN_CMD_ARGS=--graceful-timeout 4 --log-level debug"
"""


class Service:
    """The application's folder, and its unit."""

    def __init__(self, systemd: UserManager) -> None:
        """Install everything and start nothing."""
        self.systemd = systemd
        self.root = systemd.dir / "srv"
        self.address = ("127.0.0.1", free_port())
        programs = self.root / "venv/bin"
        programs.mkdir(parents=True)
        for name, module in {"gunicorn": "gunicorn", "gunicorn-asgi": "gunicorn_asgi"}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            program.chmod(0o755)
        shutil.copy(ROOT / "deploy/gunicorn.conf.py", self.root)
        (self.root / "releases/1").mkdir(parents=True)
        (self.root / "current").symlink_to("releases/1")
        for name in (SERVICE, SOCKET):
            text = (ROOT / "systemd" / name).read_text()
            host, port = self.address
            text = text.replace("/srv/myapp", str(self.root))
            systemd.install(name, text.replace("127.0.0.1:8000", f"{host}:{port}"))
        systemd.install(f"{SERVICE}.d/kit.conf", self._drop_in())

    def _drop_in(self) -> str:
        pythonpath = [each for each in sys.path if each and Path(each).is_dir()]
        homes = {str(ROOT), sys.prefix, sys.base_prefix, *pythonpath}
        return DROP_IN.format(
            paths=" ".join(sorted(homes, key=len)), pythonpath=os.pathsep.join(pythonpath)
        )

    def write(self, text: str) -> None:
        """Replace the application."""
        fresh = self.root / "current/app.py.new"
        fresh.write_text(text)
        fresh.replace(self.root / "current/app.py")
        # Bytecode is known by time in whole seconds, and by size.
        shutil.rmtree(self.root / "current/__pycache__", ignore_errors=True)

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """Open a connection, as Master.connect does."""
        return socket.create_connection(self.address, timeout)

    def ctl(self, verb: str) -> tuple[int, str]:
        """Let systemctl do something with the service."""
        answer = self.systemd.ctl(verb, SERVICE)
        return answer.returncode, answer.stdout + answer.stderr

    def state(self) -> str:
        """active, inactive, failed and so on."""
        return self.systemd.show(SERVICE, "ActiveState")["ActiveState"]

    def wait_status(self, text: str, timeout: float = 10.0) -> None:
        """Wait for the line that `systemctl status` shows."""
        seen = lambda: self.systemd.show(SERVICE, "StatusText").get("StatusText") == text  # noqa: E731
        try:
            wait_until(seen, timeout, f"the status {text!r}")
        except AssertionError as failure:
            status = self.systemd.show(SERVICE, "StatusText")
            raise AssertionError(f"{failure}; it is {status}") from None


@pytest.fixture
def service() -> Iterator[Service]:
    with UserManager() as systemd:
        yield Service(systemd)
        # pytest shows it if the test has failed.
        print(f"{systemd.log()}\n-- the journal --\n{systemd.journal()}")  # noqa: T201


def begin(service: Service, text: str = "one") -> None:
    service.write(source(text))
    status, output = service.ctl("start")
    assert status == 0, output + service.systemd.journal()


def test_the_first_connection_starts_the_service(service: Service) -> None:
    service.write(source("one"))
    assert service.systemd.ctl("start", SOCKET).returncode == 0
    assert service.state() == "inactive"
    with Load(service.connect, keep_alive=1, fresh=1, websocket=0, upload=0) as load:
        load.wait(10)
    load.check()
    wait_until(lambda: service.state() == "active", 20, "the service to be active")
    service.wait_status("generation 1 serves, 2 workers")


def test_start_returns_when_all_workers_serve(service: Service) -> None:
    service.write(source("one", first="import time; time.sleep(1)"))
    assert service.ctl("start")[0] == 0
    service.wait_status("generation 1 serves, 2 workers", 2)
    assert "generation 1 is ready: 2 of 2 workers ready" in service.systemd.journal()


def test_a_first_start_with_broken_code_fails_with_its_reason(service: Service) -> None:
    service.write(BROKEN)
    status, _ = service.ctl("start")
    assert status != 0
    assert "ImportError: nope" in service.systemd.journal()


def test_a_reload_under_load_fails_no_request(service: Service) -> None:
    begin(service)
    with Load(service.connect) as load:
        load.wait(50)
        for generation, text in enumerate(("two", "three"), 2):
            service.write(source(text))
            status, output = service.ctl("reload")
            assert status == 0, output
            service.wait_status(f"generation {generation} serves, 2 workers")
            load.wait_body(text)
    load.check()
    assert "generation 3 serves: 2 of 2 workers ready" in service.systemd.journal()


def test_a_reload_of_broken_code_fails_and_the_service_stays_active(service: Service) -> None:
    begin(service)
    with Load(service.connect) as load:
        load.wait(50)
        service.write(BROKEN)
        status, output = service.ctl("reload")
        assert status != 0
        assert "failed" in output
        assert service.state() == "active"
        reason = "generation 2 failed to boot: ImportError: nope"
        service.wait_status(f"rolled back to generation 1: {reason}")
        journal = service.systemd.journal()
        assert f"Rolled back to generation 1: {reason}" in journal
        # What ExecReload= has said to whoever reads on.
        assert "generation 2 failed: the one before serves on" in journal
        load.wait(50)
        assert load.bodies() == {"one"}
        service.write(source("three"))
        status, output = service.ctl("reload")
        assert status == 0, output
        load.wait_body("three")
    load.check()


def test_a_restart_under_load_fails_no_request(service: Service) -> None:
    """The socket stays open, so who comes meanwhile waits in its backlog."""
    begin(service)
    before = service.systemd.show(SERVICE, "MainPID")["MainPID"]
    with Load(service.connect) as load:
        load.wait(50)
        service.write(source("two", first="import time; time.sleep(1)"))
        status, output = service.ctl("restart")
        assert status == 0, output
        load.wait_body("two")
    load.check()
    assert service.systemd.show(SERVICE, "MainPID")["MainPID"] != before


def test_a_stop_ends_every_process_and_the_next_connection_starts_it_again(
    service: Service,
) -> None:
    begin(service)
    status, output = service.ctl("stop")
    assert status == 0, output
    shown = service.systemd.show(SERVICE, "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
    with Load(service.connect, keep_alive=0, fresh=1, websocket=0, upload=0) as load:
        load.wait(5)
    load.check()


def test_a_stuck_worker_makes_the_watchdog_restart_the_service(service: Service) -> None:
    """WatchdogSec=, with WATCHDOG_PID as systemd sets it, and timeout = 0: nobody else helps."""
    service.systemd.install(
        f"{SERVICE}.d/watchdog.conf",
        """\
        [Service]
        WatchdogSec=10
        Environment="GUNICORN_CMD_ARGS=--timeout 0"
        """,
    )
    begin(service)

    def fed() -> str:
        return service.systemd.show(SERVICE, "WatchdogTimestampMonotonic").popitem()[1]

    first = fed()
    wait_until(lambda: fed() != first, 20, "a beat")
    stuck = re.findall(r"Worker ready \(pid: (\d+)\)", service.systemd.journal())[-1]
    # Inside, where pids are those of systemd's namespace.
    service.systemd.run("sh", "-c", f"kill -STOP {stuck}")

    def restarts() -> int:
        return int(service.systemd.show(SERVICE, "NRestarts")["NRestarts"])

    wait_until(restarts, 60, "the restart")
    assert "Watchdog timeout" in service.systemd.journal()
    with Load(service.connect, keep_alive=0, fresh=1, websocket=0, upload=0) as load:
        load.wait(5)
    load.check()
