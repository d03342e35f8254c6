"""A server on loopback that takes what is posted to it: what OTLP, Sentry and the like send to."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from kit.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Collector", "Posted"]


class Posted(NamedTuple):
    """One request; the body is unpacked if it was compressed."""

    path: str
    body: bytes


class Collector:
    """Answers 200 to every POST, and remembers it.

    with Collector() as collector:
        ... send to collector.url
        collector.wait(lambda posted: len(posted) == 2, "two exports")
    """

    def __init__(self) -> None:
        self._posted: list[Posted] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Take it."""
                body = self._body()
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._posted.append(Posted(self.path, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _body(self) -> bytes:
                if "Content-Length" in self.headers:
                    return self.rfile.read(int(self.headers["Content-Length"]))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def log_message(self, *args: object) -> None:
                """In silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def posted(self) -> list[Posted]:
        """What has come so far."""
        return list(self._posted)

    def wait(self, enough: Callable[[list[Posted]], object], what: str) -> list[Posted]:
        """Wait until there is enough."""
        wait_until(lambda: enough(self.posted), 15, what)
        return self.posted

    def __enter__(self) -> Collector:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
