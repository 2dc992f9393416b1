"""Schedules against a scanner that looks at every minute, on the days when the clock changes and on others."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fakes import ManualClock, settle
from tests.intake import RecordingIntake, deps_for

from kairosd.config.sections import ScheduleSection
from kairosd.core.events import Tier
from kairosd.core.journal import Note
from kairosd.core.workspaces import Workspace
from kairosd.errors import ConfigError
from kairosd.triggers import schedule
from kairosd.triggers.schedule import Fire, Job, Schedule, build, next_fire, parse_at, parse_cron, parse_every

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # moves by half an hour
ONE = (Workspace("one", Path("/one")),)
CHANGES = {
    BERLIN: (date(2026, 3, 29), date(2026, 10, 25)),
    NEW_YORK: (date(2026, 3, 8), date(2026, 11, 1)),
    LORD_HOWE: (date(2026, 4, 5), date(2026, 10, 4)),
}
NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def fires(job: Job, after: datetime, until: datetime) -> list[Fire]:
    return schedule.fires(job, after=after, until=until)


def job(cron: str, zone: ZoneInfo = BERLIN) -> Job:
    rule, fixed_hour = parse_cron(cron)
    return Job("nightly", "look", "one", rule, zone, local=True, fixed_hour=fixed_hour)


@cache
def matches(field: str, value: int, low: int, high: int) -> bool:
    """crontab(5), written down a second time and in the most pedestrian way."""
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start = low if span == "*" else int(first)
        stop = high if span == "*" else int(last or first)
        if value in range(start, stop + 1, int(step or 1)):
            return True
    return False


def due(cron: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = cron.split()
    if not (matches(minute, wall.minute, 0, 59) and matches(hour, wall.hour, 0, 23)):
        return False
    dow = wall.isoweekday() % 7
    in_week = matches(weekday, dow, 0, 7) or (dow == 0 and matches(weekday, 7, 0, 7))
    in_month = matches(day, wall.day, 1, 31)
    either = not day.startswith("*") and not weekday.startswith("*")
    return matches(month, wall.month, 1, 12) and (in_week or in_month if either else in_week and in_month)


def scan(cron: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every minute in turn: of the calendar for a fixed hour, of real time for a wildcard."""
    minute = timedelta(minutes=1)
    found: set[datetime] = set()
    if cron.split()[1].startswith("*"):
        moment = start + minute
        while moment <= end:
            if due(cron, moment.astimezone(zone)):
                found.add(moment)
            moment += minute
        return sorted(found)
    wall = start.astimezone(zone).replace(tzinfo=None) - timedelta(hours=3)
    while wall <= end.astimezone(zone).replace(tzinfo=None) + timedelta(hours=3):
        if due(cron, wall):
            found.add(wall.replace(tzinfo=zone).astimezone(UTC))
        wall += minute
    return sorted(moment for moment in found if start < moment <= end)


def items(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, high).map(str)
    item = st.one_of(number.map(str), span, st.tuples(span, step).map("/".join), step.map(lambda number: f"*/{number}"))
    return st.lists(item, min_size=1, max_size=3).map(",".join)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    return st.just("*") | items(low, high)


