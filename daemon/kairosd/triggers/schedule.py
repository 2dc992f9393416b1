"""Schedules: the owner's jobs at their times, through suspends, set clocks and the two odd days of the year.

APScheduler supplies the calendar arithmetic only. Its cron triggers run over the *local calendar* (as if it were UTC)
and this module maps what they find to instants, because on the days when the clock changes the natives fire twice in
autumn and lose a time in spring. A fixed-hour job fires once per local date and time; a time that spring skips comes
when the old offset would have had it. Jobs with a wildcard hour fire at every real minute whose local time matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol, TypeAlias

from apscheduler.triggers.combining import OrTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]
from tzlocal import get_localzone

from kairosd.config.sections import ScheduleSection
from kairosd.core.events import Draft, Tier, is_fact_name
from kairosd.core.journal import Note, stamp
from kairosd.core.json import Json
from kairosd.core.workspaces import Workspace
from kairosd.errors import ConfigError
from kairosd.frozen import frozen
from kairosd.ports.world import Deps, Trigger

SLICE = timedelta(seconds=60)  # design §6: the longest sleep, so that suspends and clock jumps are seen
GRACE = timedelta(seconds=90)  # later than this is a misfire: one slice and half another
ODD = timedelta(hours=4)  # no zone has moved its clock by more in one go since 1970, date-line changes apart
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(2200, 1, 1, tzinfo=UTC)  # without an end, 31 February is looked for until the year 9999
HORIZONS = tuple(timedelta(hours=hours) for hours in (1, 24, 32 * 24, 400 * 24))  # how far back, a step at a time

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
Bounds: TypeAlias = tuple[int, int, Sequence[str]]  # lowest, highest, names in order
BOUNDS: tuple[Bounds, ...] = (
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, MONTHS),
    (0, 7, WEEKDAYS),
)
_ITEM = re.compile(r"(\*|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?")
_EVERY = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?")


class Rule(Protocol):
    """What APScheduler's triggers promise."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time at or after `now`."""


@frozen
class Job:
    """One schedule. `rule` yields local calendar times for cron and instants else; `misfire` is `skip` or `once`."""

    name: str
    goal: str
    workspace: str | None
    rule: Rule
    zone: tzinfo
    local: bool = False  # whether `rule` speaks of the local calendar
    fixed_hour: bool = False
    misfire: str = "once"
    max_late: timedelta = timedelta(days=1)


@frozen
class Fire:
    """One time a job is due; `key` names it in its own terms, so that the inbox refuses a second one."""

    due: datetime
    key: str


def build(
    section: Sequence[ScheduleSection],
    deps: Deps,
    *,
    last_seen: datetime | None = None,
    zone: tzinfo | None = None,
) -> Trigger:
    """The loop over all `[[schedules]]`. `last_seen` is the last moment an earlier daemon was awake, for catching up.

    Raises `ConfigError` naming the schedule for a time that cannot be read or never comes, or an unknown workspace.
    """
    now = deps.clock.now()
    here = zone or get_localzone()
    jobs = [_job(part, deps.workspaces, zone=here) for part in section]
    for part, job in zip(section, jobs, strict=True):
        if part.cron and next_fire(job, now) is None:
            raise ConfigError(f"schedule {job.name!r} never comes", fix=f"change cron = {part.cron!r}")
    return Schedule(deps, jobs, looked_at=last_seen or now)


class Schedule:
    """Submits an event when a job is due. `looked_at` is how far it got; give it to `build` after a restart."""

    name = "schedule"

    def __init__(self, deps: Deps, jobs: Sequence[Job], *, looked_at: datetime) -> None:
        self._clock = deps.clock
        self._intake = deps.intake
        self._note = deps.note
        self._jobs = jobs
        self.looked_at = looked_at

    async def run(self) -> None:
        while self._jobs:
            now = self._clock.now()
            if now > self.looked_at:
                for job in self._jobs:
                    await self._serve(job, now)
            # After a clock set back this repeats times already served: their keys make them duplicates.
            self.looked_at = now
            coming = [fire.due for job in self._jobs if (fire := next_fire(job, now))]
            # A span and not a moment: a moment would never come once the wall is set back behind it.
            await self._clock.sleep((min([now + SLICE, *coming]) - now).total_seconds())

    async def _serve(self, job: Job, now: datetime) -> None:
        due = _latest(job, after=self.looked_at, until=now)
        if now - self.looked_at > GRACE:
            due = due[-1:]  # after downtime: however many times were missed, at most one is made up for
        for fire in due:
            late = now - fire.due > GRACE
            if not late or (job.misfire == "once" and now - fire.due <= job.max_late):
                await self._submit(job, fire, late=late)
            else:
                missed: dict[str, Json] = {"job": job.name, "due": stamp(fire.due)}
                self._note(Note("schedule.missed", workspace=job.workspace or "", data=missed))

    async def _submit(self, job: Job, fire: Fire, *, late: bool) -> None:
        facts: dict[str, Json] = {"due": stamp(fire.due), "late": late}
        text = {"goal": job.goal}
        if is_fact_name(job.name):
            facts["job"] = job.name
        else:
            text["job"] = job.name
        await self._intake.submit(
            Draft(
                source="schedule", kind=job.name, key=fire.key, tier=Tier.LOCAL, workspace=job.workspace,
                facts=facts, text=text,
            )
        )  # fmt: skip


