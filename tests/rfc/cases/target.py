"""Request targets and Host (RFC 9112, 3.2; RFC 9110, 4 and 7.2)."""

from __future__ import annotations

from rfc.case import Case, Seen, get, refused, served

__all__ = ["CASES"]


def _get(target: bytes, host: bytes | None = b"kit", method: bytes = b"GET") -> bytes:
    return get(line=method + b" " + target + b" HTTP/1.1", host=host)


def _path(name: str, source: str, target: bytes, path: str, query: str = "") -> Case:
    raw = target.partition(b"?")[0].decode("latin-1")
    return served(name, source, _get(target), Seen(path, query=query, raw=raw))


def _bad(name: str, source: str, target: bytes, *statuses: int) -> Case:
    return refused(name, source, _get(target), *statuses)


ORIGIN = (
    _path("a path and a query", "RFC 9112 3.2.1", b"/a/b?c=d&e", "/a/b", "c=d&e"),
    _path("an empty query", "RFC 3986 3.4", b"/?", "/"),
    _path("a query that begins with a question mark", "RFC 3986 3.4", b"/??a", "/", "?a"),
    _path("a query with slashes and questions", "RFC 3986 3.4", b"/?/a/../b?c", "/", "/a/../b?c"),
    _path("a query with a whole URL", "RFC 3986 3.4", b"/?http://a/b", "/", "http://a/b"),
    _path("a query stays as it was sent", "ASGI HTTP: query_string", b"/?a=%41+b", "/", "a=%41+b"),
    _path("an encoded path is decoded", "ASGI HTTP: path", b"/a%20b%41", "/a bA"),
    _path("a plus is no space in a path", "RFC 3986 2.2", b"/a+b", "/a+b"),
    _path("an encoded slash is in the raw path", "RFC 3986 2.2", b"/a%2Fb", "/a/b"),
    _path("an encoded question mark is no query", "RFC 3986 2.2", b"/a%3Fb", "/a?b"),
    _path("an encoded hash is no fragment", "RFC 3986 2.2", b"/a%23b", "/a#b"),
    _path("an encoded path in UTF-8", "gunicorn #3543", b"/caf%C3%A9", "/caf\xe9"),
    _path("an encoded path that is no UTF-8", "ASGI HTTP: path", b"/caf%E9", "/caf\ufffd"),
    _path("an encoded NUL is a character of the path", "RFC 3986 7.3", b"/a%00b", "/a\0b"),
    _path("an encoded line end stays in the path", "CVE-2020-7695", b"/a%0d%0aX:b", "/a\r\nX:b"),
    _path("an encoded escape code", "CVE-2020-7694", b"/%1b[31m", "/\x1b[31m"),
    _path("a percent sign without its digits", "RFC 3986 2.1", b"/100%", "/100%"),
    _path("an encoding that is decoded only once", "RFC 3986 2.4", b"/%2541", "/%41"),
    _path("two slashes are no authority", "CVE-2026-54282; RFC 9112 3.2.1", b"//a/b", "//a/b"),
    _path("two slashes and a colon", "CVE-2026-54282", b"//a:80/b?c", "//a:80/b", "c"),
    _path("three slashes", "RFC 9112 3.2.1", b"///a", "///a"),
    _path("a path with a URL in it", "RFC 9112 3.2.1", b"/http://a/b", "/http://a/b"),
    _path("a path with an at sign", "CVE-2026-54282", b"/@a/b", "/@a/b"),
    _path("a path with a colon", "RFC 3986 3.3", b"/:80", "/:80"),
    _path("dots are left to the application", "RFC 3986 5.2.4", b"/a/../b/./c", "/a/../b/./c"),
    _path("parameters of a path", "RFC 3986 3.3", b"/a;b=c/d", "/a;b=c/d"),
    _path("a back slash in a path", "RFC 3986 2", b"/a\\b", "/a\\b"),
    _path("brackets, as browsers send them", "RFC 3986 2", b"/a[b]?c[]=|", "/a[b]", "c[]=|"),
)

