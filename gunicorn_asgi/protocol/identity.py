"""What a request is called in the scope, in the logs and, by choice, in its response."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.head import RequestHead

__all__ = ["RequestIds", "RequestName", "name_of", "named", "taken"]

# Nothing that could end a line of a log, a quoted string or a field.
_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}\Z")

# The last two digits of an id of ours.
_LOW = tuple(f"{number:02x}" for number in range(256))

# W3C Trace Context, version 00; versions to come may have more, behind another "-".
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z"
)


class RequestIds:
    """Ids of a worker's own making, never the same twice.

    32 hexadecimal digits in lower case, which is the form of a trace id: ``prefix`` (16 of them,
    random, one for each worker) and a counter. A random id for each request would cost ten times
    as much, and uuid4 forty times. It can be guessed, which does not matter: it is no secret.
    """

    __slots__ = ("_high", "_low", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._high = count(1)
        self._low: Iterator[str] = iter(())

    def make(self) -> str:
        """The next one."""
        for made in self._low:  # a loop, since next() would take twice as long
            return made
        # The front is formatted once for all the ids that have it.
        self._low = map(f"{self._prefix}{next(self._high):014x}".__add__, _LOW)
        return next(self._low)


class RequestName(str):
    """A request as a line of the error log names it.

    Attributes:
        request_id: its id, empty if it has none: for who writes the line in another form.
    """

    __slots__ = ("request_id",)

    request_id: str


def named(head: RequestHead) -> RequestName:
    """The request in a line of the error log: method, target, and id if it has one."""
    return name_of(head.method, head.target.decode("latin-1"), head.request_id)


def name_of(method: str, target: str, request_id: str) -> RequestName:
    """The same of a request whose head is not at hand."""
    # !r escapes what could forge a line or a terminal sequence (CVE-2020-7694).
    text = f"{method} {target!r}"
    name = RequestName(f"{text} (request {request_id})" if request_id else text)
    name.request_id = request_id
    return name


def taken(head: RequestHead, policy: ForwardedPolicy) -> str | None:
    """The id that a trusted peer has given to its request, None if there is no usable one.

    The field of ``policy.request_id_field``, else the trace id of a ``traceparent``. Of several
    lines of the first, the last counts, which the nearest proxy has written; several of the
    second mean nothing (W3C Trace Context, processing model).
    """
    given = b""
    parents = []
    for name, value in head.noted:
        if name == policy.request_id_field:
            given = value
        elif name == b"traceparent":
            parents.append(value)
    if _ID.match(given):
        return given.decode("ascii")
    match = _TRACEPARENT.match(parents[0]) if len(parents) == 1 else None
    if match is None or (match[1] == b"00" and match[3]):
        return None
    return match[2].decode("ascii")
