"""What is kept of an exchange with a model: the answer word for word, of the prompt only hashes, section by section."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict

from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.messages import Message, Prompt

FORMAT = 1
HASH_LENGTH = 16  # hex digits: told apart are a few thousand prompts a day, not forgeries
SECTIONS = ("system", "tools", "form", "earlier messages", "last message", "max_tokens")


def mark(value: object) -> str:
    """A short hash of anything that JSON can say; what it cannot say counts by its words."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:HASH_LENGTH]


def marks(prompt: Prompt) -> JsonObject:
    """The hash of each section of a prompt."""
    memo = prompt.memo
    messages = memo.grown(_Marks, prompt.messages, begin=_Marks)
    return {
        "system": memo.once("system's mark", prompt.system, make=lambda: mark(prompt.system)),
        "tools": memo.once("tools' mark", prompt.tools, make=lambda: mark([asdict(tool) for tool in prompt.tools])),
        "form": mark(asdict(form)) if (form := prompt.form or prompt.block) else "",
        "earlier messages": messages.earlier,
        "last message": messages.last,
        "max_tokens": prompt.max_tokens,
    }


def changed_sections(recorded: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """The sections whose hashes differ, in the order in which a prompt has them."""
    return [name for name in SECTIONS if recorded.get(name) != now.get(name)]


def scrubbed(value: Json, scrub: Callable[[str], str]) -> Json:
    """`value` with every text in it passed through `scrub`."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {key: scrubbed(item, scrub) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(item, scrub) for item in value]
    return value


class _Marks:
    """The mark of the last message, and that of the list of all before it: as `mark` makes it, and added to."""

    def __init__(self) -> None:
        self.last = ""
        self._list = hashlib.sha256(b"[")
        self._separator = ""

    @property
    def earlier(self) -> str:
        whole = self._list.copy()
        whole.update(b"]")
        return whole.hexdigest()[:HASH_LENGTH]

    def take(self, message: Message) -> None:
        if self.last:
            self._list.update(f'{self._separator}"{self.last}"'.encode("ascii"))
            self._separator = ", "
        self.last = mark(_said(message))


def _said(message: Message) -> Json:
    uses: list[Json] = [[use.id, use.name, without_floats(use.arguments)] for use in message.uses]
    results: list[Json] = [[each.id, each.text, each.error] for each in message.results]
    return [message.role, message.words, uses, results]
