"""Our own command line, as a process: ``python -m gunicorn_asgi``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kit.master import Master

__all__ = ["COMMAND", "Run", "Script", "ask", "popen"]

COMMAND = (sys.executable, "-m", "gunicorn_asgi")

# What an installer makes of [project.scripts].
_SCRIPT = f"""\
#!{sys.executable}
import sys
from gunicorn_asgi.worker.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GUNICORN_", "COLUMNS"))}
    return {**env, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100", **(extra or {})}


def ask(
    *args: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *args],
        capture_output=True,
        text=True,
        cwd=cwd or tempfile.gettempdir(),
        env=_environment(env),
        timeout=timeout,
        check=False,
    )


@contextmanager
def popen(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test, which ends it if it has not ended by itself."""
    with subprocess.Popen(
        [*COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tempfile.gettempdir(),
        env=_environment(None),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Run(Master):
    """A master that is started by ``python -m gunicorn_asgi run``."""

    def _start_of_command(self) -> list[str]:
        return [sys.executable, *self.python_args, "-m", "gunicorn_asgi"]

    def _command(self) -> list[str]:
        binds = [word for bind in self.binds for word in ("-b", bind)]
        options = ["-w", str(self.worker_count), *binds, *self.args]
        return [*self._start_of_command(), "run", *options, self.app]


class Script(Run):
    """A master that is started by the console script."""

    def _start_of_command(self) -> list[str]:
        path = self.dir / "bin" / "gunicorn-asgi"
        path.parent.mkdir()
        path.write_text(_SCRIPT)
        path.chmod(0o755)
        return [str(path)]
