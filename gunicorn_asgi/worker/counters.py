"""Which number of a slot's counters counts what.

Counters only grow, and outlive the worker: the next one in the slot goes on where the last one has
ended, so a sum over all slots never goes down while the master lives.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["BOUNDS", "BUCKETS", "CLASSES", "COUNTERS", "Counter", "request_cell", "sum_cell"]

# Upper bounds (seconds) of the buckets of latency; the last bucket has none. Those of the
# Prometheus client libraries, with 1 ms in front and longer ones behind.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BUCKETS = len(BOUNDS) + 1

# Requests by status; in place of 0xx those whose client left before the response was complete.
CLASSES = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")

# One class after the other: its buckets, and the sum of their seconds (microseconds).
_STRIDE = BUCKETS + 1

# Cells of a slot.
COUNTERS = 128


class Counter(IntEnum):
    """Runs in: master and worker. Cells behind the requests by class and bucket."""

    BYTES_RECEIVED = 97
    BYTES_SENT = 98
    CONNECTIONS_ACCEPTED = 99
    CONNECTIONS_REFUSED = 100
    REQUESTS_REFUSED = 101
    REQUESTS_SHED = 102
    WEBSOCKETS_OPENED = 103
    WEBSOCKET_MESSAGES_RECEIVED = 104
    WEBSOCKET_MESSAGES_SENT = 105
    GC_COLLECTIONS = 106
    GC_PAUSE_US = 107
    STALLS = 108
    STALLED_US = 109
    BOOTS = 110
    BOOT_FAILURES = 111


def request_cell(row: int, bucket: int) -> int:
    """Runs in: master and worker. The cell of class ``CLASSES[row]`` and a bucket."""
    return row * _STRIDE + bucket


def sum_cell(row: int) -> int:
    """Runs in: master and worker. The cell with the time (microseconds) of all in a class."""
    return row * _STRIDE + BUCKETS
