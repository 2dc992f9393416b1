"""What runs remember, find again, and may not: through the real engine, memory, index and journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.engine_bench import Bench, Setup, open_setup
from tests.fakes import decides, says, use

from kairosd.core.events import Tier
from kairosd.core.memory import Entry, Generation, Kind
from kairosd.core.runs import RunState
from kairosd.core.tokens import estimate_text
from kairosd.store.journal_files import read_lines
from kairosd.store.memory import MemoryFolder

pytestmark = pytest.mark.anyio

GOAL = "remember that the staging deploy runs on Hetzner, port 9090"
FACT = "The staging deploy runs on Hetzner, port 9090"


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def memory(bench: Bench) -> Generation:
    return MemoryFolder(bench.ground.place.memory, bench.setup.clock).load()


async def told(bench: Bench, goal: str, *calls: object) -> tuple[str, ...]:
    """The results of a run with `goal` that makes `calls`, each in a turn of its own."""
    for call in calls:
        bench.setup.actor.add(says("", call))  # type: ignore[arg-type]
    bench.setup.actor.add(says("done"))
    return tuple(await bench.results(await bench.tell(goal)))


async def written(bench: Bench, run: str) -> None:
    """Until the journal's own thread has written that the run has ended."""
    while not any(line["kind"] == "run.ended" and line["id"] == run for line in read_lines(bench.ground.place.journal)):
        await asyncio.sleep(0.01)


async def test_what_the_owner_says_is_remembered_and_found_by_a_later_run(setup: Setup) -> None:
    async with setup.running() as bench:
        (kept,) = await told(bench, GOAL, use("remember", text=FACT, key="deploy.staging"))
        assert "remembered as m:" in kept
        (entry,) = memory(bench).entries
        assert (entry.key, entry.scope, entry.trust, entry.kind) == ("deploy.staging", "app", Tier.OWNER, Kind.PROJECT)
        (found,) = await told(bench, "which port?", use("memory_search", question="which port does the deploy use?"))
    assert FACT in found
    assert f"m:{entry.id} (memory, owner)" in found


async def test_nothing_made_up_is_remembered(setup: Setup) -> None:
    async with setup.running() as bench:
        (refused,) = await told(bench, GOAL, use("remember", text="The staging deploy runs on Azure, port 8080"))
        assert "not remembered" in refused
        assert "8080" in refused
        assert memory(bench).entries == ()


async def test_no_secret_is_remembered(setup: Setup) -> None:
    secret = "ghp_0123456789abcdefghijABCDEFGHIJ456789"
    async with setup.running() as bench:
        (refused,) = await told(bench, f"the token is {secret}", use("remember", text=f"the token is {secret}"))
        assert "secret" in refused
        assert memory(bench).entries == ()


async def test_the_same_again_is_a_confirmation_and_a_new_value_a_successor(setup: Setup) -> None:
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT, key="deploy.staging"))
        (again,) = await told(bench, GOAL, use("remember", text=f"{FACT}."))
        assert "known already" in again
        assert len(memory(bench).entries) == 1
        goal = "the staging deploy runs on Hetzner, port 9191 now"
        text = "The staging deploy runs on Hetzner, port 9191"
        (moved,) = await told(bench, goal, use("remember", text=text, key="deploy.staging"))
        assert "in place of" in moved
        (entry,) = memory(bench).entries
        assert "9191" in entry.text
        assert [past.reason for past in memory(bench).history] == ["supersede"]


async def test_what_a_run_saw_is_trusted_less_than_what_the_owner_said(setup: Setup) -> None:
    setup.write("deploy.toml", "host = 'hetzner'\nport = 7777\n")
    async with setup.running() as bench:
        results = await told(
            bench, "look at the deploy", use("read", path="deploy.toml"),
            use("remember", text="In deploy.toml host = 'hetzner' and port = 7777", kind="feedback"),
            use("remember", text="In deploy.toml host = 'hetzner' and port = 7777"),
        )  # fmt: skip
        assert "comes from the owner's words only" in results[1]
        (entry,) = memory(bench).entries
    assert entry.trust is Tier.LOCAL


