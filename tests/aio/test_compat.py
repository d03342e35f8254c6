"""aio/compat.py: applications of ASGI 2 (ASGI 3.0, "Legacy Applications")."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gunicorn_asgi.aio.compat import single_callable
from gunicorn_asgi.aio.lifespan import Lifespan
from kit.fakes import FakeLog
from kit.rig import Receive, Rig, Scope, Send, both_loops, hello, respond

__all__: list[str] = []

Instance = Callable[[Receive, Send], Awaitable[None]]


def function(scope: Scope) -> Instance:
    """A function within a function."""

    async def instance(receive: Receive, send: Send) -> None:
        await respond(send, scope["path"].encode())

    return instance


class Class:
    """A class: its instance is the inner callable."""

    def __init__(self, scope: Scope) -> None:
        """Outer."""
        assert scope["type"] == "http", "only http"
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Inner."""
        await respond(send, self.scope["path"].encode())


class Router:
    """An object that makes them."""

    def __call__(self, scope: Scope) -> Instance:
        """Outer."""
        return Class(scope)

    def method(self, scope: Scope) -> Instance:
        """Outer, too."""
        return function(scope)


def with_option(scope: Scope, option: int = 1) -> Instance:
    """One that could take two."""
    return function(scope)


def marked(*args: Any) -> Any:  # noqa: ANN401 - that is the point
    """One whose signature does not tell, but whose mark does."""
    return function(*args)


marked._asgi_double_callable = True  # type: ignore[attr-defined]

LEGACY = {
    "function": function,
    "class": Class,
    "object": Router(),
    "method": Router().method,
    "with an option": with_option,
    "partial": functools.partial(with_option, option=2),
    "marked": marked,
}


@pytest.mark.parametrize("name", LEGACY)
@both_loops
async def test_legacy_application_is_served(name: str) -> None:
    """Core, "Legacy Applications": two callables, one after the other."""
    client = Rig(single_callable(LEGACY[name])).connect()
    client.get("/path")
    assert (await client.response()).body == b"/path"


@both_loops
async def test_legacy_application_that_knows_no_lifespan_is_served_without() -> None:
    """It raises when it is given the scope, before anything was received."""
    log = FakeLog()
    lifespan = Lifespan(single_callable(Class), log)
    await lifespan.startup()
    assert log.lines("warning", "error") == []


class Awaited:
    """A class of ASGI 3: its instance is awaited."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take all three."""

    def __await__(self) -> Any:  # noqa: ANN401 - an iterator
        """Answer."""
        yield


class Framework:
    """As Starlette and Django are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""


def returns_awaitable(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """No coroutine function, and still of ASGI 3."""
    return hello(scope, receive, send)


async def with_defaults(scope: Scope, receive: Any = None, send: Any = None) -> None:  # noqa: ANN401
    """One that could take one."""


def single_marked(scope: Scope) -> None:
    """One whose signature tells wrongly."""


single_marked._asgi_single_callable = True  # type: ignore[attr-defined]


class Unhelpful:
    """A callable whose signature raises."""

    @property
    def __signature__(self) -> None:
        """Raise."""
        raise ValueError

    def __call__(self, scope: Scope) -> None:
        """Never called."""


@functools.wraps(function)
async def wrapped(*args: Any) -> None:
    """A coroutine function around one that takes one."""


SINGLE = [
    wrapped,
    hello,
    Framework(),
    Framework().__call__,
    Awaited,
    functools.partial(hello),
    lambda *args: hello(*args),
    lambda scope, receive, send: hello(scope, receive, send),
    returns_awaitable,
    with_defaults,
    single_marked,
    Unhelpful(),
    # Neither: what Gunicorn would complain about is left to complain about.
    lambda: None,
    lambda scope, receive: None,
    None,
    "app",
]


@pytest.mark.parametrize(
    "app", SINGLE, ids=lambda app: getattr(app, "__name__", type(app).__name__)
)
def test_any_other_application_is_left_as_it_is(app: object) -> None:
    """Nothing is put around what needs nothing: a wrapper would cost each request."""
    assert single_callable(app) is app
