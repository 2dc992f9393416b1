"""Forgetting, over the real engine, journal, index and files: what comes back, and what must not be lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dreams import entry
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, use

from kairosd.core.journal import Note
from kairosd.core.memory import Past
from kairosd.core.search import Layer
from kairosd.engine.indexing import forgotten
from kairosd.store.journal_files import read_lines

pytestmark = pytest.mark.anyio

FACT = "The staging deploy runs on Hetzner, port 9090"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


async def noted(bench: Bench, *texts: str, kind: str = "decision.made", workspace: str = "app") -> list[str]:
    """The journal lines that say these texts."""
    state, clock = bench.engine.memory.keeper._stores.state, bench.setup.clock
    for text in texts:
        await state.note(Note(kind, workspace=workspace, tier="local", data={"reason": text}), clock.now())
    while True:
        lines = list(read_lines(bench.ground.place.journal))
        found = {str(line["data"].get("reason")): f"j{line['seq']}" for line in lines}  # type: ignore[union-attr]
        if set(texts) <= found.keys():
            return [found[text] for text in texts]
        await asyncio.sleep(0.01)


async def told(bench: Bench, text: str, **more: object) -> str:
    """The id of what a run of the owner's has remembered."""
    bench.setup.actor.add(says("", use("remember", text=text, **more)), says("done"))
    run = await bench.tell(f"remember: {text}")
    while not any(one["kind"] == "run.ended" and one["id"] == run for one in read_lines(bench.ground.place.journal)):
        await asyncio.sleep(0.01)
    (made,) = [one for one in bench.engine.memory.store.load().entries if one.text == text]
    return made.id


async def found(bench: Bench, words: str) -> set[str]:
    answer = await bench.engine.memory.keeper.search(words, workspace=None, filters={"limit": 200})
    return {str(one["source"]) for one in answer["found"]}


def held(bench: Bench, words: bytes) -> list[Path]:
    """The files of memory that hold these words."""
    return [path for path in bench.ground.place.memory.rglob("*") if path.is_file() and words in path.read_bytes()]


async def test_a_short_fact_takes_only_what_says_it_with_it(setup: Setup) -> None:
    async with setup.running() as bench:
        name = await told(bench, "Port 9000")
        others = await noted(bench, "the invoice service moved from port 443 to 9000 requests a day")
        saying = await noted(bench, *(f"the proxy of {word} keeps port 9000" for word in ("alpha", "beta")))
        assert {*others, *saying} <= await found(bench, "port 9000")
        await bench.engine.memory.keeper.forget(name)
        after = await found(bench, "port 9000")
        assert after & {*others, *saying} == {*others}
        assert not held(bench, b"9000")


async def test_however_often_it_was_said_all_of_it_goes(setup: Setup) -> None:
    """Also in the words of a workspace that is configured no more."""
    async with setup.running() as bench:
        name = await told(bench, FACT)
        many = await noted(bench, *(f"{n}: the staging deploy runs on hetzner port 9090" for n in range(70)))
        gone = await noted(bench, f"{FACT}, of old", workspace="gone")
        await bench.engine.memory.keeper.forget(name)
        assert {*many, *gone} <= {*forgotten(bench.engine.memory.store.load())}
        assert not await found(bench, "hetzner 9090")
        await bench.engine.memory.keeper._indexer.rebuild()
        assert not await found(bench, "hetzner 9090")


async def test_what_a_fact_was_learned_from_teaches_it_no_dream_again(setup: Setup) -> None:
    """Whatever its words: an undo goes back before the lines that a dream has read."""
    async with setup.running() as bench:
        (line,) = await noted(bench, "staging went over to hetzner, on 9090 by the way")
        store = bench.engine.memory.store
        base = store.load()
        store.commit(replace(base, entries=(entry("aaaa0001", "a.b", FACT, sources=(line,)),)), base=base)
        await bench.engine.memory.keeper.forget("aaaa0001")
        assert line in forgotten(store.load())


async def test_the_words_in_which_it_was_told_go_too(setup: Setup) -> None:
    """And an order that a fact was only found out under stays."""
    setup.write("deploy.toml", "staging = hetzner\nport = 9090\n")
    async with setup.running() as bench:
        goal = "our new staging box over there at hetzner by the way listens for now on 9090 as port"
        bench.setup.actor.add(says("", use("remember", text="Staging Hetzner port 9090")), says("done"))
        await bench.tell(goal)
        (entry,) = bench.engine.memory.store.load().entries
        (again,) = await noted(bench, f"it said: {goal}")
        await bench.engine.memory.keeper.forget(entry.id)
        assert again not in await found(bench, "staging box hetzner")
        reads = use("read", path="deploy.toml")
        bench.setup.actor.add(says("", reads), says("", use("remember", text="staging = hetzner")), says("done"))
        await bench.tell("look at the staging")
        (entry,) = bench.engine.memory.store.load().entries
        (kept,) = await noted(bench, "somebody should look at the staging")
        await bench.engine.memory.keeper.forget(entry.id)
        assert kept in await found(bench, "look at the staging")


