"""Methods, versions, line ends and what comes before them (RFC 9112, 2.2, 2.3 and 3)."""

from __future__ import annotations

from rfc.case import Case, Seen, get, post, refused, served

__all__ = ["CASES"]

HOST = b"Host: kit\r\n"
# RFC 9110 9.3, RFC 5789, WebDAV, UPnP and whatever else llhttp knows besides RTSP.
METHODS = (
    *(b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND"),
    *(b"M-SEARCH", b"LINK", b"PURGE", b"MKCALENDAR"),
)
RTSP = (
    *(b"DESCRIBE", b"ANNOUNCE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN", b"GET_PARAMETER"),
    *(b"SET_PARAMETER", b"REDIRECT", b"RECORD", b"FLUSH"),
)


def line(raw: bytes) -> bytes:
    """A whole request with that first line, its end included."""
    return raw + HOST + b"\r\n"


def _version(name: str, text: bytes, *statuses: int) -> Case:
    return refused(
        f"the version is {name}", "RFC 9112 2.3", line(b"GET / " + text + b"\r\n"), *statuses
    )


VERSIONS = (
    *(
        _version(f"HTTP {text}", b"HTTP/" + text.encode(), 505)
        for text in ("0.0", "0.9", "1.2", "1.9", "2.0", "2.1", "3.0", "4.2", "9.9")
    ),
    _version("in lower case", b"http/1.1"),
    _version("in mixed case", b"Http/1.1"),
    _version("one with a letter", b"HTTP/1.x"),
    _version("one with two digits behind the dot", b"HTTP/1.10"),
    _version("one with two digits before the dot", b"HTTP/01.1"),
    _version("one with three digits behind the dot", b"HTTP/1.001"),
    _version("one without a dot", b"HTTP/11"),
    _version("one without a minor number", b"HTTP/1."),
    _version("one without a major number", b"HTTP/.1"),
    _version("only a major number", b"HTTP/1"),
    _version("without a number", b"HTTP/"),
    _version("without a slash", b"HTTP1.1"),
    _version("one with a sign", b"HTTP/+1.1"),
    _version("one with a comma", b"HTTP/1,1"),
    _version("one with a back slash", b"HTTP\\1.1"),
    _version("one with a digit of another script", b"HTTP/1.\xd9\xa1"),
    _version("one with a space inside", b"HTTP /1.1"),
    _version("one with something behind it", b"HTTP/1.1x"),
    _version("one that only ends in HTTP", b"XHTTP/1.1"),
    _version("HTTPS", b"HTTPS/1.1"),
    _version("RTSP", b"RTSP/1.0"),
    _version("ICE, which llhttp takes for SOURCE", b"ICE/1.0"),
    refused("SOURCE speaks ICE", "RFC 9112 2.3", line(b"SOURCE / ICE/1.0\r\n")),
    refused("a simple request of HTTP/0.9", "RFC 9112 2.3; RFC 1945 5", b"GET /\r\n"),
    refused("a simple request with a space behind it", "RFC 9112 3", b"GET / \r\n"),
    refused("the preface of HTTP/2", "RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    served(
        "HTTP/1.0 is answered and closed",
        "RFC 9112 9.3",
        get(line=b"GET / HTTP/1.0"),
        Seen(version="1.0"),
        closes=True,
    ),
)

SPACES = (
    refused("two spaces behind the method", "RFC 9112 3", line(b"GET  / HTTP/1.1\r\n")),
    refused("two spaces behind the target", "RFC 9112 3", line(b"GET /  HTTP/1.1\r\n")),
    refused("a space behind the version", "RFC 9112 3", line(b"GET / HTTP/1.1 \r\n")),
    refused("a tab behind the version", "RFC 9112 3", line(b"GET / HTTP/1.1\t\r\n")),
    refused("a tab behind the method", "RFC 9112 3", line(b"GET\t/ HTTP/1.1\r\n")),
    refused("a tab behind the target", "RFC 9112 3", line(b"GET /\tHTTP/1.1\r\n")),
    refused("a vertical tab behind the method", "RFC 9112 3", line(b"GET\x0b/ HTTP/1.1\r\n")),
    refused("a form feed behind the target", "RFC 9112 3", line(b"GET /\x0cHTTP/1.1\r\n")),
    refused("a no-break space behind the method", "RFC 9112 3", line(b"GET\xa0/ HTTP/1.1\r\n")),
    refused("a space before the method", "RFC 9112 3", b" " + get()),
    refused("a tab before the method", "RFC 9112 3", b"\t" + get()),
    refused("a target with a space", "RFC 9112 3.2", line(b"GET /a b HTTP/1.1\r\n")),
    refused("a second version", "RFC 9112 3", line(b"GET / HTTP/1.1 HTTP/1.1\r\n")),
    refused("no target", "RFC 9112 3", line(b"GET HTTP/1.1\r\n")),
    refused("an empty target", "RFC 9112 3", line(b"GET  HTTP/1.1\r\n")),
    refused("a method alone", "RFC 9112 3", line(b"GET\r\n")),
    refused("a method and a space alone", "RFC 9112 3", line(b"GET \r\n")),
)

LINE_ENDS = (
    refused(
        "a bare LF behind the request line",
        "CVE-2021-41136; RFC 9112 2.2",
        line(b"GET / HTTP/1.1\n"),
    ),
    refused("only bare LFs", "CVE-2022-32214; RFC 9112 2.2", b"GET / HTTP/1.1\nHost: kit\n\n"),
    refused(
        "a bare LF as the empty line", "RFC 9112 2.2", b"GET / HTTP/1.1\r\nHost: kit\r\n\n" + get()
    ),
    refused("a bare CR behind the request line", "RFC 9112 2.2", line(b"GET / HTTP/1.1\r")),
    refused("two CRs before the LF", "RFC 9112 2.2", line(b"GET / HTTP/1.1\r\r\n")),
    refused("LF and CR the wrong way round", "RFC 9112 2.2", line(b"GET / HTTP/1.1\n\r")),
    refused("a bare CR in the target", "RFC 9112 2.2", line(b"GET /\r/ HTTP/1.1\r\n")),
    refused("a bare LF in the target", "RFC 9112 2.2", line(b"GET /\n/ HTTP/1.1\r\n")),
    refused("a bare CR before the version", "RFC 9112 2.2", line(b"GET / \rHTTP/1.1\r\n")),
    refused("a bare CR in the empty line", "RFC 9112 2.2", b"GET / HTTP/1.1\r\n" + HOST + b"\rX"),
    refused("NUL in the method", "RFC 9110 5.6.2", line(b"G\0ET / HTTP/1.1\r\n")),
    refused("NUL in the target", "RFC 9112 3.2", line(b"GET /\0 HTTP/1.1\r\n")),
    refused("NUL in the version", "RFC 9112 2.3", line(b"GET / HTTP/1.1\0\r\n")),
    refused("DEL in the target", "RFC 3986 2", line(b"GET /\x7f HTTP/1.1\r\n")),
    refused("an escape code in the target", "CVE-2020-7694", line(b"GET /\x1b[31m HTTP/1.1\r\n")),
    refused("an escape code in the method", "CVE-2020-7694", line(b"G\x1b[31mT / HTTP/1.1\r\n")),
)

# Refused as it comes in: nothing of this has an end.
FIRST_BYTES = (
    refused(
        "a TLS handshake on a port without TLS",
        "RFC 8446 5.1; uvicorn #344",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    ),
    refused("a handshake of SSL 2", "RFC 6101 E", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"),
    refused("a byte order mark", "RFC 9112 3", b"\xef\xbb\xbf" + get()),
    refused("NUL at first", "RFC 9112 3", b"\0"),
    refused("all bits set", "RFC 9112 3", b"\xff" * 100),
    refused("JSON without HTTP", "RFC 9110 5.6.2", b'{"jsonrpc": "2.0"}'),
    refused("a WebSocket frame without a handshake", "RFC 6455 4", b"\x81\x85abcdhello"),
    refused(
        "the signature of PROXY v2, switched off",
        "Gunicorn: proxy_protocol; PROXY protocol 2.2",
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c",
    ),
    refused(
        "a PROXY line, switched off",
        "Gunicorn: proxy_protocol; PROXY protocol 2.1",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(),
    ),
    refused("a greeting of SSH", "RFC 4253 4.2", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("a greeting of SMTP", "RFC 5321 4.1.1.1", b"EHLO kit\r\n"),
    refused("a command of Redis", "RFC 9110 5.6.2", b"*1\r\n$4\r\nPING\r\n"),
    refused("a field before the request line", "RFC 9112 2.1", HOST + get()),
)

BLANK = b"\r\n"
BLANK_LINES = (
    served("a blank line before the request", "RFC 9112 2.2", BLANK + get()),
    served("eight blank lines before the request", "RFC 9112 2.2", BLANK * 8 + get()),
    served(
        "a blank line between two requests",
        "RFC 9112 2.2",
        get(line=b"GET /1 HTTP/1.1") + BLANK + get(line=b"GET /2 HTTP/1.1"),
        Seen("/1"),
        Seen("/2"),
    ),
    served(
        "a blank line behind a body, as old clients send it",
        "RFC 9112 2.2",
        post(b"Content-Length: 4", body=b"body" + BLANK) + get(),
        Seen(method="POST", body=b"body"),
        Seen(),
    ),
    served(
        "eight blank lines before each of two requests",
        "RFC 9112 2.2",
        (BLANK * 8 + get()) * 2,
        Seen(),
        Seen(),
    ),
    refused("nine blank lines", "RFC 9112 2.2; slow HTTP CVE-2007-6750", BLANK * 9),
    refused("nine blank lines before a request", "RFC 9112 2.2", BLANK * 9 + get()),
    refused("a lone LF before the request", "RFC 9112 2.2", b"\n" + get()),
    refused("a lone CR before the request", "RFC 9112 2.2", b"\r" + get()),
    refused("LF and CRLF before the request", "RFC 9112 2.2", b"\n\r\n" + get()),
    refused("CRLF and LF before the request", "RFC 9112 2.2", b"\r\n\n" + get()),
    refused("two CRs and LF before the request", "RFC 9112 2.2", b"\r\r\n" + get()),
    refused("a line of a space before the request", "RFC 9112 2.2", b" \r\n" + get()),
    refused("a blank line, then a space", "RFC 9112 2.2", BLANK + b" " + get()),
    refused(
        "nine blank lines between two requests", "RFC 9112 2.2", get() + BLANK * 9, after=(Seen(),)
    ),
    refused(
        "a lone LF between two requests", "RFC 9112 2.2", get() + b"\n" + get(), after=(Seen(),)
    ),
)


def _method(name: str, method: bytes, *statuses: int) -> Case:
    return refused(name, "RFC 9110 9.1", line(method + b" / HTTP/1.1\r\n"), *statuses)


METHOD_CASES = (
    *(
        served(
            f"the method {method.decode()} is served",
            "RFC 9110 9.1; hypercorn #278",
            get(line=method + b" / HTTP/1.1"),
            Seen(method=method.decode()),
        )
        for method in METHODS
    ),
    served(
        "HEAD is answered without a body",
        "RFC 9110 9.3.2",
        get(line=b"HEAD / HTTP/1.1") * 2,
        Seen(method="HEAD"),
        Seen(method="HEAD"),
    ),
    *(_method(f"the method {method.decode()}, which is RTSP's", method, 501) for method in RTSP),
    _method("a method that nobody knows", b"FROB", 501),
    _method("a method in lower case", b"get", 501),
    _method("a method in mixed case", b"Get", 501),
    _method("a method that begins like another", b"GETX", 501),
    _method("a method that is cut short", b"GE", 501),
    _method("a method of one letter", b"X", 501),
    _method("a method of all that a token may hold", b"!#$%&'*+-.^_`|~09azAZ", 501),
    _method("a method of digits", b"123", 501),
    # RFC 9113 11.6 reserves it, so that both are right.
    _method("PRI in HTTP/1.1", b"PRI", 400, 501),
    _method("a method with a parenthesis", b"G(T"),
    _method("a method with a colon", b"GET:"),
    _method("a method with a comma", b"GET,"),
    _method("a method with a slash", b"G/T"),
    _method("a quoted method", b'"GET"'),
    _method("a method with a letter beyond ASCII", b"G\xc9T"),
    refused(
        "CONNECT with an authority",
        "RFC 9110 9.3.6",
        line(b"CONNECT kit:443 HTTP/1.1\r\n"),
        501,
    ),
    refused("CONNECT with a path", "RFC 9110 9.3.6", line(b"CONNECT / HTTP/1.1\r\n"), 501),
    refused(
        "CONNECT with a body",
        "RFC 9110 9.3.6",
        post(b"Content-Length: 4", body=b"body", line=b"CONNECT kit:443 HTTP/1.1"),
        501,
    ),
    refused(
        "CONNECT with an upgrade",
        "RFC 9110 9.3.6 and 7.8",
        get(b"Connection: upgrade", b"Upgrade: websocket", line=b"CONNECT kit:443 HTTP/1.1"),
        501,
    ),
)

CASES: tuple[Case, ...] = (
    *VERSIONS,
    *SPACES,
    *LINE_ENDS,
    *FIRST_BYTES,
    *BLANK_LINES,
    *METHOD_CASES,
)
