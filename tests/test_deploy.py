"""What is shipped in systemd/ and deploy/, as the tools that read it see it."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "systemd").glob("gunicorn-asgi*"))
SERVICES = [each for each in UNITS if each.suffix == ".service"]
CONFIG = ROOT / "deploy/gunicorn.conf.py"

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)


def run(*command: str | Path, **env: str) -> tuple[int, str]:
    """A command's status, and all that it has said."""
    done = subprocess.run(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


class Unit(RawConfigParser):
    """A unit file; where a setting is given twice, the lines are joined."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(path.read_text())

    def seconds(self, name: str) -> int:
        """A span of time of [Service]; systemd counts in seconds where no unit is given."""
        return int(self["Service"][name])


# -- systemd/ --------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, with programs that exist in the place of those of /srv."""
    for folder in ("myapp", "shop"):
        programs = tmp_path / folder / "venv/bin"
        programs.mkdir(parents=True)
        for name in ("gunicorn", "gunicorn-asgi"):
            (programs / name).symlink_to(shutil.which("true") or "/bin/true")
    for unit in UNITS:
        text = unit.read_text().replace("/srv/", f"{tmp_path}/")
        (tmp_path / unit.name.replace("@.", "@shop.")).write_text(text)
    return sorted(tmp_path.glob("gunicorn-asgi*"))


def verify(units: list[Path]) -> tuple[int, str]:
    return run("systemd-analyze", "verify", "--man=no", *units)


@pytest.mark.slow
def test_systemd_finds_nothing_wrong_with_the_units(installed: list[Path]) -> None:
    assert len(installed) == 4
    assert verify(installed) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=mixed", "KillMode=mild"),
        ("ExecReload=", "ExecReload=/no/such"),
        ("TimeoutStopSec", "TimeoutStopSeconds"),
    ],
)
def test_systemd_would_have_found_it(installed: list[Path], right: str, wrong: str) -> None:
    unit = next(each for each in installed if each.name == "gunicorn-asgi.service")
    text = unit.read_text()
    assert right in text
    unit.write_text(text.replace(right, wrong))
    status, output = verify(installed)
    assert status or output


@pytest.mark.slow
@each_service
def test_the_hardening_is_worth_its_lines(service: Path) -> None:
    """systemd-analyze(1): 0 is fully confined, 10 not at all; a bare service has 9.6."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20"]
    status, output = run(*command, service)
    assert status == 0, output


@each_service
def test_every_line_of_the_hardening_has_its_reason(service: Path) -> None:
    if "@" in service.name:  # it refers to the other one, which has to have all of its lines
        unit, model = Unit(service), Unit(SERVICES[0])
        for section in model.sections():
            assert list(unit[section]) == list(model[section])
        return
    commented, bare = False, []
    hardening = service.read_text().split("# Hardening.")[1].split("[Install]")[0]
    for line in hardening.splitlines()[1:]:
        if line.startswith("#"):
            commented = True
        elif not line:
            commented = False
        elif not commented:
            bare.append(line)
    assert not bare


@each_service
def test_the_limits_of_the_unit_contain_those_of_gunicorn(service: Path) -> None:
    unit, config = Unit(service), runpy.run_path(str(CONFIG))
    graceful, boot = config["graceful_timeout"], config["asgi_boot_timeout"]
    commands = [unit["Service"][name] for name in ("ExecStartPost", "ExecReload")]
    start, reload = (int(each.rpartition(" ")[2]) for each in commands)
    assert boot < start < unit.seconds("TimeoutStartSec")
    assert boot + graceful < reload < unit.seconds("TimeoutStartSec")
    assert graceful < unit.seconds("TimeoutStopSec")
    assert config["timeout"] + boot < unit.seconds("WatchdogSec")


@each_service
def test_systemd_listens_to_the_workers(service: Path) -> None:
    unit = Unit(service)["Service"]
    assert (unit["Type"], unit["NotifyAccess"], unit["KillMode"]) == ("notify", "all", "mixed")


# -- deploy/ ---------------------------------------------------------------------------------------


def test_shellcheck_has_no_complaint_about_the_script() -> None:
    assert run("shellcheck", ROOT / "deploy/deploy.sh") == (0, "")
    assert os.access(ROOT / "deploy/deploy.sh", os.X_OK)


def test_the_script_waits_as_long_as_the_unit() -> None:
    script = (ROOT / "deploy/deploy.sh").read_text()
    (timeout,) = re.findall(r" timeout=(\d+) ", script)
    assert f"seconds to wait for the verdict ({timeout})" in script
    assert Unit(SERVICES[0])["Service"]["ExecReload"].endswith(f" --timeout {timeout}")


@pytest.mark.slow
def test_gunicorn_takes_the_configuration_and_an_application_boots_with_it(tmp_path: Path) -> None:
    shutil.copy(CONFIG, tmp_path)
    (tmp_path / "releases/1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "current/app.py").write_text("async def app(scope, receive, send): ...\n")
    command = [sys.executable, "-m", "gunicorn_asgi", "check"]
    paths = os.pathsep.join(filter(None, sys.path))
    status, output = run(*command, "-c", tmp_path / "gunicorn.conf.py", PYTHONPATH=paths)
    assert status == 0, output
    assert "127.0.0.1:8000" in output


@pytest.mark.slow
def test_logrotate_has_no_complaint_about_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "logrotate.conf"
    config.write_text((ROOT / "deploy/logrotate.conf").read_text())
    config.chmod(0o644)
    command = ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(config)]
    status, output = run(*command)
    assert status == 0, output
    assert "error" not in output
    assert "rotating pattern: /var/log/myapp/*.log  after 1 days (14 rotations)" in output
