"""Looks for inputs that break a promise, for so many seconds; called by `make fuzz`.

Every target gets its turn, with other seeds each time. What fails is made small by hypothesis and
saved in the corpus, where the normal tests find it again. The exit status is 1 if that happens.
"""

from __future__ import annotations

import hashlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.inputs import CORPUS, TARGETS, Check

__all__ = ["attempt", "main"]

EXAMPLES = 200
# Seconds for one input, by far: what takes longer does not end.
TOO_LONG = 20

_settings = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def _hangs(number: int, frame: object) -> None:
    raise TimeoutError(f"one input has taken {TOO_LONG} s")


def timed(check: Check) -> Check:
    """``check``, and that it ends; in the main thread, with the signal handler of ``main``."""

    def within(data: bytes, cuts: Sequence[int]) -> None:
        signal.alarm(TOO_LONG)
        try:
            check(data, cuts)
        finally:
            signal.alarm(0)

    return within


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def attempt(
    check: Check, inputs: st.SearchStrategy[bytes], seed: int
) -> tuple[bytes, list[int], str] | None:
    """One round: the smallest input that fails, its cuts, and how; None if none does."""
    failed: list[tuple[bytes, list[int]]] = []

    @hypothesis.seed(seed)
    @_settings
    @given(inputs, st.lists(st.integers(1, 400), max_size=4))
    def once(data: bytes, cuts: list[int]) -> None:
        try:
            check(data, cuts)
        except BaseException:
            failed.append((data, cuts))
            raise

    try:
        once()
    except KeyboardInterrupt:
        raise
    except BaseException:  # an ExceptionGroup if there are several
        if not failed:
            raise
        data, cuts = failed[-1]  # hypothesis ends with the smallest
        return data, cuts, traceback.format_exc()
    return None


def save(target: str, data: bytes, cuts: Sequence[int]) -> str:
    """Put it into the corpus; its name."""
    name = "found-" + hashlib.sha256(data).hexdigest()[:12]
    within = sorted({cut for cut in cuts if 0 < cut < len(data)})
    if within:
        name += "@" + ",".join(map(str, within))
    (CORPUS / target / name).write_bytes(data)
    return name


def main(seconds: float) -> int:
    """Run for about so many seconds (at the least one round of each target); how many failed."""
    signal.signal(signal.SIGALRM, _hangs)
    end = time.monotonic() + seconds
    rounds, found = 0, 0
    while rounds < len(TARGETS) or time.monotonic() < end:
        name = list(TARGETS)[rounds % len(TARGETS)]
        target = TARGETS[name]
        rounds += 1
        failure = attempt(timed(target.check), target.inputs, random.getrandbits(64))
        if failure is not None:
            data, cuts, text = failure
            found += 1
            say(f"{text}\n{name}: {data!r}, cut at {cuts}: saved as {save(name, data, cuts)}")
    say(f"{rounds} rounds of {EXAMPLES} inputs, {found} failures")
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])) > 0)
