"""Runs again: the same answers and results at the same times; calls, verdicts and the end have to be the same."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from kairosd.app.replay.comparing import Comparison
from kairosd.app.replay.decisions import Verdict, no_calls, pinned
from kairosd.app.replay.parts import Step, part_of, recorded_call, steps_of, until_of
from kairosd.app.replay.player import Player
from kairosd.app.replay.record import Exchange, Row
from kairosd.app.replay.standins import Played, RecordedCall
from kairosd.app.replay.tape import Part, Tape, play_until
from kairosd.core.journal import stamp
from kairosd.core.json import JsonObject, without_floats
from kairosd.core.messages import ToolUse
from kairosd.core.runs import ApprovalState, RunState
from kairosd.errors import TransitionError

QUEUED = {
    "state": "queued", "started": None, "ended": None, "turns": 0, "tokens": 0, "price": 0, "result": "",
    "checks": "[]", "parked_on": None, "branch": None, "patch": None, "commit": None, "base": None, "seconds": 0,
    "rested": None, "rested_on": "", "escalated": "",
}  # fmt: skip
PATIENCE_SECONDS = 30.0  # of real time: no part of a run takes so long without a model and without programs
PAUSE = 0.001
SETTLE = 0.03  # real seconds that calls beside the one that a crash cut off get for their end
OUTCOMES = ("call.succeeded", "call.failed", "call.denied")
EVENT = re.compile(r"\be_[0-9a-z]{26}\b")


@dataclass
class _Play:
    """One run being replayed. `left` are the exchanges to come, `part` is the part being played."""

    row: Row
    tape: Tape
    played: Played
    calls: dict[tuple[int, int], Row]
    lines: list[JsonObject]
    entries: Sequence[JsonObject]
    left: list[Exchange]
    part: Part
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)


class Runs:
    """Replays runs, part by part: from a start to a question, a crash or the end."""

    def __init__(self, player: Player) -> None:
        self._p = player

    async def replay(self, row: Row) -> Verdict:
        """One run, from its first start to its end or to where it is now."""
        run, record = str(row["id"]), self._p.record
        entries, exchanges = record.transcript(run), self._p.exchanges.of.get(run, [])
        asked = {str(each["id"]) for each in record.rows("SELECT id FROM approvals WHERE run = ?", run)}
        lines = [line for line in self._p.lines if run in (line["id"], line["cause"]) or line["id"] in asked]
        steps = steps_of(lines)
        if not any(step.kind == "start" for step in steps):
            return Verdict(missing="" if row["started"] is None else "its start is not in the journal")
        if not exchanges and any(entry["kind"] == "turn" for entry in entries):
            return Verdict(missing="no exchange of it is on record")
        calls = record.rows("SELECT * FROM calls WHERE run = ? ORDER BY turn, position, number", run)
        places = {(int(str(call["turn"])), int(str(call["position"]))): call for call in calls}
        tape = Tape(self._p.exchanges, run)
        play = _Play(
            row, tape, Played(tape, no_calls), places, lines, entries, list(exchanges), Part((), steps[0].moment)
        )
        play.played.results = partial(self._recorded, play)
        await self._seed(play)
        await self._carry_out(play, steps)
        if play.left:
            tape.differ("exchanges", f"another question at {play.left[0].asked:%H:%M:%S}", "the end", order=9)
        crashed = any(step.kind == "interrupted" for step in steps)
        await Comparison(self._p, tape, row=row).run(entries, calls, crashed=crashed)
        return Verdict(tuple(tape.differences))

    async def _seed(self, play: _Play) -> None:
        """The rows that this run found."""
        scratch, row, record = self._p.scratch, play.row, self._p.record
        await scratch.clear()
        queued = next((line for line in play.lines if line["kind"] == "run.queued"), None)
        taint = str(queued["tier"]) if queued else str(row["taint"])
        await scratch.put("runs", [row], **QUEUED, taint=taint)
        workspace = str(row["workspace"])
        world = {
            "workspace": workspace, "fingerprint": "", "next_wake": None, "shadow_fingerprint": "",
            "trusted_hashes": pinned(self._p, workspace, moment=str(row["created"])),
        }  # fmt: skip
        await scratch.put("worlds", [world])
        named = {name for call in play.calls.values() for name in EVENT.findall(str(call["arguments"]))}
        for decision in record.by_id("decisions", [str(row["decision"])]).values():
            named |= set(json.loads(str(decision["events"])))
        await scratch.put("events", list(record.by_id("events", named).values()))

    async def _carry_out(self, play: _Play, steps: Sequence[Step]) -> None:
        for step in steps:
            match step.kind:
                case "start":
                    await self._work(play, step)
                case "interrupted":
                    await self._crash(play, step.moment)
                case "answered":
                    await self._answer(play, step)
                case "requeued":
                    await self._requeue(play, step)

    async def _work(self, play: _Play, step: Step) -> None:
        """One part: from a start to a rest, an end, or the moment where its record ends."""
        tape = play.tape
        done = partial(self._done, play, until=until_of(step))
        play.part = part = part_of(step, play.left, entries=play.entries, tape=tape, done=done)
        tape.open(part)
        play.taken.clear()
        given = len(part.exchanges)
        await self._grants(part.ends)
        with self._p.playing(play.played) as engine:
            raised = await play_until(engine.dispatcher.run(), partial(self._until_rest, play))
        state = (await self._p.scratch.stores.runs.get(str(play.row["id"]))).state
        if raised is not None:
            tape.differ("run", "went on", f"{type(raised).__name__}: {raised}", order=9)
        if tape.ended and not part.cut:
            tape.differ("exchanges", "no further question or call", "the model was asked once more", order=9)
        if not tape.ended and part.cut:
            tape.differ("run", "was cut off here", f"came to be {state}", order=9)
        play.left = play.left[max(given - len(tape.left), part.taken) :]

    def _done(self, play: _Play, turn: int, *, until: int) -> int:
        """How many calls of a turn had come to an outcome by that line of the journal."""
        ended = {line["id"] for line in play.lines if line["kind"] in OUTCOMES and int(str(line["seq"])) <= until}
        return sum(place[0] == turn and row["id"] in ended for place, row in play.calls.items())

    async def _until_rest(self, play: _Play, working: asyncio.Task[None]) -> None:
        run, tape = str(play.row["id"]), play.tape
        state = RunState.QUEUED
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while state in (RunState.QUEUED, RunState.RUNNING) and not tape.ended and not working.done():
                    await asyncio.sleep(PAUSE)
                    state = (await self._p.scratch.stores.runs.get(run)).state
        except TimeoutError:
            tape.differ("run", "went on", f"stood still, {state}", order=9)
        if tape.ended:
            await asyncio.sleep(SETTLE)

    async def _grants(self, until: datetime) -> None:
        """The standing yeses that there were by then."""
        moment = stamp(until)
        query = "SELECT * FROM grants WHERE created <= ? AND (revoked_at IS NULL OR revoked_at > ?)"
        await self._p.scratch.put("grants", self._p.record.rows(query, moment, moment), state="active", uses=0)

    async def _crash(self, play: _Play, moment: datetime) -> None:
        """A kill, and the next start: a new engine finds what the old one has left."""
        run, scratch = str(play.row["id"]), self._p.scratch
        play.tape.open(Part((), moment))
        with self._p.playing(play.played) as engine:
            await engine.dispatcher.recover()
        for entry in play.entries:
            about = str(entry.get("about", ""))
            rested = datetime.fromisoformat(about[5:]) if about.startswith("away:") else None
            if rested is not None and rested <= moment:
                await scratch.change("runs", run, rested=stamp(rested.astimezone(UTC)))

    async def _answer(self, play: _Play, step: Step) -> None:
        """What became of the open question, by the owner's word, by time, or by the rules."""
        approvals, run = self._p.scratch.stores.approvals, str(play.row["id"])
        recorded = self._p.record.by_id("approvals", [step.id]).get(step.id)
        opened = [one for one in await approvals.of_run(run) if one.state is ApprovalState.OPEN]
        if recorded is None or not opened:
            play.tape.differ("approval", step.word, "there is no open question", id=step.id, order=4)
            return
        play.tape.open(Part((), step.moment))
        Comparison(self._p, play.tape, row=play.row).approval(recorded, opened[0])
        if step.word in ("approved", "denied"):
            channel = str(recorded["channel"] or "socket")
            await approvals.answer(opened[0].id, ApprovalState(step.word), channel=channel, now=step.moment)
        elif step.word == "expired":
            await approvals.expire(max(step.moment, opened[0].expires))
        else:
            await approvals.withdraw(opened[0].id, "as recorded", now=step.moment)

    async def _requeue(self, play: _Play, step: Step) -> None:
        """Where nothing else has queued it again: somebody did, and the journal says why."""
        play.tape.open(Part((), step.moment))
        try:
            await self._p.scratch.stores.runs.requeue(str(play.row["id"]), step.word, now=step.moment)
        except TransitionError:
            return  # it is queued already, or has come to another end, which is told then

    def _recorded(self, play: _Play, use: ToolUse) -> RecordedCall | None:
        """What is on record of a call of this turn: the next of its kind that nobody has taken."""
        if (place := play.taken.get(use.id)) is None:
            wanted = without_floats(dict(use.arguments))
            for place, row in sorted(play.calls.items()):
                same = place[0] == play.tape.turn and row["tool"] == use.name
                if same and place not in play.taken.values() and json.loads(str(row["arguments"])) == wanted:
                    break
            else:
                return None
            play.taken[use.id] = place
        row = play.calls[place]
        return recorded_call(play.tape, row, lines=play.lines, entries=play.entries, until=play.part.until)
