"""The emergency stop inside the engine: what was decided meanwhile does not begin, and the record comes in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_bench import Setup, open_setup
from tests.fakes import decides, says

from kairosd.core.runs import RunState
from kairosd.errors import StoreError, TransitionError
from kairosd.ports import Query

pytestmark = pytest.mark.anyio


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


async def test_what_was_decided_when_the_owner_stopped_everything_waits_for_resume(setup: Setup) -> None:
    setup.decider.add(decides("act", "mend it"), decides("ignore"))
    setup.decider.held.clear()
    async with setup.running() as bench:
        await bench.hint()
        assert (await bench.engine.desk.stop(None))["recorded"]
        setup.decider.held.set()
        await bench.quiet()
        (run,) = await bench.stores.runs.find(Query())
        assert run.state is RunState.QUEUED
        assert setup.actor.prompts == []
        setup.actor.add(says("told"))
        told = await bench.run(await bench.tell("the owner may still ask"))
        assert told.result == "told"
        setup.actor.add(says("mended"))
        await bench.engine.desk.resume()
        await bench.quiet()
        assert (await bench.run(run.id)).result == "mended"


async def test_a_record_that_fails_is_tried_until_it_is_written(setup: Setup) -> None:
    refusals = 3

    async def put(real: object, *given: object, **named: object) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StoreError("the database is locked")
        await real(*given, **named)  # type: ignore[operator]

    setup.hooks = {"state": {"put": put}}
    setup.actor.add(says("never"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
        bench.ground.place.state.mkdir(exist_ok=True)
        assert await bench.engine.desk.stop(None) == {"stopped": [run], "recorded": False, "marked": True}
        assert bench.ground.place.stop_mark.exists()
        with pytest.raises(TransitionError, match="record"):
            await bench.engine.desk.resume()
        await bench.advance(5)
        assert (await bench.run(run)).state is RunState.CANCELLED
        assert not bench.ground.place.stop_mark.exists()
        assert (await bench.engine.desk.status())["state"] == "paused"
    setup.hooks = {}
    async with setup.running() as bench:
        assert (await bench.engine.desk.status())["state"] == "paused"


async def test_a_stop_that_finds_the_database_locked_is_a_stop_all_the_same(setup: Setup) -> None:
    refused = 0

    async def settle(real: object, *given: object, **named: object) -> None:
        nonlocal refused
        if not refused:
            refused += 1
            raise StoreError("the database is locked")
        await real(*given, **named)  # type: ignore[operator]

    setup.hooks = {"model_calls": {"settle": settle}}
    setup.actor.add(says("never"), says("never, and never again"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.engine.desk.stop(None))["recorded"]
        setup.actor.held.set()
        await bench.advance(120)
        assert refused
        assert len(setup.actor.prompts) == 1
        assert (await bench.run(run)).state is RunState.CANCELLED


async def test_a_mark_makes_the_next_start_begin_stopped(setup: Setup) -> None:
    setup.actor.add(says("never"))
    setup.actor.held.clear()
    async with setup.running() as bench:
        run = await bench.tell()
    bench.ground.place.state.mkdir(exist_ok=True)
    bench.ground.place.stop_mark.touch()
    async with setup.running() as bench:
        assert (await bench.run(run)).state is RunState.CANCELLED
        assert (await bench.engine.desk.status())["state"] == "paused"
        assert not bench.ground.place.stop_mark.exists()
