"""deploy/logrotate.conf by the real logrotate, on the logs of a real master."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from kit.load import Load, source
from kit.master import Master
from kit.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_a_rotation_under_load_loses_no_line_and_leaves_the_old_file_alone(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    access, error = logs / "access.log", logs / "error.log"
    options = ["--access-logfile", str(access), "--access-logformat", "%(h)s %(s)s"]
    files = {"app.py": source("one")}
    with Master("app:app", *options, "--error-logfile", str(error), files=files, ready=None) as m:
        wait_until(lambda: error.exists() and "Worker ready" in error.read_text(), 20, "the worker")
        m.binds = [f"127.0.0.1:{_port(error)}"]
        with Load(m.connect, keep_alive=2, fresh=2, websocket=0, upload=0) as load:
            load.wait(50)
            _rotate(tmp_path, logs, m.pid)
            rotated = logs / "access.log.1"
            wait_until(lambda: access.exists() and access.stat().st_size, 10, "the new file")
            before = rotated.read_bytes()
            load.wait(100)
            # What was opened before is not written to any more.
            assert rotated.read_bytes() == before
        load.check()

        def lines() -> list[str]:
            return (rotated.read_text() + access.read_text()).splitlines()

        answered = len(load.answers)
        wait_until(lambda: len(lines()) >= answered, 10, f"{answered} lines")
        assert len(lines()) == answered


def _port(error: Path) -> str:
    found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", error.read_text())
    assert found is not None
    return found[1]


def _rotate(folder: Path, logs: Path, master: int) -> None:
    text = (ROOT / "deploy/logrotate.conf").read_text()
    text = text.replace("/var/log/myapp", str(logs))
    order = "systemctl kill --kill-who=main --signal=USR1 gunicorn-asgi.service"
    assert order in text
    config = folder / "logrotate.conf"
    config.write_text(text.replace(order, f"kill -USR1 {master}"))
    config.chmod(0o644)
    command = ["logrotate", "--force", "--state", str(folder / "state"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
