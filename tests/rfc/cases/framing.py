"""Where a request body ends: Content-Length and Transfer-Encoding (RFC 9112, 6)."""

from __future__ import annotations

from rfc.case import CHUNKED, Case, Seen, chunks, dropped, get, post, refused, served

__all__ = ["CASES"]

LENGTH = "RFC 9110 8.6; RFC 9112 6.3"
CODING = "RFC 9112 6.1"
BOTH = "RFC 9112 6.3"
# llhttp has its own opinion on some of what follows, and speaks first.
EITHER = (400, 501)
BODY = Seen(method="POST", body=b"12345")
LAST = b"0\r\n\r\n"
FIVE = b"5\r\n12345\r\n" + LAST
NEXT = get(line=b"GET /2 HTTP/1.1")


def _length(name: str, value: bytes, source: str = LENGTH) -> Case:
    return refused(
        f"Content-Length {name}", source, post(b"Content-Length: " + value, body=b"12345")
    )


LENGTHS = (
    served("a body by Content-Length", LENGTH, post(b"Content-Length: 5", body=b"12345"), BODY),
    served(
        "the body ends where Content-Length says",
        LENGTH,
        post(b"Content-Length: 5", body=b"12345") + NEXT,
        BODY,
        Seen("/2"),
    ),
    served(
        "a body that looks like a request is none",
        LENGTH,
        post(b"Content-Length: %d" % len(get()), body=get()),
        Seen(method="POST", body=get()),
    ),
    served(
        "a body of every byte",
        LENGTH,
        post(b"Content-Length: 256", body=bytes(range(256))),
        Seen(method="POST", body=bytes(range(256))),
    ),
    served(
        "Content-Length 0",
        LENGTH,
        post(b"Content-Length: 0") + NEXT,
        Seen(method="POST"),
        Seen("/2"),
    ),
    served("no Content-Length is no body", LENGTH, post() + NEXT, Seen(method="POST"), Seen("/2")),
    served(
        "Content-Length with zeros in front",
        LENGTH,
        post(b"Content-Length: 0005", body=b"12345"),
        BODY,
    ),
    served(
        "Content-Length of 18 digits",
        LENGTH,
        post(b"Content-Length: " + b"%018d" % 5, body=b"12345"),
        BODY,
    ),
    served(
        "Content-Length in white space",
        "RFC 9110 5.5",
        post(b"Content-Length: \t 5 \t", body=b"12345"),
        BODY,
    ),
    served(
        "Content-Length in mixed case",
        "RFC 9110 5.1",
        post(b"cOnTeNt-lEnGtH:5", body=b"12345"),
        BODY,
    ),
    *(
        served(
            f"{method} may have a body",
            "RFC 9110 9.3",
            post(b"Content-Length: 5", body=b"12345", line=method.encode() + b" / HTTP/1.1") + NEXT,
            Seen(method=method, body=b"12345"),
            Seen("/2"),
        )
        for method in ("GET", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
    ),
    served(
        "HEAD with a body",
        "RFC 9110 9.3.2",
        post(b"Content-Length: 5", body=b"12345", line=b"HEAD / HTTP/1.1") + NEXT,
        Seen(method="HEAD"),
        Seen("/2"),
    ),
    served(
        "a body in HTTP/1.0",
        "RFC 9112 6.3",
        post(b"Content-Length: 5", body=b"12345", line=b"POST / HTTP/1.0"),
        Seen(method="POST", body=b"12345", version="1.0"),
        closes=True,
    ),
    served(
        "POST without a length in HTTP/1.0 has no body",
        "RFC 9112 6.3",
        post(line=b"POST / HTTP/1.0", body=b"12345"),
        Seen(method="POST", version="1.0"),
        closes=True,
    ),
    _length("with a plus", b"+5"),
    _length("with a minus", b"-5"),
    _length("with a fraction", b"5.0"),
    _length("with an exponent", b"5e0"),
    _length("in hexadecimal", b"0x5", "CVE-2023-38697"),
    _length("with an underscore", b"0_5", "CVE-2023-38697"),
    _length("with a space inside", b"0 5"),
    _length("with a semicolon", b"5;a"),
    _length("as a list", b"5, 5", "RFC 9110 8.6; gunicorn 26.0"),
    _length("as a list without spaces", b"5,5", "RFC 9110 8.6; gunicorn 26.0"),
    _length("as a list that differs", b"5, 6", "RFC 9110 8.6"),
    _length("as a list with an empty member", b"5,", "RFC 9110 8.6"),
    _length("that is empty", b"", "CVE-2023-40175; GHSA-68xg-gqqm-vgj8"),
    _length("of white space", b" \t", "CVE-2023-40175"),
    _length("in words", b"five"),
    _length("in quotes", b'"5"'),
    _length("in digits of another script", "\u0665".encode()),
    _length("in wide digits", "\uff15".encode()),
    _length("in superscript", b"\xb2"),
    _length("with a vertical tab", b"5\x0b"),
    _length("with a no-break space", b"5\xa0", "gunicorn #3364"),
    _length("with NUL", b"5\0"),
    _length("of 19 digits", b"%019d" % 5),
    _length("beyond 64 bits that wraps to 5", b"18446744073709551621", "uwsgi #2775"),
    _length("beyond 63 bits", b"9223372036854775808", "uwsgi #2775"),
    _length("of a thousand digits", b"9" * 1000, "CVE-2020-10735"),
    refused("two equal Content-Lengths", LENGTH, post(*[b"Content-Length: 5"] * 2, body=b"12345")),
    refused(
        "two Content-Lengths that differ",
        "RFC 9112 6.3; gunicorn 25.3",
        post(b"Content-Length: 0", b"Content-Length: 5", body=b"12345"),
    ),
    refused(
        "two Content-Lengths, far apart and in different case",
        LENGTH,
        post(b"Content-Length: 5", b"A: b", b"CONTENT-LENGTH: 6", body=b"12345"),
    ),
    refused(
        "two Content-Lengths, one of them bad",
        LENGTH,
        post(b"Content-Length: 5", b"Content-Length: x", body=b"12345"),
    ),
    refused(
        "Content-Length with a space before the colon",
        "RFC 9112 5.1; CVE-2019-16276",
        post(b"Content-Length : 5", body=b"12345"),
    ),
    refused(
        "what is longer than its Content-Length is the next request",
        "RFC 9112 6.3",
        post(b"Content-Length: 5", body=b"12345(rest"),
        after=(BODY,),
    ),
    refused(
        "a body without a length", "RFC 9112 6.3", post(body=b"{}"), after=(Seen(method="POST"),)
    ),
    dropped(
        "a body that breaks off",
        "RFC 9112 8; gunicorn #3382",
        post(b"Content-Length: 5", body=b"1234"),
    ),
    dropped("a body that never begins", "RFC 9112 8", post(b"Content-Length: 5")),
    dropped("a head that breaks off", "RFC 9112 8", b"GET / HTTP/1.1\r\nHost: kit\r\n"),
    dropped("nothing but a blank line", "RFC 9112 2.2", b"\r\n"),
    dropped("no byte at all", "RFC 9112 9.5", b""),
)


def _coding(name: str, value: bytes, *statuses: int, source: str = CODING) -> Case:
    field = b"Transfer-Encoding: " + value
    return refused(f"the coding is {name}", source, post(field, body=FIVE), *statuses)


CODINGS = (
    served("a chunked body", "RFC 9112 7.1", chunks(FIVE), BODY),
    served(
        "chunked in mixed case", "RFC 9112 7", post(b"Transfer-Encoding: cHuNkEd", body=FIVE), BODY
    ),
    served(
        "chunked in white space",
        "RFC 9110 5.5",
        post(b"tRANSFER-eNCODING: \t chunked  ", body=FIVE),
        BODY,
    ),
    served(
        "a chunked body with GET",
        "RFC 9110 9.3.1",
        post(CHUNKED, body=FIVE, line=b"GET / HTTP/1.1") + NEXT,
        Seen(body=b"12345"),
        Seen("/2"),
    ),
    served(
        "TE tells what the client takes and frames nothing",
        "RFC 9110 10.1.4",
        get(b"TE: trailers, chunked") + NEXT,
        Seen(),
        Seen("/2"),
    ),
    _coding("unknown", b"cow", 501),
    _coding("gzip, then chunked", b"gzip, chunked", 501, source="RFC 9112 6.1; CVE-2020-11076"),
    _coding("identity", b"identity", *EITHER, source="RFC 9112 7; gunicorn 25.3"),
    _coding("gzip", b"gzip", *EITHER),
    _coding(
        "chunked, then gzip", b"chunked, gzip", *EITHER, source="CVE-2024-1135; GHSA-w3h3-4rj7-4ph4"
    ),
    _coding(
        "chunked, then identity",
        b"chunked, identity",
        *EITHER,
        source="CVE-2024-1135; RFC 9112 6.1",
    ),
    _coding("identity, then chunked", b"identity, chunked", *EITHER),
    _coding("chunked twice", b"chunked, chunked", *EITHER, source="RFC 9112 6.1; gunicorn 25.3"),
    _coding("chunked with a letter in front", b"xchunked", *EITHER, source="CVE-2022-32213"),
    _coding("chunked with a letter behind", b"chunkedx", *EITHER, source="CVE-2022-32213"),
    _coding("chunked cut short", b"chunke", *EITHER, source="CVE-2022-32213"),
    _coding("chunked with a parameter", b"chunked;q=1", *EITHER, source="RFC 9112 7"),
    _coding("chunked in quotes", b'"chunked"', *EITHER),
    _coding("chunked in single quotes", b"'chunked'", *EITHER),
    _coding("chunked in parentheses", b"(chunked)", *EITHER),
    _coding("chunked with a space inside", b"chun ked", *EITHER),
    _coding("chunked with a comma in front", b",chunked", *EITHER, source="gunicorn #3087"),
    _coding(
        "chunked with an empty member in front", b" , chunked", *EITHER, source="gunicorn #3087"
    ),
    _coding("chunked with a comma behind", b"chunked,", *EITHER, source="gunicorn #3087"),
    _coding("chunked with two commas", b"chunked,,", *EITHER, source="gunicorn #3087"),
    _coding("only a comma", b",", *EITHER, source="gunicorn #3087"),
    _coding("empty", b"", *EITHER),
    _coding("white space", b" \t", *EITHER),
    _coding("chunked behind a vertical tab", b"\x0bchunked", *EITHER, source="gunicorn #3364"),
    _coding("chunked before a vertical tab", b"chunked\x0b", *EITHER, source="gunicorn #3364"),
    _coding("chunked behind a no-break space", b"\xa0chunked", *EITHER, source="gunicorn #3364"),
    _coding("chunked before a no-break space", b"chunked\xa0", *EITHER, source="gunicorn #3364"),
    _coding(
        "chunked behind a line separator of Latin-1",
        b"\x85chunked",
        *EITHER,
        source="gunicorn #3364",
    ),
    _coding("chunked with a long s", "chun\u212aed".encode(), *EITHER, source="RFC 9110 5.6.2"),
    # RFC 9110 5.5 would have it stripped. llhttp knows only spaces there; nobody sends it.
    _coding("chunked before a tab", b"chunked\t", *EITHER, source="RFC 9110 5.5"),
    _coding("chunked with NUL", b"chunked\0", source="RFC 9110 5.5"),
    _coding("chunked with a bare CR", b"chun\rked", source="RFC 9112 2.2"),
    refused("chunked in two fields", CODING, post(CHUNKED, CHUNKED, body=FIVE), *EITHER),
    refused(
        "chunked and identity in two fields",
        "CVE-2024-1135; RFC 9112 6.1",
        post(CHUNKED, b"Transfer-Encoding: identity", body=FIVE),
        *EITHER,
    ),
    refused(
        "identity and chunked in two fields",
        "CVE-2024-1135; RFC 9112 6.1",
        post(b"Transfer-Encoding: identity", CHUNKED, body=FIVE),
        *EITHER,
    ),
    refused(
        "gzip and chunked in two fields",
        CODING,
        post(b"Transfer-Encoding: gzip", CHUNKED, body=FIVE),
        *EITHER,
    ),
    refused(
        "an empty coding and chunked in two fields",
        "gunicorn #3087",
        post(b"Transfer-Encoding:", CHUNKED, body=FIVE),
        *EITHER,
    ),
    refused(
        "chunked with a space before the colon",
        "RFC 9112 5.1",
        post(b"Transfer-Encoding : chunked", body=FIVE),
    ),
    refused(
        "chunked with a tab before the colon",
        "RFC 9112 5.1",
        post(b"Transfer-Encoding\t: chunked", body=FIVE),
    ),
    refused(
        "chunked behind a bare CR",
        "RFC 9112 2.2",
        post(b"A: b\rTransfer-Encoding: chunked", body=FIVE),
    ),
    refused(
        "chunked behind a bare LF",
        "CVE-2022-32214",
        post(b"A: b\nTransfer-Encoding: chunked", body=FIVE),
    ),
)

TOGETHER = (
    refused("Content-Length and chunked", BOTH, post(b"Content-Length: 15", CHUNKED, body=FIVE)),
    refused("chunked and Content-Length", BOTH, post(CHUNKED, b"Content-Length: 15", body=FIVE)),
    refused("chunked and Content-Length 0", BOTH, post(CHUNKED, b"Content-Length: 0", body=FIVE)),
    refused(
        "chunked and a bad Content-Length", BOTH, post(CHUNKED, b"Content-Length: x", body=FIVE)
    ),
    refused(
        "chunked and an empty Content-Length", BOTH, post(CHUNKED, b"Content-Length:", body=FIVE)
    ),
    refused(
        "chunked between two Content-Lengths",
        BOTH,
        post(b"Content-Length: 5", CHUNKED, b"Content-Length: 5", body=FIVE),
    ),
    refused(
        "Content-Length and an unknown coding",
        "CVE-2024-6827; GHSA-hc5x-x2vx-497g",
        post(b"Content-Length: 5", b"Transfer-Encoding: cow", body=b"12345"),
        *EITHER,
    ),
    refused(
        "Content-Length and identity",
        "RFC 9112 6.3; uwsgi #2560",
        post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"12345"),
        *EITHER,
    ),
    refused(
        "Content-Length and an empty coding",
        "CVE-2024-6827",
        post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"12345"),
        *EITHER,
    ),
    refused(
        "Content-Length and a coding that begins with a vertical tab",
        "CVE-2024-6827; CVE-2019-18277",
        post(b"Content-Length: 5", b"Transfer-Encoding: \x0bchunked", body=b"12345"),
        *EITHER,
    ),
    refused("Content-Length and chunked with GET", BOTH, get(CHUNKED, b"Content-Length: 5") + FIVE),
    refused(
        "chunked in HTTP/1.0",
        "RFC 9112 6.1; gunicorn 25.3",
        post(CHUNKED, body=FIVE, line=b"POST / HTTP/1.0"),
    ),
    refused(
        "chunked in HTTP/1.0 that is kept alive",
        "RFC 9112 6.1",
        post(b"Connection: keep-alive", CHUNKED, body=FIVE, line=b"POST / HTTP/1.0"),
    ),
    refused(
        "Content-Length and chunked in HTTP/1.0",
        "RFC 9112 6.1 and 6.3",
        post(CHUNKED, b"Content-Length: 15", body=FIVE, line=b"POST / HTTP/1.0"),
    ),
    refused(
        "a request hidden behind CL.TE",
        "CVE-2020-11077; CVE-2022-24790; hypercorn #279",
        post(b"Content-Length: 6", CHUNKED, body=LAST + b"G"),
    ),
    refused(
        "a request hidden behind TE.CL",
        "CVE-2020-11077; uwsgi #2560",
        post(b"Content-Length: 4", CHUNKED, body=b"5c\r\nGPOST / HTTP/1.1\r\n" + LAST),
    ),
    refused(
        "a request hidden behind TE.TE",
        "CVE-2022-32213; RFC 9112 6.1",
        post(b"Content-Length: 4", CHUNKED, b"Transfer-encoding: cow", body=LAST),
        *EITHER,
    ),
    served(
        "a request hidden in a body stays there",
        "RFC 9112 11.2",
        post(b"Content-Length: %d" % len(NEXT), body=NEXT) + get(line=b"GET /3 HTTP/1.1"),
        Seen(method="POST", body=NEXT),
        Seen("/3"),
    ),
)

CASES: tuple[Case, ...] = (*LENGTHS, *CODINGS, *TOGETHER)
