"""Real files, real inotify: what wakes, what does not, and what happens when folders come and go."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes import ManualClock
from tests.intake import RecordingIntake, deps_for

from kairosd.core.events import Draft, Receipt, Tier
from kairosd.core.journal import Note
from kairosd.core.workspaces import Workspace
from kairosd.engine.supervise import Health, keep_running
from kairosd.errors import ConfigError, DiskFullError
from kairosd.system.clock import SystemClock
from kairosd.triggers import files
from kairosd.triggers.files import Ignored, build, draft, git_folders, survey, watch_problem

pytestmark = pytest.mark.anyio

PATIENCE = 30.0  # seconds; what is waited for comes within two


class Watch:
    def __init__(self, intake: RecordingIntake, notes: list[Note]) -> None:
        self.intake = intake
        self.notes = notes

    async def until(self, found: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not found():
                await asyncio.sleep(0.05)

    async def names(self, marker: Path) -> list[str]:
        """Every path reported until `marker`, written now, was reported too: so what is missing did not wake."""
        marker.write_text("x")
        await self.until(lambda: marker.name in self.paths())
        return self.paths()

    def paths(self) -> list[str]:
        return [path for made in self.intake.drafts for path in _paths(made)]


def _paths(made: Draft) -> list[str]:
    plain = made.facts.get("paths", [])
    assert isinstance(plain, list)
    return [str(path) for path in plain] + made.text.get("paths", "").splitlines()


@asynccontextmanager
async def watching(*workspaces: Workspace) -> AsyncIterator[Watch]:
    notes: list[Note] = []
    deps = deps_for(SystemClock(), workspaces=workspaces, notes=notes)
    assert isinstance(deps.intake, RecordingIntake)
    watch = Watch(deps.intake, notes)
    async with asyncio.TaskGroup() as group:
        trigger = build(None, deps)
        task = group.create_task(trigger.run())
        await asyncio.sleep(0)
        await watch.until(lambda: getattr(trigger, "watching", False))
        yield watch
        task.cancel()


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


async def test_a_burst_is_one_event_and_a_start_is_none(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    async with watching(Workspace("one", tmp_path)) as watch:
        for number in range(30):
            (tmp_path / "src" / f"f{number}.py").write_text("x")
        await watch.until(lambda: bool(watch.intake.drafts))
        await asyncio.sleep(1.2)  # a second event would come within two steps of the watcher
        (made,) = watch.intake.drafts
    assert (made.source, made.kind, made.tier, made.workspace) == ("files", "changed", Tier.LOCAL, "one")
    assert made.facts["count"] == 30
    assert made.facts["more"] == 10
    assert len(_paths(made)) == 20


class Full(RecordingIntake):
    """Takes nothing while it is `full`."""

    full = False

    async def submit(self, draft: Draft) -> Receipt:
        if self.full:
            raise DiskFullError("the database cannot be written")
        return await super().submit(draft)


async def test_a_change_that_could_not_be_stored_is_looked_for_again(tmp_path: Path) -> None:
    """With the supervisor, as in the daemon."""
    deps = deps_for(SystemClock(), workspaces=[Workspace("one", tmp_path)])
    intake = Full(SystemClock())
    trigger, health = build(None, replace(deps, intake=intake)), Health("files")
    watch = Watch(intake, [])
    task = asyncio.create_task(keep_running(trigger.run, health, clock=SystemClock()))
    await watch.until(lambda: getattr(trigger, "watching", False))
    assert not intake.drafts, "a start is no news"
    intake.full = True
    (tmp_path / "lost.py").write_text("x")
    await watch.until(lambda: health.failures > 0)
    intake.full = False
    await watch.until(lambda: bool(intake.drafts))
    task.cancel()
    assert (intake.drafts[0].kind, intake.drafts[0].workspace) == ("reconcile", "one")


async def test_heavy_folders_scratch_files_and_ignored_globs_do_not_wake(tmp_path: Path) -> None:
    for folder in ("node_modules/x", "pkg/node_modules/y", "pkg/deep", "logs", ".venv"):
        (tmp_path / folder).mkdir(parents=True)
    async with watching(Workspace("one", tmp_path, ignore=("*.log", "logs/", "pkg/deep/*.tmp"))) as watch:
        for quiet in ("node_modules/x/a", "pkg/node_modules/y/b", "logs/c", ".venv/d", "e.log", ".f.py.swp", "g~"):
            (tmp_path / quiet).write_text("x")
        (tmp_path / "pkg/deep/h.tmp").write_text("x")
        (tmp_path / "pkg/deep/loud.py").write_text("x")
        assert set(await watch.names(tmp_path / "marker")) == {"pkg/deep/loud.py", "marker"}


async def test_new_folders_are_watched_too(tmp_path: Path) -> None:
    async with watching(Workspace("one", tmp_path)) as watch:
        (tmp_path / "new" / "deeper").mkdir(parents=True)
        await watch.until(lambda: "new" in watch.paths())
        (tmp_path / "new" / "deeper" / "late.py").write_text("x")
        await watch.until(lambda: "new/deeper/late.py" in watch.paths())


async def test_while_the_watcher_is_made_anew_the_others_lose_nothing(tmp_path: Path) -> None:
    one, two = Workspace("one", tmp_path / "one"), Workspace("two", tmp_path / "two")
    one.path.mkdir()
    two.path.mkdir()
    async with watching(one, two) as watch:
        (one.path / "new").mkdir()
        await asyncio.sleep(2)  # the batch was read by now, and waits for the new watcher
        (two.path / "meanwhile").write_text("x")
        await watch.until(lambda: {"new", "meanwhile"} <= set(watch.paths()))


async def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    (outside / "inner").mkdir(parents=True)
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "link").symlink_to(outside)
    async with watching(Workspace("one", root)) as watch:
        (outside / "inner" / "secret").write_text("x")
        (outside / "other").write_text("x")
        assert await watch.names(root / "marker") == ["marker"]


async def test_commits_and_switches_wake_but_our_own_branches_and_the_index_do_not(tmp_path: Path) -> None:
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "a").write_text("x")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "branch", "kairos/old")
    async with watching(Workspace("one", tmp_path)) as watch:
        git(tmp_path, "branch", "kairos/new")
        git(tmp_path, "update-index", "--refresh")
        (tmp_path / ".git" / "index").touch()
        assert await watch.names(tmp_path / "marker") == ["marker"]
        git(tmp_path, "commit", "--allow-empty", "-m", "two")
        await watch.until(lambda: ".git/refs/heads/main" in watch.paths())
        git(tmp_path, "checkout", "-b", "feature/x")
        await watch.until(lambda: ".git/HEAD" in watch.paths())
        assert not any("kairos" in path or "lock" in path for path in watch.paths())


async def test_a_linked_worktree_is_watched_where_its_git_lives(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    main.mkdir()
    git(main, "init", "-b", "main")
    git(main, "commit", "--allow-empty", "-m", "one")
    git(main, "worktree", "add", str(tree))
    own, common = git_folders(tree)
    assert common == str(main / ".git")
    assert own.startswith(common)
    async with watching(Workspace("one", tree)) as watch:
        git(tree, "commit", "--allow-empty", "-m", "two")
        await watch.until(lambda: ".git/refs/heads/tree" in watch.paths())


async def test_each_workspace_gets_its_own_event(tmp_path: Path) -> None:
    one, two = Workspace("one", tmp_path / "one"), Workspace("two", tmp_path / "two")
    one.path.mkdir()
    two.path.mkdir()
    async with watching(one, two) as watch:
        (one.path / "a").write_text("x")
        (two.path / "b").write_text("x")
        await watch.until(lambda: len(watch.intake.drafts) >= 2)
    assert {(made.workspace, *_paths(made)) for made in watch.intake.drafts} == {("one", "a"), ("two", "b")}


async def test_a_name_that_is_no_utf8_leads_to_a_look_at_everything(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    async with watching(Workspace("one", tmp_path)) as watch:
        Path(os.fsdecode(os.fsencode(tmp_path / "sub") + b"/\xff\xfe")).write_text("x")
        await watch.until(lambda: [made.kind for made in watch.intake.drafts] == ["reconcile"])
        (tmp_path / "sub" / "after").write_text("x")
        await watch.until(lambda: "sub/after" in watch.paths())


async def test_a_workspace_that_goes_is_noted_once_and_comes_back_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOOK", files.timedelta(seconds=0.3))
    monkeypatch.setattr(files, "REMAKE_EVERY", 0.3)
    gone = Workspace("gone", tmp_path / "gone")
    async with watching(gone) as watch:
        assert [(note.kind, note.workspace) for note in watch.notes] == [("watch.lost", "gone")]
        gone.path.mkdir()
        await watch.until(lambda: [note.kind for note in watch.notes] == ["watch.lost", "watch.back"])
        await watch.until(lambda: [made.kind for made in watch.intake.drafts][:1] == ["reconcile"])
        await watch.names(gone.path / "here")


async def test_a_suspend_makes_it_look_at_everything(tmp_path: Path) -> None:
    clock = ManualClock()
    deps = deps_for(clock, workspaces=[Workspace("one", tmp_path)])
    assert isinstance(deps.intake, RecordingIntake)
    intake = deps.intake
    trigger = build(None, deps)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(trigger.run())
        async with asyncio.timeout(PATIENCE):
            while not getattr(trigger, "watching", False):
                await asyncio.sleep(0.02)
        await clock.advance(600)
        assert intake.drafts == []
        clock.jump(600)
        await clock.advance(60)
        assert [made.kind for made in intake.drafts] == ["reconcile"]
        task.cancel()


def test_a_flood_is_a_look_at_everything_and_odd_names_are_text() -> None:
    assert draft("one", [f"f{number}" for number in range(5000)], key="k").kind == "reconcile"
    made = draft("one", ["a b", "plain.py", "line\nbreak"], key="k")
    assert made.facts == {"count": 3, "paths": ["plain.py"]}
    assert made.text == {"paths": "a b\nline\\nbreak"}


@pytest.mark.parametrize("path", [Path("/"), Path.home()])
def test_the_root_and_the_home_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="too much"):
        build(None, deps_for(ManualClock(), workspaces=[Workspace("all", path)]))
    build(None, deps_for(ManualClock(), workspaces=[Workspace("all", path, watch=False)]))


def test_too_many_folders_are_said_with_the_fix() -> None:
    assert watch_problem(900, 1000) is None
    problem = watch_problem(901, 1000)
    assert problem is not None
    assert "sysctl fs.inotify.max_user_watches=1802" in problem


def test_a_survey_lists_each_folder_once(tmp_path: Path) -> None:
    for folder in ("a/b", "a/node_modules/c", "target"):
        (tmp_path / folder).mkdir(parents=True)
    assert survey(Workspace("one", tmp_path)).folders == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")}


@pytest.mark.parametrize(
    ("path", "quiet"),
    [
        ("a.py", False), ("x/build/y", True), ("4913", True), (".#a.py", True), ("docs/a.md", True),
        ("src/docs/a", False), ("src/gen/deep/a.py", True), ("src/generous/a.py", False), ("a.tmp", True),
        ("x/b.tmp", True),
    ],
)  # fmt: skip
def test_what_is_ignored(path: str, quiet: bool) -> None:
    assert bool(Ignored(("/docs", "**/*.tmp", "src/gen/**"))(path)) == quiet
