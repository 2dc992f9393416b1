"""What is forgotten, taken out of what memory keeps as JSON. Loaded when something is to be forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kairosd.core.duplicates import same
from kairosd.core.forgetting import folded, wording

GONE = "[forgotten]"
_WORDS = frozenset({"text", "reason", "speaker", "problems"})  # the fields that somebody has put into words


class Purge:
    """Takes `texts` out."""

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = texts
        self._wordings = [wording(text) for text in texts]

    def of(self, value: Any, *, field: str = "") -> Any:
        """`value` without the texts; of an operation that wrote one also without what else it said of it.

        What another operation wrote stays, as what it wrote does; so does what is no words: ids, keys, workspaces.
        """
        if isinstance(value, dict) and "op" in value:
            if self.wrote(value):
                return {**value, "text": GONE, "key": "", "check": "", "reason": ""}
            return {key: each if key == "text" else self.of(each, field=key) for key, each in value.items()}
        if isinstance(value, dict):
            return {key: self.of(each, field=key) for key, each in value.items()}
        if isinstance(value, list):
            return [self.of(each, field=field) for each in value]
        return GONE if field in _WORDS and isinstance(value, str) and self._is_said(value) else value

    def wrote(self, operation: Mapping[str, Any]) -> bool:
        """Whether that operation is to write one of the texts."""
        written = str(operation.get("text", ""))
        return written != "" and any(_bare(text) == _bare(written) or same(text, written) for text in self._texts)

    def _is_said(self, words: str) -> bool:
        shown = folded(words)
        return any(one.search(shown) for one in self._wordings)


def _bare(text: str) -> str:
    return text.casefold().rstrip(".!?;, ") or text