def fires(job: Job, *, after: datetime, until: datetime) -> list[Fire]:
    """Every time `job` is due in `after < due <= until` (aware), in order."""
    if not job.local:
        instants = {moment.astimezone(UTC) for moment in _times(job.rule, after=after, until=until)}
        return [Fire(due, f"{job.name}@{stamp(due)}") for due in sorted(instants) if after < due <= until]
    found: dict[datetime, Fire] = {}
    start, end = _calendar_window(job.zone, after=after, until=until)
    for moment in _times(job.rule, after=start, until=end):
        wall = moment.replace(tzinfo=job.zone)
        for due in _instants(wall, once=job.fixed_hour):
            if after < due <= until:
                mark = f"{wall:%Y-%m-%dT%H:%M}" if job.fixed_hour else stamp(due)
                found[due] = Fire(due, f"{job.name}@{mark}")
    return [found[due] for due in sorted(found)]


def next_fire(job: Job, after: datetime) -> Fire | None:
    """The first time `job` is due after `after`; None when it never is again."""
    cursor = _calendar_window(job.zone, after=after, until=after)[0] if job.local else after
    while (moment := job.rule.get_next_fire_time(None, cursor + timedelta(seconds=1))) is not None and moment > cursor:
        # Times near a change of the clock come out of order or not at all, so the window up to this one decides.
        walls = [moment.replace(tzinfo=job.zone, fold=fold) for fold in (0, 1)] if job.local else [moment]
        last = max(wall.astimezone(UTC) for wall in walls)
        if last > after and (found := fires(job, after=after, until=last)):
            return found[0]
        cursor = moment
    return None


def parse_cron(text: str) -> tuple[Rule, bool]:
    """Reads five fields as crontab(5) does; returns the rule over the local calendar and whether its hour is fixed.

    Names, ranges, lists and steps; 0 and 7 are Sunday; when neither day field starts with `*`, either may match.
    Raises `ValueError` saying what is wrong.
    """
    fields = text.lower().split()
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields where five are needed: minute hour day month weekday")
    values = [_values(text, bounds) for text, bounds in zip(fields, BOUNDS, strict=True)]
    minute, hour, day, month = (_plain(found, bounds) for found, bounds in zip(values[:4], BOUNDS, strict=False))
    # crontab(5) counts from Sunday, APScheduler from Monday.
    weekday = _plain({(number - 1) % 7 for number in values[4]}, (0, 6, ()))
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    days = [(day, "*"), ("*", weekday)] if either else [(day, weekday)]
    rules = [
        CronTrigger(
            minute=minute, hour=hour, day=in_month, month=month, day_of_week=in_week, end_date=LAST, timezone=UTC
        )
        for in_month, in_week in days
    ]  # fmt: skip
    return (OrTrigger(rules) if either else rules[0]), not fields[1].startswith("*")


def parse_every(text: str) -> Rule:
    """Reads a span such as `90m`, `2h`, `1d` or `1h30m`. It is counted from 1970, so that restarts do not shift it.

    Raises `ValueError` saying what is wrong.
    """
    match = _EVERY.fullmatch(text.replace(" ", "").lower())
    days, hours, minutes = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not 0 < days * 1440 + hours * 60 + minutes <= 366 * 1440:
        raise ValueError(f"{text!r} is no span between 1m and 366d such as 90m, 2h, 1d or 1h30m")
    rule: Rule = IntervalTrigger(days=days, hours=hours, minutes=minutes, start_date=EPOCH, timezone=UTC)
    return rule


