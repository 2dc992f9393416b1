"""Replies: what the owner answers from afar, over the channels that take answers (design §11).

A channel is listened to only while a question is open, and what it says goes the way of every answer: `answers` judges
it by the strength of its channel. All that comes over it is a stranger's word until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Protocol

from kairosd.core.channels import read_answer
from kairosd.core.notices import NoticeDraft
from kairosd.core.runs import Approval, ApprovalState
from kairosd.engine.notices import Channel, Outbox
from kairosd.engine.privacy import Privacy
from kairosd.engine.signals import Alarm
from kairosd.errors import ChannelError, ConfigError, KairosError, NotFoundError, NotifierError, TransitionError
from kairosd.ports import Clock, Heard, Query, Stores

log = logging.getLogger("kairosd.replies")

FIRST_PAUSE, LAST_PAUSE = 1.0, 300.0  # seconds between two tries to listen
STEADY_SECONDS = 60.0  # a connection that held for so long was no failure
LOOK_AGAIN = timedelta(minutes=5)  # a question may close without a word
MARGIN = timedelta(minutes=10)  # how far the transport's clock may be from ours where it has not told its time yet
ROUNDING = timedelta(seconds=1)  # transports tell whole seconds
OPEN_MAX = 1000

HEARD, CLOSED = "heard", "closed"  # what is kept of a channel: the last message heard, and since when it is closed


class Answer(Protocol):
    """The one way that an answer takes; as `OwnersDesk.answer`."""

    def __call__(self, code: str, *, approve: bool, channel: str, at: datetime) -> Awaitable[object]:
        """Raises `ChannelError`, `NotFoundError`, `TransitionError`."""


class Replies:
    """Listens on every channel that takes answers."""

    def __init__(self, stores: Stores, clock: Clock, *, outbox: Outbox, privacy: Privacy) -> None:
        self._stores = stores
        self._clock = clock
        self._outbox = outbox
        self._privacy = privacy
        self._alarms = {channel.name: Alarm(clock) for channel in outbox.channels if channel.answers is not None}

    def ring(self) -> None:
        """A question may have been opened, or closed."""
        for alarm in self._alarms.values():
            alarm.ring()

    async def run(self, answer: Answer) -> None:
        """Hands what is heard to `answer` until cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self._outbox.channels:
                if channel.answers is not None:
                    group.create_task(_Listener(self, channel, answer=answer).serve())

    async def oldest(self) -> datetime | None:
        """Since when a question has been open; None where none is."""
        found = await self._stores.approvals.find(Query(state=ApprovalState.OPEN.value, limit=OPEN_MAX))
        return min((one.created for one in found), default=None)


