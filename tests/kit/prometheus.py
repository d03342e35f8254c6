"""A real Prometheus and its promtool, as Debian's package ``prometheus`` has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.master import free_port
from kit.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Prometheus", "by_prometheus", "promtool"]

_MISSING = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]

# Without them such tests are skipped, but in CI they fail.
by_prometheus = pytest.mark.skipif(
    bool(_MISSING) and not os.environ.get("CI"),
    reason=f"not installed: {', '.join(_MISSING)} (Debian: prometheus)",
)


def promtool(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; its status and what it said."""
    command = ["promtool", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


class Prometheus:
    """Scrapes one target every 100 ms, and answers queries.

    with Prometheus("127.0.0.1:9180") as prometheus:
        prometheus.query("up")
    """

    def __init__(self, target: str, job: str = "gunicorn_asgi") -> None:
        """Remember what to scrape."""
        self._dir = Path(tempfile.mkdtemp(prefix="kit-prometheus-"))
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [target]}]}],
        }
        (self._dir / "prometheus.yml").write_text(json.dumps(config))

    def __enter__(self) -> Prometheus:
        """Start it, and wait until it has scraped."""
        self._log = (self._dir / "log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._dir / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._dir / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: self._up(), 20, "Prometheus to scrape")
        except AssertionError as failure:
            self._end()
            raise AssertionError(f"{failure}\n{self.log()[-3000:]}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it, by its pid."""
        self._end()
        shutil.rmtree(self._dir, ignore_errors=True)

    def log(self) -> str:
        """What it has said."""
        return (self._dir / "log").read_text(errors="replace")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask for an instant vector: for each series its ``metric`` and its ``value``."""
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=10) as response:
            told = json.load(response)
        assert told["status"] == "success", told
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    def _up(self) -> bool:
        assert self._process.poll() is None, "Prometheus has ended"
        try:
            return any(series["value"][1] == "1" for series in self.query("up"))
        except OSError:
            return False

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