# A bare star for the minute takes far longer than all others, and is what `*/1` is: by example is enough.
CRONS = st.tuples(items(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


@settings(deadline=None, max_examples=12)
@given(cron=CRONS, zone=st.sampled_from(list(CHANGES)), autumn=st.booleans(), shift=st.integers(-1, 1))
@example("30 2 * * *", BERLIN, False, 0)
@example("30 2 * * *", BERLIN, True, 0)
@example("*/30 * * * *", NEW_YORK, True, 0)
@example("15 1 * * *", NEW_YORK, True, 0)
@example("45 1 * * *", LORD_HOWE, True, 0)
@example("5 */2 25 * 0", BERLIN, True, 0)
@example("* */8 * * *", LORD_HOWE, True, 0)
@example("* 2 * * *", BERLIN, False, 0)
@example("4,13,27,36,41,50 * * * *", NEW_YORK, True, 0)  # at each seam of the slices
def test_every_due_minute_and_no_other(cron: str, zone: ZoneInfo, autumn: bool, shift: int) -> None:
    day = CHANGES[zone][autumn] + timedelta(days=shift)
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) - timedelta(minutes=1)
    end = start + timedelta(hours=26)
    expected = scan(cron, zone, start, end)
    assert [fire.due for fire in fires(job(cron, zone), start, end)] == expected
    # in slices, as the loop asks, nothing is lost or added at the seams
    edges = [start + timedelta(minutes=217) * number for number in range(8)]
    sliced = [fire.due for a, b in zip(edges, edges[1:], strict=False) for fire in fires(job(cron, zone), a, b)]
    assert sliced == [moment for moment in expected if moment <= edges[-1]]


@settings(deadline=None, max_examples=15)
@given(cron=CRONS)
def test_the_next_time_is_the_first_of_all(cron: str) -> None:
    start = datetime(2026, 10, 24, 20, 17, 30, tzinfo=UTC)
    found = next_fire(job(cron), start)
    first = scan(cron, BERLIN, start.replace(second=0), start + timedelta(hours=30))
    assert (found.due if found and found.due <= start + timedelta(hours=30) else None) == (first[0] if first else None)


def test_a_fixed_hour_fires_once_in_autumn_and_is_not_lost_in_spring() -> None:
    nightly = job("30 2 * * *")
    autumn = fires(nightly, datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 22, tzinfo=UTC))
    spring = fires(nightly, datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert [fire.due.isoformat() for fire in autumn] == ["2026-10-25T00:30:00+00:00"]
    assert [fire.due.astimezone(BERLIN).hour for fire in spring] == [3]
    assert spring[0].key == "nightly@2026-03-29T02:30"


def test_wildcard_hours_keep_to_real_time() -> None:
    start = datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
    hourly = fires(job("0 * * * *"), start, start + timedelta(hours=4))
    assert [fire.due.hour for fire in hourly] == [0, 1, 2, 3]
    assert len({fire.key for fire in hourly}) == 4


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("0 9 * jan-mar mon-fri", "0 9 * 1-3 1-5"),
        ("0 9 * * sat-sun", "0 9 * * 6,0"),
        ("0 9 * * fri-sun", "0 9 * * 5-7"),
        ("0 9 * * 7", "0 9 * * 0"),
        ("0 9 1 dec sun", "0 9 1 12 0"),
    ],
)
def test_names_mean_their_numbers(text: str, plain: str) -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    found = [fire.due for fire in fires(job(text), start, end)]
    assert found == [fire.due for fire in fires(job(plain), start, end)]
    assert found


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5/10 * * * *",
     "*/0 * * * *", "9-5 * * * *", "* * * foo *", "1,,2 * * * *", "*-5 * * * *", "-1 * * * *", "@daily", "* * l * *"],
)  # fmt: skip
def test_what_is_no_crontab_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_cron(text)


@pytest.mark.parametrize(("text", "minutes"), [("90m", 90), ("2h", 120), ("1d", 1440), ("1h30m", 90), ("1D 2H", 1560)])
def test_a_span_is_counted_from_1970(text: str, minutes: int) -> None:
    every = Job("e", "g", None, parse_every(text), UTC)
    start = datetime(2026, 3, 2, 9, 1, tzinfo=UTC)
    found = fires(every, start, start + timedelta(minutes=3 * minutes))
    assert len(found) == 3
    assert all(int(fire.due.timestamp()) % (minutes * 60) == 0 for fire in found)
    assert fires(every, found[0].due, found[1].due) == [found[1]]


