"""What a provider's wire protocol has to say for itself; `models.exchange` does the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from kairosd.core.messages import Done, Prompt, StreamPart
from kairosd.frozen import frozen
from kairosd.system.sse import ServerEvent

JsonDict: TypeAlias = dict[str, Any]
Quirks: TypeAlias = frozenset[str]

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@frozen
class Call:
    """One request, ready to be sent. `path` follows the base URL; `headers` may hold the key: never log them."""

    path: str
    headers: Mapping[str, str]
    content: bytes


class Reader(Protocol):
    """Turns the events of one stream into parts; its last part is `Done`."""

    begun: bool  # the model has put out something, be it no whole part yet
    thought: bool  # the model spent tokens on thinking

    def feed(self, event: ServerEvent) -> Iterable[StreamPart]:
        """The parts `event` completes. Raises `ModelError`; `ValueError`, `KeyError`, `TypeError` = malformed."""

    def end(self) -> Done | None:
        """At the end of the bytes without a final event: the end if it is whole all the same, else None (cut)."""


class Dialect(Protocol):
    """A wire protocol. Quirks are what this server's refusals have taught; they change the next request."""

    def call(self, prompt: Prompt, quirks: Quirks) -> Call:
        """The request for `prompt`."""

    def reader(self, prompt: Prompt) -> Reader:
        """A fresh reader for one stream."""

    def learn(self, refusal: str) -> str | None:
        """The quirk that a 400 with this message asks for, if it is a known one."""


def valid_name(text: str) -> str:
    """A name or an id as every provider takes it back; one that another server gave may be empty or hold anything."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", text)[:64] or "unknown"


def written(value: object) -> bytes:
    """`value` as JSON, as it is sent."""
    return _ENCODE(value).encode("utf-8", "replace")


def whole(value: object) -> int | None:
    """A token count, or None for anything else: some servers send null, strings or floats."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
