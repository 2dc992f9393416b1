"""Decisions: whether to act. Every one is recorded, also "no", with its reason and its price."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject
from kairosd.frozen import frozen

GOAL_MAX = 600
REASON_MAX = 600
WAKE_MAX_SECONDS = 7 * 86400


class Verdict(StrEnum):
    """`asked` and `unusable` are states of the record; the other four are answers."""

    ASKED = "asked"
    ACT = "act"
    NOTIFY = "notify"
    WAIT = "wait"
    IGNORE = "ignore"
    UNUSABLE = "unusable"


ANSWERS = (Verdict.ACT, Verdict.NOTIFY, Verdict.WAIT, Verdict.IGNORE)


@frozen
class Decision:
    """One look at a batch. `price` in micro-dollars (None = the model's price is unknown), `confidence` in percent.

    `shadow` marks a verdict that was recorded and not followed. `fingerprint` is the world's, taken before the model
    was asked, so that a change during the call is seen by the next look. `model` is the one whose answer it is, and
    `escalated` says why that one was asked after the cheap one (empty = it was not).
    """

    id: str
    workspace: str | None
    tier: Tier
    verdict: Verdict
    reason: str
    goal: str
    confidence: int
    price: int | None
    next_wake: datetime | None
    events: tuple[str, ...]
    run: str | None
    notice: str | None
    fingerprint: str
    source: str
    shadow: bool
    asked_at: datetime
    concluded_at: datetime | None = None
    model: str = ""
    escalated: str = ""


@frozen
class Answer:
    """A validated answer of the deciding `model`. `wake_seconds` goes with `wait` only; 0 = no wake."""

    verdict: Verdict
    reason: str
    goal: str
    confidence: int
    wake_seconds: int
    model: str = ""
    escalated: str = ""


def allowed_answers(tier: Tier, *, has_workspace: bool) -> tuple[Verdict, ...]:
    """What a batch may lead to. What a stranger wrote may be told, never acted upon; what a collaborator wrote starts a
    run that carries their taint, but takes no wake away from the owner's world.
    """
    if tier < Tier.COLLABORATOR or not has_workspace:
        return (Verdict.NOTIFY, Verdict.IGNORE)
    return ANSWERS if tier >= Tier.LOCAL else (Verdict.ACT, Verdict.NOTIFY, Verdict.IGNORE)


def answer_schema(allowed: tuple[Verdict, ...]) -> JsonObject:
    """The JSON schema of a decision, offering only the verdicts in `allowed`."""
    properties: dict[str, Json] = {
        "reason": {"type": "string", "description": "one sentence: what changed and why it does or does not matter"},
        "verdict": {"type": "string", "enum": [verdict.value for verdict in allowed]},
        "goal": {"type": "string", "description": "act: the task in one sentence; notify: the message; else empty"},
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    if Verdict.WAIT in allowed:
        properties["wake_seconds"] = {"type": "integer", "minimum": 0, "maximum": WAKE_MAX_SECONDS}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def parse_answer(answer: Mapping[str, object], allowed: tuple[Verdict, ...]) -> Answer:
    """Turns a model's answer into an `Answer`. Raises `ValueError` naming the first thing that is wrong."""
    try:
        verdict = Verdict(str(answer.get("verdict", "")).lower())
    except ValueError:
        raise ValueError(f"verdict must be one of {', '.join(allowed)}") from None
    if verdict not in allowed:
        raise ValueError(f"verdict {verdict} is not allowed here: one of {', '.join(allowed)}")
    goal = _text(answer, "goal", limit=GOAL_MAX)
    reason = _text(answer, "reason", limit=REASON_MAX)
    if verdict in (Verdict.ACT, Verdict.NOTIFY) and not goal:
        raise ValueError(f"{verdict} needs a goal")
    return Answer(
        verdict=verdict,
        reason=reason,
        goal=goal,
        confidence=_whole(answer, "confidence", limit=100),
        wake_seconds=_whole(answer, "wake_seconds", limit=WAKE_MAX_SECONDS) if verdict is Verdict.WAIT else 0,
    )


def _text(answer: Mapping[str, object], key: str, *, limit: int) -> str:
    value = answer.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string")
    return value.strip()[:limit]


def _whole(answer: Mapping[str, object], key: str, *, limit: int) -> int:
    value = answer.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} must be a number")
    return max(0, min(limit, int(value)))
