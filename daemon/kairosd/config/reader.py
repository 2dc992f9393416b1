"""From the tables of a document to sections; what does not fit becomes a problem of the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kairosd.config.document import Document, KeyPath, nearest
from kairosd.config.sections import RuleSection, Section, TriggersSection

S = TypeVar("S", bound=Section)

_WITHIN: Mapping[object, type[Section]] = {"rules": RuleSection, "triggers": TriggersSection}
_EXPECTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
}
_NAMES = {str: "text", bool: "true or false", int: "a number", float: "a fraction", tuple: "a list", dict: "a table"}


class Reader:
    """Takes a document apart."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def section(self, kind: type[S], path: KeyPath) -> S | None:
        """The table at `path` as a `kind`, with defaults where it is absent. None = it has problems (noted)."""
        table = self.table(path)
        if table is None:
            return None
        try:
            return kind.model_validate(_plain(table))
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                self._explain(kind, path, detail=detail)
        if any(detail["type"] != "extra_forbidden" or len(detail["loc"]) > 1 for detail in details):
            return None
        # Without the keys nobody knows the rest can still be judged, so that the owner hears everything at once.
        return kind.model_validate(_plain({key: table[key] for key in kind.model_fields if key in table}))

    def table(self, path: KeyPath) -> Mapping[str, object] | None:
        """The table at `path`, empty where it is absent; None (and a problem) where something else stands there."""
        value: object = self.document.data
        for part in path:
            if isinstance(part, int) and isinstance(value, list):
                value = value[part]
            elif isinstance(value, Mapping):
                value = value.get(str(part), {})
        if isinstance(value, Mapping):
            return value
        self.document.problem(path, f"must be a table, not {_name(value)}")
        return None

    def count(self, name: str) -> int:
        """How many `[[name]]` there are."""
        value = self.document.data.get(name, [])
        if isinstance(value, list):
            return len(value)
        self.document.problem((name,), f"must be a list of tables: write [[{name}]]")
        return 0

    def unknown(self, path: KeyPath, known: Iterable[str], *, what: str) -> None:
        """Notes every key at `path` that is not in `known`."""
        options = list(known)
        for key in self.table(path) or {}:
            if key not in options:
                self._unknown((*path, key), options, what=what)

    def _unknown(self, path: KeyPath, options: list[str], *, what: str) -> None:
        near = nearest(path[-1], options)
        listed = "" if near else f"; known here: {', '.join(options)}"
        self.document.problem(path, f"unknown {what}{listed}", nearest=near)

    def _explain(self, kind: type[Section], path: KeyPath, *, detail: ErrorDetails) -> None:
        where = (*path, *detail["loc"])
        context = detail.get("ctx", {})
        match detail["type"]:
            case "extra_forbidden":
                holder = _WITHIN.get(detail["loc"][0], kind) if len(detail["loc"]) > 1 else kind
                self._unknown(where, list(holder.model_fields), what="key")
            case "missing":
                self.document.problem(where, "is required")
            case "literal_error":
                text = str(context.get("expected", "")).replace("'", '"')
                options = [option.strip('"') for option in text.replace(" or ", ", ").split(", ")]
                near = nearest(detail["input"], options)
                self.document.problem(where, f"must be one of {text}", nearest=near)
            case "greater_than_equal":
                self.document.problem(where, f"must be at least {context['ge']}")
            case "less_than_equal":
                self.document.problem(where, f"must be at most {context['le']}")
            case other:
                expected = _EXPECTED.get(other)
                found = _name(detail["input"])
                self.document.problem(where, f"must be {expected}, not {found}" if expected else detail["msg"])


def _name(value: object) -> str:
    return _NAMES.get(type(value), "that")


def _plain(value: object) -> object:
    """Lists as tuples, which frozen sections hold; TOML's own dates and times as the text they were written as."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value.isoformat() if isinstance(value, (datetime, date, time)) else value
