"""The supervisor: keeps one failing part from taking the daemon with it, and brings it back with back-off."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from kairosd.ports import Clock

log = logging.getLogger("kairosd.supervise")

FIRST_DELAY, LAST_DELAY = 1, 300  # seconds between restarts of a failing part
WELL_SECONDS = 600  # after that long without a failure the delays begin from the first again


@dataclass(slots=True)
class Health:
    """What `status` says of a supervised part."""

    name: str
    failures: int = 0
    last_error: str = ""
    failed_at: datetime | None = None


async def keep_running(part: Callable[[], Awaitable[None]], health: Health, *, clock: Clock) -> None:
    """Runs `part` until it returns by itself or is cancelled; after an exception it is started again, ever slower."""
    delay = 0
    while True:
        began = clock.monotonic()
        try:
            await part()
        except Exception as error:  # one broken adapter must not end the others; it is logged and counted
            health.failures += 1
            health.last_error = _told(error)
            health.failed_at = clock.now()
            log.exception("%s failed (%d times)", health.name, health.failures)
        else:
            return
        well = clock.monotonic() - began >= WELL_SECONDS
        delay = FIRST_DELAY if well or not delay else min(LAST_DELAY, 2 * delay)
        await clock.sleep(delay)


def _told(error: BaseException) -> str:
    """What went wrong first, not that a group of tasks has failed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def contain(work: Callable[[], Awaitable[None]], name: str, *, failed: Callable[[str], Awaitable[None]]) -> None:
    """Does `work` once. An exception goes no further: it is logged, and `failed` is told what happened."""
    try:
        await work()
    except Exception as error:  # a run that breaks must not end the dispatcher and every other run with it
        log.exception("%s broke", name)
        try:
            await failed(f"something broke inside Kairos: {type(error).__name__}: {error} (the daemon's log says more)")
        except Exception:  # nor must one that cannot even be ended
            log.exception("%s could not be ended", name)
