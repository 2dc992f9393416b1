"""Alarms and feeds: nobody polls, no ring is lost, and no follower slows a run; and the supervisor's back-off."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.fakes import ManualClock, settle

from kairosd.engine.condition import RECENT_SECONDS, Condition
from kairosd.engine.signals import QUEUE_MAX, Alarm, Feed
from kairosd.engine.supervise import LAST_DELAY, WELL_SECONDS, Health, contain, keep_running
from kairosd.errors import StoreError
from kairosd.ports import Update

pytestmark = pytest.mark.anyio


async def test_an_alarm_wakes_its_sleeper() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(alarm.wait())
        await clock.advance(86400)
        assert not sleeper.done()
        alarm.ring()
        assert await sleeper


async def test_a_ring_before_the_sleep_is_not_lost_and_counts_once() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    alarm.ring()
    alarm.ring()
    assert await alarm.wait()
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(alarm.wait(clock.now() + timedelta(seconds=10)))
        await clock.advance(9)
        assert not sleeper.done()
        await clock.advance(1)
        assert not await sleeper


async def test_a_ring_comes_before_the_moment() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(alarm.wait(clock.now() + timedelta(seconds=10)))
        await settle()
        alarm.ring()
        assert await sleeper
    assert clock.now() == ManualClock().now()


async def test_an_alarm_that_is_cancelled_leaves_nothing_running() -> None:
    clock = ManualClock()
    alarm = Alarm(clock)
    before = asyncio.all_tasks()
    sleeper = asyncio.get_running_loop().create_task(alarm.wait(clock.now() + timedelta(seconds=10)))
    await settle()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert asyncio.all_tasks() == before


async def test_a_feed_reaches_every_follower_of_its_run_and_no_other() -> None:
    feed = Feed()
    feed.publish("r_1", Update("text", "before anybody listened"))
    with feed.subscribe("r_1") as one, feed.subscribe("r_1") as two, feed.subscribe("r_2") as other:
        feed.publish("r_1", Update("text", "hello"))
        feed.publish("r_2", Update("text", "elsewhere"))
        assert (await anext(one)).text == "hello"
        assert (await anext(two)).text == "hello"
        assert (await anext(other)).text == "elsewhere"
    feed.publish("r_1", Update("text", "to nobody"))
    assert feed._followers == {}


async def test_a_follower_that_lags_is_ended_and_the_run_is_not_slowed() -> None:
    feed = Feed()
    with feed.subscribe("r_1") as updates:
        for number in range(QUEUE_MAX * 3):
            feed.publish("r_1", Update("text", str(number)))
        seen = [update.text async for update in updates]
    assert seen == [str(number) for number in range(QUEUE_MAX)]


async def test_a_part_that_fails_comes_back_ever_slower() -> None:
    clock = ManualClock()
    health = Health("part")
    starts: list[float] = []

    async def part() -> None:
        starts.append(clock.monotonic())
        if len(starts) < 12:
            raise ExceptionGroup("two at once", [ValueError("boom"), StoreError("because of it")])

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_running(part, health, clock=clock))
        await clock.advance(7200)
    waits = [after - before for before, after in zip(starts, starts[1:], strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, LAST_DELAY, LAST_DELAY]
    assert (health.failures, health.last_error) == (11, "ValueError: boom")


async def test_a_part_that_ran_well_for_long_comes_back_as_fast_as_ever() -> None:
    clock = ManualClock()
    starts: list[float] = []

    async def part() -> None:
        starts.append(clock.monotonic())
        if len(starts) == 4:
            await clock.sleep(WELL_SECONDS)
        if len(starts) < 7:
            raise ValueError("boom")

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_running(part, Health("part"), clock=clock))
        await clock.advance(7200)
    waits = [after - before for before, after in zip(starts, starts[1:], strict=False)]
    assert waits == [1, 2, 4, WELL_SECONDS + 1, 2, 4]


async def test_a_part_that_returns_is_not_started_again() -> None:
    starts = []

    async def part() -> None:
        starts.append(1)

    await keep_running(part, Health("part"), clock=ManualClock())
    assert starts == [1]


@pytest.mark.parametrize("ending", [None, StoreError("the disk is full")])
async def test_what_is_contained_goes_no_further(caplog: pytest.LogCaptureFixture, ending: Exception | None) -> None:
    told: list[str] = []

    async def work() -> None:
        raise ValueError("boom")

    async def failed(reason: str) -> None:
        told.append(reason)
        if ending:
            raise ending

    await contain(work, "run r_1", failed=failed)
    assert "run r_1 broke" in caplog.text
    assert ("run r_1 could not be ended" in caplog.text) == (ending is not None)
    (reason,) = told
    assert "ValueError: boom" in reason


async def test_a_cancellation_is_not_contained() -> None:
    told: list[str] = []

    async def failed(reason: str) -> None:
        told.append(reason)

    work = asyncio.get_running_loop().create_task(contain(asyncio.Event().wait, "run r_1", failed=failed))
    await settle()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert told == []


async def test_the_condition_names_problems_as_long_as_they_last() -> None:
    clock = ManualClock()
    condition = Condition(clock)
    assert condition.shown_state == "starting"
    condition.state = "ready"
    assert condition.shown_state == "ready"
    condition.set("fetch", "the model is being fetched", fix="wait", degrades=False)
    assert condition.shown_state == "ready"
    condition.set("port", "the port is taken", fix="free it")
    assert condition.shown_state == "degraded"
    assert [problem["code"] for problem in condition.problems()] == ["fetch", "port"]
    condition.clear("port")
    condition.clear("port")
    assert condition.shown_state == "ready"
    condition.paused = True
    assert condition.shown_state == "paused"
    condition.state = "stopping"
    assert condition.shown_state == "stopping"


async def test_a_failing_part_degrades_for_a_while() -> None:
    clock = ManualClock()
    condition = Condition(clock)
    condition.state = "ready"
    health = condition.watch("trigger files")

    async def part() -> None:
        if not health.failures:
            raise ValueError("boom")

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_running(part, health, clock=clock))
        await clock.advance(1)
    (problem,) = condition.problems()
    assert "trigger files failed 1 times: ValueError: boom" in str(problem["text"])
    assert condition.shown_state == "degraded"
    await clock.advance(RECENT_SECONDS)
    assert condition.shown_state == "ready"
