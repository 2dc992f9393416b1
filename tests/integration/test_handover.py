"""How a run's work comes to the owner's own files: whole after a kill at any point, or as a branch that says why."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import ManualClock
from tests.integration.test_checkouts import World, committed, git

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Draft, Tier
from kairosd.core.ids import mint
from kairosd.core.levels import Level
from kairosd.core.policy import Policy
from kairosd.core.runs import CallState, Run, RunState
from kairosd.core.secrets import Scrubber
from kairosd.core.workspaces import Landing, Workspace
from kairosd.engine import direct
from kairosd.engine.checkouts import Checkout
from kairosd.engine.guarding import Guard
from kairosd.engine.handover import LAND, Handover
from kairosd.engine.landing import Landed
from kairosd.engine.ledger import Park, Questions
from kairosd.engine.terms import Terms
from kairosd.engine.undo import Undo
from kairosd.errors import ToolError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Stores
from kairosd.sandbox import bubblewrap
from kairosd.store.assembly import OpenStores, open_stores
from kairosd.store.migrate import migrate
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The daemon dies here."""


@dataclass
class Dying(LocalFiles):
    """Real files; `at` is called with the number of each change and its path, before it (or after it) is made."""

    at: Callable[[int, str], None]
    after: bool = False
    changes: int = 0

    def replace(self, root: Path, path: str, *, content: bytes, mode: int | None = None) -> None:
        self._count(path, lambda: LocalFiles.replace(self, root, path, content=content, mode=mode))

    def remove(self, root: Path, path: str) -> None:
        self._count(path, lambda: LocalFiles.remove(self, root, path))

    def _count(self, path: str, change: Callable[[], None]) -> None:
        self.changes += 1
        if self.after:
            change()
        self.at(self.changes, path)
        if not self.after:
            change()


def kill(number: int) -> Callable[[int, str], None]:
    def at(count: int, _path: str) -> None:
        if count == number:
            raise Killed

    return at


@dataclass
class Home:
    """A workspace whose owner wants runs' work in their own files, and the daemon's records; opened anew at will."""

    world: World
    run: Run
    opened: OpenStores
    terms: Terms = field(default_factory=lambda: Terms(Policy()))

    @property
    def work(self) -> Path:
        return self.world.work

    @property
    def workspace(self) -> Workspace:
        return self.world.workspace

    async def restart(self) -> None:
        await self.opened.close()
        self.opened = opened_in(self.world.root, self.world.clock)

    async def checkout(self) -> Checkout:
        made = await self.world.checkouts().ensure(self.run, self.workspace)
        self.run = replace(self.run, base=made.snapshot)
        return made

    async def land(self, files: LocalFiles | None = None, stores: Stores | None = None) -> Landed:
        stores, clock, checkouts = stores or self.opened.stores, self.world.clock, self.world.checkouts()
        files = files or LocalFiles()
        questions = Questions(lambda _draft: (), timedelta(days=1))
        guard = Guard(stores, clock, checkouts, self.terms, questions, Scrubber(()))
        handover = Handover(
            stores, clock, checkouts, files=files, terms=self.terms, author=author, guard=guard
        )  # fmt: skip
        with suppress(Park):  # what is protected is asked about: see test_guarding
            await handover.clear(self.run, self.workspace, subject="Do it")
        return await handover.land(self.run, self.workspace)

    async def end(self, landed: Landed) -> None:
        now = self.world.clock.now()
        ended = replace(self.run, state=RunState.DONE, ended=now, branch=landed.branch, commit=landed.commit)
        await self.opened.stores.runs.end(ended, (), now=now)

    async def undo(self) -> list[str]:
        undo = Undo(
            self.opened.stores, self.world.clock, checkouts=self.world.checkouts(), files=LocalFiles(),
            workspaces={"w": self.workspace},
        )  # fmt: skip
        return list((await undo.undo(self.run.id, dry_run=False))["undone"])  # type: ignore[arg-type]


async def author() -> tuple[str, str]:
    return "Ada", "ada@example.com"


