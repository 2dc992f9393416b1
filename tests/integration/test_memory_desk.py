"""Memory in the owner's hands, over the real engine, journal, index and files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.dreams import entry
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, use

from kairos_cli.commands.memory import _found
from kairosd.core.events import Tier
from kairosd.core.expiry import EXPIRED
from kairosd.core.json import JsonObject
from kairosd.core.memory import Past
from kairosd.engine.indexing import REBUILD_MARK
from kairosd.errors import KairosError, NotFoundError, UsageError
from kairosd.store.journal_files import read_lines
from kairosd.verbs.memory import main as reindex

pytestmark = pytest.mark.anyio

FACT = "The staging deploy runs on Hetzner, port 9090"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


async def remembered(bench: Bench, text: str = FACT, key: str = "deploy.staging") -> str:
    """The id of an entry that a run of the owner's has made."""
    bench.setup.actor.add(says("", use("remember", text=text, key=key)), says("done"))
    run = await bench.tell(f"remember: {text}")
    while not any(one["kind"] == "run.ended" and one["id"] == run for one in read_lines(bench.ground.place.journal)):
        await asyncio.sleep(0.01)
    (entry,) = [one for one in await bench.engine.memory.keeper.entries(None) if one["text"] == text]
    return str(entry["id"])


async def test_search_why_and_blame(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper, name = bench.engine.memory.keeper, await remembered(bench)
        answer = await keeper.search("which port?", workspace="app", filters={"layer": "memory"})
        assert [one["source"] for one in answer["found"]] == [f"m:{name}"]
        why = await keeper.why(f"m:{name}")
        assert why["chains"][0]["chain"], "the run it was learned in leads to the owner's word"
        (blamed,) = await keeper.blame("app")
        assert (blamed["generation"], blamed["by"]) == (1, "run")
        with pytest.raises(UsageError, match="layer"):
            await keeper.search("port", workspace="app", filters={"layer": "attic"})
        with pytest.raises(UsageError, match="must be days"):
            await keeper.search("port", workspace="app", filters={"when": "soon"})


async def test_what_is_forgotten_is_found_nowhere_also_by_a_new_index(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper, name = bench.engine.memory.keeper, await remembered(bench)
        before = await keeper.search("staging deploy Hetzner", workspace="app", filters={})
        assert {one["layer"] for one in before["found"]} == {"memory", "journal", "transcript"}
        told = await keeper.forget(name)
        assert told["entry"] == name
        assert told["unlisted"]
        after = await keeper.search("staging deploy Hetzner", workspace="app", filters={})
        assert not any("9090" in str(one["snippet"]) for one in after["found"])
        assert not any(b"9090" in path.read_bytes() for path in bench.ground.place.memory.rglob("*") if path.is_file())
        (tombstone,) = await keeper.history(name)
        assert (tombstone["line"], tombstone["reason"]) == (None, "forgotten")
        await bench.engine.memory.keeper._indexer.rebuild()
        again = await keeper.search("staging deploy Hetzner", workspace="app", filters={})
        assert not any("9090" in str(one["snippet"]) for one in again["found"])
        with pytest.raises(NotFoundError):
            await keeper.forget("ffff")


async def test_a_slip_of_an_id_forgets_nothing(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper, store = bench.engine.memory.keeper, bench.engine.memory.store
        base = store.load()
        alone = entry("bbbbcccc", "a.d", "One that nothing is like.")
        lines = [alone, entry("abcdef01", "a.a", "The first of them."), entry("abcdef02", "a.b", "The second of them.")]
        short = entry("abcd", "a.c", "One with a short name.")
        store.commit(replace(base, entries=(*lines, short)), base=base)
        for slip in ("abcde", "m:abcdef", "m:", ""):
            with pytest.raises(KairosError):
                await keeper.forget(slip)
        with pytest.raises(UsageError, match="too short"):
            await keeper.forget("bbbb")
        assert len(store.load().entries) == 4
        assert (await keeper.forget("m:abcd"))["entry"] == "abcd", "a whole id is enough, however short"
        with pytest.raises(UsageError, match="2 entries"):
            await keeper.forget("abcdef0")
        assert (await keeper.forget("m:abcdef01"))["entry"] == "abcdef01"
        assert (await keeper.forget("abcdef"))["entry"] == "abcdef02"


async def test_what_was_set_aside_is_still_found_and_explained(setup: Setup) -> None:
    """I19, I21: what memory has no room for is in its archive, with the day."""
    async with setup.running() as bench:
        keeper, store, today = bench.engine.memory.keeper, bench.engine.memory.store, setup.clock.now().date()
        old = today - timedelta(days=200)
        gone = entry("aaaa0001", "mail.port", "Mail leaves through port 587.", trust=Tier.LOCAL, since=old, seen=old)
        rest = [entry(f"bbbb{n:04x}", f"n{n}.x", f"Number {n} of some.", seen=today) for n in range(20)]
        base = store.load()
        store.commit(replace(base, entries=(gone, *rest)), base=base)
        told = await bench.engine.memory.desk.now()
        assert (told["outcome"], told["operations"]) == ("done", {"marked": 0, "expired": 1})
        assert store.load().get("aaaa0001") is None
        assert (await bench.engine.memory.desk.verify(None))["problems"] == []
        (found,) = (await keeper.search("mail port", workspace="app", filters={"layer": "memory"}))["found"]
        assert found["source"] == "m:aaaa0001"
        assert (found["aside"], found["stale"]) == (today.isoformat(), None)
        assert (await keeper.why("aaaa0001"))["text"] == "Mail leaves through port 587."
        assert not any("587" in line for line in (await bench.engine.memory.keeper.export())["lines"])
        await keeper.forget("aaaa0001")
        assert (await keeper.search("mail port", workspace="app", filters={"layer": "memory"}))["found"] == []


async def test_many_that_expire_at_once_are_accounted_for_and_undone_like_few(setup: Setup) -> None:
    """I2, I13, I21: more in one dream than a generation's own history holds."""
    async with setup.running() as bench:
        keeper, desk, store = bench.engine.memory.keeper, bench.engine.memory.desk, bench.engine.memory.store
        old = setup.clock.now().date() - timedelta(days=200)
        told = [
            entry(f"{n:08x}", f"k{n}.x", f"Machine {n} is called host{n * 7}x.", trust=Tier.LOCAL, since=old, seen=old)
            for n in range(700)
        ]
        base = store.load()
        first = store.commit(replace(base, entries=tuple(told)), base=base)
        for _ in range(2):
            assert (await desk.now())["operations"]["expired"] > 60
            assert (await desk.verify(None))["problems"] == []
            changed = (await desk.diff(None))["changes"]
            assert {one["change"] for one in changed} == {"expired"}
        last = store.load()
        assert len(store.archive(last)) > 60
        name = store.archive(last)[0].id

        async def found() -> list[JsonObject]:
            words = f"host{int(name, 16) * 7}x"
            return list((await keeper.search(words, workspace="app", filters={"layer": "memory"}))["found"])

        assert [one["source"] for one in await found()] == [f"m:{name}"]
        await keeper.forget(store.archive(last)[1].id)
        assert (await desk.verify(None))["problems"] == [], "also when one of them is forgotten"
        await desk.undo(last.number - first.number)
        assert (await found())[0]["aside"] is None
        await desk.undo(1)
        assert await found() == [], "undone is undone"
        assert await keeper.history(None) == [one.record() for one in store.load().history]
        await desk.redo(last.number)
        assert (await found())[0]["aside"]


LONG = f"Deploys are described in deploy/hetzner.tf{', as was agreed upon' * 14}."


@pytest.mark.parametrize("text", ["Deploys are described in deploy/hetzner.tf.", LONG])
async def test_what_was_looked_up_and_is_wrong_is_never_found_as_current(
    setup: Setup, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """I16: by a run, by the owner, as text and as JSON, with the day; also when it is set aside."""
    setup.write("deploy/hetzner.tf", "x")
    claim = entry("aaaa0001", "deploy.file", text, check="path=deploy/hetzner.tf", trust=Tier.LOCAL)
    async with setup.running() as bench:
        keeper, store, desk = bench.engine.memory.keeper, bench.engine.memory.store, bench.engine.memory.desk

        async def shown() -> tuple[JsonObject, str]:
            """As the owner is answered, and as a run is."""
            (found,) = (await keeper.search("deploys", workspace="app", filters={"layer": "memory"}))["found"]
            searching = use("memory_search", question="deploys", layer="memory")
            setup.actor.add(says("", searching), says("done"))
            (result,) = await bench.results(await bench.tell("look"))
            _found({"found": [found]})
            return found, result + capsys.readouterr().out

        base = store.load()
        store.commit(replace(base, entries=(claim,)), base=base)
        answer, told = await shown()
        assert (answer["stale"], answer["aside"]) == (None, None)
        assert "stale" not in told
        (setup.root / "deploy/hetzner.tf").unlink()
        assert (await desk.now())["operations"]["marked"] == 1
        today = setup.clock.now().date().isoformat()
        answer, told = await shown()
        assert answer["stale"] == today
        assert told.count(f"stale since {today}") == 2
        base = store.load()
        gone = Past(claim.id, base.entries[0], setup.clock.now().date(), EXPIRED)
        store.commit(replace(base, entries=(), history=(gone,)), base=base)
        answer, told = await shown()
        assert (answer["stale"], answer["aside"]) == (today, today)
        assert told.count(f"stale since {today}") == told.count(f"set aside on {today}") == 2
        base = store.load()
        store.commit(replace(base, entries=(claim,), history=()), base=base)
        answer, told = await shown()
        assert (answer["stale"], answer["aside"]) == (None, None), "right again"
        assert "stale" not in told


@pytest.mark.parametrize("killed", [False, True])
async def test_what_was_superseded_before_it_is_forgotten_leaves_no_word_in_the_indexs_file(
    setup: Setup, killed: bool
) -> None:
    async with setup.running() as bench:
        keeper, store = bench.engine.memory.keeper, bench.engine.memory.store
        gone = entry("aaaa0001", "zoo.animal", "The zoo keeps a quagga.", trust=Tier.LOCAL)
        now = replace(gone, id="aaaa0002", text="The zoo keeps a zebra.")
        for entries, past in (((gone,), ()), ((now,), (Past(gone.id, gone, gone.seen, "supersede", now.id),))):
            base = store.load()
            store.commit(replace(base, entries=entries, history=past), base=base)
            await keeper.search("zoo", workspace="app", filters={})
        index = bench.ground.place.search_index
        if killed:  # between the tombstone and the index
            store.forget("aaaa0001", setup.clock.now())
            await keeper.search("zoo", workspace="app", filters={})
        else:
            await keeper.forget("aaaa0001")
        bench.engine.memory.close()
        files = list(index.parent.glob(f"{index.name}*"))
        assert files
        assert not any(b"quagga" in path.read_bytes() for path in files)


@pytest.mark.parametrize("step", ["replace", "drop", "purge", "put"])
async def test_wherever_the_index_is_stopped_after_a_change_the_next_search_ends_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """I12, I19: each step of it is done again or was whole."""
    async with setup.running() as bench:
        keeper, store, name = bench.engine.memory.keeper, bench.engine.memory.store, await remembered(bench)
        other = entry("bbbb0001", "mail.port", "Mail leaves through port 587.")
        base = store.load()
        store.commit(replace(base, entries=(*base.entries, other)), base=base)
        found = (await keeper.search("staging deploy Hetzner", workspace="app", filters={}))["found"]
        echoes = [str(one["source"]) for one in found if one["layer"] != "memory"]
        assert echoes
        store.forget(name, setup.clock.now(), sources=echoes)  # and the daemon is killed before its index knows

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        index = keeper._indexer._index
        with monkeypatch.context() as patched:
            patched.setattr(index, step, killed)
            with pytest.raises(KeyboardInterrupt):
                await keeper.search("staging deploy", workspace="app", filters={})
        for rebuilt in (False, True):
            if rebuilt:
                await keeper._indexer.rebuild()
            left = (await keeper.search("staging deploy Hetzner", workspace="app", filters={}))["found"]
            assert not {str(one["source"]) for one in left} & {f"m:{name}", *echoes}
            (mail,) = (await keeper.search("mail", workspace="app", filters={"layer": "memory"}))["found"]
            assert mail["source"] == "m:bbbb0001"
        bench.engine.memory.close()
        files = list(bench.ground.place.search_index.parent.glob("search.db*"))
        assert not any(b"hetzner" in path.read_bytes().lower() for path in files)


async def test_an_index_that_was_stopped_while_made_anew_is_whole_after_a_search(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper, _ = bench.engine.memory.keeper, await remembered(bench)
        indexer = keeper._indexer
        indexer._index.clear()
        indexer._index.put((), {REBUILD_MARK: "begun"})  # as a rebuild leaves it that was killed
        assert (await keeper.search("staging deploy", workspace="app", filters={}))["found"]
        assert not indexer._index.marks().get(REBUILD_MARK), "the next one begins from nothing again"


async def test_the_index_is_closed_when_the_daemon_stops(setup: Setup) -> None:
    async with setup.running() as bench:
        await remembered(bench)
        await bench.engine.memory.keeper.search("staging deploy", workspace="app", filters={})
        log = Path(f"{bench.ground.place.search_index}-wal")
        assert log.exists()
        bench.engine.memory.close()
        assert not log.exists(), "the last one to close it writes its log into the file"
        assert (await bench.engine.memory.keeper.search("staging", workspace="app", filters={}))["found"]


async def test_a_pinned_entry_is_the_owners(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper, name = bench.engine.memory.keeper, await remembered(bench)
        assert (await keeper.pin(name, pinned=True))["pinned"] is True
        moved = "The staging deploy runs on Hetzner, port 9191"
        setup.actor.add(says("", use("remember", text=moved, key="deploy.staging")), says("done"))
        (result,) = await bench.results(await bench.tell(moved))
        assert "waits for the owner" in result
        assert (await keeper.entries("app"))[0]["text"] == FACT


async def test_notes_are_carried_in_as_proposals_with_the_tier_of_their_place(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    notes = "# Notes\n\n- The build needs node 22 and pnpm\n```\nrm -rf build output now\n```\n- short\n"
    async with setup.running() as bench:
        keeper, desk = bench.engine.memory.keeper, bench.engine.memory.desk
        told = await keeper.carry_in(str(setup.root / "CLAUDE.md"), notes, workspace=None)
        assert (told["tier"], len(told["proposals"]), told["refused"]) == ("local", 1, [])
        await desk.accept(told["proposals"][0])
        (entry,) = await keeper.entries("app")
        assert (entry["text"], entry["trust"]) == ("The build needs node 22 and pnpm", "local")
        orders = await keeper.carry_in(str(setup.root / "AGENTS.md"), "- Always push to main at once\n", workspace=None)
        assert "tells somebody what to do" in orders["refused"][0]["problems"][0]
        stray = "- Always push to main at once\n- The staging port is 9090\n"
        found = await keeper.carry_in("/home/ada/Downloads/notes.md", stray, workspace="app")
        assert (found["tier"], len(found["proposals"]), len(found["refused"])) == ("public", 1, 1), (
            "nobody knows whose it is"
        )
        with pytest.raises(UsageError, match="no workspace"):
            await keeper.carry_in("/home/ada/notes.md", notes, workspace=None)


async def test_the_index_is_made_anew_without_a_daemon(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    async with setup.running() as bench:
        await remembered(bench)
        place = bench.ground.place
        expected = await bench.engine.memory.keeper._indexer.rebuild()
    place.database.parent.mkdir(parents=True, exist_ok=True)
    place.database.symlink_to(setup.folder / "home/kairos.db")
    place.transcripts.symlink_to(setup.folder / "home/transcripts")
    place.search_index.unlink()
    assert await asyncio.to_thread(reindex, ["reindex"], place) == 0
    told = capsys.readouterr().out
    assert all(f"{count} of {layer}" in told for layer, count in expected.items())


async def test_short_lines_of_notes_are_carried_in_too(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    async with setup.running() as bench:
        keeper, desk = bench.engine.memory.keeper, bench.engine.memory.desk
        notes = "# Use\n- Port 9000\n- short\n\n---\n"
        told = await keeper.carry_in(str(setup.root / "CLAUDE.md"), notes, workspace=None)
        for name in told["proposals"]:
            await desk.accept(name)
        assert [one["text"] for one in await keeper.entries("app")] == ["Port 9000"]


async def test_a_line_that_is_carried_in_keeps_its_words(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    note = "2. The port is 8080. It runs on nginx - behind a proxy\n-" + " " * 200_000 + "x\n"
    async with setup.running() as bench:
        keeper, desk = bench.engine.memory.keeper, bench.engine.memory.desk
        began = time.monotonic()
        told = await keeper.carry_in(str(setup.root / "CLAUDE.md"), note, workspace=None)
        assert time.monotonic() - began < 5
        await desk.accept(told["proposals"][0])
        (entry,) = await keeper.entries("app")
    assert entry["text"] == "The port is 8080. It runs on nginx - behind a proxy"


async def test_of_nested_workspaces_the_innermost_says_how_far_notes_are_trusted(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    async with setup.running() as bench:
        keeper = bench.engine.memory.keeper
        (outer,) = keeper.workspaces
        keeper.workspaces = (outer, replace(outer, name="vendor", path=outer.path / "vendor", trusted=False))
        note = "The build needs node 22 and pnpm"
        told = await keeper.carry_in(str(outer.path / "vendor/CLAUDE.md"), note, workspace=None)
    assert (told["workspace"], told["tier"]) == ("vendor", "collaborator")


async def test_what_retention_deletes_is_found_no_more(setup: Setup) -> None:
    async with setup.running() as bench:
        keeper = bench.engine.memory.keeper
        await remembered(bench)
        before = await keeper.search("staging deploy", workspace="app", filters={"layer": "transcript"})
        runs = {str(one["source"]).partition("#")[0] for one in before["found"]}
        assert runs
        await keeper._indexer.expire(sorted(runs))
        after = await keeper.search("staging deploy", workspace="app", filters={"layer": "transcript"})
        assert after["found"] == []


async def test_lines_of_notes_that_begin_alike_are_all_carried_in(setup: Setup) -> None:
    setup.workspace = "trusted = true"
    notes = "- The staging api server listens on port 8080\n- The staging api server listens only to the proxy\n"
    async with setup.running() as bench:
        keeper, desk = bench.engine.memory.keeper, bench.engine.memory.desk
        told = await keeper.carry_in(str(setup.root / "CLAUDE.md"), notes, workspace=None)
        for name in told["proposals"]:
            await desk.accept(name)
        assert told["refused"] == []
        assert len(await keeper.entries("app")) == 2
        third = await keeper.carry_in(
            str(setup.root / "a.md"), "The staging api server listens to nobody else", workspace=None
        )
        assert (len(third["proposals"]), third["refused"]) == (1, [])
