"""A real nginx in front of one address, with upstream keep-alive."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from signal import SIGQUIT
from typing import TYPE_CHECKING

from kit.master import Address, free_port
from kit.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NGINX", "Nginx", "stream_module"]

# /usr/sbin is not on everybody's PATH.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

# One upstream, and no second try: what the server behind fails to answer is a 502. The upstream's
# keepalive_timeout is shorter than the server's own, as it has to be with any server.
_CONFIG = """\
{main}{user}daemon off;
pid nginx.pid;
error_log error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 8m;
    map $http_upgrade $connection_field {{ default upgrade; "" ""; }}
    upstream server {{
        server {server} max_fails=0;
        keepalive 8;
        keepalive_timeout 1s;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://server;
            proxy_next_upstream off;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_field;
        }}
    }}
{more}}}
"""


def stream_module() -> str | None:
    """The line that loads nginx's stream module; "" if it is built in, None if there is none."""
    assert NGINX is not None
    told = subprocess.run([NGINX, "-V"], capture_output=True, text=True, timeout=10).stderr
    if re.search(r"--with-stream(?=\s|$)", told):
        return ""
    folder = re.search(r"--modules-path=(\S+)", told)
    module = Path(folder[1], "ngx_stream_module.so") if folder else Path()
    return f"load_module {module};\n" if module.is_file() else None


class Nginx:
    """Runs from ``with`` to its end; ``connect`` opens a connection to it."""

    def __init__(self, server: Address, more: str = "", main: str = "") -> None:
        """Serve what listens at ``server``.

        ``more``: further blocks of its http block; ``main``: what stands in front of everything.
        """
        self.server = f"{server[0]}:{server[1]}" if isinstance(server, tuple) else f"unix:{server}"
        self.more, self.main = more, main
        self.port = free_port()
        self.dir = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        """Start it and wait until it listens."""
        assert NGINX is not None
        self.dir = Path(tempfile.mkdtemp(prefix="kit-nginx-"))
        config = self.dir / "nginx.conf"
        # Who starts it as root gets workers of another user, who may not open what is ours.
        user = "user root;\n" if os.geteuid() == 0 else ""
        where = {"user": user, "server": self.server, "port": self.port}
        config.write_text(_CONFIG.format(**where, more=self.more, main=self.main))
        self._process = subprocess.Popen(
            [NGINX, "-p", str(self.dir), "-c", str(config), "-e", str(self.dir / "error.log")],
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_until(self._listens, 10, "nginx to listen")
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
        """End it by its pid."""
        self._end()

    def connect(self, timeout: float = 5.0, port: int = 0) -> socket.socket:
        """Open a connection to nginx; ``port``: to one of the further blocks."""
        sock = socket.create_connection(("127.0.0.1", port or self.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def log(self) -> str:
        """What nginx complained of."""
        path = self.dir / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"nginx has ended: {self.log()}"
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def _end(self) -> None:
        if self._process is not None:
            self._process.send_signal(SIGQUIT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        shutil.rmtree(self.dir, ignore_errors=True)
