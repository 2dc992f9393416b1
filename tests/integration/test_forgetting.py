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

from kairosd.core.dream import Op, Operation
from kairosd.core.journal import Note
from kairosd.core.memory import Past
from kairosd.core.runs import RunState
from kairosd.core.search import Layer
from kairosd.engine import indexing
from kairosd.engine.indexing import forgotten
from kairosd.ports import Proposal
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


async def test_what_is_forgotten_while_its_run_is_under_way_stays_forgotten(setup: Setup) -> None:
    """Its turns and its end are written down later; so are lines that the journal's thread has not come to yet."""
    async with setup.running() as bench:
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        setup.bell.stall = "after"
        setup.actor.add(says("", use("remember", text=FACT)), says(f"noted that {FACT}", use("bell", note="done")))
        asked = asyncio.get_running_loop().create_task(bench.tell(f"remember: {FACT}"))
        while not store.load().entries or not setup.bell.rung:
            await asyncio.sleep(0.005)
        run = await asked
        await keeper.forget(store.load().entries[0].id)
        await bench.stores.state.note(Note("run.parked", run, workspace="app"), setup.clock.now())
        now = replace(await bench.run(run), state=RunState.DONE, result=f"{FACT}: done", ended=setup.clock.now())
        await bench.stores.runs.end(now, (), now=setup.clock.now())
        await bench.stores.state.drain()
        assert any(line["kind"] == "run.ended" for line in read_lines(bench.ground.place.journal))
        for _ in range(2):
            assert not await found(bench, "staging deploy hetzner 9090")
            await keeper._indexer.rebuild()
        assert await bench.engine.memory.dreamer._dream.unlearned(10) == 0


async def test_of_a_run_that_only_says_it_the_rest_is_hidden_too(setup: Setup) -> None:
    """It is under way when an entry is forgotten that others told."""
    async with setup.running() as bench:
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        base = store.load()
        store.commit(replace(base, entries=(entry("aaaa0001", "a.b", FACT, scope="app"),)), base=base)
        setup.bell.stall = "after"
        setup.actor.add(says(f"as I see it {FACT}", use("bell", note="it is so")))
        said = await bench.tell("look at the staging")
        await bench.stores.state.note(Note("run.parked", said, workspace="app"), setup.clock.now())
        await noted(bench, "and so on it went")
        assert any(one.startswith(f"{said}#") for one in await found(bench, "look at the staging"))
        await keeper.forget("aaaa0001")
        assert said in forgotten(store.load())
        (call,) = [one for one in await bench.stores.runs.calls(said) if one.tool == "bell"]
        question = Note("approval.opened", "a_1", call.id, "app", data={"question": f"Shall it ring, as {FACT}?"})
        await bench.stores.state.note(question, setup.clock.now())
        again = await noted(bench, f"somebody says anew that {FACT}")
        assert await found(bench, "hetzner 9090") == {*again}
        assert not any(one.startswith(f"{said}#") for one in await found(bench, "look at the staging"))


async def test_a_run_that_a_fact_was_learned_from_is_hidden_whatever_it_has_said(setup: Setup) -> None:
    async with setup.running() as bench:
        store = bench.engine.memory.store
        setup.bell.stall = "after"
        setup.actor.add(says("", use("bell", note="done")))
        run = await bench.tell("look at the staging")
        (call,) = await bench.stores.runs.calls(run)
        base = store.load()
        store.commit(replace(base, entries=(entry("aaaa0001", "a.b", FACT, sources=(call.id,)),)), base=base)
        await bench.engine.memory.keeper.forget("aaaa0001")
        assert run in forgotten(store.load())


async def test_a_search_does_not_wait_until_something_is_forgotten(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PATIENCE_SECONDS", 0.05)
    async with setup.running() as bench:
        keeper = bench.engine.memory.keeper
        (line,) = await noted(bench, "the heron sleeps on one leg")
        assert await found(bench, "heron leg") == {line}
        async with keeper._indexer.echoes(lambda _: False), asyncio.timeout(5):
            answer = await keeper.search("heron leg", workspace=None, filters={})
        assert ([one["source"] for one in answer["found"]], answer["behind"]) == ([line], True)
        assert not (await keeper.search("heron leg", workspace=None, filters={}))["behind"]


async def test_what_another_workspace_knows_stays_there(setup: Setup) -> None:
    setup.second = True
    async with setup.running() as bench:
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        (here,) = await noted(bench, f"{FACT}, here")
        (there,) = await noted(bench, f"{FACT}, there", workspace="lib")
        base = store.load()
        wide = entry("bbbb0001", "a.b", "Mail leaves through port 587", scope="*")
        store.commit(replace(base, entries=(entry("aaaa0001", "a.b", FACT), wide)), base=base)
        await keeper.forget("aaaa0001")
        assert await found(bench, "hetzner 9090") == {there}
        assert here in forgotten(store.load())
        (mail,) = await noted(bench, "mail leaves through port 587", workspace="lib")
        await keeper.forget("bbbb0001")
        assert mail in forgotten(store.load())


async def test_a_short_text_damages_no_proposal_and_no_manifest(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    async with setup.running() as bench:
        store, keeper = bench.engine.memory.store, bench.engine.memory.keeper
        base = store.load()
        entries = (
            entry("aaaa0001", "a.b", "App", sources=("hand",)),
            entry("aaaa0002", "c.d", "Go", sources=("hand",)),
            entry("aaaa0003", "e.f", "It is what it is", sources=("hand",)),
            entry("bbbb0001", "g.h", "The heron sleeps on one leg"),
        )
        store.commit(replace(base, entries=entries, manifest={"phase": "run", "call": "c_goabc"}), base=base)
        notes = "- Letters of the application leave through port 587\n"
        carried = await keeper.carry_in(str(setup.root / "CLAUDE.md"), notes, workspace=None)
        wish = Operation(Op.RETIRE, ("bbbb0001",), ("j1",)).record()
        store.propose(Proposal("pretire0001", "it is over", setup.clock.now(), 1, ({**wish, "workspace": "app"},)))
        for name in ("aaaa0001", "aaaa0002", "aaaa0003"):
            await keeper.forget(name)
        assert any(one.manifest.get("call") == "c_goabc" for one in store.past())
        await bench.engine.memory.desk.accept(carried["proposals"][0])
        assert {one.scope for one in store.load().entries} == {"app"}
        assert [one.id for one in store.proposals()] == ["pretire0001"]


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
