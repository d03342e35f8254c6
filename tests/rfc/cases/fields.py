"""Header fields (RFC 9110, 5; RFC 9112, 5)."""

from __future__ import annotations

from rfc.case import Case, Seen, get, post, refused, served

__all__ = ["CASES"]

OBS_FOLD = "RFC 9112 5.2; CVE-2022-35256"
UNDERSCORE = "CVE-2024-45614; Gunicorn: header_map"


def _name(name: str, field: bytes, source: str = "RFC 9110 5.1 and 5.6.2") -> Case:
    return refused(f"a field name {name}", source, get(field))


NAMES = (
    _name("with a space before the colon", b"A : b", "RFC 9112 5.1; CVE-2019-16276"),
    _name("with a tab before the colon", b"A\t: b", "RFC 9112 5.1"),
    _name("with a vertical tab before the colon", b"A\x0b: b", "RFC 9112 5.1; gunicorn #3364"),
    _name("with a space inside", b"A B: c"),
    _name("with a space at first", b" A: b", "RFC 9112 5.2"),
    _name("that is empty", b": b"),
    _name("that is a space", b" : b"),
    _name("with NUL", b"A\0B: c"),
    _name("with DEL", b"A\x7f: b"),
    _name("with a bare CR", b"A\rB: c", "RFC 9112 2.2"),
    _name("with a bare LF", b"A\nB: c", "RFC 9112 2.2"),
    _name("with a no-break space", b"A\xa0: b", "gunicorn #3091"),
    _name("with a no-break space at first", b"\xa0A: b", "gunicorn #3091"),
    _name("with a line separator of Latin-1", b"A\x85: b", "gunicorn #3091"),
    _name("in UTF-8", b"Caf\xc3\xa9: b"),
    _name("with a parenthesis", b"A(B): c"),
    _name("with an at sign", b"A@B: c"),
    _name("with a slash", b"A/B: c"),
    _name("with a quote", b'"A": b'),
    _name("with an equals sign", b"A=B: c"),
    _name("with a bracket", b"A[B]: c"),
    _name("with a comma", b"A,B: c"),
    _name("with a semicolon", b"A;B: c"),
    _name("with a byte order mark", b"\xef\xbb\xbfA: b"),
    _name("of HTTP/2", b":authority: a", "RFC 9113 8.3"),
    refused("a line without a colon", "RFC 9112 5", get(b"A b")),
    refused("a line that is a token", "RFC 9112 5", get(b"AB")),
    refused("another request line among the fields", "RFC 9112 5", get(b"GET / HTTP/1.1")),
    refused(
        "white space before the first field",
        "RFC 9112 2.2",
        b"GET / HTTP/1.1\r\n Host: kit\r\nHost: kit\r\n\r\n",
    ),
    refused(
        "a tab before the first field", "RFC 9112 2.2", b"GET / HTTP/1.1\r\n\tHost: kit\r\n\r\n"
    ),
    refused(
        "a line of white space before the first field",
        "RFC 9112 2.2",
        b"GET / HTTP/1.1\r\n \r\nHost: kit\r\n\r\n",
    ),
    served(
        "a name of all that a token may hold",
        "RFC 9110 5.6.2",
        get(b"!#$%&'*+-.^`|~09azAZ: b"),
        Seen(has=(("!#$%&'*+-.^`|~09azaz", "b"),)),
    ),
    served(
        "names come in lower case and values as they are",
        "ASGI HTTP: headers",
        get(b"X-Kit: Value"),
        Seen(has=(("x-kit", "Value"),)),
    ),
    served(
        "fields keep their order and their duplicates",
        "RFC 9110 5.3",
        get(b"A: 1", b"B: 2", b"a: 3", b"A: 1"),
        Seen(has=(("a", "1"), ("b", "2"), ("a", "3"), ("a", "1"))),
    ),
    served(
        "two Cookie fields stay two",
        "RFC 6265 5.4; RFC 9110 5.3",
        get(b"Cookie: a=1", b"Cookie: b=2"),
        Seen(has=(("cookie", "a=1"), ("cookie", "b=2"))),
    ),
)


def _fold(name: str, *fields: bytes, source: str = OBS_FOLD) -> Case:
    return refused(f"folded: {name}", source, get(*fields))


FOLDS = (
    _fold("by a space", b"A: b", b" c"),
    _fold("by a tab", b"A: b", b"\tc"),
    _fold("an empty first line", b"A:", b" b"),
    _fold("by a line of white space", b"A: b", b" "),
    _fold("what would be another field", b"A: b", b" Content-Length: 5"),
    _fold("Transfer-Encoding", b"Transfer-Encoding:", b" chunked", source="CVE-2022-32215"),
    _fold("Transfer-Encoding in its middle", b"Transfer-Encoding: chun", b" ked"),
    _fold("Transfer-Encoding with a second", b"Transfer-Encoding: chunked", b" , identity"),
    _fold("Content-Length", b"Content-Length: 1", b" 0", source="uwsgi #2560; RFC 9112 5.2"),
    refused("folded: Host", OBS_FOLD, b"GET / HTTP/1.1\r\nHost:\r\n kit\r\n\r\n"),
)


def _value(name: str, field: bytes, value: str, source: str = "RFC 9110 5.5") -> Case:
    return served(f"a value {name}", source, get(field), Seen(has=(("a", value),)))


