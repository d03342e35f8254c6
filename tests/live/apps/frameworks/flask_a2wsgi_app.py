"""The application of test_framework_matrix.py, written with Flask, through a2wsgi."""

from __future__ import annotations

from collections.abc import Iterator

from a2wsgi import WSGIMiddleware
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


app = WSGIMiddleware(flask)