async def test_a_run_of_the_owners_may_take_back_and_another_proposes(setup: Setup) -> None:
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT, key="deploy.staging"))
        (entry,) = memory(bench).entries
        goal = "forget the staging deploy on Hetzner, port 9090: it is gone"
        (gone,) = await told(bench, goal, use("forget", id=f"m:{entry.id}", reason="the owner said so"))
        assert "taken back" in gone
        assert memory(bench).entries == ()
        assert [past.entry for past in memory(bench).history] == [entry]


async def test_the_journal_and_turns_are_found_without_the_run_that_asks(setup: Setup) -> None:
    async with setup.running() as bench:
        setup.actor.add(says("The heron sleeps on one leg."))
        first = await bench.tell("how does a heron sleep?")
        await written(bench, first)
        (found,) = await told(bench, "look back", use("memory_search", question="heron sleeping", layer="transcript"))
        (none,) = await told(bench, "look back", use("memory_search", question="heron", when="2001-01-01"))
        (wrong,) = await told(bench, "look back", use("memory_search", question="heron", when="whenever"))
    assert f"{first}#" in found
    assert "one leg" in found
    assert "0 found" in none
    assert "must be days" in wrong


async def test_one_workspace_finds_nothing_of_another(setup: Setup) -> None:
    setup.second = True
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT))
        setup.actor.add(says("", use("memory_search", question="staging deploy Hetzner port")), says("done"))
        run = str((await bench.engine.desk.tell("look", "lib", folder=None))["run"])
        await bench.quiet()
        (found,) = await bench.results(run)
    assert "[0 found" in found


async def test_memory_stands_in_the_prompts_of_its_workspace_alone(setup: Setup) -> None:
    """I22: the third section, the same for every turn of a run, also where the run itself has remembered something."""
    setup.second = True
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT))
        (entry,) = memory(bench).entries
        (bench.ground.place.memory / "pins.md").write_text("Ask before anything is published.\n")
        again = "the staging database is PostgreSQL 16"
        await told(bench, again, use("remember", text="The staging database is PostgreSQL 16"))
        turns = setup.actor.prompts[-2:]
        assert len({prompt.system for prompt in turns}) == 1, "what a run remembers does not change its own prefix"
        await told(bench, "look")
        system = setup.actor.prompts[-1].system
        assert f'- "{FACT}" (owner, seen 2026-03-02, m:{entry.id})' in system
        assert "PostgreSQL 16" in system
        assert "Ask before anything is published. (pinned by the owner)" in system
        assert "look before you rely on it" in system
        setup.actor.add(says("done"))
        await bench.engine.desk.tell("look", "lib", folder=None)
        await bench.quiet()
        assert FACT not in setup.actor.prompts[-1].system
        assert "Ask before anything" in setup.actor.prompts[-1].system


async def test_the_deciding_model_is_shown_memory_of_the_workspace(setup: Setup) -> None:
    setup.second = True
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT))
        setup.decider.add(decides("ignore"))
        await bench.hint()
        await bench.advance(600)
        shown = setup.decider.prompts[-1].messages[0].text
        assert f'- "{FACT}" (owner' in shown
        (setup.folder / "lib/b.txt").write_text("x")
        setup.decider.add(decides("ignore"))
        await bench.submit(workspace="lib")
        await bench.advance(600)
        assert len(setup.decider.prompts) == 2
        assert FACT not in setup.decider.prompts[-1].messages[0].text


async def test_a_small_window_holds_less_of_memory_and_its_tools_not_at_all(setup: Setup) -> None:
    setup.actor.context, setup.actor.by_schema = 8192, True  # type: ignore[misc]
    setup.failures = True  # how often a guided model is asked is for other tests
    async with setup.running() as bench:
        base = memory(bench)
        entries = tuple(
            Entry(f"aaaa{number:04x}", f"fact.n{number}", f"Service number{number} listens on port {9000 + number}.",
                  scope="app", sources=("j1",), trust=Tier.OWNER)
            for number in range(200)
        )  # fmt: skip
        MemoryFolder(bench.ground.place.memory, setup.clock).commit(replace(base, entries=entries), base=base)
        setup.actor.add(*[says("done")] * 3)
        await bench.tell("change the port in README.md")
        prompt = setup.actor.prompts[0]
    shown = [line for line in prompt.system.splitlines() if "m:aaaa" in line]
    assert 5 < len(shown) < 30
    assert not {"remember", "forget", "memory_search"} & {tool.name for tool in prompt.tools}
    assert estimate_text(prompt.system) + sum(estimate_text(json.dumps(asdict(one))) for one in prompt.tools) < 2000


