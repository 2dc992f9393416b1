"""The tick: its ladder, its resets, and the wakes it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import ManualClock, settle
from tests.intake import RecordingIntake, deps_for

from kairosd.config.sections import TickSection
from kairosd.core.workspaces import Workspace
from kairosd.triggers.tick import build, ladder

pytestmark = pytest.mark.anyio

ONE = (Workspace("one", Path("/one")),)
TWO = (*ONE, Workspace("two", Path("/two")))


@asynccontextmanager
async def ticking(
    section: TickSection, workspaces: tuple[Workspace, ...] = ONE
) -> AsyncIterator[tuple[ManualClock, RecordingIntake]]:
    clock = ManualClock()
    deps = deps_for(clock, workspaces=workspaces)
    assert isinstance(deps.intake, RecordingIntake)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(build(section, deps).run())
        await settle()
        yield clock, deps.intake
        task.cancel()


def waits(clock: ManualClock, intake: RecordingIntake, start: float = 0) -> list[float]:
    began = clock.now() - timedelta(seconds=clock.monotonic() - start)
    moments = [(moment - began).total_seconds() for moment, _ in intake.ticks]
    return [later - earlier for earlier, later in zip([0.0, *moments], moments, strict=False)]


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (300, 3600, (300, 600, 1200, 2400, 3600)),
        (60, 3600, (60, 300, 600, 1200, 2400, 3600)),
        (1, 1, (1,)),
        (1, 60, (1, 60)),
        (1800, 2000, (1800, 2000)),
        (50, 10, (50,)),
    ],
)
def test_the_ladder_is_the_back_off_clipped_to_the_bounds(low: int, high: int, steps: tuple[int, ...]) -> None:
    assert ladder(low, high) == steps


async def test_an_unchanged_world_is_looked_at_ever_more_rarely() -> None:
    async with ticking(TickSection()) as (clock, intake):
        await clock.advance(4 * 3600)
        assert waits(clock, intake) == [300, 600, 1200, 2400, 3600, 3600]


async def test_one_second_bounds_tick_every_second() -> None:
    async with ticking(TickSection(min_seconds=1, max_seconds=1)) as (clock, intake):
        await clock.advance(60)
        assert len(intake.ticks) == 60


async def test_a_change_starts_the_back_off_again() -> None:
    async with ticking(TickSection()) as (clock, intake):
        await clock.advance(300 + 600)
        intake.changed = {"one"}
        await clock.advance(1200)
        intake.changed = set()
        await clock.advance(300)
        assert waits(clock, intake) == [300, 600, 1200, 300]


async def test_an_event_shortens_the_wait_and_never_stretches_it() -> None:
    async with ticking(TickSection()) as (clock, intake):
        await clock.advance(300 + 600 + 1200)
        intake.ticks.clear()
        intake.ring()
        await clock.advance(290)
        assert intake.ticks == []
        for _ in range(4):  # a busy neighbour rings all the time: the look must come all the same
            intake.ring()
            await clock.advance(5)
        assert len(intake.ticks) == 1


async def test_a_wake_is_served_on_its_second_and_once() -> None:
    async with ticking(TickSection(), TWO) as (clock, intake):
        wake = clock.now() + timedelta(seconds=77)
        intake.wakes = {"two": wake}
        intake.ring()
        await clock.advance(120)
        assert intake.ticks == [(wake, "two")]


async def test_a_disabled_tick_serves_wakes_only() -> None:
    async with ticking(TickSection(enabled=False)) as (clock, intake):
        await clock.advance(3 * 86400)
        assert intake.ticks == []
        intake.wakes = {"one": clock.now() + timedelta(seconds=5)}
        intake.ring()
        await clock.advance(10)
        assert len(intake.ticks) == 1


async def test_every_workspace_is_looked_at_by_the_one_timer() -> None:
    async with ticking(TickSection(min_seconds=1, max_seconds=1), TWO) as (clock, intake):
        await clock.advance(3)
        assert [name for _, name in intake.ticks] == ["one", "two"] * 3
