"""Decisions again: the same batch, the same world, the same answers; the verdict has to be the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from kairosd.app.replay.player import Player
from kairosd.app.replay.record import Exchange, Row
from kairosd.app.replay.standins import Played, RecordedCall
from kairosd.app.replay.tape import Difference, Part, Tape, play
from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolUse
from kairosd.engine.initiative import Initiative
from kairosd.frozen import frozen

MADE = ("verdict", "reason", "goal", "confidence", "price", "next_wake", "tier", "source", "shadow", "fingerprint",
        "model", "escalated")  # fmt: skip
RUN = ("goal", "workspace", "trigger", "level", "taint")
FRESH_EVENT = {"state": "pending", "tries": 0, "decision": None, "error": None, "retry_at": None}
UNKNOWN = "unknown"  # a fingerprint that no world has
LAST_SHOWN = 4


@frozen
class Verdict:
    """What came of one replay. `missing` says why there could be none; "" = there was one."""

    differences: tuple[Difference, ...] = ()
    missing: str = ""


class Decisions:
    """Replays decisions and the setting aside of hints."""

    def __init__(self, player: Player) -> None:
        self._p = player

    async def replay(self, row: Row) -> Verdict:
        """One decision of a model."""
        exchanges = self._p.exchanges.of.get(str(row["id"]), [])
        if not exchanges:
            return Verdict(missing="no exchange of it is on record")
        tape = self._tape(row, exchanges)
        events = self._p.record.by_id("events", json.loads(str(row["events"])))
        await self._seed(row, exchanges[0], events=events.values())
        problem = await self._look(tape, row)
        older = {str(each["id"]) for each in self._recent(row, str(exchanges[0].entry["asked"]))}
        made = [each for each in await self._p.scratch.all("decisions") if each["id"] not in older]
        if tape.ended and row["verdict"] == "unusable":
            return Verdict(tuple(tape.differences))  # a crash came while the model was asked again
        if problem or not made:
            tape.differ("decision", str(row["verdict"]), problem or "no decision", order=9)
            return Verdict(tuple(tape.differences))
        await self._compare(row, made[-1], tape=tape)
        if tape.next is not None:
            tape.differ("exchanges", f"{len(exchanges)} questions", "fewer questions", order=2)
        return Verdict(tuple(tape.differences))

    async def replay_coalesced(self, lines: Sequence[JsonObject]) -> Verdict:
        """Hints that were set aside in one look, without a model."""
        rows = self._p.record.by_id("events", [str(line["id"]) for line in lines])
        if len(rows) < len({str(line["id"]) for line in lines}):
            return Verdict(missing="an event of it is not on record any more")
        first = next(iter(rows.values()))
        tape = Tape(self._p.exchanges, str(first["id"]))
        tape.open(Part((), datetime.fromisoformat(str(lines[-1]["t"]))))
        await self._p.scratch.clear()
        await self._p.scratch.put("events", list(rows.values()), **FRESH_EVENT)
        workspace = first["workspace"]
        if workspace is not None:
            await self._p.scratch.put("worlds", [self._world(str(workspace), "same", moment=str(lines[0]["t"]))])
        played = Played(tape, no_calls, fingerprint="same")
        with self._p.playing(played) as engine:
            await _look_once(engine.initiatives.get(None if workspace is None else str(workspace)), tape)
        now = {str(event["id"]): str(event["state"]) for event in await self._p.scratch.all("events")}
        for line in lines:
            if now[str(line["id"])] != "coalesced":
                reason = str(_data(line).get("reason", ""))
                tape.differ("event", f"coalesced: {reason}", now[str(line["id"])], id=str(line["id"]))
        return Verdict(tuple(tape.differences))

    def _tape(self, row: Row, exchanges: Sequence[Exchange]) -> Tape:
        tape = Tape(self._p.exchanges, str(row["id"]))
        ends = row["concluded_at"] or exchanges[-1].entry["t"]
        tape.open(Part(exchanges, datetime.fromisoformat(str(ends))))
        return tape

    async def _look(self, tape: Tape, row: Row) -> str:
        played = Played(tape, no_calls, fingerprint=str(row["fingerprint"]))
        workspace = row["workspace"]
        with self._p.playing(played, shadow=bool(row["shadow"])) as engine:
            return await _look_once(engine.initiatives.get(None if workspace is None else str(workspace)), tape)

    async def _seed(self, row: Row, first: Exchange, *, events: Iterable[Row]) -> None:
        """The rows that this decision found."""
        scratch, workspace = self._p.scratch, row["workspace"]
        await scratch.clear()
        await scratch.put("events", list(events), **FRESH_EVENT)
        if workspace is None:
            return
        asked = str(first.entry["asked"])
        before = self._fingerprint(row)
        await scratch.put("worlds", [self._world(str(workspace), before, moment=asked)])
        await scratch.put("decisions", self._recent(row, asked))
        await scratch.put("runs", self._parked(row), state="parked")

    def _recent(self, row: Row, asked: str) -> list[Row]:
        query = "SELECT * FROM decisions WHERE workspace = ? AND number < ? AND asked_at <= ? ORDER BY number DESC"
        found = self._p.record.rows(f"{query} LIMIT {LAST_SHOWN}", row["workspace"], row["number"], asked)
        return found[::-1]

    def _parked(self, row: Row) -> list[Row]:
        """The runs of a workspace that were at rest then, as the journal has it."""
        parked: dict[str, bool] = {}
        for line in self._p.marked:
            if line["kind"] == "decision.asked" and line["id"] == row["id"]:
                break
            if line["ws"] == row["workspace"] and str(line["kind"]).startswith("run."):
                parked[str(line["id"])] = line["kind"] == "run.parked"
        rows = self._p.record.by_id("runs", [run for run, rests in parked.items() if rests])
        return sorted(rows.values(), key=lambda each: int(str(each["number"])))

    def _fingerprint(self, row: Row) -> str:
        """What had been seen of the world before. It matters to a wake alone: any other hint had seen another world."""
        if not self._woken(row):
            return UNKNOWN
        last = self._p.record.rows(
            "SELECT fingerprint, concluded_at FROM decisions WHERE workspace = ? AND number < ? AND shadow = 0 "
            "AND tier = 'local' AND verdict != 'unusable' AND concluded_at IS NOT NULL ORDER BY number DESC LIMIT 1",
            row["workspace"], row["number"],
        )  # fmt: skip
        known, since = (str(last[0]["fingerprint"]), str(last[0]["concluded_at"])) if last else (UNKNOWN, "")
        for line in self._p.marked:
            looked = line["kind"] == "workspace.looked" and line["ws"] == row["workspace"]
            if looked and since < str(line["t"]) < str(row["asked_at"]):
                known = str(_data(line).get("fingerprint", known))
        return known

    def _woken(self, row: Row) -> bool:
        events = self._p.record.by_id("events", json.loads(str(row["events"])))
        return any(event["kind"] == "wake" for event in events.values())

    def _world(self, workspace: str, fingerprint: str, *, moment: str) -> Row:
        return {
            "workspace": workspace,
            "fingerprint": fingerprint,
            "next_wake": None,
            "trusted_hashes": pinned(self._p, workspace, moment=moment),
            "shadow_fingerprint": "",
        }

    async def _compare(self, row: Row, made: Row, *, tape: Tape) -> None:
        if json.loads(str(made["events"])) != json.loads(str(row["events"])):
            tape.differ("batch", str(row["events"]), str(made["events"]), order=0)
        for name in MADE:
            if name in made and made[name] != row[name]:
                tape.differ(f"decision.{name}", str(row[name]), str(made[name]), order=6)
        runs = {str(run["id"]): run for run in await self._p.scratch.all("runs")}
        compare_run(self._p, row, made=runs.get(str(made["run"])), tape=tape)
        recorded = self._p.record.rows("SELECT * FROM notices WHERE cause = ? ORDER BY number", row["id"])
        told = [notice for notice in await self._p.scratch.all("notices") if notice["cause"] == made["id"]]
        for notice in recorded:
            if all((each["title"], each["body"]) != (notice["title"], notice["body"]) for each in told):
                came = f"{told[0]['title']}\n{told[0]['body']}" if told else "none"
                tape.differ("notice", f"{notice['title']}\n{notice['body']}", came, id=str(notice["id"]), order=8)


def compare_run(player: Player, row: Row, *, made: Row | None, tape: Tape) -> None:
    """Whether the decision has led to the run it led to."""
    recorded = player.record.by_id("runs", [str(row["run"])]).get(str(row["run"])) if row["run"] else None
    if (recorded is None) != (made is None):
        tape.differ("run", "none" if recorded is None else str(recorded["id"]), "none" if made is None else "a run")
    elif recorded is not None and made is not None:
        queued = next((line for line in player.marked if line["kind"] == "run.queued" and line["id"] == row["run"]), {})
        taint = queued.get("tier") or recorded["taint"]
        for name, was in {**{name: recorded[name] for name in RUN}, "taint": taint}.items():
            if made[name] != was:
                tape.differ(f"run.{name}", str(was), str(made[name]), id=str(recorded["id"]), order=7)


def pinned(player: Player, workspace: str, *, moment: str) -> str:
    """The standing instructions that the owner had trusted then."""
    rows = player.record.rows("SELECT trusted_hashes FROM worlds WHERE workspace = ?", workspace)
    known, later = str(rows[0]["trusted_hashes"]) if rows else "", None
    for line in player.trusts:
        if line["ws"] == workspace:
            files = json.dumps(_data(line).get("files", {}), sort_keys=True)
            if str(line["t"]) > moment:
                break
            later = files
    return later or known


async def _look_once(initiative: Initiative | None, tape: Tape) -> str:
    """What kept a look from its end; "" = nothing. One that goes on beyond the record is given up."""
    if initiative is None:
        return "the workspace is not configured any more"
    raised = await play(initiative.look(), tape)
    return "a model was asked once more" if tape.ended else str(raised or "")


def no_calls(_use: ToolUse) -> RecordedCall | None:
    """Decisions make none."""
    return None


def _data(line: JsonObject) -> Mapping[str, object]:
    data = line.get("data")
    return data if isinstance(data, Mapping) else {}
