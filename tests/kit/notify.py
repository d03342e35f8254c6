"""systemd's end of the notify socket: who has said what, and when (sd_notify(3))."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kit.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Notification", "NotifySocket"]

_CREDENTIALS = struct.Struct("3i")


class Notification(NamedTuple):
    """One datagram."""

    at: float
    pid: int
    text: str


class NotifySocket:
    """A datagram socket that is always read, as systemd's is: a full one would block senders."""

    def __enter__(self) -> NotifySocket:
        """Open it."""
        self.dir = Path(tempfile.mkdtemp(prefix="kit-"))
        self.path = str(self.dir / "notify")
        self.heard: list[Notification] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.path)
        self._thread.join(5)
        self._socket.close()
        shutil.rmtree(self.dir)

    def _listen(self) -> None:
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(8192, space)
            if not data:
                return
            pid = _CREDENTIALS.unpack(ancillary[0][2])[0]
            self.heard.append(Notification(time.monotonic(), pid, data.decode()))

    def mark(self) -> int:
        """Return the present position, for ``after``."""
        return len(self.heard)

    def said(self, pattern: str, after: int = 0) -> list[Notification]:
        """Everything that matches as a whole."""
        return [each for each in self.heard[after:] if re.fullmatch(pattern, each.text)]

    def wait(self, pattern: str, timeout: float = 10.0, after: int = 0) -> Notification:
        """Wait until somebody says that; return the first."""
        try:
            return wait_until(lambda: self.said(pattern, after), timeout, f"/{pattern}/")[0]
        except AssertionError as failure:
            told = "\n".join(each.text for each in self.heard[after:][-30:])
            raise AssertionError(f"{failure}\n-- heard --\n{told}") from None

    def wait_silence(self, pattern: str, seconds: float, timeout: float = 20.0) -> None:
        """Wait until nobody has said that for so long."""
        since = time.monotonic()

        def silent() -> bool:
            last = max((each.at for each in self.said(pattern)), default=since)
            return time.monotonic() - max(last, since) >= seconds

        wait_until(silent, timeout, f"{seconds} s without /{pattern}/")
