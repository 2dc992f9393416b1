"""Answers: what the owner says to a question, as strong as the channel it came over."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime

from kairosd.core.channels import SILENT_FOR, STRENGTHS, UNKNOWN, UNKNOWN_CODES, Asked, Guesses, refusal
from kairosd.core.ids import EPOCH, is_id, mint
from kairosd.core.journal import Note
from kairosd.core.notices import NoticeDraft, Severity
from kairosd.core.questions import paused_by
from kairosd.core.runs import Approval, ApprovalState, Grant, GrantState
from kairosd.errors import ChannelError, NotFoundError, TransitionError
from kairosd.ports import Clock, Stores

SINCE = "denials_since"  # the state that says from when on the owner's answers count


class Answers:
    """Takes answers.

    `proven` names the channels that the last look saw closed to strangers.
    """

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        proven: AbstractSet[str],
        tell: Callable[[NoticeDraft], None],
        pause: Callable[[bool], None],
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._proven = proven
        self._tell = tell
        self._pause = pause
        self._guesses = Guesses()

    async def answer(
        self, code: str, *, channel: str, approve: bool, always: bool, at: datetime | None = None
    ) -> Approval:
        """The first answer to a question counts; a yes for `always` becomes a standing grant.

        `at` is when it was said: what was said in an hour and is heard at once is no guessing. None = now.
        Raises `ChannelError`, `NotFoundError`, `TransitionError`.
        """
        now = self._clock.now()
        at = min(at or now, now)
        if until := self._guesses.silent_until(channel, at):
            raise ChannelError(f"the channel {channel} is silenced until {until:%H:%M} UTC: too many unknown codes")
        asked = await self._find(code, channel, at=at)
        about = Asked(approve, always, asked.guarded)
        if why := refusal(channel, about, proven=channel in self._proven):
            raise ChannelError(why, fix=f"answer at the machine: kairos approve {asked.code}")
        grant = await self._grant(asked, channel) if approve and always else None
        verdict = ApprovalState.APPROVED if approve else ApprovalState.DENIED
        # By id: between the look and the answer the code may have been given to another question.
        answered = await self._stores.approvals.answer(asked.id, verdict, channel=channel, now=now, grant=grant)
        if not approve:
            await self._rest()
        return answered

    async def _find(self, code: str, channel: str, *, at: datetime) -> Approval:
        """The question with that code; by id, or the start of one, only where guessing does not matter."""
        try:
            if is_id(code.strip().lower()) and STRENGTHS.get(channel, UNKNOWN).guessing:
                raise NotFoundError(f"there is no question {code!r}", fix="answer with its code")
            return await self._stores.approvals.get(code)
        except NotFoundError:
            await self._guessed(channel, at)
            raise

    async def forget_denials(self) -> None:
        """The owner resumed: what was denied before does not count again."""
        now = self._clock.now()
        await self._stores.state.put(SINCE, now.isoformat(), note=None, now=now)

    async def _grant(self, asked: Approval, channel: str) -> Grant:
        if not asked.exact:
            why = "is about the run itself" if not asked.call else "is asked every time"
            raise TransitionError(
                f"this question {why}: there is no standing yes to it", fix=f"kairos approve {asked.code}"
            )
        now = self._clock.now()
        call, run = await self._stores.runs.get_call(asked.call), await self._stores.runs.get(asked.run)
        return Grant(
            id=mint("g", now), state=GrantState.ACTIVE, workspace=asked.workspace, tool=call.tool, exact=asked.exact,
            question=asked.question, taint=run.taint, approval=asked.id, channel=channel, created=now,
        )  # fmt: skip

    async def _guessed(self, channel: str, at: datetime) -> None:
        if not self._guesses.unknown(channel, at):
            return
        minutes = int(SILENT_FOR.total_seconds() // 60)
        note = Note("channel.silenced", data={"channel": channel, "minutes": minutes})
        await self._stores.state.note(note, self._clock.now())
        self._tell(
            NoticeDraft(
                key=f"silenced:{channel}:{at:%Y%m%dT%H%M%S}",
                title=f"Somebody guesses codes over {channel}",
                body=f"{UNKNOWN_CODES} unknown codes within a minute. Nothing it says counts for {minutes} minutes.",
                severity=Severity.HIGH,
            )
        )

    async def _rest(self) -> None:
        """Pauses the initiative when the owner keeps saying no: what it proposes is not what is wanted."""
        now = self._clock.now()
        if await self._stores.state.get("paused") is not None:
            return
        since = await self._stores.state.get(SINCE)
        counted = datetime.fromisoformat(since) if isinstance(since, str) else EPOCH
        why = paused_by(await self._stores.approvals.answers(counted), now)
        if why is None:
            return
        await self._stores.state.put("paused", why, note=Note("daemon.paused", data={"reason": why}), now=now)
        self._pause(True)
        self._tell(
            NoticeDraft(
                key=f"paused:denials:{now:%Y%m%dT%H%M%S}",
                title="Kairos rests: it does nothing by itself",
                body=f"The reason: {why}. `kairos tell` still works; `kairos resume` ends it.",
                severity=Severity.NORMAL,
            )
        )