BROKEN = (
    _bad("a fragment", "RFC 9112 3.2; httptools #142", b"/a#b"),
    _bad("an empty fragment", "RFC 9112 3.2", b"/#"),
    _bad("a fragment behind a query", "RFC 9112 3.2", b"/?a#b"),
    _bad("only a fragment", "RFC 9112 3.2", b"#a"),
    _bad("a relative path", "RFC 9112 3.2.1", b"a/b"),
    _bad("a relative path of dots", "RFC 9112 3.2.1", b"../a"),
    _bad("a query without a path", "RFC 9112 3.2.1", b"?a"),
    _bad("a back slash at first", "RFC 9112 3.2.1", b"\\a"),
    _bad("a file name", "RFC 9112 3.2.1", b"index.html"),
    _bad("an authority without CONNECT", "RFC 9112 3.2.3", b"kit:80"),
    _bad("a host alone", "RFC 9112 3.2.3", b"kit"),
    _bad("an address with a port", "RFC 9112 3.2.3", b"127.0.0.1:80"),
    _bad("raw UTF-8", "RFC 3986 2", b"/caf\xc3\xa9"),
    _bad("a raw byte beyond ASCII", "RFC 3986 2", b"/caf\xe9"),
    _bad("a raw byte beyond ASCII in the query", "RFC 3986 2", b"/?\xff"),
    _bad("a tab", "RFC 3986 2", b"/a\tb"),
    _bad("an asterisk without OPTIONS", "RFC 9112 3.2.4", b"*"),
    refused("an asterisk with POST", "RFC 9112 3.2.4", _get(b"*", method=b"POST")),
    refused("two asterisks", "RFC 9112 3.2.4", _get(b"**", method=b"OPTIONS")),
    refused("an asterisk with a query", "RFC 9112 3.2.4", _get(b"*?a", method=b"OPTIONS")),
    served(
        "an asterisk with OPTIONS",
        "RFC 9112 3.2.4",
        _get(b"*", method=b"OPTIONS"),
        Seen("*", "OPTIONS"),
    ),
)


def _absolute(name: str, source: str, target: bytes, path: str, query: str, host: str) -> Case:
    return served(name, source, _get(target), Seen(path, query=query, has=(("host", host),)))


ABSOLUTE = (
    _absolute("absolute-form", "RFC 9112 3.2.2", b"http://a/b?c", "/b", "c", "a"),
    _absolute("absolute-form with a port", "RFC 9112 3.2.2", b"http://a:81/b", "/b", "", "a:81"),
    _absolute("absolute-form in upper case", "RFC 9110 4.2.3", b"HTTP://a/b", "/b", "", "a"),
    _absolute("absolute-form without a path", "RFC 9110 4.2.3", b"http://a", "/", "", "a"),
    _absolute("absolute-form with only a query", "RFC 3986 3", b"http://a?b=/c", "/", "b=/c", "a"),
    _absolute(
        "absolute-form with IPv6", "RFC 3986 3.2.2", b"http://[::1]:8/b", "/b", "", "[::1]:8"
    ),
    _absolute("absolute-form with two slashes", "RFC 3986 3.3", b"http://a//b", "//b", "", "a"),
    served(
        "absolute-form in HTTP/1.0",
        "RFC 9112 3.2.2",
        get(line=b"GET http://a/b HTTP/1.0", host=None),
        Seen("/b", version="1.0"),
        closes=True,
    ),
    refused("absolute-form without Host", "RFC 9112 3.2", _get(b"http://a/b", host=None)),
    refused(
        "absolute-form with two Hosts",
        "RFC 9112 3.2",
        get(b"Host: a", line=b"GET http://a/ HTTP/1.1"),
    ),
    refused("absolute-form with a bad Host", "RFC 9112 3.2", _get(b"http://a/b", host=b"a/b")),
    _bad("absolute-form without an authority", "RFC 9110 4.2.1", b"http:///b"),
    _bad("absolute-form with one slash", "RFC 9110 4.2.1", b"http:/b"),
    _bad("absolute-form without a slash", "RFC 9110 4.2.1", b"http:b"),
    _bad("absolute-form with a user", "RFC 9110 4.2.4", b"http://kit@a/b"),
    _bad("absolute-form with a password", "RFC 9110 4.2.4", b"http://a:b@c/"),
    _bad("absolute-form with a fragment", "RFC 9112 3.2.2", b"http://a/b#c"),
    _bad("absolute-form with a port of letters", "RFC 3986 3.2.3", b"http://a:b/"),
    _bad("absolute-form with a port too large", "RFC 3986 3.2.3", b"http://a:65536/"),
    _bad("absolute-form with half an IPv6 address", "RFC 3986 3.2.2", b"http://[::1/"),
    _bad("absolute-form with a back slash", "RFC 3986 3.2", b"http://a\\b/"),
    _bad("absolute-form with a space in the host", "RFC 3986 3.2", b"http://a b/"),
    _bad("another scheme", "RFC 9110 4.2.1", b"ftp://a/b"),
    _bad("the scheme of WebSocket", "RFC 6455 3", b"ws://a/b"),
    _bad("a scheme without an authority", "RFC 3986 3", b"mailto:a"),
    _bad("a script as a target", "RFC 3986 3", b"javascript:alert(1)"),
    _bad("https over plain TCP", "RFC 9110 7.4 and 15.5.20", b"https://a/b", 421),
)

