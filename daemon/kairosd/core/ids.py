"""Ids: a letter for the kind, an underscore and 26 characters that sort by time.

The 26 characters are a ULID (48 bits of milliseconds, 80 of randomness) in Crockford's base 32, in lower case.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)  # half as many steps for an id
_SHIFTS = tuple(range((_LENGTH - 2) * 5, -1, -10))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def mint(kind: str, now: datetime) -> str:
    """A new id of `kind` (one letter of `e d r c a n g t`) for the moment `now`."""
    milliseconds = (now - EPOCH) // _MILLISECOND  # exact; a float loses a millisecond now and then
    value = (milliseconds << 80) | secrets.randbits(80)
    return f"{kind}_{encode(value)}"


def encode(value: int) -> str:
    """`value` (128 bits) as 26 characters that sort like the number."""
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def is_id(text: str, kind: str | None = None) -> bool:
    """Whether `text` is an id or the start of one (at least the letter and the underscore)."""
    head, underscore, rest = text.partition("_")
    return (
        bool(underscore)
        and (head == kind if kind else head in set("edrcangt"))
        and len(rest) <= _LENGTH
        and all(character in _ALPHABET for character in rest)
    )
