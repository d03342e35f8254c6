"""The socket of ``asgi_status_bind``, apart from the public ones: opened by the master.

Workers inherit it with the fork and serve it, see ``statusdesk``. Before the first fork a socket
that cannot be opened refuses the start; at a reload it is logged, and the one before stays. USR2
executes a new master, which gets no socket of ours: it binds the same address again, and from then
on is the one that answers there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import stat
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_asgi.worker.settings import SettingError, Settings

__all__ = ["follow", "inherited", "open_first"]

_BACKLOG = 128
# Whoever may connect sees everything.
_MODE = 0o600

# asm-generic/socket.h; Python has no name for it.
_SO_ATTACH_REUSEPORT_CBPF = 51
# linux/filter.h: BPF_RET | BPF_K, "return 1".
_RETURN_1 = struct.pack("HBBI", 0x06, 0, 0, 1)


@dataclass(frozen=True)
class _Port:
    """An open socket, and the setting that it was opened for."""

    setting: str
    sock: socket.socket


class _Master:
    """What the master has opened; the workers inherit it."""

    port: _Port | None = None
    # Files of unix sockets, and what they were when they were made.
    files: dict[str, tuple[int, int]] | None = None


def open_first(settings: Settings, cfg: Config, log: Logger) -> None:
    """Runs in: master. Open the socket before the first fork, if there is to be one.

    Raises:
        SettingError: it cannot be opened.
    """
    wanted = settings.values["asgi_status_bind"]
    if not wanted:
        return
    try:
        _Master.port = _open(wanted, cfg, log)
    except (OSError, ValueError) as exc:
        raise SettingError(
            f"asgi_status_bind is {wanted!r}, which cannot be bound: {exc}"
        ) from None


def follow(settings: Settings, cfg: Config, log: Logger) -> None:
    """Runs in: master. The settings were read again; never raises.

    The socket before is closed here; workers that still serve it go on until they leave.
    """
    wanted, before = settings.values["asgi_status_bind"], _Master.port
    if wanted == (before.setting if before is not None else "") and _in_place():
        return
    try:
        _Master.port = _open(wanted, cfg, log) if wanted else None
    except (OSError, ValueError) as exc:
        stays = f"{before.setting} stays" if before is not None else "there is none"
        log.error("asgi_status_bind is %r, which cannot be bound: %s; %s", wanted, exc, stays)
        return
    if before is not None:
        before.sock.close()


def inherited() -> socket.socket | None:
    """Runs in: worker. The socket that was there when this worker was forked."""
    return _Master.port.sock if _Master.port is not None else None


def _open(wanted: str, cfg: Config, log: Logger) -> _Port:
    """A listening socket.

    Raises:
        OSError, ValueError: there can be none.
    """
    # The other master, of which this is to become the successor, may have the same address.
    exclusive = "GUNICORN_PID" not in os.environ
    if wanted.startswith("unix:"):
        path = os.path.abspath(wanted[len("unix:") :])
        sock, name = _open_unix(path, exclusive, cfg), f"unix:{path}"
    else:
        sock = _open_tcp(wanted, exclusive)
        host, port = sock.getsockname()[:2]
        name = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if not ip_address(host).is_loopback:
            log.warning(
                "asgi_status_bind is %s, which other machines can reach: they see whether this "
                "server is ready, and those in asgi_status_allow see everything",
                wanted,
            )
    sock.setblocking(False)
    log.info("Status page at: %s (%s)", name, os.getpid())
    return _Port(wanted, sock)


# -- TCP -------------------------------------------------------------------------------------------


def _open_tcp(wanted: str, exclusive: bool) -> socket.socket:
    host, _, number = wanted.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]"), int(number), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    if exclusive and int(number):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # With SO_REUSEPORT, a stranger's port that has it too would not seem taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError, AttributeError):  # not everywhere
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    _prefer_the_newer(sock)
    return sock


def _prefer_the_newer(sock: socket.socket) -> None:
    """Of two masters on one port (USR2), let the second have every connection, as long as it lives.

    Otherwise the kernel lets chance decide, and a scraper that meets the one and then the other
    takes each change for a restart of all counters. The program chooses socket 1 of the two (the
    one that was bound later); if there is but one, chance has no choice (socket(7),
    SO_ATTACH_REUSEPORT_CBPF).
    """
    # Not Linux, a sandbox, or a Python without ctypes: then chance has to do.
    with contextlib.suppress(OSError, ImportError):
        import ctypes

        program = ctypes.create_string_buffer(_RETURN_1)
        # struct sock_fprog: how many instructions, and where they are.
        pointer = struct.pack("HP", 1, ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, pointer)


# -- unix ------------------------------------------------------------------------------------------


def _open_unix(path: str, exclusive: bool, cfg: Config) -> socket.socket:
    """Bound beside ``path`` and then put into its place: there is no moment without a socket."""
    _look_at(path, exclusive)
    if not exclusive:
        _keep(path)
    fresh = f"{path}.new"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        sock.bind(fresh)
        # Nobody can connect before listen().
        os.chmod(fresh, _MODE)
        if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
            os.chown(fresh, cfg.uid, cfg.gid)
        sock.listen(_BACKLOG)
        os.rename(fresh, path)
    except OSError:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    _remember(path)
    return sock


def _look_at(path: str, exclusive: bool) -> None:
    """Refuse what is not ours to replace.

    Raises:
        ValueError: there is something else, or a server that answers.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ValueError("there is a file, which is no socket")
    if not exclusive:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return  # left behind by a server that was killed
    raise ValueError("another server answers there")


def _keep(path: str) -> None:
    """Keep the socket of the master before under another name: USR2 may be taken back."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.before")
    with contextlib.suppress(OSError):  # there is none, or the file system knows no links
        os.link(path, f"{path}.before")


def _remember(path: str) -> None:
    """Remove the file with this process, if it is still the one that was made here."""
    if _Master.files is None:
        _Master.files = {}
        atexit.register(_remove_files, os.getpid())
    _Master.files[path] = _identity(path)


def _identity(path: str) -> tuple[int, int]:
    """Of the file, (0, 0) if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _in_place() -> bool:
    """Whether the present socket can be found: a master of USR2's may have put its own there."""
    if _Master.port is None or _Master.port.sock.family != socket.AF_UNIX:
        return True
    path = os.path.abspath(_Master.port.setting[len("unix:") :])
    return _identity(path) == (_Master.files or {}).get(path)


def _remove_files(owner: int) -> None:
    if os.getpid() != owner:
        return  # a worker, which has inherited this
    taken_back = "GUNICORN_PID" in os.environ  # the arbiter deletes it once that master is gone
    for path, made in (_Master.files or {}).items():
        with contextlib.suppress(OSError):
            if _identity(path) == made:
                os.unlink(path)
                if taken_back:
                    os.rename(f"{path}.before", path)
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.before")
