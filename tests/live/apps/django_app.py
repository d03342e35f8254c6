"""The application of test_frameworks.py, written with Django, in one module."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django  # type: ignore[import-untyped,unused-ignore]
from django.conf import settings  # type: ignore[import-untyped,unused-ignore]

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not secret",
    STATICFILES_DIRS=[Path("static").resolve()],
    STATIC_URL="/static/",
    USE_TZ=True,
)
django.setup()

# Only now, as these look at the settings.
from django.contrib.staticfiles.handlers import (  # type: ignore[import-untyped,unused-ignore]  # noqa: E402
    ASGIStaticFilesHandler,
)
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped,unused-ignore]  # noqa: E402
from django.http import (  # type: ignore[import-untyped,unused-ignore]  # noqa: E402
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # type: ignore[import-untyped,unused-ignore]  # noqa: E402

DONE: list[str] = []


async def item(request: HttpRequest, item_id: int) -> HttpResponse:
    query = {name: request.GET.getlist(name) for name in request.GET}
    return JsonResponse({"id": item_id, "query": query})


async def json_echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(json.loads(request.body))


def form(request: HttpRequest) -> HttpResponse:
    """A view that is not async: Django runs it in a thread."""
    return JsonResponse({"name": request.POST["name"], "tags": request.POST.getlist("tag")})


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    told = {"name": file.name, "size": file.size, "note": request.POST["note"]}
    return JsonResponse({**told, "sha256": digest.hexdigest()})


async def raw(request: HttpRequest) -> HttpResponse:
    return HttpResponse(hashlib.sha256(request.read()).hexdigest())


async def lines(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"line {number}\n"
        if number % 100 == 0:
            await asyncio.sleep(0)


async def stream(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(lines(int(request.GET["n"])), content_type="text/plain")


async def ticks(count: int) -> AsyncIterator[str]:
    try:
        for number in range(count):
            yield f"id: {number}\ndata: tick\n\n"
            await asyncio.sleep(0.01)
    finally:
        DONE.append(f"sse {count}")


async def sse(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(ticks(int(request.GET["n"])), content_type="text/event-stream")


async def done(_request: HttpRequest) -> HttpResponse:
    return JsonResponse(DONE, safe=False)


async def boom(_request: HttpRequest) -> HttpResponse:
    raise ValueError("boom")


async def empty(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def file(_request: HttpRequest) -> HttpResponse:
    return FileResponse(Path("static/big.txt").open("rb"))


urlpatterns: list[Any] = [
    path("items/<int:item_id>", item),
    path("json", json_echo),
    path("form", form),
    path("upload", upload),
    path("raw", raw),
    path("stream", stream),
    path("sse", sse),
    path("done", done),
    path("boom", boom),
    path("empty", empty),
    path("file", file),
]

app = ASGIStaticFilesHandler(get_asgi_application())
