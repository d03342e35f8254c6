"""Field names, field values and token lists (RFC 9110 section 5)."""

from __future__ import annotations

import re

__all__ = ["bad_field_name", "bad_field_value", "tokens"]

# RFC 9110 5.6.2: token = 1*tchar. fullmatch is spelled by \Z; `$` would allow a final LF.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")

# RFC 9110 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous";
# other control characters but HTAB are refused as well, nothing good is made of them.
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def bad_field_name(name: bytes) -> bool:
    """Whether ``name`` is no token (RFC 9110 section 5.1)."""
    return _TOKEN.match(name) is None


def bad_field_value(value: bytes) -> bool:
    """Whether ``value`` holds CR, LF, NUL or another control character (RFC 9110 section 5.5)."""
    return _BAD_VALUE.search(value) is not None


def tokens(value: bytes) -> list[bytes]:
    """The members of a list (RFC 9110 section 5.6.1), lower-cased, without the empty ones."""
    return [token for part in value.split(b",") if (token := part.strip(b" \t").lower())]
