"""Ratings: the owner's word on what Kairos did, or left alone although it mattered."""

from __future__ import annotations

from enum import StrEnum

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Event, EventState
from kairosd.errors import UsageError
from kairosd.frozen import frozen


class Rating(StrEnum):
    """`useful` and `noise` are about something done or told, `missed` about something left alone."""

    USEFUL = "useful"
    NOISE = "noise"
    MISSED = "missed"


@frozen
class Calibration:
    """What became of one trigger's decisions, and what the owner said of them.

    `acted` and `notified` hold the `shadow` ones too, which only would have. `unrated` counts those acted or notified
    without a word of the owner's. `price` is in micro-dollars, of the decisions' model calls and their runs', as far as
    it is known; `unpriced_calls` come on top.
    """

    trigger: str
    decisions: int
    acted: int
    notified: int
    shadow: int
    useful: int
    noise: int
    missed: int
    unrated: int
    price: int
    unpriced_calls: int

    @property
    def price_per_useful(self) -> int | None:
        """Micro-dollars that one useful thing took; None while there is none, or while a price is unknown."""
        return -(-self.price // self.useful) if self.useful and not self.unpriced_calls else None


def check_decision(decision: Decision, rating: Rating) -> None:
    """Raises `UsageError` where `rating` does not fit what was decided."""
    if decision.verdict in (Verdict.ASKED, Verdict.UNUSABLE):
        raise UsageError(f"{decision.id} came to no verdict", fix="rate the event or what was decided later")
    done = decision.verdict in (Verdict.ACT, Verdict.NOTIFY)
    if done and rating is Rating.MISSED:
        raise UsageError(f"{decision.id} was {decision.verdict}, so it was not missed", fix="say useful or noise")
    if not done and rating is not Rating.MISSED:
        fix = "say missed if it mattered; what was rightly left alone needs no rating"
        raise UsageError(f"{decision.id} was {decision.verdict}: nothing was done", fix=fix)


def check_event(event: Event, rating: Rating) -> None:
    """The same for an event that no verdict was about: it was taken together with others, skipped, or is dead."""
    if event.state in (EventState.PENDING, EventState.CLAIMED):
        raise UsageError(f"{event.id} is {event.state}: nothing has been decided about it yet", fix="kairos status")
    if rating is not Rating.MISSED:
        raise UsageError(f"nothing was decided about {event.id}, so nothing was done", fix="say missed if it mattered")
