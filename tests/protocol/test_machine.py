"""The gate of all machines; their tables are walked in the tests of their own modules."""

from __future__ import annotations

from enum import IntEnum

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from gunicorn_asgi.protocol.machine import Machine

__all__: list[str] = []


class Lamp(IntEnum):
    """Two states."""

    OFF = 0
    ON = 1


class Press(IntEnum):
    """Two events."""

    UP = 0
    DOWN = 1


class Switch(Machine[Lamp, Press]):
    """A machine of one's own."""

    __slots__ = ()

    transitions = {  # noqa: RUF012 - a table, and read-only
        Lamp.OFF: {Press.UP: Lamp.ON},
        Lamp.ON: {Press.DOWN: Lamp.OFF},
    }


def test_an_event_leads_where_the_table_says() -> None:
    """And fire() tells where that is."""
    switch = Switch(Lamp.OFF)
    assert switch.fire(Press.UP) is Lamp.ON
    assert switch.state is Lamp.ON
    assert switch.fire(Press.DOWN) is Lamp.OFF


def test_what_the_table_lacks_is_refused_by_name_and_changes_nothing() -> None:
    """h11's rule: a missing key is the error, and it names event and state."""
    switch = Switch(Lamp.OFF)
    with pytest.raises(LocalProtocolError, match=r"^can't DOWN while OFF$"):
        switch.fire(Press.DOWN)
    assert switch.state is Lamp.OFF
