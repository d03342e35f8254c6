"""Which frameworks are tried, and with what: live/test_framework_matrix.py tries it, and
docs/generate_frameworks.py tells it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHECKS", "EVERYWHERE", "FRAMEWORKS", "NEEDS_3_11", "Framework"]

# What is asked of every application.
EVERYWHERE = ("JSON", "POST", "stream", "exception", "reload")
# Each check, as the page tells it.
CHECKS: dict[str, str] = {
    "JSON": "GET with a query in UTF-8, answered with JSON",
    "POST": "POST of JSON, which comes back",
    "stream": "a streaming response of 1000 lines, whole, and the connection is kept",
    "exception": "an exception is a 500 and stands in the log, and the next request is answered",
    "reload": "HUP with new code while two clients ask: no request fails, and the new code answers",
    "WebSocket": "messages there and back, and a close",
    "lifespan": "startup before the first request, shutdown at the end, in each generation",
    "events": "server-sent events, one by one and to the end",
    "upload": "a file of 1 MB in a form",
    "background": "a background task runs behind its response",
    "GraphQL": "a query, and a subscription over a WebSocket (graphql-transport-ws)",
    "anyio": "a task group with threads in a handler, and a cancelled scope",
    "TaskGroup": "asyncio.TaskGroup in a handler (from Python 3.11 on)",
    "timeout": "asyncio.timeout in a handler (from Python 3.11 on)",
}
# Python 3.10 has neither.
NEEDS_3_11 = frozenset({"TaskGroup", "timeout"})


class Framework(NamedTuple):
    """One row: a framework and what makes it ASGI."""

    name: str
    # As the package index calls them; the version of each is told.
    packages: tuple[str, ...]
    # Of live/apps/frameworks, without its ending.
    app: str
    # Besides EVERYWHERE.
    checks: tuple[str, ...] = ("WebSocket", "lifespan")


FRAMEWORKS = (
    Framework("BlackSheep", ("blacksheep",), "blacksheep_app"),
    Framework("Connexion", ("connexion",), "connexion_app", ("lifespan",)),
    Framework("Django Channels", ("channels", "django"), "channels_app", ("WebSocket",)),
    Framework("Falcon", ("falcon",), "falcon_app"),
    Framework(
        "FastAPI",
        ("fastapi", "anyio", "python-multipart", "strawberry-graphql"),
        "fastapi_app",
        (
            *("WebSocket", "lifespan", "upload", "background", "GraphQL"),
            *("anyio", "TaskGroup", "timeout"),
        ),
    ),
    Framework("Flask by a2wsgi", ("flask", "a2wsgi"), "flask_a2wsgi_app", ()),
    Framework("Flask by asgiref", ("flask", "asgiref"), "flask_asgiref_app", ()),
    Framework("Litestar", ("litestar",), "litestar_app"),
    Framework("Quart", ("quart",), "quart_app"),
    Framework("Sanic", ("sanic",), "sanic_app"),
    Framework(
        "Starlette",
        ("starlette", "sse-starlette"),
        "starlette_app",
        ("WebSocket", "lifespan", "events"),
    ),
)