@pytest.mark.parametrize("text", ["", "0m", "90", "1w", "-5m", "m", "367d", "1m1h"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="span"):
        parse_every(text)


def test_a_date_is_local_unless_it_says_otherwise() -> None:
    at = Job("a", "g", None, parse_at("2026-07-01T09:30", BERLIN), BERLIN)
    assert next_fire(at, datetime(2026, 3, 2, tzinfo=UTC)) is not None
    assert [
        fire.due.hour for fire in fires(at, datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    ] == [7]
    assert next_fire(at, datetime(2026, 7, 1, 7, 30, tzinfo=UTC)) is None


def section(**keys: object) -> ScheduleSection:
    return ScheduleSection.model_validate({"name": "nightly", "goal": "look around", **keys})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"cron": "0 0 31 2 *"}, "never comes"),
        ({"cron": "61 * * * *"}, "61"),
        ({"every": "soon"}, "soon"),
        ({"at": "tomorrow"}, "tomorrow"),
        ({}, "exactly one"),
        ({"cron": "* * * * *", "every": "1h"}, "exactly one"),
        ({"every": "1h", "workspace": "three"}, "three"),
    ],
)
def test_a_broken_schedule_is_named_with_its_fix(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build([section(**keys)], deps_for(ManualClock(), workspaces=ONE), zone=BERLIN)
    assert "nightly" in str(caught.value)
    assert caught.value.fix


def test_two_workspaces_need_a_choice() -> None:
    two = (*ONE, Workspace("two", Path("/two")))
    with pytest.raises(ConfigError, match="needs a workspace"):
        build([section(every="1h")], deps_for(ManualClock(), workspaces=two))


class Bench:
    """A schedule at work on a manual clock that starts on 2 March 2026, 09:00 UTC (10:00 in Berlin)."""

    def __init__(self, *sections: ScheduleSection, last_seen: datetime | None = None) -> None:
        self.clock = ManualClock()
        self.notes: list[Note] = []
        deps = deps_for(self.clock, workspaces=ONE, notes=self.notes)
        assert isinstance(deps.intake, RecordingIntake)
        self.intake = deps.intake
        trigger = build(sections, deps, last_seen=last_seen, zone=BERLIN)
        assert isinstance(trigger, Schedule)
        self.trigger = trigger

    async def run(self, *moves: tuple[str, float]) -> list[str]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.trigger.run())
            await settle()
            for kind, seconds in moves:
                if kind == "jump":
                    self.clock.jump(seconds)
                else:
                    await self.clock.advance(seconds)
            task.cancel()
        return [str(draft.facts["due"])[:16] for draft in self.intake.drafts]


@pytest.mark.anyio
async def test_a_due_job_becomes_one_event_with_its_goal() -> None:
    bench = Bench(section(cron="5 10 * * *"))
    assert await bench.run(("advance", 3600)) == ["2026-03-02T09:05"]
    draft = bench.intake.drafts[0]
    assert (draft.source, draft.kind, draft.tier, draft.workspace) == ("schedule", "nightly", Tier.LOCAL, "one")
    assert draft.text == {"goal": "look around"}
    assert draft.facts == {"job": "nightly", "due": "2026-03-02T09:05:00.000000Z", "late": False}


@pytest.mark.anyio
async def test_a_suspend_is_made_up_for_once() -> None:
    bench = Bench(section(every="10m"))
    assert await bench.run(("advance", 660), ("jump", 5 * 3600), ("advance", 60)) == [
        "2026-03-02T09:10", "2026-03-02T14:10",
    ]  # fmt: skip
    assert [draft.facts["late"] for draft in bench.intake.drafts] == [False, False]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("keys", "due_at", "noted"),
    [
        ({}, ["2026-03-02T05:00"], 0),
        ({"misfire": "skip"}, [], 1),
        ({"max_late_seconds": 3600}, [], 1),
        ({"max_late_seconds": 4 * 3600 + 60}, ["2026-03-02T05:00"], 0),
    ],
)
async def test_downtime_is_made_up_for_at_most_once_and_only_if_wanted(
    keys: dict[str, object], due_at: list[str], noted: int
) -> None:
    away = datetime(2026, 2, 20, tzinfo=UTC)
    bench = Bench(section(cron="0 6 * * *", **keys), last_seen=away)
    assert await bench.run(("advance", 120)) == due_at
    assert [note.kind for note in bench.notes] == ["schedule.missed"] * noted
    assert all(draft.facts["late"] for draft in bench.intake.drafts)


@pytest.mark.anyio
async def test_a_clock_set_back_repeats_nothing_and_loses_nothing() -> None:
    bench = Bench(section(every="10m"))
    found = await bench.run(("advance", 1300), ("jump", -1000), ("advance", 2000))
    assert found == ["2026-03-02T09:10", "2026-03-02T09:20", "2026-03-02T09:30"]


@pytest.mark.anyio
async def test_a_clock_that_was_wrong_by_years_does_not_silence_a_job() -> None:
    bench = Bench(section(every="10m"), last_seen=datetime(2036, 3, 2, tzinfo=UTC))
    assert await bench.run(("advance", 700)) == ["2026-03-02T09:10"]


@pytest.mark.anyio
async def test_a_restart_in_the_same_minute_adds_nothing() -> None:
    bench = Bench(section(cron="0 10 * * *"), last_seen=datetime(2026, 3, 2, 8, 59, tzinfo=UTC))
    assert await bench.run(("advance", 5)) == ["2026-03-02T09:00"]
    bench.trigger.looked_at = datetime(2026, 3, 2, 8, 59, tzinfo=UTC)
    assert await bench.run(("advance", 5)) == ["2026-03-02T09:00"]
