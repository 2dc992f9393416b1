"""Events: what happened, told as facts that code extracted and text that somebody wrote (design §2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import IntEnum, StrEnum

from kairosd.core.json import Json
from kairosd.frozen import frozen

MAX_TRIES = 5  # design §2: claimed → pending … → dead after 5
FACT_NAME = re.compile(r"[A-Za-z0-9._/-]{1,100}")


class Tier(IntEnum):
    """Trust of an origin; a higher number is trusted more."""

    PUBLIC = 0
    COLLABORATOR = 1
    LOCAL = 2
    OWNER = 3

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, label: str) -> Tier:
        return cls[label.upper()]


class EventState(StrEnum):
    """Where an event is on its way from the inbox to a decision (design §2)."""

    PENDING = "pending"
    CLAIMED = "claimed"
    SETTLED = "settled"
    COALESCED = "coalesced"
    DEAD = "dead"


@frozen
class Draft:
    """An event as a trigger reports it, before the inbox gave it an id.

    `key` is unique per source: the same key reported again is the same event. `body` (SHA-256 hex) is a second unique
    key, for webhooks, whose delivery id is not signed. `facts` hold enums, numbers, SHAs and names; `text` holds what
    a person wrote, of tier `tier`.
    """

    source: str
    kind: str
    key: str
    tier: Tier
    workspace: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    delivery: str | None = None
    body: str | None = None


@frozen
class Event:
    """An event the inbox has made durable. `cause` is the id of what led to it, if anything did."""

    id: str
    source: str
    kind: str
    key: str
    tier: Tier
    workspace: str | None
    facts: Mapping[str, Json]
    text: Mapping[str, str]
    delivery: str | None
    received_at: datetime
    state: EventState
    tries: int
    decision: str | None
    error: str | None = None


@frozen
class Receipt:
    """The inbox's answer: the event's id, and whether it was there already."""

    id: str
    duplicate: bool


def is_fact_name(value: object) -> bool:
    """Whether a repository, branch or file name is plain enough to count as a fact and not as text."""
    return isinstance(value, str) and FACT_NAME.fullmatch(value) is not None


def backoff_seconds(tries: int) -> int:
    """How long an event waits before it is claimed again: 5 s, 20 s, 80 s, 320 s."""
    return int(5 * 4 ** max(0, tries - 1))
