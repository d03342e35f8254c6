"""The Forwarded field (RFC 7239)."""

from __future__ import annotations

import re

from gunicorn_asgi.protocol.errors import RemoteProtocolError

__all__ = ["Element", "parse_forwarded"]

# Parameters by their lower-cased names, values without quotes and escapes.
Element = dict[str, str]

# Bytes of all lines together. Nobody has so many proxies; parsing more would block the loop.
_LONGEST = 16 * 1024

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9110 5.6.4: qdtext and quoted-pair, in which a backslash only stands in front of a character.
_QUOTED = r'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"'
# A separator, or a name and its value, as a token or quoted. White space around ";" is not in
# RFC 7239, but in the parameters of RFC 9110 5.6.6, and in use.
_PART = re.compile(rf"[ \t]*(?:([,;])|({_WORD})=(?:({_WORD})|{_QUOTED}))[ \t]*")
_ESCAPE = re.compile(r"\\(.)")


def parse_forwarded(lines: list[bytes]) -> list[Element]:
    """The elements of all Forwarded field ``lines``, in order, without the empty ones.

    Raises:
        RemoteProtocolError: not the syntax of section 4, a parameter twice in one element, or
            more than 16 KiB (431).
    """
    if sum(map(len, lines)) > _LONGEST:
        raise RemoteProtocolError("Forwarded is too long", 431)
    elements: list[Element] = []
    for line in lines:
        # One by one: a quote that a client has left open must not close in its proxy's line.
        elements += _parse(line.decode("latin-1").strip(" \t"))
    return elements


def _parse(text: str) -> list[Element]:
    elements: list[Element] = [{}]
    position, after_pair = 0, False
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or (after_pair and not part[1]):
            raise RemoteProtocolError("malformed Forwarded")
        position = part.end()
        after_pair = not part[1]
        if after_pair:
            _add(elements[-1], part)
        elif part[1] == ",":
            elements.append({})
    return [element for element in elements if element]


def _add(element: Element, part: re.Match[str]) -> None:
    _, name, token, quoted = part.groups()
    name = name.lower()
    # RFC 7239 4: "Each parameter MUST NOT occur more than once per field-value"
    if name in element:
        raise RemoteProtocolError("parameter twice in Forwarded")
    element[name] = token if token is not None else _ESCAPE.sub(r"\1", quoted)
