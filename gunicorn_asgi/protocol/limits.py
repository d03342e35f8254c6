"""The one place where the numbers of a worker live.

Frozen values, made by the process room out of Gunicorn's settings and ours, handed down to
everything below. Seconds and bytes throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DrainSchedule", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Sizes (bytes), counts and deadlines (seconds) of one worker.

    Attributes:
        request_line: longest request line; Gunicorn's ``limit_request_line``, 0 is no limit.
        request_fields: most fields in a head; Gunicorn's ``limit_request_fields``.
        request_field_size: longest field; Gunicorn's ``limit_request_field_size``, 0 is no limit.
        request_body: largest request body; ``asgi_limit_request_body``, 0 is no limit.
        chunk_overhead: what a chunked body may hold, all in all, beyond its data and a fair
            framing of it: chunk extensions, trailers, leading zeros; 16 KiB as in Go's net/http.
        connections: open connections at which accepting stops; Gunicorn's
            ``worker_connections``, 0 is no limit.
        read_buffer: request body bytes held for the application before the socket is no
            longer read. 256 KiB is what Gunicorn's own worker holds; uvicorn's 64 KiB costs half
            the upload throughput.
        write_buffer: response bytes held for a slow reader before ``send()`` waits;
            asyncio's own default for a transport.
        discard_body: request body bytes read and thrown away to keep a connection whose
            application answered without reading; Go's net/http uses the same 256 KiB.
        first_byte: time for the first byte of a fresh connection, or for its PROXY header;
            ``asgi_first_byte_timeout``, 0 is no limit.
        request_head: time from the first byte of a request to its whole head;
            ``asgi_request_head_timeout``, 0 is no limit.
        body: window in which a request body that is awaited has to make progress;
            ``asgi_body_timeout``, 0 is no limit.
        write: window in which a response that waits for its client has to make progress;
            ``asgi_write_timeout``, 0 is no limit.
        min_data_rate: bytes per second that are progress; ``asgi_min_data_rate``, 0 takes a
            single byte.
        keep_alive: idle time between two requests; Gunicorn's ``keepalive``.
        linger: how long leftovers are read after the last answer, so that closing does not
            turn into a reset that destroys it; ``asgi_linger_timeout``.
        request: time from a request's turn to the end of its response;
            ``asgi_request_timeout``, 0 is no limit.
        tls_handshake: time for the TLS handshake; ``asgi_tls_handshake_timeout``, 0 takes the
            loop's own.
        disconnect_grace: how long an application may run on after its client left;
            Gunicorn's ``asgi_disconnect_grace_period``, 0 cancels it at once.
        drain_linger: how long, at the most, an idle connection is kept while draining.
        shed_requests: requests in flight from which on further ones get 503;
            ``asgi_shed_requests``, 0 is no limit.
        shed_lag: lag of the loop from which on requests get 503; ``asgi_shed_lag``, 0 is no limit.
        websocket_message: largest WebSocket message; ``websocket_max_message_size``.
        websocket_deflate_level: how hard messages are compressed, 1 to 9;
            ``asgi_ws_deflate_level``, 0 offers no compression.
        websocket_deflate_minimum: bytes from which on a message is compressed;
            ``asgi_ws_deflate_minimum``.
        websocket_window_bits: largest window of either direction, 9 to 15;
            ``asgi_ws_deflate_window``.
        websocket_ping_interval: silence of the client after which it gets a Ping;
            ``asgi_ws_ping_interval``, 0 sends none.
        websocket_ping_timeout: time for any byte of it after that; ``asgi_ws_ping_timeout``, 0
            waits for ever.
        websocket_control_rate: control frames per second that a client may send, 0 is no limit.
        websocket_close: time for the peer's half of the closing handshake.
        close_spread: over how long a drain closes the WebSockets, so that their clients do not
            all come back at the same moment.
        accept_pause: pause of accepting when descriptors have run out; asyncio waits 1 s too.
    """

    request_line: int = 4094
    request_fields: int = 100
    request_field_size: int = 8190
    request_body: int = 0
    chunk_overhead: int = 16 * 1024
    connections: int = 1000
    read_buffer: int = 256 * 1024
    write_buffer: int = 64 * 1024
    discard_body: int = 256 * 1024
    first_byte: float = 30.0
    request_head: float = 30.0
    body: float = 60.0
    write: float = 60.0
    min_data_rate: int = 240
    keep_alive: float = 2.0
    linger: float = 5.0
    request: float = 0.0
    tls_handshake: float = 10.0
    disconnect_grace: float = 3.0
    drain_linger: float = 5.0
    shed_requests: int = 0
    shed_lag: float = 0.0
    websocket_message: int = 16 * 1024 * 1024
    websocket_deflate_level: int = 4
    websocket_deflate_minimum: int = 128
    websocket_window_bits: int = 12
    websocket_ping_interval: float = 20.0
    websocket_ping_timeout: float = 20.0
    websocket_control_rate: int = 1000
    websocket_close: float = 10.0
    close_spread: float = 2.0
    accept_pause: float = 1.0

    @property
    def head_size(self) -> int:
        """Most bytes of a head that are held while it is not complete.

        A part without a limit of its own counts as 64 KiB for a field, and as 8190 for the line,
        which is Gunicorn's longest: no head is endless.
        """
        field = self.request_field_size or 64 * 1024
        return (self.request_line or 8190) + self.request_fields * (field + 2) + 4


@dataclass(frozen=True)
class DrainSchedule:
    """When, in seconds after a drain began, each kind of leftover is dealt with.

    Gunicorn's arbiter sends SIGKILL ``graceful_timeout`` after its SIGTERM (``Arbiter.stop``),
    so everything, lifespan.shutdown included, has to be over before. The fractions leave
    running requests the larger part, and the application's shutdown a share that cannot be eaten.

    Attributes:
        tell: streams that still run get ``http.disconnect``.
        cancel: what still runs is cancelled.
        stop: whatever is still open is closed; lifespan.shutdown begins at the latest.
        leave: lifespan.shutdown is given up; the process ends.
    """

    tell: float
    cancel: float
    stop: float
    leave: float

    @classmethod
    def graceful(cls, graceful_timeout: float) -> DrainSchedule:
        """The schedule inside Gunicorn's ``graceful_timeout`` (seconds)."""
        leave = max(0.0, graceful_timeout - min(0.5, 0.1 * graceful_timeout))
        return cls(0.6 * leave, 0.75 * leave, 0.85 * leave, leave)

    @classmethod
    def quick(cls) -> DrainSchedule:
        """The schedule of a quick stop (INT, QUIT): everything at once, a short shutdown.

        An arbiter that is asked a second time gives its workers 2 s (``Arbiter.stop``).
        """
        return cls(0.0, 0.0, 0.2, 1.5)
