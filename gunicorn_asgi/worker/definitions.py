"""The definitions of our settings: names, defaults with their reasons, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gunicorn_asgi.worker import values

__all__ = ["DEFINITIONS", "Definition"]

# What the command line writes in the place of a value.
_PLACEHOLDERS: dict[Callable[[object], object], str] = {
    values.seconds: "SECONDS",
    values.size: "BYTES",
    values.flag: "BOOL",
    values.count: "COUNT",
    values.level: "LEVEL",
    values.window: "BITS",
    values.rate: "RATE",
    values.forwarded_fields: "LIST",
    values.networks: "LIST",
    values.listener: "ADDRESS",
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
        values.choice("auto", "uvloop", "asyncio"),
        "auto",
        "The event loop. auto takes uvloop where it is installed. Gunicorn's own setting from 24 "
        "on, with the same values.",
    ),
    Definition(
        "asgi_lifespan",
        values.choice("auto", "on", "off"),
        "auto",
        "The ASGI lifespan protocol. auto serves an application that does not know it without; "
        "with on such an application does not start; off never asks. Gunicorn's own setting from "
        "24 on, with the same values.",
    ),
    Definition(
        "asgi_disconnect_grace_period",
        values.seconds,
        3.0,
        "Seconds that an application may run on after its client has left, before its task is "
        "cancelled; 0 cancels at once. Gunicorn's own setting from 25 on, whose default it keeps.",
    ),
    Definition(
        "websocket_max_message_size",
        values.size,
        16 * 1024 * 1024,
        "Largest WebSocket message in bytes; a larger one closes the connection with 1009. 0 is "
        "no limit. Gunicorn's own setting from 26.3 on, whose default it keeps.",
    ),
    Definition(
        "asgi_ws_ping_interval",
        values.seconds,
        20.0,
        "Seconds of silence after which a WebSocket's client gets a Ping. Any byte of the client's "
        "ends the silence. 0 sends none. 20 s is what websockets and uvicorn have, and less than "
        "the idle timeout of the usual proxies.",
    ),
    Definition(
        "asgi_ws_ping_timeout",
        values.seconds,
        20.0,
        "Seconds in which any byte of the client has to follow on a Ping; the WebSocket is closed "
        "with 1011 otherwise. Time in which the application does not read, or the client has not "
        "got the Ping yet, does not count. 0 waits for ever. 20 s is what websockets and uvicorn "
        "have.",
    ),
    Definition(
        "asgi_ws_deflate_level",
        values.level,
        4,
        "How hard WebSocket messages are compressed for clients that offer permessage-deflate, 1 "
        "to 9; 0 does not compress. 1 kB of JSON takes 12 microseconds at level 1, 14 at 4, 19 at "
        "6, for 26, 22 and 21 per cent of its size.",
    ),
    Definition(
        "asgi_ws_deflate_window",
        values.window,
        12,
        "Largest window of permessage-deflate in either direction, as a power of two, and with it "
        "the memory of each WebSocket that has compressed something: 12 KiB at 9, 43 KiB at 12, "
        "295 KiB at 15. 12 compresses messages of usual sizes nearly as well as 15; websockets and "
        "uvicorn have 12 too.",
    ),
    Definition(
        "asgi_ws_deflate_minimum",
        values.size,
        128,
        "Bytes from which on a WebSocket message is compressed. Below them the time is worth more "
        "than what is saved.",
    ),
    Definition(
        "root_path",
        values.mount,
        "",
        "Where the application is mounted, for scope['root_path']; scope['path'] always begins "
        "with it. Gunicorn's own setting from 24 on.",
    ),
    Definition(
        "asgi_drain_linger",
        values.seconds,
        5.0,
        "Seconds that an idle keep-alive connection is kept, at the most, while the worker "
        "drains: a request that arrives on it in time is still answered. The connection's own "
        "keepalive ends it earlier; 5 s covers Gunicorn's default of 2 s and most proxies.",
    ),
    Definition(
        "asgi_boot_timeout",
        values.seconds,
        300.0,
        "Seconds that a worker may take to import the application, to start its lifespan and to "
        "answer asgi_ready_check. One that takes longer has failed to boot; its stack is logged. "
        "0 is no limit. Gunicorn's own timeout does not watch a boot. The default leaves room for "
        "the loading of large models.",
    ),
    Definition(
        "asgi_ready_check",
        values.path,
        "",
        "A path that a new worker asks its own application for, in process, after lifespan "
        "startup. An answer of 500 or more, or none within asgi_boot_timeout, is a failed boot. "
        "Nothing by default: an application that has started is taken for ready.",
    ),
    Definition(
        "asgi_reload_guard",
        values.flag,
        True,
        "Keep serving with the configuration there is if the new one cannot be loaded at HUP. It "
        "replaces one method of Gunicorn's application object; off restores Gunicorn's own way, "
        "which is to end the server.",
    ),
    Definition(
        "asgi_term_delay",
        values.seconds,
        0.0,
        "Seconds that a worker goes on accepting after the server was told to stop, with "
        "Connection: close in every answer. For load balancers and Kubernetes, which learn of the "
        "end later than the server does. Part of graceful_timeout, so it has to be shorter.",
    ),
    Definition(
        "asgi_max_rss",
        values.size,
        0,
        "Resident memory in bytes at which a worker is replaced, as at max_requests. 0 is no "
        "limit.",
    ),
    Definition(
        "asgi_max_age",
        values.seconds,
        0.0,
        "Seconds after which a worker is replaced, as at max_requests, and with as much jitter as "
        "a tenth of it. 0 is no limit.",
    ),
    Definition(
        "asgi_limit_request_body",
        values.size,
        0,
        "Largest request body in bytes, counted while it comes in, without its chunk framing; a "
        "larger one is refused with 413. 0 is no limit, as Gunicorn has none.",
    ),
    Definition(
        "asgi_first_byte_timeout",
        values.seconds,
        30.0,
        "Seconds in which a fresh connection has to send its first byte, or its PROXY header; it "
        "is closed then. 0 is no limit. Puma's first_data_timeout is 30 s too.",
    ),
    Definition(
        "asgi_request_head_timeout",
        values.seconds,
        30.0,
        "Seconds from the first byte of a request to its complete head; 408 then. 0 is no limit. "
        "Kestrel's RequestHeadersTimeout is 30 s too; nginx and Apache allow 60 s and 40 s.",
    ),
    Definition(
        "asgi_body_timeout",
        values.seconds,
        60.0,
        "Seconds in which a client whose request body is awaited has to send asgi_min_data_rate "
        "times as many bytes, over and over; 408 otherwise, or the connection breaks off if the "
        "response has begun. Time in which the application does not read does not count. 0 is no "
        "limit. nginx's client_body_timeout is 60 s too.",
    ),
    Definition(
        "asgi_write_timeout",
        values.seconds,
        60.0,
        "Seconds in which a client has to take asgi_min_data_rate times as many bytes of what "
        "waits for it, over and over; the connection is aborted otherwise. 0 is no limit. nginx's "
        "send_timeout is 60 s too.",
    ),
    Definition(
        "asgi_min_data_rate",
        values.rate,
        240,
        "Bytes per second that asgi_body_timeout and asgi_write_timeout take for progress; 0 "
        "takes a single byte. Kestrel's MinRequestBodyDataRate and MinResponseDataRate are 240 "
        "too.",
    ),
    Definition(
        "asgi_linger_timeout",
        values.seconds,
        5.0,
        "Seconds in which leftovers of a client are read and thrown away after the last answer, "
        "so that closing does not turn into a reset that destroys it. nginx's lingering_timeout "
        "is 5 s too.",
    ),
    Definition(
        "asgi_request_timeout",
        values.seconds,
        0.0,
        "Seconds from a request's turn to the end of its response: then it is answered with 504, "
        "or its connection breaks off if the response has begun, and its task is cancelled. 0 is "
        "no limit, since a long poll or a stream of events is no fault. Of a WebSocket only the "
        "handshake is meant.",
    ),
    Definition(
        "asgi_tls_handshake_timeout",
        values.seconds,
        10.0,
        "Seconds for the TLS handshake; 0 takes the loop's own, which is 60. Kestrel's "
        "HandshakeTimeout is 10 s too.",
    ),
    Definition(
        "asgi_shed_requests",
        values.count,
        0,
        "Requests in flight in a worker from which on further ones are answered with 503 and "
        "Retry-After, without asking the application. WebSocket handshakes too; open WebSockets do "
        "not count. 0 never sheds: how many requests are too many only the application knows.",
    ),
    Definition(
        "asgi_shed_lag",
        values.seconds,
        0.0,
        "Lag of the event loop in seconds from which on requests are shed as with "
        "asgi_shed_requests. It is measured every 0.25 s. 0 never sheds.",
    ),
    Definition(
        "asgi_forwarded_fields",
        values.forwarded_fields,
        (),
        "Further fields that are believed if the peer is in forwarded_allow_ips: a list of "
        "forwarded (RFC 7239, instead of X-Forwarded-For and secure_scheme_headers), "
        "x-forwarded-host, x-forwarded-port, x-forwarded-prefix. None by default: a proxy that "
        "does not overwrite such a field hands on what the client has made up.",
    ),
    Definition(
        "asgi_proxy_protocol_required",
        values.flag,
        False,
        "With proxy_protocol, refuse connections without a PROXY header, and those from outside "
        "proxy_allow_ips. Off by default, as Gunicorn serves such connections; the specification "
        "of the protocol wants it on.",
    ),
    Definition(
        "asgi_request_id_field",
        values.field,
        "x-request-id",
        "The field from which a request's id is taken if the peer is in forwarded_allow_ips; else "
        "the trace id of a traceparent; else one is made. It is in the scope, in the access log "
        "as %({request_id}e)s and in every error line of the request. Nothing: no ids.",
    ),
    Definition(
        "asgi_request_id_response",
        values.flag,
        False,
        "Send the request's id in the response, in the field of asgi_request_id_field.",
    ),
    Definition(
        "asgi_stall_warning",
        values.seconds,
        1.0,
        "Seconds for which something may block the event loop before the error log names its file, "
        "line and function, and the request. 0 is never. asyncio's debug mode warns from 0.1 s on, "
        "which many an application reaches now and then.",
    ),
    Definition(
        "asgi_metrics",
        values.flag,
        True,
        "Count requests by status and latency, bytes, connections, messages and pauses of the "
        "garbage collector. Without it these metrics stay at 0.",
    ),
    Definition(
        "asgi_open_requests",
        values.flag,
        True,
        "Show the requests that each worker is busy with (method, target, id, client) in memory "
        "shared with the master's user, for gunicorn-asgi and the status page, and for the log if "
        "a worker is killed.",
    ),
    Definition(
        "asgi_status_bind",
        values.listener,
        "",
        "An address for the status page, metrics and health checks alone: HOST:PORT or unix:PATH. "
        "It asks for no password, so let it be reached from inside only. Nothing: there is none.",
    ),
    Definition(
        "asgi_status_allow",
        values.networks,
        ("127.0.0.0/8", "::1"),
        "Who may see the status page and the metrics: a list of IP addresses and networks, or *. "
        "Clients of a unix socket always may. Behind a proxy it is the client that counts.",
    ),
    Definition(
        "asgi_tls_reload",
        values.flag,
        True,
        "Take certfile, keyfile and ca_certs into use, for new connections, when they have "
        "changed. A renewal that cannot be loaded is logged, and the certificate before it stays.",
    ),
)
