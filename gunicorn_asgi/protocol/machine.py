"""The gate that every state machine here has: one state, one table, one function that moves it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar, Generic, TypeVar

from gunicorn_asgi.protocol.errors import LocalProtocolError

__all__ = ["Machine"]

State = TypeVar("State", bound=IntEnum)
Event = TypeVar("Event", bound=IntEnum)


class Machine(Generic[State, Event]):
    """A machine; a subclass names its table.

    Attributes:
        transitions: state -> event -> next state; what is missing is not allowed.
        state: where it is.
    """

    __slots__ = ("state",)

    # Of State and Event, but a class variable cannot be typed by the parameters of its class.
    transitions: ClassVar[Mapping[Any, Mapping[Any, Any]]]

    def __init__(self, state: State) -> None:
        self.state = state

    def fire(self, event: Event) -> State:
        """Take ``event`` and return the new state; the only writer of ``state``.

        Raises:
            LocalProtocolError: the event is not allowed in this state.
        """
        try:
            self.state = self.transitions[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"can't {event.name} while {self.state.name}") from None
        return self.state
