"""protocol/masking.py: XOR with a key of four bytes, by the helper in C and without it."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask as in_c

from gunicorn_asgi.protocol import masking
from protocol.fuzz import FUZZ

__all__: list[str] = []

Mask = Callable[[bytes | memoryview, bytes], bytes]
# All small ones, the borders of RFC 6455 5.2, and some large ones.
SIZES = [*range(1101), 2047, 4096, 65_535, 65_536, 65_537, 300_001]
DATA = random.Random(6455).randbytes(max(SIZES))
KEYS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"\0\0\0\x80", b"\x37\xfa\x21\x3d"]


def imported_anew() -> ModuleType:
    """Another copy of the module."""
    spec = importlib.util.spec_from_file_location("masking_anew", masking.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["with the helper", "without the helper"])
def mask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mask:
    """The function of a process that has the websockets package, and of one that has not."""
    helped = request.param == "with the helper"
    if not helped:
        # What `import` finds then: ImportError, as without the package or its compiled part.
        monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    module = imported_anew()
    assert (module.apply_mask is in_c) is helped
    function: Mask = module.apply_mask
    return function


def bytewise(data: bytes, key: bytes) -> bytes:
    """RFC 6455 5.3, as it stands there."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(data))


@pytest.mark.parametrize("key", KEYS, ids=[key.hex() for key in KEYS])
def test_every_size_is_masked_byte_by_byte(mask: Mask, key: bytes) -> None:
    """Also with zeros at both ends, and out of a view."""
    expected = bytewise(DATA, key)
    for size in SIZES:
        assert mask(DATA[:size], key) == expected[:size], size
        assert mask(bytes(size), key) == bytewise(bytes(size), key), size
        assert mask(memoryview(DATA)[1 : size + 1], key) == bytewise(DATA[1 : size + 1], key), size


def test_masking_twice_is_nothing(mask: Mask) -> None:
    """XOR is its own inverse, and what comes out are bytes."""
    for size in (0, 3, 1024, 1025, 70_000):
        masked = mask(DATA[:size], b"\x37\xfa\x21\x3d")
        assert type(masked) is bytes
        assert mask(masked, b"\x37\xfa\x21\x3d") == DATA[:size]


def test_the_example_of_the_rfc() -> None:
    """RFC 6455 5.7: a single-frame masked text message, "Hello"."""
    assert masking.apply_mask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@FUZZ
@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
def test_both_ways_agree(data: bytes, key: bytes) -> None:
    """Whatever the bytes are."""
    assert masking._xor(data, key) == in_c(data, key) == masking.apply_mask(data, key)
