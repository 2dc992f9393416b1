"""Replaying a run, a decision or a day, cause by cause, in the order in which the journal has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import date, timedelta

from kairosd.app.replay.decisions import Decisions, Verdict
from kairosd.app.replay.player import Player, open_player
from kairosd.app.replay.record import Record, Row, local_day
from kairosd.app.replay.runs import Runs
from kairosd.app.replay.scratch import scratch_home
from kairosd.app.replay.tape import Difference, ReplayClock
from kairosd.config import Config, Environment
from kairosd.core.ids import is_id
from kairosd.core.json import JsonObject
from kairosd.errors import NotFoundError, UsageError
from kairosd.frozen import frozen
from kairosd.wire import Home

Progress = Callable[[int, int], None]
OWNER = "owner"


@frozen
class Cause:
    """One thing to be replayed: a decision, a run, or hints that were set aside together."""

    kind: str
    id: str
    events: tuple[str, ...]
    moment: str
    row: Row | None = None
    lines: tuple[JsonObject, ...] = ()


@frozen
class Found:
    """A cause that came out otherwise, and how; the first difference first."""

    cause: Cause
    differences: tuple[Difference, ...]


@dataclass
class Report:
    """What a replay came to. `missing` are causes that are not on record, each with the reason."""

    wanted: str
    counts: dict[str, int] = field(default_factory=dict)
    missing: list[tuple[Cause, str]] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def replayed(self) -> int:
        return sum(self.counts.get(kind, 0) for kind in ("decision", "run", "hints"))


async def replay(place: Home, config: Config, *, environment: Environment, wanted: str, progress: Progress) -> Report:
    """Replays what `wanted` names: a day, or the id (or its start) of a run or decision. Reads the record only.

    Raises `UsageError` for a name that means nothing, `NotFoundError` for what is not there, `ConfigError`.
    """
    async with AsyncExitStack() as stack:
        record = stack.enter_context(closing(Record(place)))
        day, row = _meaning(record, wanted)
        first, last = _span(record, day, row=row)
        lines = tuple(record.lines(first, last))
        exchanges = record.exchanges(first, last)
        clock = ReplayClock()
        scratch = stack.enter_context(scratch_home(clock))
        player = open_player(
            record, lines, exchanges=exchanges, scratch=scratch, clock=clock, config=config, environment=environment,
            stack=stack,
        )  # fmt: skip
        causes = _of_day(record, lines, day=day) if day else _of_row(record, row)
        report = Report(wanted, damaged=exchanges.damaged)
        report.counts["events"] = len({event for cause in causes for event in cause.events})
        for number, cause in enumerate(causes):
            progress(number, len(causes))
            await _replay(player, cause, report=report)
        progress(len(causes), len(causes))
        return report


async def _replay(player: Player, cause: Cause, *, report: Report) -> None:
    decisions, runs = Decisions(player), Runs(player)
    if cause.row is None:
        verdict = await decisions.replay_coalesced(cause.lines)
    elif cause.kind == "run":
        verdict = await runs.replay(cause.row)
    elif cause.row["source"] == OWNER:
        verdict = Verdict()  # the owner decided; what it led to is the run's
    elif cause.row["verdict"] in ("unusable", "asked") and cause.id not in player.exchanges.of:
        verdict = Verdict()  # cut off before a model had answered
    else:
        verdict = await decisions.replay(cause.row)
    if verdict.missing and _should_be_there(player, cause):
        told = Difference((0, 0), cause.id, "exchanges", "answers of a model", verdict.missing)
        report.found.append(Found(cause, (told,)))
    elif verdict.missing:
        report.missing.append((cause, verdict.missing))
        return
    report.counts[cause.kind] = report.counts.get(cause.kind, 0) + 1
    if verdict.differences:
        report.found.append(Found(cause, tuple(sorted(verdict.differences, key=lambda each: each.step))))


def _should_be_there(player: Player, cause: Cause) -> bool:
    """Whether the record had begun by then: what is missing now has been taken out."""
    first = player.exchanges.first
    return first is not None and first.isoformat() < cause.moment.replace("Z", "+00:00")


def _meaning(record: Record, wanted: str) -> tuple[date | None, Row | None]:
    if (day := _day(wanted)) is not None:
        return day, None
    for kind, table in (("r", "runs"), ("d", "decisions"), ("e", "events")):
        if is_id(wanted, kind):
            found = record.find_one(table, wanted)
            if kind == "e":
                if not found["decision"]:
                    raise NotFoundError(f"{found['id']} led to no decision", fix="kairos why says what became of it")
                found = record.find_one("decisions", str(found["decision"]))
            return None, found
    raise UsageError(f"{wanted} is neither a day nor a run", fix="say 2026-03-02, or an id that kairos runs lists")


def _day(wanted: str) -> date | None:
    try:
        return date.fromisoformat(wanted)
    except ValueError:
        return None  # an id, then


def _span(record: Record, day: date | None, *, row: Row | None) -> tuple[date, date]:
    """The days whose journal and exchanges it takes: those of every run that was under way."""
    if day is not None:
        start, end = f"{day - timedelta(days=1)}", f"{day + timedelta(days=2)}"
        query = "SELECT created, ended FROM runs WHERE created < ? AND (ended IS NULL OR ended >= ?)"
        rows = record.rows(query, end, start)
        first = last = day
    else:
        assert row is not None
        moment = str(row.get("created") or row.get("asked_at"))
        rows = [row] if "created" in row else record.rows(
            "SELECT created, ended FROM runs WHERE workspace = ? AND created <= ? AND (ended IS NULL OR ended >= ?)",
            row["workspace"], moment, moment,
        )  # fmt: skip
        first = last = local_day(moment)
        if row.get("concluded_at"):
            last = local_day(str(row["concluded_at"]))
    for each in rows:
        first = min(first, local_day(str(each["created"])))
        last = max(last, local_day(str(each["ended"])) if each["ended"] else date.max)
    return first, min(last, _newest(record, last))


def _newest(record: Record, last: date) -> date:
    return record.newest() if last == date.max else last


def _of_row(record: Record, row: Row | None) -> list[Cause]:
    assert row is not None
    if "asked_at" in row:
        return [_decision(row)]
    return [_run(record, row)]


def _of_day(record: Record, lines: Sequence[JsonObject], *, day: date) -> list[Cause]:
    """Everything of one day, each at its first line. Raises `NotFoundError` for a day without a journal."""
    mine = [line for line in lines if record.day_of(line) == day]
    if not mine:
        raise NotFoundError(f"the journal has no {day}", fix="kairos journal lists its days")
    decisions = record.by_id("decisions", (str(line["id"]) for line in mine if line["kind"] == "decision.made"))
    runs = record.by_id("runs", (str(line["id"]) for line in mine if str(line["kind"]).startswith("run.")))
    causes: dict[str, Cause] = {}
    for line in mine:
        name, kind = str(line["id"]), str(line["kind"])
        if kind == "decision.made" and name in decisions:
            causes.setdefault(name, _decision(decisions[name]))
        elif kind.startswith("run.") and name in runs:
            causes.setdefault(name, _run(record, runs[name]))
    for together in _looks(mine):
        names = tuple(str(line["id"]) for line in together)
        moment = str(together[0]["t"])
        causes.setdefault(names[0], Cause("hints", names[0], names, moment, lines=tuple(together)))
    return sorted(causes.values(), key=lambda cause: cause.moment)


def _looks(lines: Sequence[JsonObject]) -> Iterator[list[JsonObject]]:
    """The hints that were set aside, look by look: one look has one reason, and its lines follow each other."""
    together: list[JsonObject] = []
    for line in lines:
        if line["kind"] == "event.coalesced":
            if together and (together[-1]["ws"], together[-1]["t"]) != (line["ws"], line["t"]):
                yield together
                together = []
            together.append(line)
    if together:
        yield together


def _decision(row: Row) -> Cause:
    return Cause("decision", str(row["id"]), tuple(json.loads(str(row["events"]))), str(row["asked_at"]), row)


def _run(record: Record, row: Row) -> Cause:
    decision = record.by_id("decisions", [str(row["decision"])]).get(str(row["decision"]))
    events = tuple(json.loads(str(decision["events"]))) if decision else ()
    return Cause("run", str(row["id"]), events, str(row["created"]), row)
