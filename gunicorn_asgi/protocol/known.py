"""Lines of request heads that have come before, and what they mean.

A client sends the same lines with each of its requests, and clients of one kind send the same lines
too. Reading a line for the first time takes as long as ever; after that it is one look-up.

A line is only kept once it was found to be what RFC 9112 allows and llhttp takes: a request line by
llhttp itself, a field by a pattern that is no wider than llhttp's. What is not plainly right is not
decided here: None sends the whole head to llhttp, whose word, and whose error, it then is. So is
each field with a say in how llhttp reads on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import NamedTuple

import httptools

from gunicorn_asgi.protocol.errors import RemoteProtocolError
from gunicorn_asgi.protocol.head import NOTED, PLAIN, Framing, RequestHead, check_fields
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.target import RequestLine, decode_path, split_target

__all__ = ["Field", "Fields", "KnownLines"]

Field = tuple[bytes, bytes]


class Fields(NamedTuple):
    """What the fields of a request have said; see the attributes of ``RequestHead``."""

    headers: list[Field]
    noted: Sequence[Field]
    framing: Framing
    keep_alive: bool
    underscores: bool
    told: bool


# What no request has behind its request line.
_NOTHING = b"\n\n", Fields([], (), PLAIN, False, False, False)

# RFC 9112 5, RFC 9110 5.1 and 5.5: no space in front of the colon, no control character but tab.
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)\Z")

# llhttp decides what these do to the connection, and what they do together.
_LLHTTP = frozenset({b"transfer-encoding", b"upgrade"})

# Methods that llhttp knows nothing special about; PRI and CONNECT change how it reads on.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

# Secrets, and of one client each: they would only push out what is of use.
_PRIVATE = frozenset({b"authorization", b"cookie", b"proxy-authorization"})

# At most so many lines of at most so many bytes are kept, and then all of them are forgotten: a
# client that sends nothing twice costs what it always did.
_LINES = 1024
_SIZE = 256


class KnownLines:
    """The lines that the connections of one worker have read.

    Args:
        limits: what is longer is not known.
        noted: lower-cased names of fields of interest, beside those of ``head.NOTED``.

    Attributes:
        fields: fields that mean nothing to the server, by their lines.
        noted: the others.
        requests: request lines.
        to_note: lower-cased names of fields that are put into ``RequestHead.noted``; those with an
            underscore are noted too.
        last: the fields of a request, from the end of its request line on, and what they said: for
            a connection to compare its first ones with.
        framings: what noted fields mean where no body follows: ``RequestHead.keep_alive``,
            ``underscores`` and ``told``.
    """

    __slots__ = (
        "_limits",
        "_of_proxies",
        "_parser",
        "_target",
        "fields",
        "framings",
        "last",
        "noted",
        "requests",
        "to_note",
    )

    def __init__(self, limits: Limits, noted: Set[bytes] = frozenset()) -> None:
        self._limits = limits
        self._of_proxies = noted
        self.to_note = NOTED | noted
        self.fields: dict[bytes, Field] = {}
        self.noted: dict[bytes, Field] = {}
        self.requests: dict[bytes, RequestLine] = {}
        self.framings: dict[tuple[Field, ...], tuple[bool, bool, bool]] = {}
        self.last: tuple[bytes, Fields] = _NOTHING
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the request target."""
        self._target += url

    def read_request(self, line: bytes) -> RequestLine | None:
        """What ``line`` says; None if that is for llhttp to decide with the rest of the head."""
        limit = self._limits.request_line
        if not line.endswith(b" HTTP/1.1") or line.count(b" ") != 2 or 0 < limit < len(line):
            return None
        self._target = b""
        try:
            self._parser.feed_data(line + b"\r\n\r\n")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser = httptools.HttpRequestParser(self)
            return None
        method = self._parser.get_method().decode("ascii")
        if method not in _METHODS or self._target[:1] != b"/":
            self._parser = httptools.HttpRequestParser(self)
            return None
        try:
            raw_path, query, _, _ = split_target(self._target, method)
        except RemoteProtocolError:
            return None
        path, text = decode_path(raw_path), line.removesuffix(b" HTTP/1.1")
        request = RequestLine(method, self._target, raw_path, query, path, text)
        if len(line) <= _SIZE:
            if len(self.requests) >= _LINES:
                self.requests.clear()
            self.requests[line] = request
        return request

    def check(self, head: RequestHead) -> Framing:
        """``check_fields`` of a head whose lines are known.

        Raises:
            RemoteProtocolError: as it does.
        """
        noted = tuple(head.noted)
        flags = self.framings.get(noted)
        if flags is not None:
            head.keep_alive, head.underscores, head.told = flags
            return PLAIN
        framing = check_fields(head)
        head.underscores = any(b"_" in name for name, _ in noted)
        head.told = any(name in self._of_proxies for name, _ in noted)
        has_body = framing.length or framing.chunked or head.expect_continue
        if not has_body and sum(len(name) + len(value) for name, value in noted) <= _SIZE:
            if len(self.framings) >= _LINES:
                self.framings.clear()
            self.framings[noted] = (head.keep_alive, head.underscores, head.told)
        return framing

    def keep(self, lines: bytes, fields: Fields) -> None:
        """Let the next connection begin with these, if none of them is a secret."""
        if all(each in self.fields or each in self.noted for each in lines[2:-4].split(b"\r\n")):
            self.last = lines, fields

    def read_field(self, line: bytes) -> tuple[Field, bool] | None:
        """What ``line`` says, and whether that is of interest to the server; None as above."""
        match = _FIELD.match(line)
        limit = self._limits.request_field_size
        if match is None or 0 < limit < len(line) + 2:
            return None
        name = match[1].lower()
        if name in _LLHTTP:
            return None
        field = (name, match[2].strip(b" \t"))
        noted = name in self.to_note or b"_" in name
        if len(line) <= _SIZE and name not in _PRIVATE:
            kept = self.noted if noted else self.fields
            if len(kept) >= _LINES:
                kept.clear()
            kept[line] = field
        return field, noted