HOST = "RFC 9110 7.2; RFC 9112 3.2"
BAD_HOST = "CVE-2026-48710; RFC 9112 3.2"


def _host(name: str, host: bytes, seen: str | None = None) -> Case:
    told = host.decode("latin-1") if seen is None else seen
    return served(f"Host {name}", HOST, get(host=host), Seen(has=(("host", told),)))


def _bad_host(name: str, host: bytes, source: str = HOST) -> Case:
    return refused(f"Host {name}", source, get(host=host))


HOSTS = (
    _host("with a port", b"kit:8000"),
    _host("with an empty port", b"kit:"),
    _host("of IPv4", b"127.0.0.1:8000"),
    _host("of IPv6", b"[::1]"),
    _host("of IPv6 with a port", b"[2001:db8::1]:443"),
    _host("in upper case stays so", b"KIT.Example"),
    _host("with a dot at the end", b"kit.example."),
    _host("with an underscore", b"a_b"),
    _host("in punycode", b"xn--caf-dma.example"),
    _host("with an encoded character", b"a%41"),
    _host("with white space around it", b"  \t kit\t ", "kit"),
    served(
        "Host in mixed case, behind other fields",
        HOST,
        get(b"A: b", b"hOsT: kit", host=None),
        Seen(has=(("a", "b"), ("host", "kit"))),
    ),
    served(
        "no Host in HTTP/1.0",
        "RFC 9112 3.2",
        get(line=b"GET / HTTP/1.0", host=None),
        Seen(version="1.0", lacks=("host",)),
        closes=True,
    ),
    refused("no Host in HTTP/1.1", "RFC 9112 3.2", get(host=None)),
    refused("no Host but other fields", "RFC 9112 3.2", get(b"X-Host: a", host=None)),
    refused("two Hosts that differ", "RFC 9112 3.2; gunicorn #3366", get(b"Host: b")),
    refused("two equal Hosts", "RFC 9112 3.2", get(b"Host: kit")),
    refused("two Hosts in different case", "RFC 9112 3.2", get(b"hOST: kit")),
    refused("two Hosts in HTTP/1.0", "RFC 9112 3.2", get(b"Host: b", line=b"GET / HTTP/1.0")),
    refused("two Hosts far from each other", "RFC 9112 3.2", get(*[b"A: b"] * 20, b"Host: kit")),
    refused("a bad Host in HTTP/1.0", BAD_HOST, get(line=b"GET / HTTP/1.0", host=b"a/b")),
    _bad_host("empty", b""),
    _bad_host("of white space", b" \t "),
    _bad_host("with a path", b"a/b", BAD_HOST),
    _bad_host("with a query", b"a?b", BAD_HOST),
    _bad_host("with a fragment", b"a#b", BAD_HOST),
    _bad_host("with a path and a query", b"kit/b?c=", BAD_HOST),
    _bad_host("with a user", b"a@b"),
    _bad_host("with a scheme", b"http://kit"),
    _bad_host("with a space", b"a b"),
    _bad_host("with a tab", b"a\tb"),
    _bad_host("with a back slash", b"a\\b"),
    _bad_host("with a quote", b'a"b'),
    _bad_host("with an angle bracket", b"<script>"),
    _bad_host("as a list with spaces", b"a, b"),
    _bad_host("with letters for a port", b"a:b"),
    _bad_host("with a sign in its port", b"a:-1"),
    _bad_host("with two ports", b"a:1:2"),
    _bad_host("with a port too large", b"a:65536"),
    _bad_host("with only a port", b":80"),
    _bad_host("of IPv6 without brackets", b"::1"),
    _bad_host("with one bracket", b"[::1"),
    _bad_host("with letters in brackets", b"[kit]"),
    _bad_host("with empty brackets", b"[]"),
    _bad_host("with something behind the bracket", b"[::1]a"),
    _bad_host("with half an encoded character", b"a%4"),
    _bad_host("with UTF-8", b"caf\xc3\xa9"),
    _bad_host("with a byte beyond ASCII", b"a\xff"),
    _bad_host("with NUL", b"a\0b"),
    _bad_host("with a line separator of Latin-1", b"a\x85b", "CVE-2026-44546"),
)

CASES: tuple[Case, ...] = (*ORIGIN, *BROKEN, *ABSOLUTE, *HOSTS)
