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
from kairosd.engine.signals import Alarm
from kairosd.errors import ChannelError, ConfigError, NotFoundError, NotifierError, TransitionError
from kairosd.ports import Approvals, Clock, Heard, Query

log = logging.getLogger("kairosd.replies")

FIRST_PAUSE, LAST_PAUSE = 1.0, 300.0  # seconds between two tries to listen
STEADY_SECONDS = 60.0  # a connection that held for so long was no failure
LOOK_AGAIN = timedelta(minutes=5)  # a question may close without a word
MARGIN = timedelta(minutes=10)  # how far the transport's clock may be from ours where it has not told its time yet
ROUNDING = timedelta(seconds=1)  # transports tell whole seconds
OPEN_MAX = 1000


class Answer(Protocol):
    """The one way that an answer takes; as `OwnersDesk.answer`."""

    def __call__(self, code: str, *, approve: bool, channel: str) -> Awaitable[object]:
        """Raises `ChannelError`, `NotFoundError`, `TransitionError`."""


class Replies:
    """Listens on every channel that takes answers."""

    def __init__(self, approvals: Approvals, clock: Clock, *, outbox: Outbox) -> None:
        self._approvals = approvals
        self._clock = clock
        self._outbox = outbox
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
        found = await self._approvals.find(Query(state=ApprovalState.OPEN.value, limit=OPEN_MAX))
        return min((one.created for one in found), default=None)


class _Listener:
    """One channel."""

    def __init__(self, replies: Replies, channel: Channel, *, answer: Answer) -> None:
        self._replies = replies
        self._approvals = replies._approvals
        self._clock = replies._clock
        self._alarm = replies._alarms[channel.name]
        self._tell = replies._outbox.queue
        self._channel = channel
        self._answer = answer

    async def serve(self) -> None:
        await self._channel.tried.wait()  # a yes that was given while Kairos was away counts only where it may
        while True:
            since = await self._replies.oldest()
            if since is None:
                await self._alarm.wait()
                continue
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
        since, pause = str(int((opened - MARGIN).timestamp())), FIRST_PAUSE
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
        try:
            await self._answer(code, approve=approve, channel=self._channel.name)
        except ChannelError as error:
            if asked is not None:
                self._refuse(asked, error)
        except (NotFoundError, TransitionError) as error:
            log.info("%s: an answer does not count: %s", self._channel.name, error)

    def _refuse(self, asked: Approval, error: ChannelError) -> None:
        """Tells the owner, who may believe to have answered; once a question, since strangers may say it too."""
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
