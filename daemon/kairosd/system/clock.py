"""The real clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

LONGEST_SLICE = 60.0  # seconds; design §6: a timer that looks at the wall this often sees suspends and set clocks


class SystemClock:
    """The machine's own time, as the `Clock` port."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock that everything else takes

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; zero and less let others run once."""
        await asyncio.sleep(max(0.0, seconds))

    async def sleep_until(self, moment: datetime) -> None:
        """Returns once `now() >= moment`, also when the wall was set or the machine slept meanwhile."""
        left = (moment - self.now()).total_seconds()
        if left <= 0:
            await asyncio.sleep(0)
        while left > 0:
            await asyncio.sleep(min(left, LONGEST_SLICE))
            left = (moment - self.now()).total_seconds()
