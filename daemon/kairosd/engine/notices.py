"""The outbox: gets each notice to each of the owner's screens, once as far as a transport can tell (design §2, §11)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from kairosd.core.channels import replies_to
from kairosd.core.ids import mint
from kairosd.core.json import JsonObject
from kairosd.core.notices import MAX_TRIES, Notice, NoticeDraft, NoticeState, QuietHours, Severity, retry_seconds
from kairosd.core.runs import Approval, ApprovalState
from kairosd.core.secrets import Scrubber
from kairosd.engine.signals import Alarm
from kairosd.engine.supervise import Health, keep_running
from kairosd.errors import ConfigError, KairosError, NotFoundError, NotifierError, NotifierRefusedError
from kairosd.ports import Approvals, Clock, Correspondent, Heard, Notices, Notifier, Query

log = logging.getLogger("kairosd.notices")

PATIENCE = 60.0  # seconds for one delivery, whatever the transport does
REST_MAX = 300  # seconds a channel that failed is left alone, so that an outage does not burn every notice's tries
READ_MAX = 1000  # waiting rows looked at in one pass
TEST_KEY = "test:"  # a test was asked for right now: quiet hours do not hold it
INTERRUPTED = "interrupted while it was sent"
TWICE = "\n\n(Kairos was interrupted while it sent this: you may see it twice.)"
DIGEST_TEXT = 300  # characters of each notice's body in a digest


Strangers = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Channel:
    """One configured notifier. `open` makes it at its first notice; quiet hours do not hold a `silent` one.

    `strangers` looks whether others than the owner are kept out, and says why not; None = nobody can tell. Once that
    was `tried` after a start, `private` says what came of the last look. `answers` yields what the owner answers, from
    a message's id or a second since 1970 on; None = it takes none. `place` tells where that is said: what was seen and
    heard elsewhere says nothing of it. `deaf` is why nothing is heard now.
    """

    name: str
    min_severity: Severity
    open: Callable[[], Notifier]
    silent: bool = False
    strangers: Strangers | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    private: bool = False
    answers: Callable[[str], AsyncGenerator[Heard, None]] | None = None
    place: str = ""
    deaf: KairosError | None = None
    opened: Notifier | None = None
    failures: int = 0
    problem: KairosError | TimeoutError | None = None
    rests_until: datetime | None = None
    health: Health = field(default_factory=lambda: Health(""))


class Outbox:
    """Addresses notices and delivers them. Each channel has its own worker, so that a dead one holds up no other."""

    def __init__(
        self,
        notices: Notices,
        approvals: Approvals,
        *,
        clock: Clock,
        channels: Sequence[Channel],
        quiet: QuietHours | None = None,
    ) -> None:
        self._notices = notices
        self._approvals = approvals
        self._clock = clock
        self._channels: Mapping[str, Channel] = {channel.name: channel for channel in channels}
        self._quiet = quiet
        self._alarms = {channel.name: Alarm(clock) for channel in channels}
        self._scrub = Scrubber()  # a goal holds what the owner typed, and a phone shows it to whoever passes
        self._drafts: list[NoticeDraft] = []
        self._drafted = Alarm(clock)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All of them."""
        return tuple(self._channels.values())

    def address(self, draft: NoticeDraft) -> tuple[Notice, ...]:
        """One row for every channel that takes notices of this severity, for the caller's own transaction.

        Call `ring` once they are stored.
        """
        now = self._clock.now()
        title, body = self._scrub(draft.title).text, self._scrub(draft.body).text
        return tuple(
            Notice(
                id=mint("n", now), key=draft.key, channel=channel.name, title=title, body=body,
                severity=draft.severity, state=NoticeState.QUEUED, created=now, due=now, cause=draft.cause,
                workspace=draft.workspace,
            )
            for channel in self._channels.values()
            if draft.severity >= channel.min_severity
        )  # fmt: skip

    def queue(self, draft: NoticeDraft) -> None:
        """Takes a notice that belongs to no transition. Durable soon, not when this returns: `tell` waits for that."""
        self._drafts.append(draft)
        self._drafted.ring()

    async def tell(self, draft: NoticeDraft) -> None:
        """Stores a notice on every channel; the same key is stored once. Raises `StoreError`."""
        await self._notices.queue(self.address(draft), self._clock.now())
        self.ring()

    def ring(self) -> None:
        """Makes every channel look for new rows."""
        for alarm in self._alarms.values():
            alarm.ring()

    def problems(self) -> tuple[JsonObject, ...]:
        """The channels in trouble, as `status` lists them: `{code, text, fix}`."""
        found: list[JsonObject] = []
        for channel in self._channels.values():
            if channel.deaf is not None:
                text, way = f"answers are not heard: {channel.deaf.message}", "answer at the machine meanwhile"
                found.append(_problem(channel.name, text, fix=channel.deaf.fix or way))
            if channel.problem is not None:
                text = channel.problem.message if isinstance(channel.problem, KairosError) else "it does not answer"
                fix = channel.problem.fix if isinstance(channel.problem, KairosError) else None
                found.append(_problem(channel.name, text, fix=fix or "notices wait and are sent again"))
            elif channel.health.last_error and channel.health.failures:
                found.append(_problem(channel.name, channel.health.last_error, fix="see the daemon's log"))
        return tuple(found)

    async def run(self) -> None:
        """Delivers until cancelled. A channel that breaks is restarted by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store_drafts())
            for channel in self._channels.values():
                channel.health.name = f"notifier {channel.name}"
                worker = _Worker(self, channel)
                group.create_task(keep_running(worker.serve, channel.health, clock=self._clock))

    async def close(self) -> None:
        """Lets go of every notifier that was opened."""
        for channel in self._channels.values():
            if channel.opened is not None:
                await channel.opened.close()
                channel.opened = None

    async def _store_drafts(self) -> None:
        while True:
            await self._drafted.wait()
            while self._drafts:
                await self.tell(self._drafts[0])
                del self._drafts[0]


class _Worker:
    """The deliveries of one channel, one at a time and oldest first."""

    def __init__(self, outbox: Outbox, channel: Channel) -> None:
        self._notices = outbox._notices
        self._approvals = outbox._approvals
        self._clock = outbox._clock
        self._quiet = None if channel.silent else outbox._quiet
        self._alarm = outbox._alarms[channel.name]
        self._outbox = outbox
        self._channel = channel

    async def serve(self) -> None:
        """Takes up what a crash left behind, then delivers whatever is due, and sleeps until there is more."""
        await self._take_up()
        while True:
            await self._alarm.wait(await self._deliver_due())

    async def _take_up(self) -> None:
        for notice in await self._notices.recover(self._clock.now()):
            if notice.channel == self._channel.name:
                if notice.tries >= MAX_TRIES:
                    await self._bury(notice, INTERRUPTED)
                else:
                    await self._move(notice, NoticeState.QUEUED, due=self._clock.now(), error=INTERRUPTED)

    async def _deliver_due(self) -> datetime | None:
        """Works through everything due now. Returns when the next row is due, None when none waits."""
        now = self._clock.now()
        rests = self._channel.rests_until
        waiting = await self._waiting()
        if rests is None or rests <= now:
            await self._wake_deferred([row for row in waiting if row.state is NoticeState.DEFERRED and row.due <= now])
            waiting = await self._waiting()
            for notice in [row for row in waiting if row.state is not NoticeState.DEFERRED and row.due <= now]:
                if not await self._handle(notice):
                    break
            waiting = await self._waiting()
            rests = self._channel.rests_until
        if not waiting:
            return None
        return max(waiting[0].due, rests) if rests and rests > now else waiting[0].due

    async def _waiting(self) -> list[Notice]:
        """The rows of this channel that are not through, the next one due first."""
        found: list[Notice] = []
        for state in (NoticeState.QUEUED, NoticeState.FAILED, NoticeState.DEFERRED):
            rows = await self._notices.find(Query(state=state.value, limit=READ_MAX))
            found += [row for row in rows if row.channel == self._channel.name]
        return sorted(found, key=lambda row: (row.due, row.id))

    async def _handle(self, notice: Notice) -> bool:
        """Brings one due row on its way. False when the channel needs a rest first."""
        now = self._clock.now()
        if notice.state is NoticeState.FAILED:
            if notice.tries >= MAX_TRIES:  # a crash came between its last failure and its burial
                await self._move(notice, NoticeState.DEAD)
                return True
            notice = await self._move(notice, NoticeState.QUEUED, due=now)
        if await self._is_stale(notice):
            await self._move(notice, NoticeState.STALE)
            return True
        quiet_end = self._quiet.ends_after(now) if self._quiet else None
        if quiet_end and notice.severity < Severity.URGENT and not notice.key.startswith(TEST_KEY):
            await self._move(notice, NoticeState.DEFERRED, due=quiet_end)
            return True
        return await self._attempt(notice)

    async def _attempt(self, notice: Notice) -> bool:
        interrupted = notice.error == INTERRUPTED
        notice = await self._move(notice, NoticeState.ATTEMPTING, tries=notice.tries + 1, error=None)
        try:
            async with asyncio.timeout(PATIENCE):
                receipt = await self._send(notice, interrupted=interrupted)
        except (NotifierRefusedError, ConfigError) as error:
            self._complain(error)
            await self._bury(notice, str(error))
            return True
        except (NotifierError, TimeoutError) as error:
            self._complain(error)
            await self._fail(notice, str(error) or "it does not answer")
            return False
        self._channel.failures, self._channel.problem, self._channel.rests_until = 0, None, None
        self._channel.health.failures = 0
        await self._move(notice, NoticeState.DELIVERED, receipt=receipt, delivered_at=self._clock.now())
        return True

    async def _send(self, notice: Notice, *, interrupted: bool) -> str:
        if self._channel.opened is None:
            self._channel.opened = self._channel.open()
        notifier = self._channel.opened
        if notice.tries > 1:
            # An earlier attempt may have arrived although we never heard so.
            try:
                if await notifier.arrived(notice):
                    return "found at the transport"
            except NotifierError as error:
                log.info("%s cannot tell whether %s arrived: %s", self._channel.name, notice.id, error)
                if interrupted:
                    notice = replace(notice, body=notice.body + TWICE)
        if replies := await self._replies(notice):
            return await cast("Correspondent", notifier).deliver(notice, replies, private=self._channel.private)
        return await notifier.deliver(notice)

    async def _replies(self, notice: Notice) -> Sequence[str]:
        """What may be answered to a question on a channel that takes answers."""
        channel = self._channel
        if channel.answers is None or (asked := await self._asked(notice)) is None:
            return ()
        return replies_to(channel.name, asked.code, guarded=asked.guarded, proven=channel.private)

    async def _fail(self, notice: Notice, error: str) -> None:
        now = self._clock.now()
        self._channel.failures += 1
        self._channel.rests_until = now + timedelta(seconds=min(REST_MAX, retry_seconds(self._channel.failures)))
        if notice.tries >= MAX_TRIES:
            await self._bury(notice, error)
        else:
            due = now + timedelta(seconds=retry_seconds(notice.tries))
            await self._move(notice, NoticeState.FAILED, due=due, error=error)

    async def _bury(self, notice: Notice, error: str) -> None:
        failed = await self._move(notice, NoticeState.FAILED, error=error)
        await self._move(failed, NoticeState.DEAD)

    async def _wake_deferred(self, rows: Sequence[Notice]) -> None:
        """The end of a quiet span: what is stale is dropped, a single notice goes as it is, several as one digest."""
        spans: dict[datetime, list[Notice]] = {}
        for row in rows:
            if await self._is_stale(row):
                await self._move(row, NoticeState.STALE)
            else:
                spans.setdefault(row.due, []).append(row)
        for end, fresh in spans.items():
            if len(fresh) == 1 and not await self._was_merged(end):
                await self._move(fresh[0], NoticeState.QUEUED, due=self._clock.now())
                continue
            # Keyed by the span's end: a crash between these two steps makes no second digest.
            await self._notices.queue([_digest(fresh, self._clock.now())], self._clock.now())
            for row in fresh:
                await self._move(row, NoticeState.MERGED)

    async def _was_merged(self, end: datetime) -> bool:
        """Whether a digest of the span that ended then was begun: a crash may have left its last row behind."""
        rows = await self._notices.find(Query(state=NoticeState.MERGED.value, limit=READ_MAX))
        return any(row.channel == self._channel.name and row.due == end for row in rows)

    async def _is_stale(self, notice: Notice) -> bool:
        """Whether the notice asks a question that has been answered meanwhile."""
        asked = await self._asked(notice)
        return asked is not None and asked.state is not ApprovalState.OPEN

    async def _asked(self, notice: Notice) -> Approval | None:
        """The question that the notice is about, if it is about one."""
        if notice.cause is None or not notice.cause.startswith("a_"):
            return None
        try:
            return await self._approvals.get(notice.cause)
        except NotFoundError:
            return None

    def _complain(self, error: KairosError | TimeoutError) -> None:
        """Says a problem once; `problems` shows it as long as it lasts."""
        if str(self._channel.problem) != str(error) or self._channel.problem is None:
            log.warning("notifier %s: %s", self._channel.name, str(error) or "it does not answer")
        self._channel.problem = error

    async def _move(self, notice: Notice, state: NoticeState, **changes: object) -> Notice:
        moved = replace(notice, state=state, **changes)  # type: ignore[arg-type]
        await self._notices.move(moved, self._clock.now())
        return moved


def _digest(rows: Sequence[Notice], now: datetime) -> Notice:
    ordered = sorted(rows, key=lambda row: (-row.severity, row.created))
    parts = [f"{row.title}\n{_short(row.body)}\n({row.id})" for row in ordered]
    return Notice(
        id=mint("n", now), key=f"digest:{rows[0].due.isoformat()}", channel=rows[0].channel,
        title=f"Kairos: {len(rows)} notices from the quiet hours", body="\n\n".join(parts),
        severity=ordered[0].severity, state=NoticeState.QUEUED, created=now, due=now,
    )  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= DIGEST_TEXT else f"{text[:DIGEST_TEXT]}…"


def _problem(channel: str, text: str, *, fix: str) -> JsonObject:
    return {"code": f"notifier_{channel}", "text": f"notifier {channel}: {text}", "fix": fix}
