"""Breakers and incidents: a model that is away is left alone by everybody, another one stands in, the owner knows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import ScriptedModel, decides, files, says, use

from kairosd.core.budget import Payer, Purse
from kairosd.core.events import EventState, Tier
from kairosd.core.messages import Message, NeedsRoomError, Prompt, TextDelta, Usage
from kairosd.core.runs import RunState
from kairosd.engine.breakers import FIRST_WAIT, LAST_WAIT, OPENS_AFTER
from kairosd.errors import (
    DiskFullError,
    EmptyAnswerError,
    EndpointRefusedError,
    ModelProtocolError,
    ModelUnavailableError,
)
from kairosd.ports import Model

pytestmark = pytest.mark.anyio

CHAINED = """
[roles]
decide = "decider"
act = "actor"
[models.decider]
provider = "local"
fallback = "spare"
[models.actor]
provider = "local"
fallback = "spare"
[models.spare]
provider = "local"
"""


@dataclass
class Chained(Setup):
    """A setup whose two models have the same stand-in."""

    models: str = CHAINED
    spare: ScriptedModel = field(default_factory=lambda: ScriptedModel("spare", "claude-opus-5"))

    def get(self, name: str) -> ScriptedModel:
        return self.spare if name == "spare" else super().get(name)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


@pytest.fixture
def chained(setup: Setup) -> Chained:
    return Chained(setup.folder, second=True)


def away(times: int = OPENS_AFTER) -> list[ModelUnavailableError]:
    return [ModelUnavailableError("nobody there") for _ in range(times)]


async def told(bench: Bench) -> list[str]:
    return [one.key.split(":")[0] for one in await bench.notices() if one.key.startswith("model-")]


async def ask(bench: Bench, model: Model, role: str = "act") -> str:
    """The words of one answer, or the error's class."""
    prompt = Prompt("be brief", (Message("user", "hello"),))
    try:
        reply = await bench.engine.asking.ask(model, prompt, payer=Payer("r_test", Purse.OWNER), role=role)
    except (ModelUnavailableError, EndpointRefusedError, ModelProtocolError) as error:
        return type(error).__name__
    return reply.text


async def broken(setup: Setup, bench: Bench, *, failures: int = OPENS_AFTER) -> None:
    setup.actor.add(*away(failures))
    for _ in range(failures):
        await ask(bench, setup.actor)


# One endpoint, many who ask.


async def test_after_three_failures_nobody_asks_until_one_may_try(setup: Setup) -> None:
    async with setup.running() as bench:
        await broken(setup, bench)
        assert await ask(bench, setup.actor) == "ModelUnavailableError"
        assert len(setup.actor.prompts) == OPENS_AFTER
        assert await bench.stores.model_calls.of("r_test") != ()
        assert len(await bench.stores.model_calls.of("r_test")) == OPENS_AFTER  # what is not asked is not booked
        setup.actor.add(says("back"))
        await bench.advance(FIRST_WAIT)
        assert await ask(bench, setup.actor) == "back"
        assert bench.engine.asking.breakers.down == {}


async def test_only_one_of_many_is_the_probe_and_all_go_on_when_it_is_back(setup: Setup) -> None:
    async with setup.running() as bench:
        await broken(setup, bench)
        await bench.advance(FIRST_WAIT)
        setup.actor.add(says("back"))
        setup.actor.held.clear()
        breakers = bench.engine.asking.breakers
        waiting = [asyncio.ensure_future(breakers.rest(1000)) for _ in range(3)]
        probe = asyncio.ensure_future(ask(bench, setup.actor))
        await asyncio.sleep(0.05)
        others = [await ask(bench, setup.actor) for _ in range(5)]
        assert others == ["ModelUnavailableError"] * 5
        setup.actor.held.set()
        assert await probe == "back"
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert len(setup.actor.prompts) == OPENS_AFTER + 1


async def test_a_probe_that_is_stopped_leaves_the_next_one_to_try(setup: Setup) -> None:
    async with setup.running() as bench:
        await broken(setup, bench)
        await bench.advance(FIRST_WAIT)
        setup.actor.add(says("never heard"), says("back"))
        setup.actor.held.clear()
        probe = asyncio.ensure_future(ask(bench, setup.actor))
        await asyncio.sleep(0.05)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        setup.actor.held.set()
        assert await ask(bench, setup.actor) == "back"


