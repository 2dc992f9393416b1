"""Column types: how a value of the core lies in SQLite, readable with any SQLite shell."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum, IntEnum
from typing import cast

from sqlalchemy import Dialect, String, Text, TypeDecorator

from kairosd.core.journal import stamp
from kairosd.core.json import Json, canonical
from kairosd.core.texts import encodable


class Words(TypeDecorator[str]):
    """Text that somebody else wrote."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else encodable(value)


class Moment(TypeDecorator[datetime]):
    """An aware moment as UTC text that sorts by time, in the journal's own form."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else stamp(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Document(TypeDecorator[Json]):
    """A JSON value in its canonical form; a float is refused with `ValueError`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str | None:
        return None if value is None else encodable(canonical(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Json:
        return None if value is None else cast("Json", json.loads(value))


class Documents(TypeDecorator[tuple[Json, ...]]):
    """A JSON array that comes back as a tuple."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Json, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else encodable(canonical(list(value)))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Json, ...] | None:
        return None if value is None else tuple(json.loads(value))


class Label(TypeDecorator[Enum]):
    """A member of `kind` by its word: the value of a string enum, the name of a ranked one."""

    impl = String
    cache_ok = True

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Enum | str | None, dialect: Dialect) -> str | None:
        if isinstance(value, IntEnum):
            return value.name.lower()
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Enum | None:
        if value is None:
            return None
        return self.kind[value.upper()] if issubclass(self.kind, IntEnum) else self.kind(value)
