"""worker/heap.py: freed memory that is kept for the next request."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

__all__: list[str] = []

# Counts the page faults of blocks that are allocated, touched and freed, again and again.
SCRIPT = """
import resource, sys
from gunicorn_asgi.worker.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(50):
    blocks = [b"x" * 250_000 for _ in range(16)]
    before = before if _ > 5 else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of a process of its own, which learns from what it has freed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    env["PYTHONMALLOC"] = "pymalloc"
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_the_memory_of_a_read_is_not_given_back_for_the_next_one() -> None:
    """4 MB in 16 blocks: 970 faults each time, or next to none."""
    assert faults("kept") * 10 < faults("given back")
