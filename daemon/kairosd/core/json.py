"""The JSON values Kairos stores: no floats, so that a line has exactly one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | str | Sequence[Json] | Mapping[str, Json]"
JsonObject: TypeAlias = Mapping[str, Json]


# A circle needs no second guard: looking for floats ends in one before the encoder begins.
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode
_PLAIN = frozenset({str, int, bool, type(None)})


class Encoded(str):
    """A JSON value in its canonical form already. Only where it stands alone: inside another it would be a string."""

    __slots__ = ()


def canonical(value: Json) -> str:
    """The one form of `value`: keys sorted, no spaces, UTF-8 kept as it is. Raises `ValueError` on a float."""
    if isinstance(value, str):
        return value if isinstance(value, Encoded) else encode_basestring(value)
    _refuse_floats(value)
    return _ENCODE(value)


def digest(value: Json) -> str:
    """SHA-256 (hex) of the canonical form of `value`."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def without_floats(value: object) -> Json:
    """`value` (parsed JSON of a stranger's) with whole floats as integers and the others as text."""
    if isinstance(value, Mapping):
        return {str(key): without_floats(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_floats(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _refuse_floats(value: Json) -> None:
    if isinstance(value, float):
        raise ValueError("a float has no canonical form: store an integer of a smaller unit")
    items: Iterable[Json] = ()
    if isinstance(value, (dict, Mapping)):  # the second alone is slow to ask for
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        if type(item) not in _PLAIN:
            _refuse_floats(item)
