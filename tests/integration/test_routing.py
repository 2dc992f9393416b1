"""Who decides, which triggers act, and what the owner says of it: escalation, shadow, ratings."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import decides, says, use

from kairosd.config import load
from kairosd.config.editing import edit_trigger
from kairosd.core.budget import Amount, Order, Purse
from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import EventState, Tier
from kairosd.core.json import JsonObject
from kairosd.errors import ConfigError, ModelUnavailableError, NotFoundError, TransitionError, UsageError
from kairosd.ports import Query
from kairosd.wire import Home

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
PRICE = 150  # micro-dollars of one scripted answer of claude-haiku-4-5: 100 tokens in, 10 out
STRONG = 450  # the same of claude-sonnet-4-5


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        made.actor.model = "claude-sonnet-4-5"
        yield made


async def only(bench: Bench) -> Decision:
    (made,) = await bench.decisions()
    return made


def triggers(**modes: str) -> str:
    return "[initiative.triggers]\n" + "".join(f'{name} = "{mode}"\n' for name, mode in modes.items())


def journal(setup: Setup, kind: str) -> list[JsonObject]:
    files = (setup.folder / "home").glob("**/journal/**/*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


# From the cheap model to the strong one.


async def test_an_unsure_answer_goes_once_to_the_model_that_acts_and_both_are_priced(setup: Setup) -> None:
    setup.decider.add(decides("act", "tidy up", confidence=49))
    setup.actor.add(decides("ignore", confidence=10))
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(600)
        made = await only(bench)
        (link, *_) = await bench.engine.desk.why(made.id)
        calls = await bench.stores.model_calls.of(made.id)
    assert (made.verdict, made.model, made.price) == (Verdict.IGNORE, "actor", PRICE + STRONG)
    assert made.escalated == "decider was 49 % sure"
    assert "by actor: decider was 49 % sure" in str(link["detail"])
    assert [call["price"] for call in calls] == [PRICE, STRONG]
    assert setup.actor.prompts == setup.decider.prompts
    (line,) = journal(setup, "decision.made")
    assert isinstance(line["data"], Mapping)
    assert (line["data"]["model"], line["data"]["escalated"]) == ("actor", "decider was 49 % sure")


@pytest.mark.parametrize(
    ("config", "model", "confidence"),
    [
        ("", "claude-sonnet-4-5", 50),  # sure enough
        ("[initiative]\nescalate_below = 0\n", "claude-sonnet-4-5", 0),  # off
        ("", "claude-haiku-4-5", 0),  # no other model
    ],
)
async def test_nobody_else_is_asked(setup: Setup, config: str, model: str, confidence: int) -> None:
    setup.config, setup.actor.model = config, model
    setup.decider.add(decides("ignore", confidence=confidence))
    async with setup.running() as bench:
        await bench.hint()
        made = await only(bench)
    assert (made.model, made.escalated, made.price) == ("decider", "", PRICE)
    assert setup.actor.prompts == []


async def test_what_the_cheap_model_cannot_say_in_the_form_the_strong_one_may(setup: Setup) -> None:
    setup.decider.add(says("I think so"), decides("dance"))
    setup.actor.add(decides("ignore"))
    async with setup.running() as bench:
        await bench.hint()
        made = await only(bench)
    assert (made.verdict, made.model, made.price) == (Verdict.IGNORE, "actor", 2 * PRICE + STRONG)
    assert made.escalated == "decider gave no usable answer"


async def test_a_strong_model_that_does_not_answer_is_asked_once_and_the_first_answer_holds(setup: Setup) -> None:
    setup.decider.add(decides("notify", "look", confidence=20), decides("ignore", confidence=20), says("a"), says("b"))
    setup.actor.add(ModelUnavailableError("overloaded"), says("prose"), says("prose"))
    async with setup.running() as bench:
        for _ in range(3):
            await bench.hint()
            await bench.advance(600)
        first, second, third = await bench.decisions()
    assert (first.verdict, first.model) == (Verdict.NOTIFY, "decider")
    assert "actor did not decide either: overloaded" in first.escalated
    assert (second.verdict, second.model, second.price) == (Verdict.IGNORE, "decider", PRICE + STRONG)
    assert (third.verdict, third.model, third.price) == (Verdict.WAIT, "", 2 * PRICE + STRONG)
    assert "not usable twice" in third.reason


async def test_a_purse_without_room_for_the_strong_model_leaves_the_first_answer(setup: Setup) -> None:
    """The cheap call's worst case fits into the purse, the strong one's does not."""
    setup.config = "[budget.file]\ndollars_per_hour = 0.009\n"
    setup.decider.add(decides("ignore", confidence=1))
    async with setup.running() as bench:
        await bench.hint()
        made = await only(bench)
    assert (made.verdict, made.price) == (Verdict.IGNORE, PRICE)
    assert "actor did not decide either" in made.escalated
    assert setup.actor.prompts == []


# What is left of the purse.


async def test_the_digest_says_coarsely_what_is_left_of_the_purse(setup: Setup) -> None:
    setup.config = "[budget.file]\ntokens_per_hour = 10000\n"
    setup.decider.add(*[decides("ignore")] * 3)
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(60)
        await bench.hint()
        await bench.advance(60)
        order = Order("r_other", "act", "m", purse="file", worst=Amount(None, 4500))
        caps = bench.ground.config.budget[Purse.FILE]
        assert isinstance(await bench.stores.model_calls.reserve(order, caps, now=setup.clock.now()), int)
        await bench.hint()
        await bench.advance(60)
    left = [prompt.messages[0].text.splitlines()[1] for prompt in setup.decider.prompts]
    assert left == ["Left of the budget for this: nearly all"] * 2 + ["Left of the budget for this: about half"]


# The shadow, trigger by trigger.


@pytest.mark.parametrize("answer", [decides("act", "tidy up"), decides("notify", "look here")])
async def test_a_trigger_in_the_shadow_does_nothing_while_the_others_act(setup: Setup, answer: object) -> None:
    setup.config = triggers(webhook="shadow")
    setup.decider.add(answer, decides("act", "for real"))  # type: ignore[arg-type]
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        event = await bench.submit("webhook", "push", facts={"ref": "main"})
        await bench.quiet()
        assert (await bench.stores.events.get(event.id)).state is EventState.SETTLED
        assert await bench.notices() == []
        assert await bench.stores.runs.find(Query()) == ()
        await bench.advance(60)
        await bench.hint()
        shadow, real = await bench.decisions()
        assert (shadow.shadow, shadow.run, shadow.notice) == (True, None, None)
        assert (real.shadow, real.goal, real.run is None) == (False, "for real", False)
        (listed,) = await bench.engine.desk.listing("decisions", Query(shadow=True))
    assert (listed["id"], listed["goal"]) == (shadow.id, shadow.goal)
    assert "(only recorded, not done)" in setup.decider.prompts[1].messages[0].text


async def test_the_shadow_hides_no_change_from_a_trigger_that_acts_and_looks_only_once_itself(setup: Setup) -> None:
    setup.config = triggers(tick="shadow")
    setup.decider.add(decides("act", "would tidy"), decides("act", "tidy"))
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        setup.write("a.txt", "new")
        assert await bench.tick()
        for _ in range(5):
            await bench.advance(60)
            assert not await bench.tick()
        await bench.submit()  # the watcher comes late
        await bench.advance(60)
        assert [made.shadow for made in await bench.decisions()] == [True, False]
        assert len(await bench.stores.runs.find(Query())) == 1
        assert not await bench.tick()


async def test_of_a_mixed_batch_what_acts_is_decided_and_the_shadow_costs_nothing(setup: Setup) -> None:
    setup.config = triggers(tick="shadow")
    setup.decider.add(decides("ignore"))
    async with setup.running() as bench:
        await bench.engine.desk.pause("")
        setup.write("a.txt", "new")
        await bench.submit("tick", "changed")
        await bench.submit()
        await bench.engine.desk.resume()
        await bench.advance(60)
        made = await only(bench)
        states = {event.source: event.state for event in await bench.stores.events.find(Query())}
    assert (made.source, made.shadow) == ("files", False)
    assert states == {"files": EventState.SETTLED, "tick": EventState.COALESCED}


async def test_the_shadow_neither_sets_nor_takes_a_wake(setup: Setup) -> None:
    setup.config = triggers(webhook="shadow")
    setup.decider.add(decides("wait", wake_seconds=3600), decides("wait", wake_seconds=60), decides("ignore"))
    async with setup.running() as bench:
        await bench.hint()
        wake = bench.engine.initiatives["app"].next_wake
        await bench.advance(60)
        await bench.submit("webhook", "push")
        await bench.advance(600)
        assert bench.engine.initiatives["app"].next_wake == wake
        await bench.advance(3600)
        assert await bench.tick()
        assert not (await bench.decisions())[-1].shadow


async def test_a_strangers_text_is_not_filed_for_a_notice_that_nobody_gets(setup: Setup) -> None:
    setup.config = triggers(webhook="shadow")
    setup.decider.add(decides("notify", "issue 12 was opened"))
    async with setup.running() as bench:
        await bench.submit("webhook", "issues", tier=Tier.PUBLIC, text={"title": "x"})
        await bench.advance(60)
        assert (await only(bench)).price == PRICE
    assert len(setup.decider.prompts) == 1


async def test_a_trigger_of_its_own_mode_leaves_the_common_shadow_and_off_is_off(setup: Setup) -> None:
    setup.config = '[initiative]\nmode = "shadow"\n' + triggers(files="on")
    setup.decider.add(decides("notify", "look"), decides("notify", "look"))
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(60)
        await bench.submit("webhook", "push")
        await bench.advance(60)
        assert [made.shadow for made in await bench.decisions()] == [False, True]
    setup.config = '[initiative]\nmode = "off"\n' + triggers(files="on")
    async with setup.running() as bench:
        await bench.hint()
        await bench.advance(600)
    assert len(setup.decider.prompts) == 2


# Promotion.


async def test_promoting_writes_the_mode_and_shows_what_the_shadow_came_to(setup: Setup) -> None:
    setup.config = "[initiative.triggers] # per trigger\nfiles = 'shadow' # t\n"
    setup.decider.add(decides("act", "one"), decides("notify", "two"), decides("ignore"))
    config = setup.folder / "home/config.toml"
    async with setup.running() as bench:
        desk = bench.engine.desk
        for _ in range(3):
            await bench.hint()
            await bench.advance(60)
        acted, told, ignored = await bench.decisions()
        for identifier, rating in ((acted.id, "useful"), (told.id, "noise"), (ignored.id, "missed")):
            assert (await desk.rate(identifier, rating))["shadow"]
        row = {row["trigger"]: row for row in await desk.triggers(LONG_AGO, "app")}["files"]
        assert (row["mode"], row["decisions"], row["acted"], row["notified"]) == ("shadow", 3, 1, 1)
        assert (row["useful"], row["noise"], row["missed"], row["price"]) == (1, 1, 1, 3 * PRICE)
        done = await desk.set_trigger("files", "on")
        assert (done["was"], done["mode"]) == ("shadow", "on")
        assert '[initiative.triggers] # per trigger\nfiles = "on" # t\n' in config.read_text()
        assert (await desk.set_trigger("tick", "shadow"))["was"] == "on"
        assert tomllib.loads(config.read_text())["initiative"]["triggers"] == {"files": "on", "tick": "shadow"}
    kept = [(line["data"]["trigger"], line["data"]["mode"]) for line in journal(setup, "trigger.mode")]  # type: ignore[index, call-overload]
    assert kept == [("files", "on"), ("tick", "shadow")]


async def test_what_cannot_be_promoted_names_the_way_and_changes_nothing(setup: Setup) -> None:
    async with setup.running() as bench:
        before = (setup.folder / "home/config.toml").read_text()
        with pytest.raises(UsageError) as refused:
            await bench.engine.desk.set_trigger("webhok", "on")
        assert refused.value.fix == "one of tick, files, webhook, schedule, task"
        assert (await bench.engine.desk.set_trigger("files", "on"))["changed"] == ()
        with pytest.raises(UsageError, match="no workspace"):
            await bench.engine.desk.triggers(LONG_AGO, "nowhere")
    assert (setup.folder / "home/config.toml").read_text() == before
    setup.config = '[initiative]\nmode = "off"\n'
    async with setup.running() as bench:
        with pytest.raises(TransitionError, match="off"):
            await bench.engine.desk.set_trigger("files", "on")


@pytest.mark.parametrize(
    "text", ['[initiative]\ntriggers = {files = "shadow"}\n', 'initiative.triggers.files = "shadow"\n']
)
def test_a_form_that_cannot_be_edited_is_left_alone(tmp_path: Path, text: str) -> None:
    home = tmp_path / "home"
    place = Home(home / "config.toml", home / "state", data=home / "data", run=home / "run", is_default=False)
    home.mkdir(mode=0o700)
    place.config.write_text(text)
    config = load(None, folder=tmp_path, place=place, environment={})
    with pytest.raises(UsageError, match="cannot be found") as refused:
        edit_trigger(config, place, name="files", mode="on")
    assert str(place.config) in str(refused.value.fix)
    assert place.config.read_text() == text
    assert list(home.iterdir()) == [place.config]
    place.config.write_text("[initiative]\nmood = 1\n")
    with pytest.raises(ConfigError, match="mood"):
        edit_trigger(config, place, name="files", mode="on")


# Ratings.


async def test_anything_of_a_chain_rates_its_decision_and_the_last_word_counts(setup: Setup) -> None:
    setup.decider.add(decides("act", "tidy"), decides("notify", "look"))
    setup.actor.add(says("done"))
    async with setup.running() as bench:
        desk = bench.engine.desk
        event = await bench.hint()
        await bench.advance(60)
        await bench.hint()
        acted, told = await bench.decisions()
        assert (await desk.rate(str(acted.run), "noise"))["id"] == acted.id
        again = await desk.rate(event.id, "useful")
        assert (again["id"], again["was"], again["trigger"]) == (acted.id, "noise", "files")
        assert (await desk.rate(str(told.notice)[:16], "noise"))["id"] == told.id
        (row,) = await desk.calibration(LONG_AGO)
        assert (row["decisions"], row["acted"], row["notified"]) == (2, 1, 1)
        assert (row["useful"], row["noise"], row["missed"], row["unrated"]) == (1, 1, 0, 0)
        assert row["price"] == row["price_per_useful"] == 2 * PRICE + STRONG
    kept = [(line["id"], line["data"]["rating"], line["data"]["was"]) for line in journal(setup, "rating.given")]  # type: ignore[index, call-overload]
    assert kept == [(acted.id, "noise", None), (acted.id, "useful", "noise"), (told.id, "noise", None)]


async def test_what_was_left_alone_is_missed_decided_or_not(setup: Setup) -> None:
    setup.decider.add(decides("ignore"))
    async with setup.running() as bench:
        desk = bench.engine.desk
        decided = await bench.hint()
        await bench.advance(60)
        skipped = await bench.submit()  # nothing has changed: taken together with the look before
        await bench.quiet()
        assert (await bench.stores.events.get(skipped.id)).state is EventState.COALESCED
        assert str((await desk.rate(decided.id, "missed"))["id"]).startswith("d_")
        assert (await desk.rate(skipped.id, "missed"))["id"] == skipped.id
        (row,) = await desk.calibration(LONG_AGO)
        assert (row["trigger"], row["decisions"], row["missed"], row["price_per_useful"]) == ("files", 1, 2, None)
        assert await desk.calibration(setup.clock.now() + timedelta(days=1)) == []


async def test_a_rating_that_does_not_fit_is_refused_with_what_would(setup: Setup) -> None:
    setup.decider.add(decides("notify", "look"), decides("ignore"))
    async with setup.running() as bench:
        desk = bench.engine.desk
        await bench.hint()
        await bench.advance(60)
        await bench.hint()
        await bench.advance(60)
        told, ignored = await bench.decisions()
        skipped = await bench.submit()
        await bench.quiet()
        await bench.engine.desk.pause("")
        waiting = await bench.submit()
        for identifier, rating, fix in (
            (told.id, "missed", "say useful or noise"),
            (ignored.id, "useful", "say missed"),
            (skipped.id, "noise", "say missed"),
            (waiting.id, "missed", "kairos status"),
        ):
            with pytest.raises(UsageError) as refused:
                await desk.rate(identifier, rating)
            assert fix in str(refused.value.fix)
        for unknown in ("d_nowhere", "nonsense"):
            with pytest.raises(NotFoundError):
                await desk.rate(unknown, "useful")
    assert journal(setup, "rating.given") == []


async def test_what_a_model_costs_that_has_no_price_makes_the_price_of_use_unknown(setup: Setup) -> None:
    setup.decider.model = "unheard-of"
    setup.decider.add(decides("notify", "look"))
    async with setup.running() as bench:
        await bench.hint()
        made = await only(bench)
        await bench.engine.desk.rate(made.id, "useful")
        (row,) = await bench.engine.desk.calibration(LONG_AGO)
    assert (row["price"], row["unpriced_calls"], row["price_per_useful"]) == (0, 1, None)


async def test_a_question_and_its_call_rate_the_decision_behind_their_run(setup: Setup) -> None:
    setup.config = '[[policy.rules]]\nverdict = "ask"\ntool = "bell"\n'
    setup.actor.add(says("", use("bell")))
    async with setup.running() as bench:
        run = await bench.tell()
        question = await bench.question()
        (call,) = await bench.calls(run)
        decision = (await bench.run(run)).decision
        for identifier in (str(question["code"]), str(question["id"]), call.id):
            assert (await bench.engine.desk.rate(identifier, "useful"))["id"] == decision
