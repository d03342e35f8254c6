"""Stretches of files on their way to a client: sendfile(2), or read and written where that fails.

``FileSend`` writes bytes and nothing around them; what frames them is protocol/response.py.
The descriptor that is waited on is a duplicate of the socket's, since uvloop lets nobody else
wait on that of a transport. It is open only while a file is being sent, and as long as it is, the
kernel does not close the connection.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError

if TYPE_CHECKING:
    from gunicorn_asgi.aio.http1 import HTTP1Protocol

__all__ = ["FileSend", "Stretch", "advance", "open_path", "stretch_of"]

# Bytes for one sendfile(2) before other connections get their turn; it may wait for the disk.
_SENDFILE = 1024 * 1024

# Bytes for one read where sendfile(2) cannot be used: in a thread, so the larger the better.
_READ = 256 * 1024

# This file, or this socket, knows no sendfile(2).
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

# It is the connection that sendfile(2) complains about, not the file.
_GONE = frozenset(
    {
        *(errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ETIMEDOUT),
        *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
    }
)


class Stretch(NamedTuple):
    """``size`` bytes of an open file from ``offset`` on."""

    fd: int
    offset: int
    size: int


def open_path(message: dict[str, Any]) -> Stretch:
    """Open the file of a ``http.response.pathsend``, whose descriptor is the caller's to close.

    The specification wants an absolute ``path``. A relative one is taken from the working
    directory, since Starlette hands on what ``FileResponse("index.html")`` was given, and has
    looked at the file there itself.

    Raises:
        LocalProtocolError: ``path`` is no str, or no regular file can be read there. Never an
            OSError: that would look like a client that has left.
    """
    path = message.get("path")
    if not isinstance(path, str):
        raise LocalProtocolError(f"path is not a str: {path!r}")
    try:
        # Without O_NONBLOCK a FIFO would hold up the whole worker until somebody writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as exc:
        raise LocalProtocolError(f"{path!r} cannot be sent: {exc}") from exc
    try:
        return Stretch(fd, 0, _size(fd))
    except LocalProtocolError:
        os.close(fd)
        raise


def stretch_of(message: dict[str, Any]) -> Stretch:
    """What a ``http.response.zerocopysend`` wants to be sent.

    Without ``offset`` it begins at the file's current position, without ``count`` it goes to the
    file's end.

    Raises:
        LocalProtocolError: ``file`` is no regular file with a descriptor, a number is none, or
            the file does not hold as much.
    """
    file, offset, count = message.get("file"), message.get("offset"), message.get("count")
    for number in (offset, count):
        if number is not None and (not isinstance(number, int) or number < 0):
            raise LocalProtocolError(f"offset and count are no sizes: {offset!r}, {count!r}")
    try:
        fd = file.fileno()  # type: ignore[union-attr]  # whatever raises here is no file
        size = _size(fd)
        if offset is None:
            offset = _position(file, fd)
    except (AttributeError, TypeError, ValueError, OSError) as exc:
        raise LocalProtocolError(f"no file that can be sent: {file!r}: {exc}") from exc
    left = size - offset
    if left < (count or 0):
        raise LocalProtocolError(f"{file!r} has {left} bytes from {offset} on, not {count or 0}")
    return Stretch(fd, offset, left if count is None else count)


def advance(message: dict[str, Any], stretch: Stretch) -> None:
    """Move the file's position behind ``stretch`` if that was where it began, as sendfile(2)."""
    if message.get("offset") is not None:
        return
    file, position = message["file"], stretch.offset + stretch.size
    if isinstance(file, (io.BufferedIOBase, io.RawIOBase)):
        file.seek(position)
    else:
        os.lseek(stretch.fd, position, os.SEEK_SET)


def _position(file: object, fd: int) -> int:
    """The current position: a reader of Python's may have read ahead of it."""
    if isinstance(file, (io.BufferedIOBase, io.RawIOBase)):
        return file.tell()
    return os.lseek(fd, 0, os.SEEK_CUR)


