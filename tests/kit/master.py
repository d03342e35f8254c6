"""A real gunicorn master as a subprocess.

Its log is read as a stream of events, it is ended by its pid, and leaving the ``with`` block
asserts that nothing of it is left. Everything is bounded in time.

    with Master("app:app", files={"app.py": APP}, workers=2) as m:
        mark = m.mark()
        m.signal(SIGHUP)
        m.wait_log(r"Worker ready", after=mark, count=2)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

from kit import proc
from kit.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["READY", "WORKER_CLASS", "Address", "Master", "free_port", "wait_until"]

# Another worker class can be put in its place from outside, to see how that one does in the tests:
# KIT_WORKER_CLASS=asgi KIT_READY="ASGI server listening" is Gunicorn's own.
WORKER_CLASS = os.environ.get("KIT_WORKER_CLASS", "gunicorn_asgi.Worker")
READY = os.environ.get("KIT_READY", r"Worker ready \(pid: \d+\)")

Address = tuple[str, int] | str

_BINDS = {"tcp": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": "unix:{dir}/kit.sock"}
# What the machine's environment might say to a gunicorn that is none of the test's business.
_FOREIGN_ENV = ("GUNICORN_CMD_ARGS", "GUNICORN_PID", "GUNICORN_FD", "WEB_CONCURRENCY", "PORT")
_SYSTEMD_ENV = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC")
_LISTENING = re.compile(r"Listening at: (\S+) \(\d+\)")
_LOG_TAIL = 6000

# systemd's half of socket activation: descriptors from 3 on, and the pid of whom they are for,
# which only the process itself knows in time (sd_listen_fds(3)).
_ACTIVATE = """\
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
spare = [os.dup(fd) for fd in fds]
for fd in fds:
    os.close(fd)
for i, fd in enumerate(spare):
    os.dup2(fd, 3 + i)
    os.set_inheritable(3 + i, True)