def _bad_value(name: str, value: bytes, source: str = "RFC 9110 5.5") -> Case:
    return refused(f"a value with {name}", source, get(b"A: b" + value + b"c"))


VALUES = (
    _value("that is empty", b"A:", ""),
    _value("of white space", b"A: \t ", ""),
    _value("without a space before it", b"A:b", "b"),
    _value("with white space on both sides", b"A: \t b c \t", "b c"),
    _value("with a tab inside", b"A: b\tc", "b\tc"),
    _value("with a colon", b"A: b:c: d", "b:c: d"),
    _value("in Latin-1", b"A: caf\xe9", "caf\xe9"),
    _value("in UTF-8", b"A: caf\xc3\xa9", "caf\xc3\xa9"),
    _value(
        "with every byte of obs-text",
        b"A: " + bytes(range(128, 256)),
        bytes(range(128, 256)).decode("latin-1"),
    ),
    _value("with a no-break space around it", b"A: \xa0b\xa0", "\xa0b\xa0", "gunicorn #3364"),
    _value("with a line separator of Latin-1", b"A: b\x85C: d", "b\x85C: d", "CVE-2026-44546"),
    _value("with a quoted comma", b'A: "b,c"', '"b,c"'),
    _value(
        "of a range that is a flood",
        b"A: bytes=" + b"0-," * 500,
        "bytes=" + "0-," * 500,
        "CVE-2025-62727",
    ),
    _bad_value("NUL", b"\0", "RFC 9110 5.5; gunicorn #3144"),
    _bad_value("a bare CR", b"\r", "RFC 9112 2.2; gunicorn #3144"),
    _bad_value("a bare CR and another field", b"\rD: e", "RFC 9112 2.2"),
    _bad_value("a bare LF and another field", b"\nD: e", "CVE-2021-41136; CVE-2022-32214"),
    _bad_value("two CRs before its end", b"\r\r\nD: e"),
    _bad_value("a bell", b"\x07"),
    _bad_value("a backspace", b"\x08"),
    _bad_value("a vertical tab", b"\x0b", "CVE-2026-44546"),
    _bad_value("a form feed", b"\x0c", "CVE-2026-44546"),
    _bad_value("an escape code", b"\x1b[31m", "CVE-2020-7694"),
    _bad_value("a file separator", b"\x1c", "CVE-2026-44546"),
    _bad_value("a group separator", b"\x1d", "CVE-2026-44546"),
    _bad_value("a record separator", b"\x1e", "CVE-2026-44546"),
    _bad_value("a unit separator", b"\x1f"),
    _bad_value("DEL", b"\x7f"),
    refused("a value that ends in a vertical tab", "RFC 9110 5.5", get(b"A: b\x0b")),
    refused("a value that begins with a form feed", "RFC 9110 5.5", get(b"A:\x0cb")),
    refused(
        "two equal Content-Types",
        "gunicorn #3366; hypercorn #280",
        get(*[b"Content-Type: a/b"] * 2),
    ),
    refused(
        "two Content-Types that differ",
        "RFC 9110 8.3; hypercorn #280",
        post(b"Content-Type: text/html", b"content-type: a/b", b"Content-Length: 0"),
    ),
)

UNDERSCORES = (
    served(
        "a name with an underscore does not stand in for one with a dash",
        UNDERSCORE,
        get(b"X-User: good", b"X_User: evil"),
        Seen(has=(("x-user", "good"),), lacks=("x_user",)),
    ),
    served(
        "a forwarded field with underscores is dropped",
        UNDERSCORE,
        get(b"X_Forwarded_For: 192.0.2.9", b"X_FORWARDED_PROTO: https"),
        Seen(lacks=("x_forwarded_for", "x_forwarded_proto")),
    ),
    served(
        "SCRIPT_NAME of anybody moves nothing",
        "Gunicorn: forwarder_headers",
        get(b"SCRIPT_NAME: /admin", b"PATH_INFO: /x", line=b"GET /a HTTP/1.1"),
        Seen("/a", lacks=("script_name", "path_info")),
    ),
    served(
        "Content_Length frames nothing",
        UNDERSCORE,
        get(b"Content_Length: 5") + get(line=b"GET /2 HTTP/1.1"),
        Seen(lacks=("content_length",)),
        Seen("/2"),
    ),
    served(
        "Transfer_Encoding frames nothing",
        UNDERSCORE,
        get(b"Transfer_Encoding: chunked") + get(line=b"GET /2 HTTP/1.1"),
        Seen(lacks=("transfer_encoding",)),
        Seen("/2"),
    ),
    served(
        "a forwarded field of a stranger changes no scheme",
        "Gunicorn: forwarded_allow_ips",
        get(b"X-Forwarded-Proto: https", b"X-Forwarded-For: 192.0.2.9"),
        Seen(has=(("x-forwarded-proto", "https"),)),
    ),
    served(
        "contradicting schemes of a stranger are no error",
        "Gunicorn: secure_scheme_headers",
        get(b"X-Forwarded-Proto: http", b"X-Forwarded-SSL: on"),
    ),
    served(
        "a root path of a stranger moves nothing",
        "ASGI HTTP: root_path; daphne: Daphne-Root-Path",
        get(b"Daphne-Root-Path: /admin", b"X-Forwarded-Prefix: /admin", line=b"GET /a HTTP/1.1"),
        Seen("/a"),
    ),
)

CASES: tuple[Case, ...] = (*NAMES, *FOLDS, *VALUES, *UNDERSCORES)