def opened_in(root: Path, clock: ManualClock) -> OpenStores:
    opened = open_stores(
        root / "state/kairos.db", root / "state/journal", transcripts_folder=root / "state/transcripts", clock=clock
    )
    opened.start()
    return opened


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    executor, clock = ProcessExecutor(), ManualClock()
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "work").mkdir()
    sandbox = bubblewrap.build(executor, folder=tmp_path / "state", forbidden=(tmp_path / "state",))
    committed(tmp_path / "work")
    (tmp_path / "work/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "work/a.txt").chmod(0o640)
    git(tmp_path / "work", "add", "-A")
    git(tmp_path / "work", "commit", "-qm", "Second")
    (tmp_path / "work/b.txt").write_text("b, as the owner has it, not committed\n")
    migrate(tmp_path / "state/kairos.db")
    now = clock.now()
    run = Run(mint("r", now), RunState.QUEUED, "do it", "w", "owner", None, 3, Tier.OWNER, now)
    workspace = Workspace("w", tmp_path.resolve() / "work", landing=Landing.DIRECT)
    made = Home(World(tmp_path, sandbox, run, workspace, clock), run, opened_in(tmp_path, clock))
    decision = Decision(
        id=mint("d", now), workspace="w", tier=Tier.OWNER, verdict=Verdict.ACT, reason="", goal="", confidence=1,
        price=0, next_wake=None, events=(), run=run.id, notice=None, fingerprint="", source="owner", shadow=False,
        asked_at=now, concluded_at=now,
    )  # fmt: skip
    draft = Draft(source="owner", kind="told", key=run.id, tier=Tier.OWNER, workspace="w")
    await made.opened.stores.events.add_direct(draft, run, decision=decision, now=now)
    assert await made.opened.stores.runs.start(run.id, now)
    yield made
    await made.opened.close()
    await executor.close()


def seen(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and permissions; no folder that is empty, and nothing of git's."""
    found = [path for path in folder.rglob("*") if ".git" not in path.relative_to(folder).parts]
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in found
        if path.is_file() and not path.is_symlink()
    }


def works(tree: Path) -> dict[str, tuple[bytes, int]]:
    """What a run does to the fixture's files: changes, deletes, adds, makes executable; five files."""
    (tree / "a.txt").write_text("changed\n")
    (tree / "b.txt").unlink()
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/new.txt").write_text("new\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "z.bin").write_bytes(os.urandom(100_000))
    return {
        "a.txt": (b"changed\n", 0o640),
        "deep/er/new.txt": (b"new\n", 0o644),
        "run.sh": (b"#!/bin/sh\n", 0o755),
        "z.bin": ((tree / "z.bin").read_bytes(), 0o644),
    }


@pytest.mark.parametrize(("number", "after"), [(1, False), (1, True), (2, True), (3, False), (4, True), (5, True)])
async def test_a_kill_at_any_file_is_finished_after_the_restart_and_can_be_undone(
    home: Home, number: int, after: bool
) -> None:
    before = seen(home.work)
    wanted = {**before, **works((await home.checkout()).path)}
    del wanted["b.txt"]
    with pytest.raises(Killed):
        await home.land(Dying(kill(number), after))
    assert seen(home.work) != wanted or (number, after) == (5, True)
    await home.restart()
    landed = await home.land()
    assert landed.direct
    assert set(landed.files) == {"a.txt", "b.txt", "deep/er/new.txt", "run.sh", "z.bin"}
    assert seen(home.work) == wanted
    (call,) = await home.opened.stores.runs.calls(home.run.id)
    assert (call.tool, call.state) == (LAND, CallState.SUCCEEDED)
    assert git(home.work, "for-each-ref", "refs/heads/kairos") == ""
    untouched = Dying(kill(1))
    assert (await home.land(untouched)).direct, "a third time there is nothing left to do"
    assert untouched.changes == 0
    await home.end(landed)
    await home.restart()
    assert len(await home.undo()) == 6  # and the checkout
    assert seen(home.work) == before


async def test_a_kill_while_old_contents_are_put_aside_changes_nothing_yet(home: Home) -> None:
    before = seen(home.work)
    works((await home.checkout()).path)
    kept = home.opened.stores.blobs

    class Blobs:
        def put(self, content: bytes) -> str:
            kept.put(content)
            raise Killed

        def get(self, name: str) -> bytes:
            return kept.get(name)

    with pytest.raises(Killed):
        await home.land(stores=replace(home.opened.stores, blobs=Blobs()))
    assert seen(home.work) == before
    await home.restart()
    assert (await home.land()).direct


