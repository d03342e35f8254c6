"""The page's own files: what they may not do, and that each is served."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files

import pytest

from berths import Answer, ask, http_scope, moored, new_berth
from boards import new_board
from gunicorn_asgi.status import app

__all__: list[str] = []

FOLDER = files("gunicorn_asgi.status")
TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
PAGE = sorted(each.name for each in FOLDER.iterdir() if each.name.rpartition(".")[2] in TYPES)
TEXTS = {name: FOLDER.joinpath(name).read_text() for name in PAGE}
# What turns text into markup or code, or lets a page reach elsewhere.
RISKY = re.compile(
    r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc"
    r"|createContextualFragment|DOMParser|setHTML|\bon\w+=|url\(|@import|fetch\(|XMLHttp|WebSocket\("
)


def get(name: str) -> Answer:
    with moored(new_berth(new_board())):
        return asyncio.run(ask(app, http_scope(f"/{name}")))


@pytest.mark.parametrize("name", [name for name in PAGE if name != "page.html"])
def test_each_file_is_served(name: str) -> None:
    answer = get(name)
    assert (answer.status, answer.body.decode()) == (200, TEXTS[name])
    assert answer.headers["content-type"] == f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"


def test_the_page_is_served() -> None:
    assert get("").body.decode() == TEXTS["page.html"]


@pytest.mark.parametrize("name", PAGE)
def test_nothing_of_what_it_is_told_becomes_markup(name: str) -> None:
    assert RISKY.findall(TEXTS[name]) == []


def test_it_refers_to_nothing_but_its_own_files() -> None:
    everything = "\n".join(TEXTS.values())
    # The namespace of drawings is a name, it is not fetched.
    assert set(re.findall(r"\w+://[^'\"\s>)`]*", everything)) == {"http://www.w3.org/2000/svg"}
    local = set(re.findall(r"(?:src|href)=\"(?!data:)([^\"]+)\"|from \"\./([^\"]+)\"", everything))
    routes = {"status.json", "metrics", "live", "ready"}
    assert {first or second for first, second in local} == {*PAGE} - {"page.html"} | routes