async def test_runs_and_initiatives_share_it(setup: Setup) -> None:
    setup.models = setup.models.replace('act = "actor"', 'act = "decider"')
    setup.second = True
    setup.decider.add(*away())
    async with setup.running() as bench:
        run = str((await bench.engine.desk.tell("look", "lib", folder=None))["run"])
        await bench.advance(31)
        assert len(setup.decider.prompts) == OPENS_AFTER
        event = await bench.hint()  # met by the initiative of another workspace
        assert len(setup.decider.prompts) == OPENS_AFTER
        assert await bench.decisions() == [await bench.stores.decisions.get((await bench.run(run)).decision or "")]
        assert (await bench.stores.events.get(event.id)).state is EventState.PENDING
        setup.decider.add(answer, answer)
        await bench.advance(FIRST_WAIT)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        assert (await bench.stores.events.get(event.id)).state is EventState.SETTLED  # at once, not at its own time
        assert await told(bench) == ["model-down", "model-up"]


async def answer(prompt: Prompt) -> object:
    return decides("ignore") if prompt.form else says("looked")


async def test_a_key_that_is_refused_opens_it_at_once_and_is_not_shown_to_the_server_again(setup: Setup) -> None:
    setup.actor.add(EndpointRefusedError("the key is refused"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        assert (run.state, "the key is refused" in run.result) == (RunState.FAILED, True)
        again = await bench.run(await bench.tell())
        assert "asked again in" in again.result
    assert len(setup.actor.prompts) == 1


async def test_a_model_that_finds_fault_with_a_prompt_is_there(setup: Setup) -> None:
    async with setup.running() as bench:
        for _ in range(OPENS_AFTER):
            await broken(setup, bench, failures=OPENS_AFTER - 1)
            setup.actor.add(ModelProtocolError("prose"))
            await ask(bench, setup.actor)
        assert await told(bench) == []


# The owner is told.


async def test_flapping_is_one_incident_until_it_stays_away(setup: Setup) -> None:
    async with setup.running() as bench:
        for _ in range(4):
            await broken(setup, bench)
            await bench.advance(FIRST_WAIT)
            setup.actor.add(says("back"))
            assert await ask(bench, setup.actor) == "back"
            await bench.advance(60)
        assert await told(bench) == ["model-down", "model-up"]
        await broken(setup, bench)
        for _ in range(4):
            await bench.advance(300)
            await broken(setup, bench, failures=1)
        assert await told(bench) == ["model-down", "model-up", "model-down"]  # the last word must not be "it is back"
        await bench.advance(300)
        setup.actor.add(says("back"))
        await ask(bench, setup.actor)
        assert await told(bench) == ["model-down", "model-up"] * 2


async def test_a_restart_in_an_outage_tells_nothing_twice(setup: Setup) -> None:
    for _ in range(3):
        async with setup.running() as bench:
            await broken(setup, bench)
            await bench.quiet()
            assert await told(bench) == ["model-down"]
    setup.actor.add(says("back"))
    async with setup.running() as bench:
        assert await ask(bench, setup.actor) == "back"  # a restart tries at once: the owner may have mended it
        assert await told(bench) == ["model-down", "model-up"]
    async with setup.running() as bench:
        setup.actor.add(says("still there"))
        await ask(bench, setup.actor)
        assert await told(bench) == ["model-down", "model-up"]


@pytest.mark.parametrize("point", ["down", "up"])
async def test_a_crash_between_record_and_notice_loses_neither(setup: Setup, point: str) -> None:
    async def crash(real: Callable[..., Awaitable[object]], *given: object, **named: object) -> object:
        raise DiskFullError

    async with setup.running() as bench:
        if point == "up":
            await broken(setup, bench)
    setup.hooks = {"notices": {"queue": crash}}
    async with setup.running() as bench:
        if point == "up":
            setup.actor.add(says("back"))
            assert await ask(bench, setup.actor) == "back"
        else:
            await broken(setup, bench)
    setup.hooks = {}
    async with setup.running() as bench:
        if point == "up":
            setup.actor.add(says("there"))
            await ask(bench, setup.actor)
        else:
            await broken(setup, bench)
        assert await told(bench) == (["model-down", "model-up"] if point == "up" else ["model-down"])


# The stand-in.


async def test_the_fallback_decides_and_acts_and_the_first_one_is_used_again(chained: Chained) -> None:
    chained.decider.add(*away())
    chained.actor.add(*away())
    chained.spare.add(decides("act", "mend it"), says("mended"), decides("ignore"))
    async with chained.running() as bench:
        await bench.hint()
        await bench.advance(150)
        (run,) = await bench.stores.runs.in_state(RunState.DONE_UNCHECKED)
        (made,) = [each for each in await bench.decisions() if each.run]
        assert run.result == "mended"
        for cause in (made.id, run.id):  # the books name who answered, at its own price
            (row,) = [each for each in await bench.stores.model_calls.of(cause) if each["outcome"] == "ok"]
            assert (row["model"], row["price"]) == ("claude-opus-5", 100 * 5 + 10 * 25)
        down = {one.title: one.body for one in await bench.notices() if one.key.startswith("model-down")}
        assert all("Meanwhile spare is asked." in body for body in down.values())
        assert len(down) == 2
        status = (await bench.engine.desk.status())["models"]
        assert [one["instead"] for one in status] == ["spare", "spare"]  # type: ignore[index, union-attr, call-overload]
        await bench.advance(300)
        chained.decider.add(decides("ignore"))
        await bench.hint("b.txt")
        assert len(chained.decider.prompts) == OPENS_AFTER + 1
        assert "model-up" in await told(bench)


async def test_a_run_goes_over_to_the_fallback_in_the_middle_and_fits_its_window(chained: Chained) -> None:
    chained.actor.context, chained.spare.context = 32_000, 8192
    chained.write("long.txt", "many words of hardly any weight, and yet they fill a window\n" * 1500)
    reads = [says("", use("read", path="long.txt", from_line=at)) for at in (1, 201, 401, 601, 801, 1001)]
    chained.actor.add(*reads, *away())
    chained.spare.add(*[fitting] * 3)
    async with chained.running() as bench:
        run = await bench.tell("read it")
        await bench.advance(90)
        assert (await bench.run(run)).result == "read"
        rows = await bench.stores.model_calls.of(run)
        assert rows[-1]["model"] == "claude-opus-5"
    before = [result for message in chained.actor.prompts[-1].messages for result in message.results]
    assert sum(len(result.text) for result in before) > 24_000


async def fitting(prompt: Prompt) -> object:
    size = len(prompt.system) + sum(len(m.text) + sum(len(r.text) for r in m.results) for m in prompt.messages)
    return says("read") if size < 8192 * 3.5 else AssertionError(f"{size} characters are too much for this window")


async def test_a_dear_fallback_is_paid_from_the_same_purse(chained: Chained) -> None:
    chained.config = "[budget.file]\ndollars_per_hour = 0.02\n"
    chained.decider.add(*away(10))
    async with chained.running() as bench:
        event = await bench.hint()
        await bench.advance(120)
        assert chained.spare.prompts == []  # one call of it may take more than the purse holds
        assert (await bench.stores.events.get(event.id)).state is EventState.PENDING
        assert any(one.key.startswith("purse:file") for one in await bench.notices())


async def test_when_neither_answers_everything_waits_for_whoever_is_back_first(chained: Chained) -> None:
    chained.decider.add(*away(20))
    chained.spare.add(*away(20))
    async with chained.running() as bench:
        event = await bench.hint()
        await bench.advance(600)
        waiting = await bench.stores.events.get(event.id)
        assert (waiting.state, waiting.tries) == (EventState.PENDING, 0)
        asked = len(chained.decider.prompts) + len(chained.spare.prompts)
        assert asked <= 2 * (OPENS_AFTER + 5)  # ten minutes: a probe after 30, 60, 120, 240 and 300 s at most
        for model in (chained.decider, chained.spare):
            model.script.clear()
            model.add(decides("ignore"))
        await bench.advance(LAST_WAIT)
        assert (await bench.stores.events.get(event.id)).state is EventState.SETTLED
        assert len(chained.decider.prompts) + len(chained.spare.prompts) == asked + 1


# Money.


async def reserved(bench: Bench) -> object:
    purses = await bench.engine.asking.purses.view()
    return {name: [window["tokens_reserved"] for window in found.values()] for name, found in purses.items()}  # type: ignore[union-attr, index, call-overload]


@pytest.mark.parametrize("outcome", ["ok", "error"])
async def test_what_could_not_be_settled_is_settled_at_the_next_look(setup: Setup, outcome: str) -> None:
    full = True

    async def settle(real: Callable[..., Awaitable[object]], *given: object, **named: object) -> object:
        if full:
            raise DiskFullError
        return await real(*given, **named)

    setup.hooks = {"model_calls": {"settle": settle}}
    setup.actor.add(says("yes") if outcome == "ok" else ModelUnavailableError("gone"))
    async with setup.running() as bench:
        heard = await ask(bench, setup.actor)
        assert heard == ("yes" if outcome == "ok" else "ModelUnavailableError")  # what was said is not lost with it
        (row,) = await bench.stores.model_calls.of("r_test")
        assert row["outcome"] is None
        full = False
        assert await reserved(bench) == {purse.value: [0, 0] for purse in Purse}
        (row,) = await bench.stores.model_calls.of("r_test")
        assert row["outcome"] == ("ok" if outcome == "ok" else "ModelUnavailableError")


async def test_a_call_that_is_stopped_while_its_room_is_reserved_holds_nothing(setup: Setup) -> None:
    async def reserve(real: Callable[..., Awaitable[object]], *given: object, **named: object) -> object:
        found = await real(*given, **named)
        await asyncio.sleep(0.05)  # written, and its number not yet known
        return found

    setup.hooks = {"model_calls": {"reserve": reserve}}
    async with setup.running() as bench:
        asking = asyncio.ensure_future(ask(bench, setup.actor))
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        (row,) = await bench.stores.model_calls.of("r_test")
        assert (row["outcome"], row["charged_price"]) == ("cancelled", 0)
    assert setup.actor.prompts == []


async def test_a_fault_of_ours_settles_too(setup: Setup) -> None:
    async def trips(_: Prompt) -> object:
        raise RuntimeError("a bug")

    setup.actor.add(trips)
    async with setup.running() as bench:
        with pytest.raises(RuntimeError):
            await ask(bench, setup.actor)
        (row,) = await bench.stores.model_calls.of("r_test")
        assert row["outcome"] == "broken"
        assert row["charged_price"]


async def test_a_model_that_needs_room_is_booked_as_the_two_calls_it_took(setup: Setup) -> None:
    setup.actor.add(NeedsRoomError(Usage(100, 4096)), says("thought about it"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        rows = await bench.stores.model_calls.of(run.id)
        assert [row["outcome"] for row in rows] == ["NeedsRoomError", "ok"]
        assert [row["price"] for row in rows] == [100 + 4096 * 5, 150]
        assert (run.price, run.tokens) == (100 + 4096 * 5 + 150, 4196 + 110)


async def test_what_was_thought_in_vain_counts_for_the_run_though_the_next_request_fails(setup: Setup) -> None:
    setup.actor.add(NeedsRoomError(Usage(100, 4096)), ModelUnavailableError("away"), says("thought about it"))
    async with setup.running() as bench:
        told = await bench.tell()
        await bench.advance(60)
        run = await bench.run(told)
        rows = await bench.stores.model_calls.of(run.id)
        assert [row["outcome"] for row in rows] == ["NeedsRoomError", "ModelUnavailableError", "ok"]
        assert (run.price, run.tokens) == (100 + 4096 * 5 + 150, 4196 + 110)


async def test_what_a_provider_may_charge_for_counts_although_nothing_was_heard(setup: Setup) -> None:
    cut = ModelUnavailableError("cut inside a form")
    cut.worked = True
    setup.actor.add(cut, ModelUnavailableError("refused the connection"), (TextDelta("so "),))
    async with setup.running() as bench:
        for _ in range(3):
            await ask(bench, setup.actor)
        charged = [row["charged_price"] for row in await bench.stores.model_calls.of("r_test")]
    assert charged[1] == 0
    assert charged[0] == charged[2] != 0


async def test_filing_counts_for_the_run_in_tokens_too(setup: Setup) -> None:
    async with setup.running() as bench:
        event = await bench.submit("webhook", "issue", tier=Tier.PUBLIC, text={"body": "hello"})
        setup.decider.script.clear()
        setup.decider.add(files())
        triage, cost = await bench.engine.dispatcher._t.quarantine.file(event, payer=Payer("r_test", Purse.OWNER))
        assert (triage is not None, cost.total, cost.tokens) == (True, 150, 110)


async def test_empty_answers_leave_the_batch_waiting(setup: Setup) -> None:
    setup.decider.add(*[EmptyAnswerError("nothing")] * OPENS_AFTER, decides("ignore"))
    async with setup.running() as bench:
        event = await bench.hint()
        assert (await bench.stores.events.get(event.id)).state is EventState.PENDING
        await bench.advance(120)
        assert (await bench.stores.events.get(event.id)).state is EventState.SETTLED
        assert [made.verdict.value for made in await bench.decisions()][-1] == "ignore"


async def test_empty_answers_to_a_run_are_left_to_the_fallback(chained: Chained) -> None:
    chained.actor.add(*[EmptyAnswerError("nothing")] * OPENS_AFTER)
    chained.spare.add(says("read"))
    async with chained.running() as bench:
        run = await bench.tell("read it")
        await bench.quiet()
        assert (await bench.run(run)).result == "read"


async def test_a_run_whose_key_is_refused_waits_for_a_stand_in_that_is_busy(chained: Chained) -> None:
    chained.actor.add(*[EndpointRefusedError("the key is refused")] * 9)
    chained.spare.add(ModelUnavailableError("busy", retry_after=100), says("read"))
    async with chained.running() as bench:
        run = await bench.tell("read it")
        await bench.advance(400)
        assert (await bench.run(run)).result == "read"
    assert len(chained.actor.prompts) <= 3