async def test_a_kill_while_it_is_taken_back_is_finished_by_undoing_again(home: Home) -> None:
    before = seen(home.work)
    works((await home.checkout()).path)
    await home.end(await home.land())
    undo = Undo(
        home.opened.stores, home.world.clock, checkouts=home.world.checkouts(), files=Dying(kill(3)),
        workspaces={"w": home.workspace},
    )  # fmt: skip
    with pytest.raises(Killed):
        await undo.undo(home.run.id, dry_run=False)
    await home.restart()
    await home.undo()
    assert seen(home.work) == before


def a_link(tree: Path, _work: Path) -> None:
    (tree / "link").symlink_to("a.txt")


def a_file_becomes_a_link(tree: Path, _work: Path) -> None:
    (tree / "a.txt").unlink()
    (tree / "a.txt").symlink_to("/etc/passwd")


def a_workflow(tree: Path, _work: Path) -> None:
    (tree / ".github/workflows").mkdir(parents=True)
    (tree / ".github/workflows/ci.yml").write_text("on: push\n")


def a_secret(tree: Path, _work: Path) -> None:
    (tree / ".env").write_text("TOKEN=1\n")


def the_owner_writes(tree: Path, work: Path) -> None:
    (tree / "b.txt").write_text("the run's\n")
    (work / "b.txt").write_text("the owner's, of now\n")


def the_owner_makes_it_too(tree: Path, work: Path) -> None:
    (tree / "new.txt").write_text("the run's\n")
    (work / "new.txt").write_text("the owner's\n")


def the_owner_deletes(tree: Path, work: Path) -> None:
    (tree / "b.txt").write_text("the run's\n")
    (work / "b.txt").unlink()


def the_owner_puts_a_link_there(tree: Path, work: Path) -> None:
    (tree / "b.txt").write_text("the run's\n")
    (work / "b.txt").unlink()
    (work / "b.txt").symlink_to("a.txt")


def the_folder_leads_elsewhere(tree: Path, work: Path) -> None:
    (tree / "deep").mkdir()
    (tree / "deep/new.txt").write_text("the run's\n")
    (work.parent / "elsewhere").mkdir()
    (work / "deep").symlink_to(work.parent / "elsewhere")


def a_link_is_there_already(tree: Path, work: Path) -> None:
    (tree / "new.txt").write_text("the run's\n")
    (work / "new.txt").symlink_to("nowhere")


def a_folder_is_there_already(tree: Path, work: Path) -> None:
    (tree / "new.txt").write_text("the run's\n")
    (work / "new.txt").mkdir()


def too_large(tree: Path, _work: Path) -> None:
    (tree / "large.bin").write_bytes(b"x" * 2001)


def too_large_before(tree: Path, _work: Path) -> None:
    (tree / "large-before.txt").write_text("small now\n")


