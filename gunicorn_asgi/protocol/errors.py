"""Errors of the protocols, named by whose fault they are.

h11's idea: blame is in the type, and the status code rides along, so that no layer above
has to read a message to know what to answer.
"""

from __future__ import annotations

__all__ = ["ClientDisconnected", "LocalProtocolError", "ProtocolError", "RemoteProtocolError"]


class ProtocolError(Exception):
    """A rule of HTTP, WebSocket or ASGI was broken. Base of the two below.

    Attributes:
        status_hint: the HTTP status (int) that fits, if one can still be sent.
    """

    status_hint = 500

    def __init__(self, message: str, status_hint: int | None = None) -> None:
        super().__init__(message)
        if status_hint is not None:
            self.status_hint = status_hint


class RemoteProtocolError(ProtocolError):
    """The peer sent what it must not send; answered with ``status_hint`` (default 400)."""

    status_hint = 400


class LocalProtocolError(ProtocolError, RuntimeError):
    """The application sent what it must not send; raised out of its ``send()``.

    ``status_hint`` is 500. Also a RuntimeError, which is what uvicorn raises here and what
    applications may already catch.
    """

    status_hint = 500


class ClientDisconnected(ConnectionError):
    """``send()`` was called after the client had left.

    An OSError subclass, as the ASGI HTTP & WebSocket specification demands since 2.4. An
    application may let it propagate: that is the normal end of a response nobody reads.
    """