def _size(fd: int) -> int:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise LocalProtocolError("only a regular file can be sent")
    return status.st_size


class FileSend:
    """One stretch of a file on one connection.

    Attributes:
        sent: its bytes that are out so far.
    """

    __slots__ = ("_connection", "_lost", "_waiter", "sent")

    def __init__(self, connection: HTTP1Protocol) -> None:
        self._connection = connection
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self.sent = 0

    def lose(self) -> None:
        """The client is gone: ``run()`` raises ClientDisconnected; idempotent."""
        self._lost = True
        if self._waiter is not None:
            _wake(self._waiter)

    async def run(self, stretch: Stretch) -> None:
        """Send all of ``stretch``. Nothing else may be written meanwhile.

        Raises:
            ClientDisconnected: the client is gone.
            EOFError: the file has become shorter.
            OSError: it cannot be read.
        """
        connection = self._connection
        transport = connection.transport
        sock = transport.get_extra_info("socket")
        if (
            connection.state.sendfile
            and hasattr(os, "sendfile")
            and sock is not None
            and transport.get_extra_info("sslcontext") is None
        ):
            await self._drain()
            try:
                out = os.dup(sock.fileno())
            except OSError:
                pass  # no descriptor is left: it goes without
            else:
                try:
                    await self._by_kernel(out, stretch)
                finally:
                    os.close(out)
        await self._by_copy(stretch)

    async def _drain(self) -> None:
        """Wait until the transport has nothing more to write."""
        connection = self._connection
        connection.transport.set_write_buffer_limits(high=0)
        try:
            connection.flush()
            await connection.flow.drained()
            self._check()
        finally:
            if not self._lost:  # uvloop's transport has no limits any more once it is closed
                high = connection.state.limits.write_buffer
                connection.transport.set_write_buffer_limits(high=high)

    async def _by_kernel(self, out: int, stretch: Stretch) -> None:
        """sendfile(2), until all is sent, or until it turns out that this cannot be done."""
        connection = self._connection
        waited = False
        try:
            while left := stretch.size - self.sent:
                try:
                    sent = os.sendfile(
                        out, stretch.fd, stretch.offset + self.sent, min(left, _SENDFILE)
                    )
                except BlockingIOError:
                    if not waited:
                        waited = True
                        connection.pause_writing()  # from now on the client has to make progress
                    await self._writable(out)
                    continue
                except OSError as exc:
                    if not self.sent and exc.errno in _CANNOT:
                        return
                    if exc.errno in _GONE:
                        raise ClientDisconnected(f"the client has left: {exc}") from exc
                    raise
                self._count(sent)
                connection.count_written(sent)
                if sent < left:
                    await asyncio.sleep(0)
                    self._check()
        finally:
            if waited:
                connection.resume_writing()

    async def _writable(self, out: int) -> None:
        loop = self._connection.state.loop
        waiter = self._waiter = loop.create_future()
        loop.add_writer(out, _wake, waiter)
        try:
            await waiter
        finally:
            loop.remove_writer(out)
            self._waiter = None
        self._check()

    async def _by_copy(self, stretch: Stretch) -> None:
        """Read in a thread and write: TLS, files and systems without sendfile(2), by choice."""
        connection = self._connection
        loop = connection.state.loop
        while left := stretch.size - self.sent:
            offset = stretch.offset + self.sent
            data = await loop.run_in_executor(None, os.pread, stretch.fd, min(left, _READ), offset)
            self._check()
            self._count(len(data))
            connection.write(data)
            if connection.flow.write_paused:
                await connection.flow.drained()
                self._check()

    def _count(self, sent: int) -> None:
        if not sent:
            raise EOFError("the file has become shorter")
        self.sent += sent

    def _check(self) -> None:
        if self._lost:
            raise ClientDisconnected("the client has left")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
