"""Typed reading of a TOML table: every complaint names its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def text(table: Mapping[str, object], key: str) -> str:
    """A string; "" where the key is missing. Raises `ValueError`, as all of these do."""
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string")
    return value


def words(table: Mapping[str, object], key: str) -> frozenset[str]:
    """The words of a string, each once."""
    words = text(table, key).split()
    if twice := {word for word in words if words.count(word) > 1}:
        raise ValueError(f"{key}: {min(twice)} is listed twice")
    return frozenset(words)


def switch(table: Mapping[str, object], key: str) -> bool:
    """A boolean; false where the key is missing."""
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false")
    return value


def mapping(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A table; an empty one where the key is missing."""
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a table")
    return value


def tables(table: Mapping[str, object], key: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The tables within a table."""
    found = mapping(table, key)
    return ((name, mapping(found, name)) for name in found)


def strings(table: Mapping[str, object], key: str) -> dict[str, str]:
    """A table of strings."""
    found = mapping(table, key)
    return {name: text(found, name) for name in found}