class _Listener:
    """One channel."""

    def __init__(self, replies: Replies, channel: Channel, *, answer: Answer) -> None:
        self._replies = replies
        self._approvals = replies._stores.approvals
        self._state = replies._stores.state
        self._privacy = replies._privacy
        self._clock = replies._clock
        self._alarm = replies._alarms[channel.name]
        self._tell = replies._outbox.queue
        self._channel = channel
        self._answer = answer
        self._closed: datetime | None = None  # since when strangers are kept out
        self._looked = False  # whether that was seen since questions are open
        self._refused: set[str] = set()  # the questions of which the owner knows

    async def serve(self) -> None:
        await self._channel.tried.wait()  # a yes that was given while Kairos was away counts only where it may
        await self._date()
        while True:
            since = await self._replies.oldest()
            if since is None:
                await self._alarm.wait()
                continue
            self._looked, self._refused = False, set()
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(since))
                await self._until_none_is_open()
                listening.cancel()
            self._channel.deaf = None

    async def _until_none_is_open(self) -> None:
        while await self._replies.oldest() is not None:
            await self._alarm.wait(self._clock.now() + LOOK_AGAIN)

    async def _listen(self, opened: datetime) -> None:
        """Takes what was said since then, and what is; a transport that breaks is tried again, ever slower."""
        since, pause = await self._kept(HEARD) or str(int((opened - MARGIN).timestamp())), FIRST_PAUSE
        assert self._channel.answers is not None
        while True:
            began = self._clock.monotonic()
            try:
                async with contextlib.aclosing(self._channel.answers(since)) as stream:
                    async for heard in stream:
                        self._channel.deaf = None
                        if heard.id:
                            await self._take(heard)
                            since = heard.id
                        else:
                            with contextlib.suppress(KairosError):  # a no counts, and a yes looks again
                                await self._look()
            except (NotifierError, ConfigError) as error:
                if str(error) != str(self._channel.deaf):
                    log.warning("%s: answers are not heard: %s", self._channel.name, error)
                self._channel.deaf = error
            if self._clock.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            await self._clock.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _take(self, heard: Heard) -> None:
        read = read_answer(heard.text)
        if read is None:
            return
        approve, code = read
        asked: Approval | None = None
        with contextlib.suppress(NotFoundError):  # it is counted where it is answered
            asked = await self._approvals.get(code)
        if asked is not None and (asked.state is not ApprovalState.OPEN or heard.at < asked.created - ROUNDING):
            return  # heard before, or said of another question that had the same code
        if approve and asked is not None:
            await self._look_for_yes()
        await self._keep(HEARD, heard.id)  # before it is judged: what was refused once never counts
        try:
            if approve and asked is not None:
                self._check_moment(asked, heard.at)
            await self._answer(code, approve=approve, channel=self._channel.name, at=heard.at)
        except ChannelError as error:
            if asked is not None:
                self._refuse(asked, error)
        except (NotFoundError, TransitionError) as error:
            log.debug("%s: an answer does not count: %s", self._channel.name, error)

    async def _look(self) -> None:
        """Looks who else may speak, once while questions are open. Raises `KairosError` where that cannot be told."""
        if not self._looked:
            await self._privacy.look(self._channel.name)
            await self._date()
            self._looked = True

    async def _look_for_yes(self) -> None:
        """As `_look`; a channel that was never seen to be closed needs none, since a yes over it does not count."""
        try:
            await self._look()
        except KairosError:
            if await self._kept(CLOSED):
                raise

    async def _date(self) -> None:
        """Keeps since when the channel is closed, over starts: what was said before may be a stranger's."""
        name, self._closed = self._channel.name, None
        if name in self._privacy.proven:
            kept = await self._kept(CLOSED)
            self._closed = datetime.fromisoformat(kept) if kept else self._clock.now()
            if not kept:
                await self._keep(CLOSED, self._closed.isoformat())
        elif name in self._privacy.refuted and await self._kept(CLOSED):
            await self._keep(CLOSED, "")

    def _check_moment(self, asked: Approval, at: datetime) -> None:
        name = self._channel.name
        if name in self._privacy.proven and (self._closed is None or at <= self._closed + ROUNDING):
            raise ChannelError(
                f"it was said before {name} was seen to be closed to strangers",
                fix=f"say it again, or at the machine: kairos approve {asked.code}",
            )

    async def _kept(self, what: str) -> str:
        kept = await self._state.get(f"{what}:{self._channel.name}")
        return str(kept["value"]) if isinstance(kept, dict) and kept["place"] == self._channel.place else ""

    async def _keep(self, what: str, value: str) -> None:
        kept = {"place": self._channel.place, "value": value}
        await self._state.put(f"{what}:{self._channel.name}", kept, note=None, now=self._clock.now())

    def _refuse(self, asked: Approval, error: ChannelError) -> None:
        """Tells the owner, who may believe to have answered; once a question, since strangers may say it too."""
        if asked.id in self._refused:
            return
        self._refused.add(asked.id)
        name = self._channel.name
        log.warning("%s: an answer to %s does not count: %s", name, asked.id, error)
        self._tell(
            NoticeDraft(
                key=f"refused:{name}:{asked.id}",
                title=f"The answer over {name} does not count",
                body=str(error),
                cause=asked.id,
                workspace=asked.workspace,
            )
        )
