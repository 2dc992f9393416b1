"""News: what happened to a run while it was not looking, said once, before its next turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from kairosd.core.runs import INTERRUPTED, ParkedOn, Run
from kairosd.core.tasks import TaskState, describe_end
from kairosd.engine.conversation import Conversation
from kairosd.engine.ledger import Park
from kairosd.ports import Clock, Stores

REST_TOLD = timedelta(minutes=10)  # a shorter wait for an answer is no news; an interruption always is
LOOK_AGAIN = "The workspace may have changed meanwhile: look again before you rely on what you saw."


class News:
    """Tells runs how long they were away, and what became of their commands in the background."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._runs = stores.runs
        self._tasks = stores.tasks
        self._clock = clock

    def ago(self, moment: datetime) -> str:
        """How long `moment` is past: `3 h 12 min ago`."""
        return f"{span(self._clock.now() - moment)} ago"

    async def tell(self, talk: Conversation, run: Run) -> Run:
        """Adds what is new to `talk`; the run, which has been told. What the transcript has already is not repeated."""
        if talk.torn is not None:
            return run  # half an answer is on record: what follows must be its other half
        if run.rested is not None:
            about = f"away:{run.rested.isoformat()}"
            if talk.finish is None and about not in talk.told and (told := describe_absence(run, self._clock.now())):
                await talk.say(told, about=about)
            run = replace(run, rested=None, rested_on="")
            await self._runs.update(run)
        await self.tell_ends(talk, run)
        return run

    async def tell_ends(self, talk: Conversation, run: Run) -> bool:
        """Whether a task has ended that the run had not heard of: an answer that came before it is not its last.

        Raises `Park` when the run has finished and must wait for a task.
        """
        if run.trigger == "owner" or (talk.open_uses and talk.finish is None):
            return False
        tasks = [task for task in await self._tasks.of_run(run.id) if task.id not in talk.told]
        ended = [task for task in tasks if task.state is not TaskState.RUNNING]
        if ended:
            await talk.drop_open()
        for task in ended:
            await talk.say(describe_end(task), about=task.id)
            await self._tasks.heard(task.id, now=self._clock.now())
        if talk.finish is not None and len(ended) < len(tasks):
            raise Park(ParkedOn.TASK, None)
        return bool(ended)


def describe_absence(run: Run, now: datetime) -> str:
    """What a run is told that has been away; empty where that is no news."""
    if run.rested is None:
        return ""
    away = max(timedelta(), now - run.rested)
    if run.rested_on == INTERRUPTED:
        return f"[kairos] Kairos was interrupted; you were away for {span(away)}. {LOOK_AGAIN}"
    if run.rested_on == ParkedOn.TASK or away < REST_TOLD:
        return ""
    return f"[kairos] You were away for {span(away)}, waiting for an answer. {LOOK_AGAIN}"


def span(time: timedelta) -> str:
    """`3 h 12 min`: its two largest units."""
    seconds = int(time.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts = []
    for size, name in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "a moment"
