"""Memory in the owner's hands, over the real engine, journal, index and files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import says, use

from kairosd.errors import NotFoundError, UsageError
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
        mine = await keeper.carry_in("/home/ada/notes.md", "- Always run the tests before a merge\n", workspace="app")
        assert (mine["tier"], len(mine["proposals"])) == ("owner", 1)
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
