"""protocol/errors.py: whose fault it is, and which status goes with it."""

from __future__ import annotations

import pytest

from gunicorn_asgi.protocol.errors import (
    ClientDisconnected,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)

__all__: list[str] = []


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProtocolError, 500), (RemoteProtocolError, 400), (LocalProtocolError, 500)],
)
def test_each_blame_has_its_status(error: type[ProtocolError], status: int) -> None:
    """RFC 9110 15.5 and 15.6: 4xx where the client erred, 5xx where we did."""
    assert error("so it was").status_hint == status
    assert str(error("so it was")) == "so it was"


@pytest.mark.parametrize("error", [ProtocolError, RemoteProtocolError, LocalProtocolError])
def test_a_status_rides_on_one_error_only(error: type[ProtocolError]) -> None:
    """A better status is that error's own; the next one has the default again."""
    assert error("long", 431).status_hint == 431
    assert error("short").status_hint == error.status_hint != 431
    assert str(error("long", 431)) == "long"


def test_blame_is_in_the_type() -> None:
    """Whoever catches the one does not catch the other."""
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert issubclass(LocalProtocolError, ProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_a_wrong_message_of_the_application_is_a_runtime_error() -> None:
    """uvicorn raises RuntimeError out of send(), and applications catch that."""
    assert issubclass(LocalProtocolError, RuntimeError)
    assert not issubclass(RemoteProtocolError, RuntimeError)


def test_sending_to_a_client_that_left_is_an_os_error() -> None:
    """ASGI HTTP & WebSocket 2.4: send() raises "a server-specific subclass of OSError"."""
    assert issubclass(ClientDisconnected, OSError)
    assert not issubclass(ClientDisconnected, ProtocolError)
