"""ASGI messages as an application sends them, and what it may raise: shared by both protocols."""

from __future__ import annotations

from typing import Any

from gunicorn_asgi.protocol.errors import ClientDisconnected, LocalProtocolError

__all__ = [
    "APP_ERRORS",
    "as_bytes",
    "caused_by_disconnect",
    "header_pairs",
    "link_values",
    "no_message",
]

# What an application may raise without taking the worker down, or leaving its client without an
# answer: anything. A Task keeps every other BaseException (GeneratorExit, BaseExceptionGroup) to
# itself. GeneratorExit may also mean that the loop is being torn down: ask ``loop.is_running()``.
APP_ERRORS = (BaseException,)


def caused_by_disconnect(exc: BaseException | None) -> bool:
    """Whether ``exc`` is, or was raised while handling, a ClientDisconnected.

    Frameworks wrap it (Starlette raises its own ClientDisconnect in the handler of an OSError).
    """
    seen = 0
    while exc is not None and seen < 32:
        if isinstance(exc, ClientDisconnected):
            return True
        exc = exc.__cause__ or exc.__context__
        seen += 1
    return False


def no_message(message: object) -> LocalProtocolError:
    """The error for a ``message`` that is no dict, or has no ``type``."""
    return LocalProtocolError(f"a message is a dict with a type, and not {message!r:.100}")


def header_pairs(message: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """The ``headers`` of a message as a list of pairs; what they are made of is not checked.

    Raises:
        LocalProtocolError: they are not pairs.
    """
    try:
        return [(name, value) for name, value in message.get("headers", ())]
    except (TypeError, ValueError) as exc:
        raise LocalProtocolError(f"headers are not pairs: {exc}") from None


def link_values(message: dict[str, Any]) -> list[bytes]:
    """The ``links`` of a message as a list; what they are made of is not checked.

    Raises:
        LocalProtocolError: there are none, or they are no iterable.
    """
    try:
        return list(message["links"])
    except (KeyError, TypeError) as exc:
        raise LocalProtocolError(f"links are not an iterable: {exc!r}") from None


def as_bytes(body: object) -> bytes:
    """The ``body`` of a message; any kind of buffer will do.

    Raises:
        LocalProtocolError: it is none.
    """
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise LocalProtocolError(f"body is not bytes: {type(body).__name__}")
