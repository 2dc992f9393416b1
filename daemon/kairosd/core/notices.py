"""Notices: something the owner should see, and the state of getting it to each screen."""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo
from enum import IntEnum, StrEnum

from kairosd.frozen import frozen

MAX_TRIES = 6  # design §2: failed → queued at most 6 times


class Severity(IntEnum):
    """How much a notice may disturb: `urgent` ignores quiet hours."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3

    @property
    def label(self) -> str:
        return self.name.lower()


class NoticeState(StrEnum):
    """How far a notice has got on its channel."""

    QUEUED = "queued"
    ATTEMPTING = "attempting"
    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"
    DEFERRED = "deferred"
    MERGED = "merged"
    STALE = "stale"


NOTICE_MOVES = {
    NoticeState.QUEUED: frozenset(
        {NoticeState.ATTEMPTING, NoticeState.DEFERRED, NoticeState.MERGED, NoticeState.STALE}
    ),
    NoticeState.ATTEMPTING: frozenset({NoticeState.DELIVERED, NoticeState.FAILED, NoticeState.QUEUED}),
    NoticeState.FAILED: frozenset({NoticeState.QUEUED, NoticeState.DEAD}),
    NoticeState.DEFERRED: frozenset({NoticeState.QUEUED, NoticeState.MERGED, NoticeState.STALE}),
}


@frozen
class Notice:
    """A notice for one channel. The same `key` on the same channel is queued once, ever.

    `cause` is the id of what it tells about (run, decision, approval); None for the daemon's own troubles.
    """

    id: str
    key: str
    channel: str
    title: str
    body: str
    severity: Severity
    state: NoticeState
    created: datetime
    due: datetime
    tries: int = 0
    cause: str | None = None
    workspace: str | None = None
    receipt: str | None = None
    error: str | None = None
    delivered_at: datetime | None = None


@frozen
class NoticeDraft:
    """A notice before it is addressed: every configured channel gets one row of it."""

    key: str
    title: str
    body: str
    severity: Severity = Severity.NORMAL
    cause: str | None = None
    workspace: str | None = None


@frozen
class QuietHours:
    """A daily span of local time, possibly over midnight, in which only urgent notices are delivered."""

    start: time
    end: time

    def ends_after(self, now: datetime, zone: tzinfo | None = None) -> datetime | None:
        """When the quiet span that holds `now` ends, in `now`'s own zone; None when `now` is not quiet.

        `zone` is the owner's; None = the machine's local zone.
        """
        local = now.astimezone(zone)
        clock = local.timetz().replace(tzinfo=None)
        inside = self.start <= clock < self.end if self.start <= self.end else clock >= self.start or clock < self.end
        if self.start == self.end or not inside:
            return None
        day = local.date() if clock < self.end else local.date() + timedelta(days=1)
        # Built from wall-clock parts, so that a span over a DST change ends when the clock on the wall says so.
        end = datetime.combine(day, self.end, tzinfo=zone) if zone else datetime.combine(day, self.end).astimezone()
        return end.astimezone(now.tzinfo)


def retry_seconds(tries: int) -> int:
    """How long a failed notice waits before try `tries` + 1: 30 s, 2 min, 8 min, 32 min, about 2 h."""
    return int(min(7200, 30 * 4 ** max(0, tries - 1)))
