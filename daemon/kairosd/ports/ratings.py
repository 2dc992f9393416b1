"""The store of ratings: each method is one transaction, with its journal line."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from kairosd.core.ratings import Calibration, Rating


class Ratings(Protocol):
    """The owner's word on decisions, and on events that no verdict was about. One a thing; the last one counts."""

    async def put(self, subject: str, rating: Rating, *, workspace: str, now: datetime) -> Rating | None:
        """Stores the rating, with its journal line; returns the one it replaces."""

    async def calibrate(
        self, since: datetime, *, workspace: str | None = None, shadow: bool = False
    ) -> tuple[Calibration, ...]:
        """What each trigger's decisions since then came to, the busiest first; with `shadow` those not followed."""
