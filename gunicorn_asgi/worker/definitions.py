"""The definitions of our settings: names, defaults with their reasons, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DEFINITIONS", "FORWARDED_FIELDS", "Definition", "is_field_name"]

# What asgi_forwarded_fields may name: the fields that not every proxy overwrites.
FORWARDED_FIELDS = ("forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")

# RFC 9110 5.6.2: token.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")

# Fields that frame a message, or that the server and the application write: an id in one of them
# would change what the response is.
_OF_HTTP = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "date", "expect"),
        *("host", "keep-alive", "proxy-connection", "server", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)


def is_field_name(name: str) -> bool:
    """Runs in: master. Whether a field of HTTP can have that name."""
    return _TOKEN.match(name) is not None


def _choice(*allowed: str) -> Callable[[object], str]:
    def validate(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError(f"one of {', '.join(allowed)}")

    return validate


def _number(value: object) -> float:
    """``value`` as a number, a negative one if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return -1.0
    try:
        return float(value)
    except (ValueError, OverflowError):
        return -1.0


def _seconds(value: object) -> float:
    seconds = _number(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return seconds


def _size(value: object) -> int:
    size = _number(value)
    if size < 0 or not size.is_integer():
        raise ValueError("a whole number of bytes, 0 or more")
    return int(size)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def _path(value: object) -> str:
    path = value.strip() if isinstance(value, str) else "?"
    if path and not path.startswith("/"):
        raise ValueError('a path that begins with "/", or nothing')
    return path


def _mount(value: object) -> str:
    return _path(value).rstrip("/")


def _count(value: object) -> int:
    count = _number(value)
    if count < 0 or not count.is_integer():
        raise ValueError("a whole number, 0 or more")
    return int(count)


def _within(lowest: int, highest: int) -> Callable[[object], int]:
    def validate(value: object) -> int:
        number = _number(value)
        if number.is_integer() and lowest <= number <= highest:
            return int(number)
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return validate


_level = _within(0, 9)
_window = _within(9, 15)


def _rate(value: object) -> int:
    rate = _number(value)
    if rate < 0 or not rate.is_integer():
        raise ValueError("a whole number of bytes per second, 0 or more")
    return int(rate)


def _field(value: object) -> str:
    name = value.strip().lower() if isinstance(value, str) else "?:"
    if name and (not is_field_name(name) or name in _OF_HTTP):
        raise ValueError("a field name that HTTP itself has no use for, or nothing")
    return name


def _forwarded_fields(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)) and all(isinstance(each, str) for each in parts):
        names = tuple(each.strip().lower() for each in parts if each.strip())
        if set(names) <= set(FORWARDED_FIELDS):
            return names
    raise ValueError(f"a list of {', '.join(FORWARDED_FIELDS)}")


# What the command line writes in the place of a value.
_PLACEHOLDERS: dict[Callable[[object], object], str] = {
    _seconds: "SECONDS",
    _size: "BYTES",
    _flag: "BOOL",
    _count: "COUNT",
    _level: "LEVEL",
    _window: "BITS",
    _rate: "RATE",
    _forwarded_fields: "LIST",
}


