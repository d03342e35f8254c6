"""The application of test_framework_matrix.py, written with Flask, through asgiref."""

from __future__ import annotations

from collections.abc import Iterator

from asgiref.wsgi import WsgiToAsgi
from flask import Flask, Response, request

VERSION = "one"

flask = Flask(__name__)


@flask.get("/")
def version() -> Response:
    return Response(VERSION, content_type="text/plain")


@flask.get("/json")
def greet() -> dict[str, str]:
    return {"hello": request.args["name"]}


@flask.post("/echo")
def echo() -> object:
    return request.get_json()


@flask.get("/stream")
def stream() -> Response:
    def lines() -> Iterator[str]:
        for number in range(1000):
            yield f"line {number}\n"

    return Response(lines(), content_type="text/plain")


@flask.get("/boom")
def boom() -> str:
    raise ValueError("boom")


app = WsgiToAsgi(flask)
