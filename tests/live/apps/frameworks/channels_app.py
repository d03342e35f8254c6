"""The application of test_framework_matrix.py, written with Django and its Channels."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import django  # type: ignore[import-untyped,unused-ignore]
from django.conf import settings  # type: ignore[import-untyped,unused-ignore]

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    # Without it Django tells exceptions to nobody while it does not debug.
    LOGGING={
        "version": 1,
        # Else this takes Gunicorn's loggers away, and nothing tells of the server any more.
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="not secret",
    USE_TZ=True,
)
django.setup()

# Only now, as these look at the settings.
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped,unused-ignore]  # noqa: E402
from django.http import (  # type: ignore[import-untyped,unused-ignore]  # noqa: E402
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # type: ignore[import-untyped,unused-ignore]  # noqa: E402

VERSION = "one"


async def version(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(VERSION, content_type="text/plain")


async def greet(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"hello": request.GET["name"]})


async def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(json.loads(request.body))


async def lines() -> AsyncIterator[str]:
    for number in range(1000):
        yield f"line {number}\n"


async def stream(_request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(lines(), content_type="text/plain")


async def boom(_request: HttpRequest) -> HttpResponse:
    raise ValueError("boom")


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


urlpatterns = [
    path("", version),
    path("json", greet),
    path("echo", echo),
    path("stream", stream),
    path("boom", boom),
]

app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", Echo.as_asgi())]),
    }
)
