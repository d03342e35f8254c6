"""A worker's memory: what the collector looks at, and what the C library keeps.

glibc gives memory back to the kernel from a size on that it learns: M_MMAP_THRESHOLD, 128 KiB at
first, and M_TRIM_THRESHOLD, twice as much, both up to the largest block that was ever freed
(mallopt(3), "dynamic mmap threshold"). The bytes of one read are 250 KiB, so nearly each of them is
given back and asked for again: for an upload of 1 MB half of the time went to page faults.
"""

from __future__ import annotations

import gc

__all__ = ["begin", "collect_less_often", "freeze", "keep_freed_memory"]

# Bytes. Twice as much may stay resident on top of what is in use.
_BLOCK = 8 * 1024 * 1024

# New objects after which the collector looks at them; what Python begins with, by version.
_OBJECTS = 5000
_DEFAULTS = (700, 2000)


def begin() -> None:
    """Runs in: worker. Right after the fork."""
    freeze()
    collect_less_often()
    keep_freed_memory()


def freeze() -> None:
    """Runs in: worker. What was loaded so far will never be garbage: spare the collector the look.

    That keeps the pages of before the fork shared with the master, 4 MB of them and much more with
    ``preload_app``, and makes collections of everything short.
    """
    gc.freeze()


def collect_less_often() -> None:
    """Runs in: worker. Have the collector look at new objects after 5,000 of them.

    64 requests in one turn of the loop make so many that it would look in each turn, at what is
    over a moment later: 6% of the time of a small request. Whoever has set a threshold keeps it.
    """
    first, *others = gc.get_threshold()
    if first in _DEFAULTS:
        gc.set_threshold(_OBJECTS, *others)


def keep_freed_memory() -> None:
    """Runs in: worker. Let glibc learn that blocks of up to 8 MiB come again and again.

    By freeing one, which has never been touched and so costs no memory. An operator who has set
    MALLOC_MMAP_THRESHOLD_ or MALLOC_TRIM_THRESHOLD_ keeps that: glibc learns nothing then. Other C
    libraries do as they like.
    """
    bytes(_BLOCK)