async def test_a_memory_that_cannot_be_read_ends_no_run(setup: Setup) -> None:
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT))
        for manifest in (bench.ground.place.memory / "gen").glob("*/manifest.json"):
            manifest.write_text("{")
        setup.actor.add(says("done"))
        run = await bench.tell("look")
        assert (await bench.run(run)).state is not RunState.FAILED
        assert FACT not in setup.actor.prompts[-1].system


async def test_what_memory_itself_said_is_no_evidence(setup: Setup) -> None:
    """I11: what a run once made up is not remembered because a later one found it again."""
    async with setup.running() as bench:
        setup.actor.add(says("The heron deploy listens on port 7171."))
        first = await bench.tell("tell me about the heron")
        await written(bench, first)
        results = await told(
            bench, "look back", use("memory_search", question="heron deploy", layer="transcript"),
            use("remember", text="The heron deploy listens on port 7171"),
        )  # fmt: skip
        assert "7171" in results[0]
        assert "not remembered" in results[1]
        assert memory(bench).entries == ()


PORT = "remember that the staging deploy runs on Hetzner, port 9090. The database is not on Hetzner"


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (FACT, "Staging deploys run on Hetzner at port 9090", FACT),
        ("The staging deploy runs on Hetzner", FACT, FACT),
        (FACT, "The staging deploy runs on port 9090", FACT),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_near_duplicates_of_one_run_are_one_entry(
    setup: Setup, first: str, second: str, kept: str, at_once: bool
) -> None:
    """I9: what says all that the other says stays, whatever keys the run made up, also where one turn calls twice."""
    calls = [use("remember", text=first, key="a.one"), use("remember", text=second, key="b.two")]
    async with setup.running() as bench:
        if at_once:
            setup.actor.add(says("", *calls), says("done"))
            results = tuple(await bench.results(await bench.tell(PORT)))
        else:
            results = await told(bench, PORT, *calls)
        (entry,) = memory(bench).entries
    assert (entry.text, entry.trust) == (kept, Tier.OWNER)
    assert any("known already" in one or "in place of" in one for one in results)


async def test_a_later_run_that_says_it_in_other_forms_confirms_it(setup: Setup) -> None:
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT, key="deploy.staging"))
        goal = "remember: staging deploys are running on Hetzner, port 9090"
        (again,) = await told(bench, goal, use("remember", text="Staging deploys run on Hetzner, port 9090", key="x.y"))
        (entry,) = memory(bench).entries
    assert f"known already as m:{entry.id}" in again
    assert len(entry.sources) == 2


@pytest.mark.parametrize(
    ("goal", "first", "second"),
    [
        ("the deploy listens on port 9090 and the deploy listens on port 9091", "The deploy listens on port 9090",
         "The deploy listens on port 9091"),
        ("deploys run on Mondays. Deploys do not run on Fridays", "Deploys run on Mondays",
         "Deploys do not run on Fridays"),
        ("the tests run with make check. The tests of the parser run with make check in tools",
         "The tests run with make check", "The tests of the parser run with make check in tools"),
        ("the wiki lies in Berlin, the mirror of the wiki lies in Zurich", "The wiki lies in Berlin",
         "The mirror of the wiki lies in Zurich"),
        ("Alice manages Bob. In the evening Bob manages Alice.", "Alice manages Bob", "Bob manages Alice"),
    ],
)  # fmt: skip
async def test_what_only_looks_alike_stays_two_entries(setup: Setup, goal: str, first: str, second: str) -> None:
    async with setup.running() as bench:
        goal = f"remember: {goal}"
        await told(bench, goal, use("remember", text=first, key="a.x"), use("remember", text=second, key="b.y"))
        assert sorted(one.text for one in memory(bench).entries) == sorted([first, second])


