"""What the tests with hypothesis share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["FUZZ", "VALUES", "glued"]

# The same examples in every run: what fails here fails for everybody, and no clock decides.
FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

# Whatever a field's value can be once the parser has let it pass, and a bit more.
VALUES = st.binary(max_size=80)


def glued(*pieces: bytes) -> st.SearchStrategy[bytes]:
    """Values made of ``pieces`` and of single bytes: near to what is valid, mostly next to it."""
    piece = st.sampled_from(pieces) | st.binary(min_size=1, max_size=1)
    return st.lists(piece, max_size=12).map(b"".join)
