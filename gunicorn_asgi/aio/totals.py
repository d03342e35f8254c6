"""What a worker counts beside its requests: plain numbers, which somebody else publishes."""

from __future__ import annotations

__all__ = ["Totals"]


class Totals:
    """Counted since the worker began. They only grow.

    Attributes:
        accepted: connections taken from the listeners.
        refused_connections: those that ended before they were one: TLS, PROXY header.
        refused_requests: those that were no HTTP, and so never had a head.
        shed_requests: those answered with 503 in place of the application.
        bytes_received, bytes_sent: of bodies; of WebSockets, frames.
        websockets_opened: accepted ones.
        messages_received, messages_sent: of WebSockets that are over.
    """

    __slots__ = (
        "accepted",
        "bytes_received",
        "bytes_sent",
        "messages_received",
        "messages_sent",
        "refused_connections",
        "refused_requests",
        "shed_requests",
        "websockets_opened",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.refused_connections = 0
        self.refused_requests = 0
        self.shed_requests = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.websockets_opened = 0
        self.messages_received = 0
        self.messages_sent = 0
