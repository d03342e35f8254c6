"""Rules of the ASGI specification as a table: what is said, where, and a check that it is kept.

The documents are ASGI 3.0 ("core"), the HTTP & WebSocket message format 2.5 ("http" and
"websocket"), Lifespan 2.0 ("lifespan"), the TLS extension 0.2 ("tls") and "extensions". A rule's
text is the docstring of its check, in our words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from gunicorn_asgi.protocol.errors import LocalProtocolError
from kit.message import Response, request
from kit.rig import Client, Message, Receive, Rig, Scope, Script, Send, body, start, turns, until

__all__ = [
    "END",
    "KEPT",
    "START",
    "Answer",
    "Check",
    "Rule",
    "Rules",
    "allowed",
    "answer",
    "asked",
    "named",
    "refuses",
]

# Asynchronous, on fake transports; or with a real server as its argument.
Check = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: a promise in plain English.
        source: document and section.
        covers: what of the literal list in names.py it is about.
        check: raises AssertionError if it is broken.
    """

    name: str
    source: str
    covers: tuple[str, ...]
    check: Check

    @property
    def text(self) -> str:
        """The rule in our words."""
        return self.check.__doc__ or ""


class Rules(list[Rule]):
    """The rules of one document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.document = document

    def __call__(self, section: str, *covers: str) -> Callable[[Check], Check]:
        """Add the decorated check, whose name and docstring are those of the rule."""

        def add(check: Check) -> Check:
            name = check.__name__.replace("_", " ")
            self.append(Rule(name, f"{self.document}: {section}", covers, check))
            return check

        return add


def named(*lists: Rules) -> dict[str, Rule]:
    """By what they are called in the output of the tests."""
    return {f"{rules.document}: {rule.name}": rule for rules in lists for rule in rules}


class Answer(NamedTuple):
    """What came of one request."""

    rig: Rig
    client: Client

    @property
    def responses(self) -> list[Response]:
        """All of them, interim ones too, parsed strictly."""
        return self.client.responses()

    @property
    def response(self) -> Response:
        """The last, which is the final one."""
        return self.responses[-1]


async def answer(*messages: Message, raw: bytes = request(), **options: Any) -> Answer:
    """An application that sends these and returns, and what its client has got.

    Options are those of ``Rig``. It waits until the application is over.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    rig = Rig(app, **options)
    client = rig.connect()
    client.send(raw)
    await until(lambda: rig.records and not rig.state.tasks)
    await turns()  # what it has sent last goes out
    return Answer(rig, client)


# The applications that wait for their test: what nobody holds is collected as it waits.
KEPT: list[object] = []


async def asked(raw: bytes = request(), **options: Any) -> tuple[Rig, Client, Script]:
    """An application that waits for the test to act for it."""
    app = Script()
    KEPT.append(app)
    rig = Rig(app, **options)
    client = rig.connect()
    client.send(raw)
    await until(lambda: app.task, "the application")
    return rig, client, app


async def refuses(send: Send, *messages: object) -> None:
    """``send()`` itself raises for each of them, and blames the application."""
    for message in messages:
        with pytest.raises(LocalProtocolError):
            await send(message)  # type: ignore[arg-type]


def allowed(value: object) -> bool:
    """Whether it is made of nothing but what a message may hold (core: Events)."""
    if isinstance(value, dict):
        return all(type(key) is str and allowed(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(allowed(each) for each in value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return value == value and abs(value) != float("inf")
    return value is None or type(value) in (bytes, str, bool)


# The two messages of almost every response.
START, END = start(), body()
