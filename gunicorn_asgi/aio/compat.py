"""Applications of ASGI 2: two callables, one inside the other (ASGI 3.0, "Legacy Applications")."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gunicorn_asgi.aio.state import ASGIApp, Message, Scope

__all__ = ["is_async", "single_callable", "takes"]


def single_callable(app: Any) -> Any:  # noqa: ANN401 - nobody knows what a name in a module is
    """``app`` as one callable of scope, receive and send.

    One that takes only a scope, be it a function or a class, is of ASGI 2: it returns what takes
    receive and send. Everything else is returned as it is, and so is every coroutine function,
    whatever it is wrapped around. asgiref asks for nothing else, and so takes a callable that
    merely returns an awaitable for one of ASGI 2; its two marks, which its decorators set, are
    obeyed.
    """
    if not callable(app) or getattr(app, "_asgi_single_callable", False) is True:
        return app
    if getattr(app, "_asgi_double_callable", False) is not True:
        if is_async(app):
            return app
        try:
            signature = inspect.signature(app)
        except (TypeError, ValueError):
            return app  # it does not tell: a callable of C
        if takes(signature, 3) or not takes(signature, 1):
            return app
    return _single(app)


def is_async(app: Any) -> bool:  # noqa: ANN401 - as above
    """Whether calling ``app`` gives a coroutine: a function, or an object like Starlette's."""
    call = getattr(type(app), "__call__", None)  # noqa: B004 - that of its class, if it has one
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call)


def takes(signature: inspect.Signature, count: int) -> bool:
    """Whether it can be called with ``count`` arguments, in their order."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _single(app: Callable[[Scope], Any]) -> ASGIApp:
    async def single(
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        await app(scope)(receive, send)

    return single