def parse_at(text: str, zone: tzinfo) -> Rule:
    """Reads an ISO date and time, local unless it names an offset. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    rule: Rule = DateTrigger(aware.astimezone(UTC), timezone=UTC)
    return rule


def _job(section: ScheduleSection, workspaces: Sequence[Workspace], *, zone: tzinfo) -> Job:
    given = [key for key in ("cron", "every", "at") if getattr(section, key)]
    if len(given) != 1:
        raise ConfigError(f"schedule {section.name!r} needs exactly one time", fix="set one of cron, every and at")
    local = fixed_hour = False
    rule: Rule
    try:
        if section.cron:
            local = True
            rule, fixed_hour = parse_cron(section.cron)
        else:
            rule = parse_every(section.every) if section.every else parse_at(section.at, zone)
    except ValueError as error:
        raise ConfigError(f"schedule {section.name!r}: {error}", fix=f"correct {given[0]}") from error
    return Job(
        name=section.name, goal=section.goal, workspace=_workspace(section, workspaces), rule=rule, zone=zone,
        local=local, fixed_hour=fixed_hour, misfire=section.misfire,
        max_late=timedelta(seconds=section.max_late_seconds),
    )  # fmt: skip


def _workspace(section: ScheduleSection, workspaces: Sequence[Workspace]) -> str | None:
    names = [workspace.name for workspace in workspaces]
    if section.workspace:
        if section.workspace not in names:
            raise ConfigError(
                f"schedule {section.name!r} names the workspace {section.workspace!r}, which is not configured",
                fix=f"use one of: {', '.join(names) or 'none is configured'}",
            )
        return section.workspace
    if len(names) > 1:
        raise ConfigError(f"schedule {section.name!r} needs a workspace", fix=f"use one of: {', '.join(names)}")
    return names[0] if names else None


def _latest(job: Job, *, after: datetime, until: datetime) -> list[Fire]:
    """What is due, but after a long absence no more than its end: only the last missed time matters."""
    for horizon in HORIZONS:
        if until - after <= horizon:
            break
        if found := fires(job, after=until - horizon, until=until):
            return found
    return fires(job, after=after, until=until)


def _times(rule: Rule, *, after: datetime, until: datetime) -> Iterator[datetime]:
    """What `rule` yields in `after < moment <= until`."""
    moment = rule.get_next_fire_time(None, after + timedelta(microseconds=1))
    while moment is not None and moment <= until:
        if moment > after:
            yield moment
        if isinstance(rule, DateTrigger):
            return
        moment = rule.get_next_fire_time(None, moment + timedelta(seconds=1))


def _calendar_window(zone: tzinfo, *, after: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The local calendar between two instants, as if it were UTC; wider when the clock changes near by."""
    offsets = [[(end + side).astimezone(zone).utcoffset() for side in (-ODD, ODD)] for end in (after, until)]
    margin = ODD if any(before != later for before, later in offsets) else timedelta(0)
    start, end = after.astimezone(zone), until.astimezone(zone)
    return start.replace(tzinfo=UTC) - margin, end.replace(tzinfo=UTC) + margin


def _instants(wall: datetime, *, once: bool) -> list[datetime]:
    """The instants at which a local clock shows `wall`: two in autumn's hour, none in spring's; `once`: always one."""
    if once:
        return [wall.replace(fold=0).astimezone(UTC)]
    both = {wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
    return [
        moment for moment in both if moment.astimezone(wall.tzinfo).replace(tzinfo=None) == wall.replace(tzinfo=None)
    ]


def _plain(values: set[int], bounds: Bounds) -> str:
    """Values as the plainest list there is, so that no dialect of the library below can creep in."""
    return "*" if values == set(range(bounds[0], bounds[1] + 1)) else ",".join(str(value) for value in sorted(values))


def _values(text: str, bounds: Bounds) -> set[int]:
    low, high, _ = bounds
    values: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise ValueError(f"{item!r} is no value, range or step")
        first, last, step = match.groups()
        if step is not None and not last and first != "*":
            raise ValueError(f"{item!r}: a step follows * or a range, such as {first}-{high}/{step}")
        if step is not None and int(step) == 0:
            raise ValueError(f"{item!r}: a step is at least 1")
        if first == "*" and last:
            raise ValueError(f"{item!r} is no range")
        start = low if first == "*" else _value(first, bounds)
        stop = high if first == "*" else _value(last or first, bounds)
        if last == "sun" and start > 0:
            stop = 7
        if stop < start:
            raise ValueError(f"{item!r} runs backwards")
        values.update(range(start, stop + 1, int(step or 1)))
    return values


def _value(text: str, bounds: Bounds) -> int:
    low, high, names = bounds
    if text in names:
        return names.index(text) + (1 if low == 1 else 0)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not between {low} and {high}")
    return int(text)
