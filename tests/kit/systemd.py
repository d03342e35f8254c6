"""A real systemd: a user manager and a journal in namespaces of their own.

They see a /run of their own and no process but theirs, live in a control group of their own, and
end with the process that has started them. The network is the machine's.

    with UserManager() as systemd:
        systemd.install("a.service", text)
        assert systemd.ctl("start", "a.service").returncode == 0
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING

from kit import proc
from kit.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SYSTEMD", "UserManager"]

# Debian's place, and that of distributions with one /usr.
_HOMES = ("/lib/systemd", "/usr/lib/systemd")
SYSTEMD = next((home for home in _HOMES if Path(home, "systemd").exists()), "")

_RUNTIME = "/run/kit"
_UNITS = f"{_RUNTIME}/config/systemd/user"
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": f"{_RUNTIME}/home",
    "XDG_RUNTIME_DIR": _RUNTIME,
    "XDG_CONFIG_HOME": f"{_RUNTIME}/config",
    "LC_ALL": "C.UTF-8",
}
# What the namespaces look like inside, and then the manager in place of the shell. It is the
# namespace's pid 1 that reaps; the manager must not be it, or it would take itself for the
# machine's.
_INSIDE = """\
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/systemd/journald.conf.d /run/user {units} {runtime}/home
chmod 700 {runtime}
# What services see in place of what is hidden from them; pid 1 makes these on a real machine.
mkdir -m 755 /run/systemd/inaccessible
mkdir -m 0 /run/systemd/inaccessible/dir
touch /run/systemd/inaccessible/reg
chmod 0 /run/systemd/inaccessible/reg
mknod -m 0 /run/systemd/inaccessible/chr c 0 0
printf '[Journal]\\nReadKMsg=no\\nAudit=no\\nStorage=volatile\\nRateLimitBurst=0\\n' \\
    >/run/systemd/journald.conf.d/kit.conf
{home}/systemd-journald &
# A manager that finds no journal keeps what it has to say to itself.
n=0
until [ -S /run/systemd/journal/socket ]; do n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05; done
{home}/systemd --user --unit=basic.target --log-target=journal &
wait $!
"""


class UserManager:
    """Start systemd on entering, end it and everything it has started on leaving."""

    def __init__(self) -> None:
        """Remember nothing; nothing is started before the ``with`` block is entered."""
        self.dir = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[Path] = []
        self._inside = 0

    def __enter__(self) -> UserManager:
        """Start the manager and wait until it takes orders."""
        # Not in /tmp, which a service may have a private one of.
        self.dir = Path(tempfile.mkdtemp(prefix="kit-", dir="/opt"))
        self.dir.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()

    @property
    def pid(self) -> int:
        """The first process of the namespace, with its pid in ours."""
        return self._inside

    # -- orders ------------------------------------------------------------------------------------

    def run(self, *command: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        enter = ["nsenter", f"--target={self._inside}", "--mount", "--pid", "--"]
        return subprocess.run(
            [*enter, *command], env=_ENV, text=True, capture_output=True, timeout=timeout
        )

    def ctl(self, *arguments: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run ``systemctl --user``."""
        return self.run("systemctl", "--user", "--no-pager", *arguments, timeout=timeout)

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``systemctl --user`` and do not wait for it."""
        enter = ["nsenter", f"--target={self._inside}", "--mount", "--pid", "--"]
        command = [*enter, "systemctl", "--user", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=_ENV, text=True, stdout=pipe, stderr=pipe)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        answer = self.ctl("show", unit, *(f"--property={each}" for each in properties))
        pairs = (line.partition("=") for line in answer.stdout.splitlines())
        return {name: value for name, _, value in pairs}

    def install(self, name: str, text: str) -> None:
        """Write a unit, or a drop-in (``a.service.d/b.conf``), and have it read."""
        self.run("mkdir", "-p", str(Path(_UNITS, name).parent))
        # By the manager's own view of the file system: /run is another one there.
        path = Path(f"/proc/{self._inside}/root{_UNITS}/{name}")
        path.write_text(textwrap.dedent(text))
        answer = self.ctl("daemon-reload")
        assert answer.returncode == 0, answer.stderr

    def journal(self) -> str:
        """Messages of the journal, the manager's own included."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--output=cat", "--all", "--no-pager").stdout

    def log(self) -> str:
        """What the manager itself has said."""
        return (self.dir / "systemd.log").read_text(errors="replace")

    # -- inside ------------------------------------------------------------------------------------

    def _start(self) -> None:
        assert SYSTEMD, "systemd is not installed"
        assert os.geteuid() == 0, "namespaces and control groups are made by root"
        self._make_groups()
        script = _INSIDE.format(units=_UNITS, runtime=_RUNTIME, home=SYSTEMD)
        # The shell that enters the control groups is the one that becomes all the rest: nothing
        # of it ever runs in ours. A manager moves every process of its group.
        enter = "".join(f"echo $$ >{group}/cgroup.procs\n" for group in self._groups)
        check = f"test $(grep -c /{self.dir.name}$ /proc/self/cgroup) = {len(self._groups)}\n"
        namespaces = "--mount --pid --fork --kill-child --mount-proc --propagation=private"
        outside = f'set -eu\n{enter}{check}exec unshare {namespaces} sh -c "$0"\n'
        with (self.dir / "systemd.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", outside, script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENV,
                start_new_session=True,
            )
        wait_until(self._takes_orders, 20, "the manager to take orders\n" + self.log())

    def _takes_orders(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        children = proc.children(self._process.pid)
        self._inside = children[0].pid if children else 0
        if not self._inside or not Path(f"/proc/{self._inside}/root{_RUNTIME}").exists():
            return False
        return self.ctl("is-system-running").stdout.strip() in ("running", "degraded")

    def _make_groups(self) -> None:
        """Make a control group of our own in each hierarchy that systemd looks at."""
        paths = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths[controllers] = path
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, more = line.partition(" - ")
            kind, _, options = more.split(" ", 2)
            names = [each for each in options.split(",") if each == "name=systemd"]
            controllers = "" if kind == "cgroup2" else "".join(names)
            if kind == "cgroup2" or (kind == "cgroup" and names):
                # What is mounted may be a part of the hierarchy, as in a container.
                root, place = fields.split(" ")[3:5]
                own = paths[controllers]
                inner = own[len(root.rstrip("/")) :] if own.startswith(root) else own
                group = Path(place + inner.rstrip("/"), self.dir.name)
                group.mkdir()
                self._groups.append(group)
        assert self._groups, "no control groups are mounted"

    def _end(self) -> None:
        if self._process is not None:
            if self._process.poll() is None and self._inside:
                # The pid namespace ends with its first process, and everything in it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._inside, SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self._process.kill()
            self._process.wait(10)
        self._remove_groups()
        if self.dir.name.startswith("kit-"):
            shutil.rmtree(self.dir)

    def _remove_groups(self) -> None:
        """Remove ours, and what the manager has made of the same name for its controllers."""
        tops = {each.parent for each in self._groups}
        places = [
            line.split(" ")[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if line.partition(" - ")[2].startswith("cgroup ")
        ]
        tops |= {Path(each) for each in places}
        for top in tops:
            own = top / self.dir.name
            for group in [*sorted(own.rglob("*/"), reverse=True), own]:
                if group.is_dir():
                    wait_until(lambda: _rmdir(group), 10, f"{group} to be empty")  # noqa: B023


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
