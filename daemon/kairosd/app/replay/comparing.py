"""Compares what a replayed run came to with its record: transcript, calls, questions, notices, and its row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kairosd.app.replay.player import Player
from kairosd.app.replay.record import Row
from kairosd.app.replay.tape import Tape
from kairosd.core.json import Json, JsonObject, canonical
from kairosd.core.runs import Approval

ENTRIES = ("said", "digest", "turn", "result", "finish", "compacted", "summary")  # `asked` depends on the moment
TIMED = ("order",)
CALL = ("tool", "arguments", "effect", "state", "rule", "result")
ROW = ("state", "parked_on", "result", "checks", "turns", "tokens", "price", "taint", "branch", "patch", "commit",
       "escalated")  # fmt: skip
SUMS = ("tokens", "price")  # written beside the work
LANDING_TURN = 1_000_000  # the ledger's place for what the daemon does itself at the end
LAST = 1_000_000_000


class Comparison:
    """Notes every difference on the tape, each with the turn it belongs to."""

    def __init__(self, player: Player, tape: Tape, *, row: Row) -> None:
        self._p = player
        self._tape = tape
        self._row = row

    async def run(self, entries: Sequence[JsonObject], calls: Sequence[Row], *, crashed: bool) -> None:
        """Everything that a run has left behind; what a crash takes of its sums, no record can tell."""
        run = str(self._row["id"])
        self._entries(entries, await self._p.scratch.transcripts.read(run))
        made = [call for call in await self._p.scratch.all("calls") if call["run"] == run]
        self._calls(calls, made)
        rows = [row for row in await self._p.scratch.all("runs") if row["id"] == run]
        for name in ROW:
            if crashed and name in SUMS:
                continue
            if name in rows[0] and rows[0][name] != self._row[name]:
                self._differ(f"run.{name}", self._row[name], rows[0][name], turn=LAST)
        await self._notices()

    def approval(self, recorded: Row, made: Approval) -> None:
        """A question to the owner."""
        for name in ("question", "rule", "effect"):
            if recorded[name] != getattr(made, name):
                self._differ(f"approval.{name}", recorded[name], getattr(made, name), id=str(recorded["id"]), order=4)

    def _entries(self, recorded: Sequence[JsonObject], made: Sequence[JsonObject]) -> None:
        """The first entry of the transcript that is another one."""
        was = [entry for entry in recorded if entry["kind"] in ENTRIES]
        now = [entry for entry in made if entry["kind"] in ENTRIES]
        turn = 0
        for index in range(max(len(was), len(now))):
            before = was[index] if index < len(was) else None
            after = now[index] if index < len(now) else None
            turn += before is not None and before["kind"] == "turn"
            if (before and _told(before)) != (after and _told(after)):
                kind = str((before or after or {})["kind"])
                order = 2 if kind == "turn" else 0 if kind in ("said", "digest", "compacted", "summary") else 6
                ahead = kind in ("said", "digest", "compacted", "summary")
                self._differ(f"transcript: {kind}", _words(before), _words(after), turn=turn + ahead, order=order)
                return

    def _calls(self, recorded: Sequence[Row], made: Sequence[Row]) -> None:
        was, now = _by_place(recorded), _by_place(made)
        for place in sorted({*was, *now}):
            before, after = was.get(place), now.get(place)
            if before is None or after is None:
                there, name = before or after or {}, str((before or {}).get("id") or self._row["id"])
                told = f"{there.get('tool')} {there.get('arguments')}"
                pair = ("none", told) if before is None else (told, "none")
                self._differ("call", *pair, id=name, turn=place[0], order=3)
                continue
            for name in CALL:
                if before[name] != after[name] and not _same(before[name], after[name]):
                    order = 4 if name in ("state", "rule") else 5
                    what = "verdict" if name in ("state", "rule") else name
                    self._differ(
                        f"call.{what}", before[name], after[name], id=str(before["id"]), turn=place[0], order=order
                    )

    async def _notices(self) -> None:
        """What the owner was told of the run's end, and by the run itself."""
        run = str(self._row["id"])
        recorded = self._p.record.rows("SELECT * FROM notices WHERE cause = ? ORDER BY number", run)
        made = {(str(each["title"]), str(each["body"])) for each in await self._p.scratch.all("notices")}
        for each in recorded:
            if (str(each["title"]), str(each["body"])) not in made:
                titles = sorted(title for title, _ in made)
                told = f"{each['title']}\n{each['body']}"
                self._differ("notice", told, "; ".join(titles) or "none", id=str(each["id"]), turn=LAST, order=8)

    def _differ(self, what: str, *sides: object, **at: int | str) -> None:
        self._tape.differ(what, *map(str, sides), **at)


def _by_place(calls: Sequence[Row]) -> dict[tuple[int, int], Row]:
    places = {(int(str(call["turn"])), int(str(call["position"]))): call for call in calls}
    return {place: call for place, call in places.items() if place[0] < LANDING_TURN}


def _told(entry: JsonObject) -> JsonObject:
    """An entry without what may differ from time to time."""
    uses = entry.get("uses")
    if not isinstance(uses, list):
        return entry
    plain: list[Json] = [
        {name: value for name, value in use.items() if name not in TIMED} for use in uses if isinstance(use, dict)
    ]
    return {**entry, "uses": plain}


def _words(entry: JsonObject | None) -> str:
    return "none" if entry is None else canonical(_told(entry))


def _same(before: object, after: object) -> bool:
    """Whether two columns say the same in another spelling."""
    if not isinstance(before, str) or not isinstance(after, str):
        return False
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False
