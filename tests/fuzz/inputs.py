"""Inputs that are near to what is valid, and mostly next to it: grammars, seeds and mutations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from fuzz import streams, values
from kit.proxying import binary, line, tls_value, tlv, with_checksum
from rfc.cases import chunked, connection, fields, framing, request_line, target

__all__ = ["CORPUS", "TARGETS", "Check", "Target", "load", "seeds"]

CORPUS = Path(__file__).parent / "corpus"
Check = Callable[[bytes, Sequence[int]], None]

# Pieces of requests, good ones and those that others have stumbled over.
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"get", b"CONNECT", b"FROB", b"PRI", b"")
TARGETS_OF_REQUESTS = (
    *(b"/", b"/a%20b?c=d", b"*", b"http://h/p", b"https://h/", b"h:443", b"/#f", b"//h", b"a"),
    *(b"/%00", b"/%2e%2e/", b"/\xff", b"http://h@x/", b"http:///", b"http://a b/", b"/ /", b"/_"),
)
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"")
NAMES = (
    *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect"),
    *(b"X", b"X_Y", b"Content_Length", b"Content-Length ", b" X", b"", b"\xa0X", b"X\0", b"TE"),
    *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port"),
    *(b"X-Forwarded-Prefix", b"Forwarded", b"SCRIPT_NAME", b"X-Request-ID", b"traceparent"),
    *(b"X-Forwarded-Ssl", b"Content-Type", b"Trailer", b"Keep-Alive", b"HTTP2-Settings"),
)
VALUES = (
    *(b"h", b"0", b"3", b"5", b"+3", b"3, 3", b"0x3", b"00003", b"9" * 20, b"", b" ", b"\t3 "),
    *(b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b",chunked"),
    *(b"close", b"keep-alive", b"Upgrade", b"websocket", b"h2c", b"100-continue", b"trailers"),
    *(b"a/b?c", b"a:1", b"[::1]:80", b"[::g]", b"a@b", b"\x0bchunked", b"a\r\n b", b"a\0", b"\xff"),
    *(b"203.0.113.9", b"10.0.0.1, 203.0.113.9:80", b"[2001:db8::1]:1", b"unknown", b"https", b"on"),
    *(
        b"for=203.0.113.9;proto=https;host=a",
        b'for="[::1]:2", for=_x',
        b"/prefix",
        b"//e",
        b"/%2e.",
    ),
    b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
)
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n")
BODIES = (
    *(
        b"",
        b"abc",
        b"hello",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    ),
    *(
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
    ),
    *(b"ffffffffffffffffff\r\n", b"03\r\nabc\r\n0\r\n\r\n", b"3;\n\r\nabc\r\n0\r\n\r\n", b"\r\n"),
)


def _line(*parts: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*(st.sampled_from(part) for part in parts)).map(b"".join)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Some requests behind each other; the longer, the more of them are good ones."""
    out = []
    for _ in range(draw(st.integers(1, 3))):
        method, where, version = (
            draw(st.just(every[0]) | st.sampled_from(every))
            for every in (METHODS, TARGETS_OF_REQUESTS, VERSIONS)
        )
        out.append(b"%b %b %b" % (method, where, version) + draw(st.sampled_from(ENDS)))
        if draw(st.integers(0, 9)):
            out.append(b"Host: h\r\n")
        lines = _line(NAMES, (b": ", b":", b" : ", b""), VALUES, ENDS)
        out += draw(st.lists(lines, max_size=5))
        out.append(b"\r\n")
        out.append(draw(st.sampled_from(BODIES)))
    return b"".join(out)


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """Good requests with bodies, of either framing, so that deep states are reached too."""
    out = []
    for _ in range(draw(st.integers(1, 4))):
        body = draw(st.binary(max_size=12))
        fields = draw(st.lists(st.sampled_from((b"A: b", b"Expect: 100-continue", b"Cookie: c=d"))))
        if draw(st.booleans()):
            fields.append(b"Content-Length: %d" % len(body))
        else:
            fields.append(b"Transfer-Encoding: chunked")
            body = draw(chunks_of(body))
        if not draw(st.integers(0, 9)):
            fields.append(b"Connection: close")
        out.append(b"\r\n".join([b"POST /p HTTP/1.1", b"Host: h", *fields, b"", body]))
    return b"".join(out)


