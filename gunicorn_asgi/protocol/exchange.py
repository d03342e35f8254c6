"""The two state machines of one request and its response.

Theory of operation
-------------------
One read may hold several pipelined requests, and the next one is parsed before the first is
answered. So there is no single state of a connection; each request has an ``Exchange`` with two
machines, Reading and Writing (hyper's split). Keep-alive is a third machine that only goes from
True to False; it lives with the connection.

The joint rules, the only ones, are applied where the connection looks at its oldest exchange:

- DONE x DONE x keep-alive: the next exchange begins;
- DONE x DONE x no keep-alive: close, and linger where the peer may still be sending;
- BODY x DONE: the rest of the body is discarded up to ``Limits.discard_body``, else close;
- CLOSED: the application gets ``http.disconnect``.
"""

from __future__ import annotations

from enum import IntEnum

from gunicorn_asgi.protocol.errors import LocalProtocolError

__all__ = ["READING", "WRITING", "Exchange", "ExchangeEvent", "Reading", "Writing"]


class Reading(IntEnum):
    """How far the request has been read; it exists from its complete head on."""

    BODY = 0
    DONE = 1
    CLOSED = 2


class Writing(IntEnum):
    """How far the response has been written. In HEAD it is begun, but its head is held back
    until the first body message, so that an error in between can still become a 500."""

    WAIT = 0
    HEAD = 1
    BODY = 2
    DONE = 3
    CLOSED = 4


class ExchangeEvent(IntEnum):
    """What happens to an exchange. READ is the request's end, LOST the end of the connection."""

    READ = 0
    START = 1
    BODY = 2
    END = 3
    LOST = 4


READING: dict[Reading, dict[ExchangeEvent, Reading]] = {
    Reading.BODY: {ExchangeEvent.READ: Reading.DONE, ExchangeEvent.LOST: Reading.CLOSED},
    # A complete request stays complete when the client leaves: it may still be read.
    Reading.DONE: {ExchangeEvent.LOST: Reading.DONE},
    Reading.CLOSED: {ExchangeEvent.LOST: Reading.CLOSED},
}

WRITING: dict[Writing, dict[ExchangeEvent, Writing]] = {
    Writing.WAIT: {ExchangeEvent.START: Writing.HEAD, ExchangeEvent.LOST: Writing.CLOSED},
    Writing.HEAD: {
        ExchangeEvent.BODY: Writing.BODY,
        ExchangeEvent.END: Writing.DONE,
        ExchangeEvent.LOST: Writing.CLOSED,
    },
    Writing.BODY: {
        ExchangeEvent.BODY: Writing.BODY,
        ExchangeEvent.END: Writing.DONE,
        ExchangeEvent.LOST: Writing.CLOSED,
    },
    Writing.DONE: {ExchangeEvent.LOST: Writing.DONE},
    Writing.CLOSED: {ExchangeEvent.LOST: Writing.CLOSED},
}


# Members by names of their own: looking one up in its class takes 70 ns on Python 3.10 and 3.11,
# and a request would ask some thirty times. So do other modules that every request runs through.
_UNREAD, _READ_ALL, _WAIT = Reading.BODY, Reading.DONE, Writing.WAIT
_READ, _LOST = ExchangeEvent.READ, ExchangeEvent.LOST


class Exchange:
    """One request and its response: the two machines and their gate.

    Attributes:
        reading: the request's state.
        writing: the response's state.
    """

    __slots__ = ("reading", "writing")

    def __init__(self, complete: bool = False) -> None:
        """``complete``: the request has no body, so its head is all of it."""
        self.reading = _READ_ALL if complete else _UNREAD
        self.writing = _WAIT

    def fire(self, event: ExchangeEvent) -> None:
        """Take ``event``; the only writer of the two states.

        Raises:
            LocalProtocolError: the event is not allowed in this state.
        """
        try:
            if event is _READ or event is _LOST:
                self.reading = READING[self.reading][event]
            if event is not _READ:
                self.writing = WRITING[self.writing][event]
        except KeyError:
            raise LocalProtocolError(
                f"can't {event.name} while {self.reading.name}/{self.writing.name}"
            ) from None
