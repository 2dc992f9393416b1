"""Budgets: no purse is ever overspent, whatever runs beside each other or dies; who finds it empty waits or asks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.engine_bench import Hooked, Setup, forever, open_setup, share_statements
from tests.fakes import ManualClock, decides, says, use

from kairosd.core.budget import DOLLAR, Caps, Payer, Purse, caps
from kairosd.core.events import EventState, Tier
from kairosd.core.messages import Done, Message, Prompt, StreamPart, TextDelta, Usage
from kairosd.core.notices import NoticeDraft
from kairosd.core.pricing import price
from kairosd.core.runs import ApprovalState, ParkedOn, RunState
from kairosd.engine.asking import Asking
from kairosd.engine.breakers import Attempt, Breakers
from kairosd.engine.incidents import Incidents
from kairosd.engine.limits import BARREN_TURNS
from kairosd.engine.purses import NoRoom, Purses, Taken
from kairosd.errors import ModelError, ModelUnavailableError, StoreError
from kairosd.models.prices import tariff_of
from kairosd.ports import Query, Stores
from kairosd.store.assembly import open_stores

pytestmark = pytest.mark.anyio

RUNS = 16
PROMPT = Prompt("be brief", (Message("user", "hello " * 200),), max_tokens=1000)
HELD = 10_000  # micro-dollars: more than one call of PROMPT takes at worst, less than two
DEAR = Usage(input=4000, output=400)  # 6,000 micro-dollars of claude-haiku-4-5

VERY_DEAR = Usage(input=60_000, output=4000)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def budget(purse: str, **keys: object) -> str:
    return f"[budget.{purse}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


# Show: sixteen runs, one purse, a thousand schedules with crashes.

GENERATIONS, PUT_BACK = 4, timedelta(seconds=120)


class CrashError(Exception):
    """The process is gone."""


@dataclass
class World:
    """One purse, what a provider really billed to it, and a die that decides who goes on and where it all ends."""

    die: random.Random
    clock: ManualClock
    caps: Caps
    dead: bool = False
    billed: list[tuple[datetime, int, int]] = field(default_factory=list)

    async def pause(self) -> None:
        for _ in range(self.die.randrange(4)):
            await asyncio.sleep(0)
        if self.die.random() < 0.2:
            self.clock.jump(self.die.choice((1, 60, 900, 1800)))

    def may_die(self) -> None:
        self.dead = self.dead or self.die.random() < 0.02
        if self.dead:
            raise CrashError

    def hooks(self) -> dict[str, Callable[..., object]]:
        """Everything that is written may be the last thing before a crash, or may not be written any more."""

        async def around(real: Callable[..., object], *given: object, **named: object) -> object:
            await self.pause()
            self.may_die()
            made = await real(*given, **named)  # type: ignore[misc]
            self.may_die()
            return made

        return {"reserve": around, "settle": around}

    def check(self) -> None:
        """At each end of a window: what was billed within it is within the cap. Outside of every book of ours."""
        for cap in self.caps:
            assert cap.span is not None
            for end, _, _ in self.billed:
                inside = [(price, tokens) for at, price, tokens in self.billed if end - cap.span < at <= end]
                assert sum(price for price, _ in inside) <= cap.price
                assert sum(tokens for _, tokens in inside) <= cap.tokens


class Billing:
    """A model that bills at once, as much as it likes up to what was announced, and may break anywhere after that."""

    provider, name, context, thinking, by_schema = "scripted", "billing", 32_000, 0, False

    def __init__(self, world: World, model: str) -> None:
        self._world = world
        self.model = model

    async def stream(self, prompt: Prompt) -> AsyncGenerator[StreamPart, None]:
        world = self._world
        await world.pause()
        world.may_die()
        fate = world.die.random()
        if fate < 0.1:
            raise ModelUnavailableError("busy")
        usage = Usage(world.die.randrange(300, 900), world.die.randrange(prompt.max_tokens))
        cost = price(usage, tariff_of(self)) or 0
        world.billed.append((world.clock.now(), cost, (usage.input or 0) + (usage.output or 0)))
        yield TextDelta("so ")
        await world.pause()
        world.may_die()
        if fate < 0.2:
            raise ModelUnavailableError("cut")
        yield Done("end", usage if fate < 0.9 else Usage())

    async def check(self) -> str:
        return ""

    async def close(self) -> None:
        """Has nothing to let go of."""


class Tireless(Breakers):
    """Breakers that never open: the runs are to ask, and to pay, as often as they can."""

    def __init__(self, stores: Stores, clock: ManualClock) -> None:
        async def tell(_: NoticeDraft) -> None:
            raise AssertionError

        incidents = Incidents(stores.state, clock, tell=tell)
        super().__init__(clock, incidents, fallbacks={}, jitter=lambda seconds, _: seconds, back=lambda: None)

    async def failed(self, attempt: Attempt, error: ModelError) -> None:
        """Is forgotten."""


async def a_run(asking: Asking, world: World, name: str) -> None:
    model = Billing(world, "claude-haiku-4-5" if world.die.random() < 0.8 else "a-model-nobody-knows")
    for _ in range(3):
        try:
            await asking.ask(model, PROMPT, payer=Payer(name, Purse.TICK), role="act")
        except (ModelUnavailableError, NoRoom):
            await world.pause()
        except CrashError:
            return


@asynccontextmanager
async def stores_at(folder: Path, clock: ManualClock) -> AsyncIterator[Stores]:
    opened = open_stores(folder / "kairos.db", folder / "journal", transcripts_folder=folder / "t", clock=clock)
    opened.engine.dispose()
    share_statements(opened.engine)
    event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    opened.start()
    yield opened.stores
    await opened.close()


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 1000), marks=pytest.mark.slow)], ids=str)
async def test_sixteen_runs_beside_each_other_and_crashes_never_overspend(setup: Setup, seeds: range) -> None:
    lost = made = 0
    home = setup.folder / "home"
    for seed in seeds:
        setup.clock.jump(3 * 86400)  # the last schedule's day is over
        die = random.Random(seed)
        tight = caps((die.randrange(8_000, 60_000), 40_000), (die.randrange(50_000, 200_000), 90_000))
        world = World(die, setup.clock, tight)
        told: list[object] = []
        for generation in range(GENERATIONS):
            world.dead = False
            setup.clock.jump(die.choice((0, 0, -PUT_BACK.total_seconds())))
            async with stores_at(home, setup.clock) as stores:  # what is not on disk is gone
                lost += await stores.model_calls.recover(setup.clock.now())
                hooked = replace(stores, model_calls=Hooked(stores.model_calls, world.hooks()))  # type: ignore[arg-type]
                purses = Purses(hooked, setup.clock, caps={Purse.TICK: tight}, tell=told.append)
                asking = Asking(purses, Tireless(hooked, setup.clock), tariffs=tariff_of)
                names = [f"r_{seed}_{generation}_{number}" for number in range(RUNS)]
                await asyncio.gather(*(a_run(asking, world, name) for name in names))
        world.check()
        made += len(world.billed)
        async with stores_at(home, setup.clock) as stores:
            lost += await stores.model_calls.recover(setup.clock.now())
            used = await stores.model_calls.used({"tick": tight}, setup.clock.now())
        for each in used["tick"]:
            assert each.cap.span is not None
            # The clock was put back: what was billed before may be on the books as that much earlier.
            since = setup.clock.now() - each.cap.span + GENERATIONS * PUT_BACK
            assert (each.spent.price or 0) >= sum(price for at, price, _ in world.billed if at > since)
    assert made > 10 * len(seeds)  # else the caps were tested with next to nothing
    assert lost > len(seeds)


async def test_without_the_reservation_the_same_schedules_overspend(setup: Setup) -> None:
    """The test above can fail."""
    wide = caps((DOLLAR, 10**9), (DOLLAR, 10**9))
    tight = caps((20_000, 40_000), (50_000, 90_000))
    async with stores_at(setup.folder / "home", setup.clock) as stores:
        world = World(random.Random(1), setup.clock, tight)
        purses = Purses(stores, setup.clock, caps={Purse.TICK: wide}, tell=lambda _: None)
        asking = Asking(purses, Tireless(stores, setup.clock), tariffs=tariff_of)
        await asyncio.gather(*(a_run(asking, world, f"r_{number}") for number in range(RUNS)))
    with pytest.raises(AssertionError):
        world.check()


# What a run does about an empty purse.


async def a_poor_run(setup: Setup, bench: object) -> str:
    """A saved file leads to a run for which its purse has no room; its id."""
    setup.decider.add(decides("act", "mend it"))
    await bench.hint()  # type: ignore[attr-defined]
    (run,) = await bench.stores.runs.find(Query())  # type: ignore[attr-defined]
    return str(run.id)


async def test_a_run_parks_and_asks_once_and_the_owner_is_not_kept_waiting(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0.02)
    async with setup.running(housekeeping=True) as bench:
        run = await a_poor_run(setup, bench)
        await bench.advance(7200)
        found = await bench.run(run)
        assert (found.state, found.parked_on, found.turns) == (RunState.PARKED, ParkedOn.PURSE, 0)
        question = await bench.question()
        assert "The purse file may spend $0.02 in any hour" in str(question["question"])
        assert "for this run?" in str(question["question"])
        assert [notice.key.split(":")[0] for notice in await bench.notices()] == ["approval"]
        setup.actor.add(says("at once"))
        assert (await bench.run(await bench.tell())).state is RunState.DONE_UNCHECKED
        purses = (await bench.engine.desk.status())["purses"]
        assert purses["owner"]["hour"] == {  # type: ignore[index, call-overload]
            "spent": 150, "reserved": 0, "limit": 10 * DOLLAR, "tokens": 110, "tokens_reserved": 0,
            "tokens_limit": 20_000_000,
        }  # fmt: skip
        assert purses["file"]["day"]["spent"] == 150  # type: ignore[index, call-overload]


async def test_a_yes_lets_the_run_go_on_beside_its_purse_and_for_it_alone(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0.02)
    setup.actor.add(says("", use("bell")), says("", use("bell", note="2"), usage=VERY_DEAR))
    async with setup.running() as bench:
        run = await a_poor_run(setup, bench)
        await bench.answer()
        # The first two turns fit into what was allowed; what the second took leaves no room for a third.
        assert (await bench.run(run)).parked_on is ParkedOn.PURSE
        assert (await bench.run(run)).turns == 2
        calls = await bench.stores.model_calls.of(run)
        approvals = await bench.stores.approvals.of_run(run)
        assert [one.state for one in approvals] == [ApprovalState.OPEN, ApprovalState.APPROVED]
        assert {call["purse"] for call in calls} == {approvals[-1].id}
        assert (await bench.engine.desk.status())["purses"]["file"]["hour"]["spent"] == 150  # type: ignore[index, call-overload]
        setup.actor.add(says("done"))
        await bench.answer()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED


async def test_a_no_ends_the_run_over_budget(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0.02)
    async with setup.running() as bench:
        run = await a_poor_run(setup, bench)
        await bench.answer(False)
        found = await bench.run(run)
    assert (found.state, found.result) == (RunState.OVER_BUDGET, "its purse was empty, and no more was allowed")
    assert setup.actor.prompts == []


async def test_a_run_goes_on_by_itself_when_there_is_room_again_and_the_question_is_withdrawn(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0.03)
    setup.actor.add(says("", use("bell"), usage=DEAR), says("done"))
    async with setup.running(housekeeping=True) as bench:
        run = await a_poor_run(setup, bench)
        assert ((await bench.run(run)).parked_on, (await bench.run(run)).turns) == (ParkedOn.PURSE, 1)
        await bench.advance(3500)
        assert (await bench.run(run)).state is RunState.PARKED
        await bench.advance(200)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert [one.state for one in await bench.stores.approvals.of_run(run)] == [ApprovalState.WITHDRAWN]


# What a decision does about it.


async def test_a_batch_waits_for_room_and_the_owner_hears_of_it_once(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0.0095)
    setup.decider.add((*decides("ignore")[:-1], Done("tool_use", DEAR)), decides("ignore"), decides("ignore"))
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(60)
        waiting = await bench.hint()
        for _ in range(10):
            await bench.advance(300)
            assert (await bench.stores.events.get(waiting.id)).state is EventState.PENDING
        assert len(setup.decider.prompts) == 1
        assert len(await bench.decisions()) == 2  # the one that was refused, and no other since
        (notice,) = await bench.notices()
        assert "purse file is empty" in notice.title
        assert "[budget.file] dollars_per_hour" in notice.body
        # A purse of its own: a webhook of the same workspace is decided meanwhile.
        await bench.submit("webhook", "issues", tier=Tier.PUBLIC)
        await bench.quiet()
        assert len(setup.decider.prompts) == 2
        await bench.advance(900)
        settled = await bench.stores.events.get(waiting.id)
        assert (settled.state, settled.tries) == (EventState.SETTLED, 0)
        assert len(await bench.notices()) == 1


async def test_a_tick_makes_no_event_for_which_there_is_no_room(setup: Setup) -> None:
    setup.config = budget("tick", tokens_per_hour=0)
    async with setup.running() as bench:
        for number in range(5):
            setup.write("a.txt", str(number))
            await bench.tick()
            await bench.advance(60)
        assert len(await bench.stores.events.find(Query())) == 1
    assert setup.decider.prompts == []


async def test_two_who_ask_at_once_whether_a_purse_is_still_empty_are_both_told(setup: Setup) -> None:
    async with stores_at(setup.folder / "home", setup.clock) as stores:
        tight = caps((HELD, 10**9), (DOLLAR, 10**9))
        purses = Purses(stores, setup.clock, caps={Purse.TICK: tight}, tell=lambda _: None)
        order = {"role": "act", "model": setup.actor, "tariff": tariff_of(setup.actor)}
        number = await purses.reserve(Payer("r", Purse.TICK), PROMPT, **order)  # type: ignore[arg-type]
        with pytest.raises(NoRoom) as refused:
            await purses.reserve(Payer("r", Purse.TICK), PROMPT, **order)  # type: ignore[arg-type]
        purses.hold(Purse.TICK, refused.value.breach)
        assert await purses.is_empty(Purse.TICK)
        await stores.model_calls.settle(number, Usage(0, 0), price=0, outcome="ok", now=setup.clock.now())
        assert await asyncio.gather(*(purses.is_empty(Purse.TICK) for _ in range(2))) == [False, False]


async def test_an_unknown_price_counts_by_tokens(setup: Setup) -> None:
    setup.config = budget("file", dollars_per_hour=0, tokens_per_hour=6000)
    setup.decider.model = "a-model-nobody-knows"
    setup.decider.add((*decides("ignore")[:-1], Done("tool_use", Usage(4000, 400))))
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(60)
        assert len(setup.decider.prompts) == 1
        await bench.hint()
        assert len(setup.decider.prompts) == 1
        (notice,) = await bench.notices()
        assert "6,000 tokens in any hour, 4,400 tokens of it" in notice.body


# What a call counts for that did not end well.


async def test_a_call_that_a_crash_cut_off_is_priced_as_reserved(setup: Setup) -> None:
    setup.hooks = {"model_calls": {"settle": lambda *_given, **_named: forever()}}
    setup.actor.add(says("never heard"), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        (open_call,) = await bench.stores.model_calls.of(run)
        held = (await bench.engine.desk.status())["purses"]["owner"]["hour"]  # type: ignore[index, call-overload]
        assert (held["spent"], held["reserved"]) == (0, open_call["charged_price"])
    setup.hooks = {}
    async with setup.running() as bench:
        lost, again = await bench.stores.model_calls.of(run)
        assert (lost["outcome"], lost["price"], again["price"]) == ("lost", open_call["charged_price"], 150)
        held = (await bench.engine.desk.status())["purses"]["owner"]["hour"]  # type: ignore[index, call-overload]
        assert (held["spent"], held["reserved"]) == (lost["price"] + 150, 0)  # type: ignore[operator]


async def test_what_never_began_is_given_back_and_what_was_cut_is_not(setup: Setup) -> None:
    async def cut(_: Prompt) -> Sequence[StreamPart]:
        raise ModelUnavailableError("nobody there")

    setup.actor.add(cut, says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.advance(60)
        away, fine = await bench.stores.model_calls.of(run)
    assert (away["outcome"], away["price"], away["charged_tokens"]) == ("ModelUnavailableError", 0, 0)
    assert (fine["price"], fine["charged_tokens"]) == (150, 110)


# One run that does not end.


async def reserved(purses: Purses, *causes: str) -> list[int]:
    model = Billing(World(random.Random(1), ManualClock(), ()), "claude-haiku-4-5")
    payers = [Payer(cause, Purse.TICK) for cause in causes]
    return [await purses.reserve(payer, PROMPT, role="act", model=model, tariff=tariff_of(model)) for payer in payers]


async def test_a_call_is_settled_although_its_run_is_stopped_while_others_are_still_booked(setup: Setup) -> None:
    tight = caps((DOLLAR, 10**9), (DOLLAR, 10**9))
    async with stores_at(setup.folder / "home", setup.clock) as stores:
        purses = Purses(stores, setup.clock, caps={Purse.TICK: tight}, tell=lambda _: None)
        failed, booked, last = await reserved(purses, "r_1", "r_2", "r_3")
        taken = Taken("ok", DEAR, 6000)
        purses._unsettled[failed] = taken  # the disk was full when it was to be written
        purses.book(booked, taken)
        settling = asyncio.create_task(purses.settle(last, taken))
        await asyncio.sleep(0)
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        await asyncio.sleep(0.2)
        assert [row["outcome"] for row in await stores.model_calls.of("r_3")] == ["ok"]
        await purses.view()
        assert [row["outcome"] for run in ("r_1", "r_2") for row in await stores.model_calls.of(run)] == ["ok", "ok"]


async def test_a_call_is_settled_at_once_and_waits_for_nobody_elses_booking(setup: Setup) -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle_soon(_real: object, *_given: object, **_named: object) -> asyncio.Future[None]:
        return never

    tight = caps((DOLLAR, 10**9), (DOLLAR, 10**9))
    async with stores_at(setup.folder / "home", setup.clock) as stores:
        hooked = Hooked(stores.model_calls, {"settle_soon": settle_soon})  # type: ignore[dict-item]
        purses = Purses(replace(stores, model_calls=hooked), setup.clock, caps={Purse.TICK: tight}, tell=lambda _: None)  # type: ignore[arg-type]
        booked, last = await reserved(purses, "r_1", "r_2")
        purses.book(booked, Taken("ok", DEAR, 6000))
        async with asyncio.timeout(5):
            await purses.settle(last, Taken("ok", DEAR, 6000))
        assert [row["outcome"] for row in await stores.model_calls.of("r_2")] == ["ok"]


async def test_an_answer_is_taken_although_the_store_books_nothing_now(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, or a moment later: it is logged, the answer is whole, and what it took is booked when that can be."""
    loop = asyncio.get_running_loop()

    def settle_soon(_real: object, number: int, *_given: object, **_named: object) -> asyncio.Future[None]:
        if number % 2:
            raise StoreError("the database is closed")
        refused: asyncio.Future[None] = loop.create_future()
        loop.call_soon(refused.set_exception, StoreError("the disk is full"))
        return refused

    tight = caps((DOLLAR, 10**9), (DOLLAR, 10**9))
    setup.actor.add(says("", use("bell")), says("", use("bell")))
    async with stores_at(setup.folder / "home", setup.clock) as stores:
        hooked = replace(stores, model_calls=Hooked(stores.model_calls, {"settle_soon": settle_soon}))  # type: ignore[arg-type, dict-item]
        purses = Purses(hooked, setup.clock, caps={Purse.TICK: tight}, tell=lambda _: None)
        asking = Asking(purses, Tireless(hooked, setup.clock), tariffs=tariff_of)
        for cause in ("r_1", "r_2"):
            reply = await asking.ask(setup.actor, PROMPT, payer=Payer(cause, Purse.TICK), role="act")
            assert [one.name for one in reply.uses] == ["bell"]
            await asyncio.sleep(0.01)
        assert len([record for record in caplog.records if record.name == "kairosd.purses"]) == 2
        await purses.view()
        assert [row["outcome"] for run in ("r_1", "r_2") for row in await stores.model_calls.of(run)] == ["ok", "ok"]


async def test_turns_in_which_nothing_succeeds_end_a_run(setup: Setup) -> None:
    setup.actor.add(says("", use("bell")))
    setup.actor.add(*[says("", use("read", path=f"nowhere-{number}.txt")) for number in range(BARREN_TURNS)])
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
    assert (found.state, found.turns) == (RunState.OVER_BUDGET, 1 + BARREN_TURNS)
    assert f"no call succeeded in {BARREN_TURNS} turns" in found.result


@pytest.mark.parametrize(
    ("limits", "told"),
    [("run_tokens = 1000", "1,100 tokens were not enough"), ("run_seconds = 60", "60 seconds of work")],
)
async def test_a_runaway_is_ended_and_told_why(setup: Setup, limits: str, told: str) -> None:
    setup.config = f"[limits]\n{limits}\n"

    async def slowly(_: Prompt) -> Sequence[StreamPart]:
        setup.clock._step(setup.clock.now() + timedelta(seconds=20))
        return says("", use("bell", note=str(setup.clock.now())))

    setup.actor.add(*[slowly] * 12)
    async with setup.running() as bench:
        found = await bench.run(await bench.tell())
    assert found.state is RunState.OVER_BUDGET
    assert told in found.result
