"""A response case: a request, what the application sends, and what of it has to be on the wire."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RAISE", "READ", "SPLITTING", "Answer", "Message", "Pair", "body", "fails", "start"]

Message = dict[str, Any]
Pair = tuple[str, str]

READ: Message = {"type": "read"}
RAISE: Message = {"type": "raise"}


@dataclass(frozen=True)
class Answer:
    """A request, the messages with which it is answered, and what has to be on the wire.

    Attributes:
        messages: as tests/rfc/app.py takes them: text stands for bytes, {"str": ...} for text.
        fields: further fields of the request.
        content: the request's body.
        has: fields of the response, each the only one of its name.
        lacks: names of fields that the response must not have.
        framing: how the end of the body is told; None: does not matter.
        keeps: whether the connection lives on, which the next request shows.
        cut: whether the response breaks off, in a way that the client sees.
        hints: how many 103 come first.
    """

    name: str
    source: str
    messages: tuple[Message, ...]
    status: int = 200
    body: bytes = b""
    method: str = "GET"
    version: str = "1.1"
    fields: tuple[Pair, ...] = ()
    content: bytes = field(default=b"", repr=False)
    has: tuple[Pair, ...] = ()
    lacks: tuple[str, ...] = ()
    framing: str | None = None
    keeps: bool = True
    cut: bool = False
    hints: int = 0
    trailers: tuple[Pair, ...] = ()

    @property
    def slug(self) -> str:
        """The name as the id of a test."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def request(self) -> tuple[str, str, list[Pair], bytes, str]:
        """For kit.wire.request()."""
        fields = [("X-Messages", json.dumps(self.messages)), *self.fields]
        return self.method, "/perform", fields, self.content, self.version


def start(*headers: tuple[object, object], status: object = 200, **more: object) -> Message:
    """http.response.start."""
    fields = [list(pair) for pair in headers]
    return {"type": "http.response.start", "status": status, "headers": fields, **more}


def body(data: str = "", *, more: bool = False) -> Message:
    """http.response.body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def fails(name: str, source: str, *messages: Message, **more: Any) -> Answer:
    """An error of the application before anything was sent: a 500 that can be read."""
    told = {"body": b"Internal Server Error\n", "framing": "length", "keeps": False}
    return Answer(name, source, messages, 500, **{**told, **more})


SPLITTING = "CVE-2018-1000164; CVE-2020-7695; RFC 9110 5.5"