@st.composite
def chunks_of(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` in some of the ways in which it can be chunked."""
    out = []
    while body:
        size = draw(st.integers(1, len(body)))
        piece, body = body[:size], body[size:]
        zeros = b"0" * draw(st.integers(0, 3))
        extension = draw(st.sampled_from((b"", b"", b";a", b";a=b", b' ; a="b"', b";\xff")))
        out.append(b"%b%x%b\r\n%b\r\n" % (zeros, size, extension, piece))
    trailers = draw(st.sampled_from((b"", b"", b"X: y\r\n", b"Host: evil\r\nX:\r\n")))
    return b"".join(out) + b"0\r\n" + trailers + b"\r\n"


TOKENS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b",",
        b";",
        b"0",
        b"_",
        b"\xff",
    ),
    *(b"chunked", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n"),
)


@st.composite
def mutated(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """A good input with bytes left out, put in, or repeated."""
    data = draw(good)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        put = draw(st.sampled_from(TOKENS) | st.binary(max_size=3) | st.just(data[at:end] * 2))
        data = data[:at] + put + data[end:]
    return data


# -- the others ------------------------------------------------------------------------------------

_tlvs = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 4, 5, 0x20, 0x21, 0x22, 0x23, 0x28, 0x30, 0xEA]),
        st.binary(max_size=12),
    ).map(lambda each: tlv(*each)),
    max_size=5,
).map(b"".join)
proxies = st.one_of(
    st.sampled_from((line(), b"PROXY UNKNOWN\r\n", line(("::1", 1), ("::2", 2), "TCP6"))),
    _tlvs.map(lambda tail: binary(tail=tail)),
    _tlvs.map(lambda tail: binary(tail=tls_value(tail, flags=7))),
    _tlvs.map(with_checksum),
    st.binary(max_size=20).map(lambda block: binary(block=block, kind=0x11)),
)


def _glued(*tokens: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(tokens) | st.binary(min_size=1, max_size=2), max_size=12).map(
        b"".join
    )


authorities = _glued(
    *(
        b"a",
        b"example.org",
        b":",
        b"80",
        b"65536",
        b"00080",
        b"[",
        b"]",
        b"::1",
        b"1.2.3.4",
        b"%41",
    ),
    *(
        b"%",
        b"@",
        b"/",
        b"?",
        b"#",
        b"\\",
        b"\xff",
        b" ",
        b"\t",
        b"v1.x",
        b"%25eth0",
        b"::ffff:1.2.3.4",
    ),
)
forwardeds = _glued(
    *(
        b"for=",
        b"proto=",
        b"host=",
        b"by=",
        b"for",
        b"=",
        b";",
        b",",
        b" ",
        b"\t",
        b'"',
        b"\\",
        b"\n",
    ),
    *(b"1.2.3.4", b"[::1]:1", b"_x", b"unknown", b"https", b"a.example", b'"[2001:db8::1]:47011"'),
)
_text = st.text(st.characters(max_codepoint=255), max_size=8) | st.sampled_from(
    ("a\r\nb: c", "a\n", "close", "5", "0", "chunked", "keep-alive, upgrade")
)
_names = st.sampled_from(
    (
        *("x", "Content-Length", "content-length", "Transfer-Encoding", "connection", "set-cookie"),
        *("date", "Server", "x y", "", "x:", "x\r\n", "trailer", "keep-alive", "location"),
    )
)
_fields = st.lists(st.tuples(_names | _text, _text), max_size=4)
responses = st.fixed_dictionaries(
    {
        "request": st.tuples(
            st.sampled_from(("GET", "HEAD", "POST")), st.sampled_from(("1.1", "1.0")), st.booleans()
        ),
        "status": st.sampled_from((200, 204, 205, 206, 301, 304, 404, 500, 999, 100, 1000, "200")),
        "headers": _fields,
        "body": st.lists(_text, min_size=1, max_size=3),
    },
    optional={"trailers": _fields, "links": st.lists(_text, max_size=3)},
).map(lambda told: json.dumps(told).encode())


def _frame(opcode: int, payload: bytes, fin: bool, masked: bool, rsv: int) -> bytes:
    """As kit.wire.websocket_frame, with a key that is the same each time."""
    length = (
        bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    )
    head = bytes([(fin << 7) | (rsv << 4) | opcode, (masked << 7) | length[0]]) + length[1:]
    if not masked:
        return head + payload
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


frames = st.lists(
    st.builds(
        _frame,
        st.sampled_from((0, 1, 2, 8, 9, 10, 3, 15)),
        st.binary(max_size=20)
        | st.sampled_from((b"x" * 126, b"x" * 1001, b"\x03\xe8bye", b"\xc3")),
        st.booleans(),
        st.sampled_from((True, True, True, False)),
        st.sampled_from((0, 0, 0, 1, 4)),
    ),
    max_size=5,
).map(b"".join)


class Target(NamedTuple):
    """What is fuzzed: a check that raises if something is wrong, and inputs for it."""

    check: Check
    inputs: st.SearchStrategy[bytes]


def load(name: str) -> dict[str, tuple[bytes, list[int]]]:
    """The corpus of a target: by file name, the bytes and where they are cut.

    A file that was found has its cuts in its name, behind an "@".
    """
    found = {}
    for path in sorted((CORPUS / name).iterdir()):
        cuts = path.name.partition("@")[2]
        found[path.name] = (path.read_bytes(), [int(cut) for cut in cuts.split(",") if cut])
    return found


def seeds(name: str) -> list[bytes]:
    """Its corpus and, for requests, all that tests/rfc has that is short."""
    found = [data for data, _ in load(name).values()]
    if name in ("request", "scope"):
        modules = (chunked, connection, fields, framing, request_line, target)
        cases = chain.from_iterable(module.CASES for module in modules)
        found += [case.raw for case in cases if len(case.raw) <= 600]
    return found


def _all(name: str, *grammars: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds as they are altered, what the grammars make, that altered, and noise."""
    known = mutated(st.sampled_from(seeds(name)))
    made = st.one_of(*grammars)
    return st.one_of(known, made, mutated(made), st.binary(max_size=60))


TARGETS = {
    "request": Target(streams.check_request, _all("request", requests(), framed())),
    "chunked": Target(
        streams.check_chunked, _all("chunked", st.binary(max_size=12).flatmap(chunks_of))
    ),
    "proxy": Target(streams.check_proxy, _all("proxy", proxies)),
    "websocket": Target(streams.check_websocket, _all("websocket", frames)),
    "scope": Target(values.check_scope, _all("scope", requests())),
    "authority": Target(values.check_authority, _all("authority", authorities)),
    "forwarded": Target(values.check_forwarded, _all("forwarded", forwardeds)),
    "response": Target(values.check_response, _all("response", responses)),
}