async def test_what_is_known_from_somebody_trusted_more_is_known_and_stays_as_it_is(setup: Setup) -> None:
    """I5, I14: a run that says it again is not told that it is wrong, and changes nothing."""
    setup.write("deploy.toml", "the staging deploy runs on hetzner, port 9090\n")
    async with setup.running() as bench:
        await told(bench, GOAL, use("remember", text=FACT, key="deploy.staging"))
        before = memory(bench)
        looks = use("read", path="deploy.toml")
        keeps = use("remember", text="The staging deploys run on Hetzner, port 9090")
        _, again = await told(bench, "look at the deploy", looks, keeps)
        assert "known already" in again
        assert memory(bench) == before
        mine = replace(before.entries[0], sources=("hand",), stale=before.entries[0].since)
        MemoryFolder(bench.ground.place.memory, setup.clock).commit(replace(before, entries=(mine,)), base=before)
        before = memory(bench)
        (again,) = await told(bench, GOAL, use("remember", text=FACT))
        assert f"known already as m:{mine.id}, stale since {mine.stale}" in again
        assert memory(bench) == before


async def test_a_long_line_with_another_value_is_no_duplicate(setup: Setup) -> None:
    long = "The staging deploy of the shop with its database and cache and mail relay and metrics and logs and " \
           "backups and queue and search and proxy runs on Hetzner machine alpha in Zurich, port {}"  # fmt: skip
    async with setup.running() as bench:
        for port in (9090, 9191):
            (kept,) = await told(bench, f"remember: {long.format(port)}", use("remember", text=long.format(port)))
            assert "remembered as" in kept
        (entry,) = memory(bench).entries
    assert "9191" in entry.text


@pytest.mark.parametrize(("text", "kind"), [("Port 9000", "project"), ("use tabs", "feedback")])
async def test_a_short_fact_of_the_owners_is_remembered(setup: Setup, text: str, kind: str) -> None:
    async with setup.running() as bench:
        (kept,) = await told(bench, text, use("remember", text=text, kind=kind))
        assert "trusted as owner" in kept
        assert [one.text for one in memory(bench).entries] == [text]


async def test_long_facts_that_begin_alike_are_two(setup: Setup) -> None:
    """I5: a key that was made up from their first words takes nothing out."""
    texts = ["Deploy to production only on Monday after the standup with Carol",
             "Deploy to production only on Monday needs the flag canary"]  # fmt: skip
    async with setup.running() as bench:
        for text in texts:
            await told(bench, f"remember: {text}", use("remember", text=text))
        made = memory(bench)
        assert [one.text for one in made.entries] == texts
        assert len({one.key for one in made.entries}) == 2
        assert made.history == ()


async def test_what_is_new_in_the_same_words_is_remembered(setup: Setup) -> None:
    setup.write("docs/english.md", "x")
    text = "Commit messages are in English, as docs/english.md says"
    async with setup.running() as bench:
        await told(bench, f"remember: {text}", use("remember", text=text, key="git.language"))
        (checked,) = await told(bench, f"remember: {text}", use("remember", text=text, check="path=docs/english.md"))
        assert "in place of" in checked
        (wide,) = await told(bench, f"remember: {text}", use("remember", text=text, kind="user"))
        assert "in place of" in wide
        (entry,) = memory(bench).entries
        assert (entry.scope, entry.kind, entry.key) == ("*", Kind.USER, "git.language")
        assert (entry.check, entry.trust, len(entry.sources)) == ("path=docs/english.md", Tier.OWNER, 1)
        (again,) = await told(bench, f"remember: {text}", use("remember", text=text))
        assert "known already" in again
        assert [one.text for one in memory(bench).entries] == [text]


async def test_no_file_widens_or_changes_what_the_owner_said(setup: Setup) -> None:
    text = "Commit messages are in English, as docs/english.md says"
    setup.write("notes.md", f"{text}. It holds in all projects.")
    async with setup.running() as bench:
        await told(bench, f"remember: {text}", use("remember", text=text))
        before = memory(bench)
        for more in ({"kind": "reference"}, {"check": "path=docs/english.md"}, {"kind": "user"}):
            _, said = await told(bench, "look", use("read", path="notes.md"), use("remember", text=text, **more))
            assert "known already" in said
        assert memory(bench) == before


async def test_what_was_so_does_not_confirm_that_it_is(setup: Setup) -> None:
    async with setup.running() as bench:
        for text in ("Ada owns billing", "Ada owned billing"):
            (kept,) = await told(bench, f"remember: {text}", use("remember", text=text))
            assert "remembered as" in kept
        await told(bench, "Ada owned search until May", use("remember", text="Ada owned search until May"))
        assert {one.text for one in memory(bench).entries} == {"Ada owned billing", "Ada owned search until May"}
