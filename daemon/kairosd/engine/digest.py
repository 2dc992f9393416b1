"""What the deciding model is shown: facts apart from text, and never more than a page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Event, Tier
from kairosd.core.json import canonical
from kairosd.core.runs import Run
from kairosd.frozen import frozen

LIMIT = 5000  # characters, about 1,400 tokens: design §7 allows the local model 1,500
SHORT_LIMIT = 2000
TEXT_LIMIT = 600
EVENTS_SHOWN = 20
PURSE = ("nothing", "a quarter or less", "about half", "about three quarters", "nearly all")


@frozen
class Surroundings:
    """What else bears on a decision: runs that wait, the last decisions, the quarters the purse still holds, memory.

    The purse is told coarsely, so that a digest does not differ from the last one by what that one cost.
    """

    runs: Sequence[Run]
    decisions: Sequence[Decision]
    quarters: int
    memory: str = ""


def compose(events: Sequence[Event], *, now: datetime, world: str, around: Surroundings) -> str:
    """The batch and its surroundings. Text of an event below tier `local` is left out, its facts are not."""
    parts = [f"Now: {now.astimezone():%A %Y-%m-%d %H:%M}", f"Left of the budget for this: {PURSE[around.quarters]}"]
    parts += ["", "What happened:"]
    parts += [_describe(event, name=f" ({event.id})") for event in events[:EVENTS_SHOWN]]
    if len(events) > EVENTS_SHOWN:
        parts.append(f"- and {len(events) - EVENTS_SHOWN} more of the same workspace")
    if world:
        parts += ["", "The workspace now:", world]
    if around.runs:
        parts += ["", "Work that is open:"] + [f"- {run.state}: {run.goal[:160]}" for run in around.runs[:5]]
    answered = [decision for decision in around.decisions if decision.verdict is not Verdict.UNUSABLE]
    if answered:
        parts += ["", "Your last decisions here:"] + [f"- {_recall(decision)}" for decision in answered[:3]]
    if around.memory:
        parts += ["", around.memory]
    return "\n".join(parts)[:LIMIT]


def happened(events: Sequence[Event]) -> str:
    """The batch alone, at most `SHORT_LIMIT` characters, for a model that is asked about nothing else."""
    return "\n".join(_describe(event, name="") for event in events[:EVENTS_SHOWN])[:SHORT_LIMIT]


def _describe(event: Event, *, name: str) -> str:
    line = f"- {event.source} {event.kind}{name}: {canonical(event.facts)}"
    if event.tier < Tier.LOCAL or not event.text:
        return line
    words = "; ".join(f"{what}: {value[:TEXT_LIMIT]}" for what, value in event.text.items())
    return f"{line}\n  {words}"


def _recall(decision: Decision) -> str:
    goal = f" — {decision.goal[:120]}" if decision.goal else ""
    done = " (only recorded, not done)" if decision.shadow else ""
    return f"{decision.asked_at.astimezone():%H:%M} {decision.verdict}{done}: {decision.reason[:120]}{goal}"