@dataclass(frozen=True)
class Definition:
    """Runs in: master. One setting.

    Attributes:
        name: as in a config file.
        validate: turns a value, a str if it comes from the environment, into the right type;
            raises ValueError with a text that completes "... is not ".
        default: and why it is that, is said in ``description``.
        description: for the reference.
        since: the version that brought it.
    """

    name: str
    validate: Callable[[object], object]
    default: object
    description: str
    since: str = "0.1.0"

    @property
    def variable(self) -> str:
        """Runs in: master. The environment variable that sets it."""
        return "GUNICORN_" + self.name.upper()

    @property
    def placeholder(self) -> str:
        """Runs in: command line. What stands for its value in ``--help``."""
        return _PLACEHOLDERS.get(self.validate, "STRING")


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "asgi_loop",
        _choice("auto", "uvloop", "asyncio"),
        "auto",
        "The event loop. auto takes uvloop where it is installed. Gunicorn's own setting from 24 "
        "on, with the same values.",
    ),
    Definition(
        "asgi_lifespan",
        _choice("auto", "on", "off"),
        "auto",
        "The ASGI lifespan protocol. auto serves an application that does not know it without; "
        "with on such an application does not start; off never asks. Gunicorn's own setting from "
        "24 on, with the same values.",
    ),
    Definition(
        "asgi_disconnect_grace_period",
        _seconds,
        3.0,
        "Seconds that an application may run on after its client has left, before its task is "
        "cancelled; 0 cancels at once. Gunicorn's own setting from 25 on, whose default it keeps.",
    ),
    Definition(
        "websocket_max_message_size",
        _size,
        16 * 1024 * 1024,
        "Largest WebSocket message in bytes; a larger one closes the connection with 1009. 0 is "
        "no limit. Gunicorn's own setting from 26.3 on, whose default it keeps.",
    ),
    Definition(
        "asgi_ws_ping_interval",
        _seconds,
        20.0,
        "Seconds of silence after which a WebSocket's client gets a Ping. Any byte of the client's "
        "ends the silence. 0 sends none. 20 s is what websockets and uvicorn have, and less than "
        "the idle timeout of the usual proxies.",
    ),
    Definition(
        "asgi_ws_ping_timeout",
        _seconds,
        20.0,
        "Seconds in which any byte of the client has to follow on a Ping; the WebSocket is closed "
        "with 1011 otherwise. Time in which the application does not read, or the client has not "
        "got the Ping yet, does not count. 0 waits for ever. 20 s is what websockets and uvicorn "
        "have.",
    ),
    Definition(
        "asgi_ws_deflate_level",
        _level,
        4,
        "How hard WebSocket messages are compressed for clients that offer permessage-deflate, 1 "
        "to 9; 0 does not compress. 1 kB of JSON takes 12 microseconds at level 1, 14 at 4, 19 at "
        "6, for 26, 22 and 21 per cent of its size.",
    ),
    Definition(
        "asgi_ws_deflate_window",
        _window,
        12,
        "Largest window of permessage-deflate in either direction, as a power of two, and with it "
        "the memory of each WebSocket that has compressed something: 12 KiB at 9, 43 KiB at 12, "
        "295 KiB at 15. 12 compresses messages of usual sizes nearly as well as 15; websockets and "
        "uvicorn have 12 too.",
    ),
    Definition(
        "asgi_ws_deflate_minimum",
        _size,
        128,
        "Bytes from which on a WebSocket message is compressed. Below them the time is worth more "
        "than what is saved.",
    ),
    Definition(
        "root_path",
        _mount,
        "",
        "Where the application is mounted, for scope['root_path']; scope['path'] always begins "
        "with it. Gunicorn's own setting from 24 on.",
    ),
    Definition(
        "asgi_drain_linger",
        _seconds,
        5.0,
        "Seconds that an idle keep-alive connection is kept, at the most, while the worker "
        "drains: a request that arrives on it in time is still answered. The connection's own "
        "keepalive ends it earlier; 5 s covers Gunicorn's default of 2 s and most proxies.",
    ),
    Definition(
        "asgi_boot_timeout",
        _seconds,
        300.0,
        "Seconds that a worker may take to import the application, to start its lifespan and to "
        "answer asgi_ready_check. One that takes longer has failed to boot; its stack is logged. "
        "0 is no limit. Gunicorn's own timeout does not watch a boot. The default leaves room for "
        "the loading of large models.",
    ),
    Definition(
        "asgi_ready_check",
        _path,
        "",
        "A path that a new worker asks its own application for, in process, after lifespan "
        "startup. An answer of 500 or more, or none within asgi_boot_timeout, is a failed boot. "
        "Nothing by default: an application that has started is taken for ready.",
    ),
    Definition(
        "asgi_reload_guard",
        _flag,
        True,
        "Keep serving with the configuration there is if the new one cannot be loaded at HUP. It "
        "replaces one method of Gunicorn's application object; off restores Gunicorn's own way, "
        "which is to end the server.",
    ),
    Definition(
        "asgi_term_delay",
        _seconds,
        0.0,
        "Seconds that a worker goes on accepting after the server was told to stop, with "
        "Connection: close in every answer. For load balancers and Kubernetes, which learn of the "
        "end later than the server does. Part of graceful_timeout, so it has to be shorter.",
    ),
    Definition(
        "asgi_max_rss",
        _size,
        0,
        "Resident memory in bytes at which a worker is replaced, as at max_requests. 0 is no "
        "limit.",
    ),
    Definition(
        "asgi_max_age",
        _seconds,
        0.0,
        "Seconds after which a worker is replaced, as at max_requests, and with as much jitter as "
        "a tenth of it. 0 is no limit.",
    ),
    Definition(
        "asgi_limit_request_body",
        _size,
        0,
        "Largest request body in bytes, counted while it comes in, without its chunk framing; a "
        "larger one is refused with 413. 0 is no limit, as Gunicorn has none.",
    ),
    Definition(
        "asgi_first_byte_timeout",
        _seconds,
        30.0,
        "Seconds in which a fresh connection has to send its first byte, or its PROXY header; it "
        "is closed then. 0 is no limit. Puma's first_data_timeout is 30 s too.",
    ),
    Definition(
        "asgi_request_head_timeout",
        _seconds,
        30.0,
        "Seconds from the first byte of a request to its complete head; 408 then. 0 is no limit. "
        "Kestrel's RequestHeadersTimeout is 30 s too; nginx and Apache allow 60 s and 40 s.",
    ),
    Definition(
        "asgi_body_timeout",
        _seconds,
        60.0,
        "Seconds in which a client whose request body is awaited has to send asgi_min_data_rate "
        "times as many bytes, over and over; 408 otherwise, or the connection breaks off if the "
        "response has begun. Time in which the application does not read does not count. 0 is no "
        "limit. nginx's client_body_timeout is 60 s too.",
    ),
    Definition(
        "asgi_write_timeout",
        _seconds,
        60.0,
        "Seconds in which a client has to take asgi_min_data_rate times as many bytes of what "
        "waits for it, over and over; the connection is aborted otherwise. 0 is no limit. nginx's "
        "send_timeout is 60 s too.",
    ),
    Definition(
        "asgi_min_data_rate",
        _rate,
        240,
        "Bytes per second that asgi_body_timeout and asgi_write_timeout take for progress; 0 "
        "takes a single byte. Kestrel's MinRequestBodyDataRate and MinResponseDataRate are 240 "
        "too.",
    ),
    Definition(
        "asgi_linger_timeout",
        _seconds,
        5.0,
        "Seconds in which leftovers of a client are read and thrown away after the last answer, "
        "so that closing does not turn into a reset that destroys it. nginx's lingering_timeout "
        "is 5 s too.",
    ),
    Definition(
        "asgi_request_timeout",
        _seconds,
        0.0,
        "Seconds from a request's turn to the end of its response: then it is answered with 504, "
        "or its connection breaks off if the response has begun, and its task is cancelled. 0 is "
        "no limit, since a long poll or a stream of events is no fault. Of a WebSocket only the "
        "handshake is meant.",
    ),
    Definition(
        "asgi_tls_handshake_timeout",
        _seconds,
        10.0,
        "Seconds for the TLS handshake; 0 takes the loop's own, which is 60. Kestrel's "
        "HandshakeTimeout is 10 s too.",
    ),
    Definition(
        "asgi_shed_requests",
        _count,
        0,
        "Requests in flight in a worker from which on further ones are answered with 503 and "
        "Retry-After, without asking the application. WebSocket handshakes too; open WebSockets do "
        "not count. 0 never sheds: how many requests are too many only the application knows.",
    ),
    Definition(
        "asgi_shed_lag",
        _seconds,
        0.0,
        "Lag of the event loop in seconds from which on requests are shed as with "
        "asgi_shed_requests. It is measured every 0.25 s. 0 never sheds.",
    ),
    Definition(
        "asgi_forwarded_fields",
        _forwarded_fields,
        (),
        "Further fields that are believed if the peer is in forwarded_allow_ips: a list of "
        "forwarded (RFC 7239, instead of X-Forwarded-For and secure_scheme_headers), "
        "x-forwarded-host, x-forwarded-port, x-forwarded-prefix. None by default: a proxy that "
        "does not overwrite such a field hands on what the client has made up.",
    ),
    Definition(
        "asgi_proxy_protocol_required",
        _flag,
        False,
        "With proxy_protocol, refuse connections without a PROXY header, and those from outside "
        "proxy_allow_ips. Off by default, as Gunicorn serves such connections; the specification "
        "of the protocol wants it on.",
    ),
    Definition(
        "asgi_request_id_field",
        _field,
        "x-request-id",
        "The field from which a request's id is taken if the peer is in forwarded_allow_ips; else "
        "the trace id of a traceparent; else one is made. It is in the scope, in the access log "
        "as %({request_id}e)s and in every error line of the request. Nothing: no ids.",
    ),
    Definition(
        "asgi_request_id_response",
        _flag,
        False,
        "Send the request's id in the response, in the field of asgi_request_id_field.",
    ),
    Definition(
        "asgi_tls_reload",
        _flag,
        True,
        "Take certfile, keyfile and ca_certs into use, for new connections, when they have "
        "changed. A renewal that cannot be loaded is logged, and the certificate before it stays.",
    ),
)