os.environ["LISTEN_FDS"] = str(len(fds))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that was free a moment ago, for tests that cannot read theirs from the log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Master:
    """Start gunicorn on entering, end it and look for leftovers on leaving.

    Args:
        app: as on gunicorn's command line, ``module:name``.
        args: further arguments of that command line.
        workers: how many workers, and how many times ``ready`` is waited for.
        bind: ``tcp`` (the default), ``tcp6``, ``unix``, anything that ``-b`` takes, or a list of
            these; an empty list passes no ``-b`` at all.
        config: text of ``gunicorn.conf.py`` in the working directory, which gunicorn looks for.
        files: further files of the working directory, by their relative name.
        env: environment on top of a cleaned copy of our own.
        access_log: write an access log, for ``access()``.
        ready: pattern of the log line that each worker writes when it serves; None: do not wait.
        start_timeout: seconds for all workers to be ready.
        pass_fds: descriptors the master inherits under the same numbers (for ``fd://N``).
        activate: listening sockets to hand over as systemd does (LISTEN_FDS).
        python_args: options of the interpreter, such as ``-X dev``.
        checked: whether leaving the block demands exit status 0 of a master that still ran.

    """

    def __init__(
        self,
        app: str,
        *args: str,
        workers: int = 1,
        bind: str | Sequence[str] | None = None,
        config: str | None = None,
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        worker_class: str = WORKER_CLASS,
        access_log: bool = False,
        ready: str | None = READY,
        start_timeout: float = 20.0,
        pass_fds: Sequence[int] = (),
        activate: Sequence[socket.socket] = (),
        python_args: Sequence[str] = (),
        checked: bool = True,
    ) -> None:
        """Remember how to start; nothing is started before the ``with`` block is entered."""
        self.app = app
        self.args = args
        self.worker_count = workers
        self.config = config
        self.files = dict(files or {})
        self.env = dict(env or {})
        self.worker_class = worker_class
        self.access_log = access_log
        self.ready = ready
        self.start_timeout = start_timeout
        self.pass_fds = tuple(pass_fds)
        self.activate = tuple(activate)
        self.python_args = tuple(python_args)
        self.checked = checked
        # How long processes may outlive their master: a worker looks for it about once a second.
        self.leftover_grace = 5.0
        self.bind = bind
        self.dir = Path()
        self.binds: list[str] = []
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: list[tuple[str, Address]] = []

    # -- start and end ---------------------------------------------------------------------------

    def __enter__(self) -> Master:
        """Start the master and wait until its workers are ready."""
        try:
            self._start()
            if self.ready is not None:
                self.wait_log(self.ready, self.start_timeout, count=self.worker_count)
        except BaseException:
            self._kill_leftovers()
            self._forget()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the master by its pid and assert that nothing of it is left."""
        try:
            if error is not None:
                self._explain()
                return
            ran = proc.alive(self.pid)
            status = self.stop()
            assert not (ran and self.checked and status), self._tale(f"master exited {status}")
            wait_until(lambda: not self.leftovers(), self.leftover_grace, "the workers to end")
        except AssertionError as failure:
            left = ", ".join(f"{each.pid} ({each.name})" for each in self.leftovers())
            text = f"{failure}; still alive: {left}" if left else str(failure)
            raise AssertionError(self._tale(text)) from None
        finally:
            self._kill_leftovers()
            self._forget()

    def stop(self, timeout: float = 40.0) -> int:
        """Send TERM, wait, return the exit status; a master that does not end fails the test."""
        if proc.alive(self.pid):
            self.signal(SIGTERM)
        return self.wait_exit(timeout)

    def wait_exit(self, timeout: float = 10.0) -> int:
        """Wait for the end of the master; return the status of the one that was started first."""
        assert self._process is not None, "not started"
        process = self._process
        own = process.pid == self.pid
        gone = (lambda: process.poll() is not None) if own else (lambda: not proc.alive(self.pid))
        try:
            wait_until(gone, timeout, f"master {self.pid} to exit")
        except AssertionError as failure:
            raise AssertionError(self._tale(str(failure))) from None
        return process.wait(timeout)

    def adopt(self, pid: int) -> None:
        """Regard ``pid`` as the master from now on: the one that USR2 has started."""
        self.pid = pid

    def leftovers(self) -> list[proc.Stat]:
        """Every living process of the master's session, the master included."""
        if self._process is None:
            return []
        self._process.poll()
        return proc.session_members(self._process.pid)

    # -- the log ---------------------------------------------------------------------------------

    @property
    def log_path(self) -> Path:
        """The file which gets the standard output and error of master and workers."""
        return self.dir / "kit.log"

    def log(self, after: int = 0) -> str:
        """Everything that master and workers have written (after that position)."""
        with self.log_path.open("rb") as file:
            file.seek(after)
            return file.read().decode(errors="replace")

    def mark(self) -> int:
        """Return the present position in the log, for ``after``."""
        return self.log_path.stat().st_size

    def wait_log(
        self, pattern: str, timeout: float = 10.0, after: int | None = None, count: int = 1
    ) -> re.Match[str]:
        """Wait until the log has ``count`` matches after that position; return the last of them."""
        regex = re.compile(pattern, re.MULTILINE)

        def seen() -> re.Match[str] | None:
            # Asked first: what the last process wrote before it ended is in the log by then.
            silent = not self._running() and not self.leftovers()
            matches = list(regex.finditer(self.log(after or 0)))
            if len(matches) >= count:
                return matches[count - 1]
            assert not silent, f"nobody lives who could still log /{pattern}/"
            return None

        try:
            match = wait_until(seen, timeout, f"/{pattern}/ in the log, {count} x")
        except AssertionError as failure:
            raise AssertionError(self._tale(str(failure))) from None
        assert match is not None
        return match

    def access(self) -> list[str]:
        """Lines of the access log."""
        path = self.dir / "access.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def wait_access(self, count: int, timeout: float = 10.0) -> list[str]:
        """Wait for ``count`` lines of the access log: they are written after the response."""
        wait_until(lambda: len(self.access()) >= count, timeout, f"{count} access log lines")
        return self.access()

    # -- addresses -------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, in the order of the binds: (host, port), or a unix socket's path."""
        return [address for _, address in self._listeners()]

    @property
    def address(self) -> Address:
        """The first of the addresses."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The port of the first TCP address."""
        return next(address[1] for address in self.addresses if isinstance(address, tuple))

    @property
    def base_url(self) -> str:
        """The first TCP address as a URL without a path."""
        for scheme, address in self._listeners():
            if isinstance(address, tuple):
                host, port = address
                return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        raise AssertionError("no TCP address: a unix socket has no URL")

    def connect(
        self,
        timeout: float = 5.0,
        *,
        address: Address | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> socket.socket:
        """Open a connection; the timeout also holds for each later call on the socket."""
        target = self.address if address is None else address
        if isinstance(target, tuple):
            sock = socket.create_connection(target, timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(target)
            except OSError:
                sock.close()
                raise
        return sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost")

    # -- processes -------------------------------------------------------------------------------

    def workers(self, of: int | None = None) -> list[int]:
        """Pids of the living workers of this master (or of another), oldest first."""
        return [each.pid for each in self._forks(of or self.pid, executed=False)]

    def new_master(self) -> int | None:
        """Pid of the master that USR2 has made this one start, if there is one."""
        found = self._forks(self.pid, executed=True)
        return found[0].pid if found else None

    def wait_workers(
        self, wanted: int | Callable[[list[int]], bool], timeout: float = 10.0
    ) -> list[int]:
        """Wait for a number of workers, or for a list of pids that satisfies the predicate."""
        if isinstance(wanted, int):
            number = wanted
            wanted = lambda pids: len(pids) == number  # noqa: E731 - one predicate for both cases
        fits = wanted
        found: list[int] = []

        def seen() -> bool:
            found[:] = self.workers()
            return fits(found)

        try:
            wait_until(seen, timeout, "the workers wanted")
        except AssertionError as failure:
            raise AssertionError(self._tale(f"{failure}; workers: {found}")) from None
        return list(found)

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        assert self.pid, "not started"
        os.kill(self.pid, number)

    def kill_worker(self, pid: int, number: int = SIGKILL) -> None:
        """Send a signal to a process of this master's session, and to no other."""
        assert pid in [each.pid for each in self.leftovers()], f"{pid} is not ours"
        os.kill(pid, number)

    def memory(self, pid: int) -> int:
        """Resident memory of a process in bytes."""
        return proc.memory(pid)

    def fds(self, pid: int) -> int:
        """Count the open descriptors of a process."""
        return proc.fds(pid)

    def threads(self, pid: int) -> int:
        """Count the threads of a process."""
        return proc.threads(pid)

    def write(self, name: str, text: str) -> Path:
        """Write (or replace in one step) a file of the working directory."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".kit-new")
        fresh.write_text(text)
        return fresh.replace(path)

    # -- inside ----------------------------------------------------------------------------------

    def _make_binds(self) -> list[str]:
        bind = "tcp" if self.bind is None else self.bind
        wanted = [bind] if isinstance(bind, str) else bind
        return [_BINDS.get(each, each).replace("{dir}", str(self.dir)) for each in wanted]

    def _command(self) -> list[str]:
        # The script that operators start. "-m gunicorn" cannot be re-executed by USR2: sys.argv[0]
        # is gunicorn/__main__.py then, and when that runs as a script, gunicorn/http hides the
        # standard library's http (27.0.1, arbiter.py, START_CTX).
        script = Path(sysconfig.get_path("scripts")) / "gunicorn"
        gunicorn = [str(script)] if script.exists() else ["-m", "gunicorn"]
        command = [sys.executable, *self.python_args, *gunicorn]
        command += ["-k", self.worker_class, "-w", str(self.worker_count)]
        for bind in self.binds:
            command += ["-b", bind]
        if self.access_log:
            command += ["--access-logfile", str(self.dir / "access.log")]
        command += [*self.args, self.app]
        if self.activate:
            fds = ",".join(str(each.fileno()) for each in self.activate)
            return [sys.executable, "-c", _ACTIVATE, fds, *command]
        return command

    def _environment(self) -> dict[str, str]:
        foreign = (*_FOREIGN_ENV, *_SYSTEMD_ENV)
        env = {name: value for name, value in os.environ.items() if name not in foreign}
        paths = [str(self.dir), *_package_home(), *filter(None, [env.get("PYTHONPATH")])]
        env["PYTHONPATH"] = os.pathsep.join(paths)
        env["PYTHONUNBUFFERED"] = "1"
        # A test that replaces app.py within one second by a text of the same length would get the
        # bytecode of the old one: pyc files are matched by size and by time in whole seconds.
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        # gunicorn >= 25.1 puts its control socket there, or into the home of whoever runs the
        # tests, where masters side by side would fight for it (config.py, ControlSocket).
        env["XDG_RUNTIME_DIR"] = str(self.dir)
        env.update(self.env)
        return env

    def _start(self) -> None:
        # A short path: sun_path holds 108 bytes, and pytest's own temporary names are long.
        self.dir = Path(tempfile.mkdtemp(prefix="kit-"))
        self.binds = self._make_binds()
        for name, text in self.files.items():
            self.write(name, text)
        if self.config is not None:
            self.write("gunicorn.conf.py", self.config)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.dir,
                env=self._environment(),
                start_new_session=True,
                pass_fds=(*self.pass_fds, *(each.fileno() for each in self.activate)),
            )
        self.pid = self._process.pid

    def _listeners(self) -> list[tuple[str, Address]]:
        if not self._listening:
            line = _LISTENING.search(self.log())
            told = [each for each in map(_parse_bind, self.binds) if each is not None]
            if line is None and told and len(told) == len(self.binds):
                # The test has named port and path itself: works when the log goes elsewhere, too.
                self._listening = told
            else:
                line = line or self.wait_log(_LISTENING.pattern, self.start_timeout)
                self._listening = [_parse_listener(each) for each in line[1].split(",")]
        return self._listening

    def _forks(self, pid: int, *, executed: bool) -> list[proc.Stat]:
        # A fork keeps the address of the stack, exec chooses a new one: this tells a worker from
        # USR2's new master, which is a child of the old one too. Titles would not do, they change.
        parent = proc.stat(pid)
        if parent is None:
            return []
        found = proc.children(pid)
        return [each for each in found if (each.start_stack != parent.start_stack) is executed]

    def _running(self) -> bool:
        # Cheap, unlike leftovers(), which has to read all of /proc.
        return self._process is not None and self._process.poll() is None

    def _kill_leftovers(self) -> None:
        deadline = time.monotonic() + 5
        while self.leftovers() and time.monotonic() < deadline:
            for each in self.leftovers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, SIGKILL)
            time.sleep(0.02)
        if self._process is not None:
            self._process.wait(5)

    def _forget(self) -> None:
        # Never the "." that stands there before a start.
        if self.dir.name.startswith("kit-"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def _tale(self, what: str) -> str:
        if "-- the log's tail --" in what:
            return what
        tail = self.log()[-_LOG_TAIL:] if self.log_path.exists() else "(no log)"
        return f"{what}\n-- the log's tail --\n{tail}"

    def _explain(self) -> None:
        # pytest shows it under "Captured stderr" of the failing test.
        print(self._tale(f"master {self.pid}, workers {self.workers()}"), file=sys.stderr)  # noqa: T201


def _package_home() -> list[str]:
    """Let the master import the same gunicorn_asgi as the tests do, installed or not."""
    spec = importlib.util.find_spec("gunicorn_asgi")
    if spec is None or spec.origin is None:
        return []
    home = str(Path(spec.origin).resolve().parent.parent)
    return [] if home.endswith("site-packages") else [home]


def _parse_bind(bind: str) -> tuple[str, Address] | None:
    if bind.startswith("unix:"):
        return "unix", bind[len("unix:") :]
    host, _, port = bind.rpartition(":")
    if host and port.isdigit() and int(port):
        return "http", (host.strip("[]"), int(port))
    return None


def _parse_listener(text: str) -> tuple[str, Address]:
    if text.startswith("unix:"):
        return "unix", text[len("unix:") :]
    scheme, _, netloc = text.partition("://")
    host, _, port = netloc.rpartition(":")
    return scheme, (host.strip("[]"), int(port))
