"""Deciding with a small model: it sorts what happened with one word, and code says what follows from that.

Asked for a verdict in the full form, the local model acted upon saved files with goals that meant nothing, and let
schedules pass. So it is asked for a word, only a goal that a schedule gives can be acted upon, and what the owner is
told are the facts as they came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kairosd.core.decisions import GOAL_MAX, Answer, Verdict
from kairosd.core.events import Event, Tier
from kairosd.core.messages import Prompt
from kairosd.engine import choosing
from kairosd.engine.asking import Reply
from kairosd.engine.digest import happened
from kairosd.errors import ModelProtocolError

ROUNDS = 2  # the question, and one more where the answer was none of the words
SHOWN_MOST = 3  # events that the owner is told of
OWN = ("files", "tick", "boot")  # the owner's own doing, which is no news to them
REASONS = {
    Verdict.IGNORE: "own work, or all goes well",
    Verdict.NOTIFY: "something failed or is in danger",
    Verdict.ACT: "its goal is due",
}
# A word tells nothing of how sure it is: what would interrupt is asked again, where a stronger model is.
CONFIDENCE = {Verdict.IGNORE: 50, Verdict.NOTIFY: 0, Verdict.ACT: 0}


async def sorted_out(
    put: Callable[[Prompt], Awaitable[Reply]], events: Sequence[Event], *, allowed: Sequence[Verdict]
) -> Answer:
    """What a small model makes of `events`. Raises what `put` does, and `ModelProtocolError` for no word, twice."""
    goal = _goal_of(events)
    offered = [one for one in (Verdict.IGNORE, Verdict.NOTIFY, *([Verdict.ACT] if goal else [])) if one in allowed]
    prompt = choosing.question("decide_small", happened(events))
    for _ in range(ROUNDS):
        reply = await put(prompt)
        if word := choosing.chosen(reply.text, offered):
            verdict = Verdict(word)
            told = {Verdict.ACT: goal, Verdict.NOTIFY: _message(events)}.get(verdict, "")
            return Answer(verdict, REASONS[verdict], told, CONFIDENCE[verdict], 0)
        prompt = choosing.again(prompt, reply.text, words=offered)
    raise ModelProtocolError(f"none of {', '.join(offered)}")


def _goal_of(events: Sequence[Event]) -> str:
    """The goal of the first schedule among them, empty = none has one."""
    goals = (one.text.get("goal", "") for one in events if one.source == "schedule" and one.tier >= Tier.LOCAL)
    return next((goal for goal in goals if goal), "")[:GOAL_MAX]


def _message(events: Sequence[Event]) -> str:
    news = [one for one in events if one.source not in OWN] or list(events)
    return "; ".join(_told(one) for one in news[:SHOWN_MOST])[:GOAL_MAX]


def _told(event: Event) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in event.facts.items())
    return f"{event.kind.replace('_', ' ')}: {facts}" if facts else event.kind.replace("_", " ")