async def test_what_had_its_words_before_is_forgotten_with_it(setup: Setup) -> None:
    """In history, in the archive and in generations that were undone, under whatever id."""
    async with setup.running() as bench:
        first = await told(bench, FACT)
        wide = await told(bench, FACT, kind="user")
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        assert [one.scope for one in store.load().entries] == ["*"]
        assert wide != first
        await bench.engine.memory.desk.undo(1)
        await keeper.forget(first)
        assert not held(bench, b"9090")
        assert store.redo(1).entries == ()
        base = store.load()
        like = entry("bbbb0001", "c.d", "Mail leaves through port 587")
        now = replace(like, id="bbbb0002", scope="*")
        past = Past(like.id, like, like.seen, "supersede", now.id)
        store.commit(replace(base, entries=(now,), history=(*base.history, past)), base=base)
        await keeper.forget("bbbb0002")
        assert not held(bench, b"587")
        assert {one["id"] for one in await keeper.history(None)} >= {"bbbb0001", "bbbb0002"}


async def test_a_proposal_that_says_it_waits_no_more(setup: Setup) -> None:
    """Whatever its full stop and its evidence's words; what is proposed of other things waits on."""
    setup.workspace = "trusted = true"
    async with setup.running() as bench:
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        notes = "- the staging deploy runs on Hetzner, port 9090\n- Letters leave through port 587\n"
        carried = await keeper.carry_in(str(setup.root / "CLAUDE.md"), notes, workspace=None)
        assert len(carried["proposals"]) == 2, carried
        base = store.load()
        store.commit(replace(base, entries=(entry("aaaa0001", "a.b", f"{FACT}."),)), base=base)
        await keeper.forget("aaaa0001")
        (waiting,) = await bench.engine.memory.desk.proposals()
        assert waiting["operations"][0]["text"] == "Letters leave through port 587"
        assert not held(bench, b"9090")


async def test_what_is_active_elsewhere_is_another_entry(setup: Setup) -> None:
    async with setup.running() as bench:
        store = bench.engine.memory.store
        base = store.load()
        both = (entry("aaaa0001", "a.b", FACT), entry("aaaa0002", "a.b", FACT, scope="lib"))
        store.commit(replace(base, entries=both), base=base)
        await bench.engine.memory.keeper.forget("aaaa0001")
        assert [one.id for one in store.load().entries] == ["aaaa0002"]


async def test_a_transcript_that_got_shorter_leaves_nothing_in_the_index(setup: Setup) -> None:
    async with setup.running() as bench:
        setup.actor.add(says("The heron sleeps on one leg."))
        run = await bench.tell("how does it sleep?")
        while not any(one["kind"] == "run.ended" for one in read_lines(bench.ground.place.journal)):
            await asyncio.sleep(0.01)
        assert any(one.startswith(f"{run}#") for one in await found(bench, "heron leg"))
        path = setup.folder / f"home/transcripts/{run}.jsonl"
        first = path.read_text().splitlines(keepends=True)[0]
        path.write_text(first)
        state = bench.engine.memory.keeper._stores.state
        await state.note(Note("run.parked", run, workspace="app"), setup.clock.now())
        await noted(bench, "and so on it went")
        left = bench.engine.memory.keeper._indexer
        assert not any("heron" in one for one in await found(bench, "heron leg"))
        assert await asyncio.to_thread(left._index.saying, (Layer.TRANSCRIPT,), lambda one: "heron" in one.text) == []


@pytest.mark.parametrize("grown", [False, True])
async def test_a_journal_that_got_shorter_leaves_nothing_in_the_index(setup: Setup, grown: bool) -> None:
    """Also where it has grown again since, with other lines of the same numbers."""
    async with setup.running() as bench:
        await told(bench, FACT)
        kept, torn = await noted(bench, "the quagga is here", "the heron sleeps on one leg")
        assert {kept, torn} <= await found(bench, "quagga heron leg")
        (path,) = bench.ground.place.journal.glob("*/*/*.jsonl")
        whole = path.read_text()
        lines = whole.splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if "the heron sleeps" in line)
        other = lines[at].replace("the heron sleeps on one leg", "the zebra came").replace('"hash":"', '"hash":"0')
        path.write_text("".join([*lines[:at], *([other] if grown else [])]))
        after = await found(bench, "quagga heron leg zebra")
        assert kept in after
        assert (torn in after) is grown
        assert await found(bench, "heron leg") == set()
        path.write_text(whole)