def too_many(tree: Path, _work: Path) -> None:
    for number in range(6):
        (tree / f"{number}.txt").write_text("x\n")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (a_link, "link is a link or no plain file"),
        (a_file_becomes_a_link, "a.txt is a link or no plain file"),
        (a_workflow, ".github/workflows/ci.yml is protected"),
        (a_secret, ".env is protected"),
        (the_owner_writes, "b.txt has changed since the run began"),
        (the_owner_makes_it_too, "new.txt has changed since the run began"),
        (the_owner_deletes, "b.txt has changed since the run began"),
        (the_owner_puts_a_link_there, "b.txt has changed since the run began"),
        (the_folder_leads_elsewhere, "deep/new.txt has changed since the run began"),
        (a_link_is_there_already, "new.txt has changed since the run began"),
        (a_folder_is_there_already, "new.txt has changed since the run began"),
        (too_large, "large.bin is larger than"),
        (too_large_before, "large-before.txt is larger than"),
        (too_many, "files are too many to be written directly"),
    ],
)
async def test_what_may_not_be_written_lands_as_a_branch_with_the_reason(
    home: Home, change: Callable[[Path, Path], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "FILE_MAX", 2000)
    monkeypatch.setattr(direct, "FILES_MAX", 6)
    (home.work / "large-before.txt").write_text("x" * 2001)
    git(home.work, "add", "-A")
    git(home.work, "commit", "-qm", "Third")
    tree = (await home.checkout()).path
    (tree / "fine.txt").write_text("fine\n")
    change(tree, home.work)
    before = seen(home.work)
    landed = await home.land()
    assert (landed.direct, landed.branch) == (False, "kairos/do-it")
    assert "fine.txt" in landed.files
    assert landed.note.startswith("it could not be written into your files: ")
    assert why in landed.note
    assert seen(home.work) == before
    assert not any((home.work.parent / "elsewhere").glob("*"))


async def test_a_file_that_changes_while_others_are_written_is_the_owners_and_those_are_taken_back(home: Home) -> None:
    old = seen(home.work)["a.txt"]
    tree = (await home.checkout()).path
    (tree / "a.txt").write_text("changed\n")
    (tree / "b.txt").write_text("changed\n")

    def meanwhile(_number: int, path: str) -> None:
        if path == "a.txt":
            (home.work / "b.txt").write_text("the owner's, of now\n")

    landed = await home.land(Dying(meanwhile))
    assert not landed.direct
    assert landed.patch, "it builds on what the owner had not committed"
    assert "b.txt was changed while the run's work was being written" in landed.note
    assert (home.work / "b.txt").read_text() == "the owner's, of now\n"
    assert seen(home.work)["a.txt"] == old
    assert "still written" not in landed.note
    await home.end(landed)
    await home.undo()
    assert (home.work / "b.txt").read_text() == "the owner's, of now\n"


@pytest.mark.parametrize("more", [True, False])
async def test_a_repository_of_its_own_is_left_out_and_told(home: Home, more: bool) -> None:
    tree = (await home.checkout()).path
    (tree / "sub").mkdir()
    committed(tree / "sub")
    if more:
        (tree / "a.txt").write_text("changed\n")
    landed = await home.land()
    assert (landed.direct, landed.files, landed.branch) == (more, ("a.txt",) if more else (), None)
    assert landed.note == "left out, since it is a git repository of its own: sub"
    assert not (home.work / "sub").exists()


@pytest.mark.parametrize("change", [{"level": 2}, {"taint": Tier.COLLABORATOR}])
async def test_a_level_or_a_taint_that_does_not_cover_it_makes_it_a_branch(
    home: Home, change: dict[str, object]
) -> None:
    home.run = replace(home.run, **change)  # type: ignore[arg-type]
    before = seen(home.work)
    works((await home.checkout()).path)
    landed = await home.land()
    assert not landed.direct
    assert landed.branch or landed.patch
    assert seen(home.work) == before


async def test_what_cannot_be_taken_back_is_told_and_can_be_undone_later(home: Home) -> None:
    old = seen(home.work)["a.txt"]
    tree = (await home.checkout()).path
    (tree / "a.txt").write_text("changed\n")
    (tree / "b.txt").write_text("changed\n")

    def full(number: int, path: str) -> None:
        if number > 1:
            raise ToolError(f"cannot write {path}: No space left on device")

    landed = await home.land(Dying(full))
    assert not landed.direct
    assert "still written there: a.txt; kairos undo takes it back" in landed.note
    await home.end(landed)
    await home.restart()
    assert "restored a.txt" in await home.undo()
    assert seen(home.work)["a.txt"] == old


async def test_what_the_owner_did_after_the_landing_is_not_written_over_by_a_second_one(home: Home) -> None:
    before = seen(home.work)
    works((await home.checkout()).path)
    assert (await home.land()).direct
    (home.work / "a.txt").write_bytes(before["a.txt"][0])  # by hand, before the run's end is on record
    again = await home.land()
    assert again.direct
    assert seen(home.work)["a.txt"] == before["a.txt"]
    assert git(home.work, "for-each-ref", "refs/heads/kairos") == ""


async def test_a_path_that_only_the_workspaces_own_file_protects_is_not_written_directly(home: Home) -> None:
    (home.work / ".kairos.toml").write_text('[policy]\nprotected_paths = ["deploy/**"]\n')
    assert not (await home.terms.look(LocalFiles(), home.workspace, trusted=True)).policy.doubt
    tree = (await home.checkout()).path
    (tree / "deploy").mkdir()
    (tree / "deploy/now.sh").write_text("true\n")
    landed = await home.land()
    assert not landed.direct
    assert "deploy/now.sh is protected" in landed.note
    assert not (home.work / "deploy").exists()


async def test_a_level_that_was_lowered_during_the_run_makes_it_a_branch(home: Home) -> None:
    home.terms = Terms(Policy(), [replace(home.workspace, level=Level.SANDBOXED)])
    before = seen(home.work)
    works((await home.checkout()).path)
    assert not (await home.land()).direct
    assert seen(home.work) == before
