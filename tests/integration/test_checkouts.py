"""A run's private clone, from snapshot to landing, on real repositories in the real sandbox."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes import ManualClock

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Draft, Tier
from kairosd.core.ids import mint
from kairosd.core.runs import Run, RunState
from kairosd.core.workspaces import Landing, Workspace
from kairosd.engine.bases import drop_bases
from kairosd.engine.checkouts import Checkout, Checkouts, Landed
from kairosd.errors import CheckoutError, SandboxError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Job, Outcome, Sandbox
from kairosd.sandbox import bubblewrap
from kairosd.store.assembly import open_stores
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

OWNER = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
PERSON = ("-c", "user.name=Owner", "-c", "user.email=owner@example.com", "-c", "init.defaultBranch=main")
AUTHOR = ("Ada Ü", "ada@example.com")


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *PERSON, *arguments], cwd=folder, env=OWNER, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return os.fsdecode(ran.stdout).strip()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, so that "untouched" can be said of all of them."""
    files = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {str(path): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() for path in files}


class Dying:
    """A sandbox whose machine loses power at a chosen job."""

    name = "dying"

    def __init__(self, sandbox: Sandbox, survive: Callable[[Job], bool]) -> None:
        self._sandbox = sandbox
        self._survive = survive

    async def run(self, *jobs: Job, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        if not all(map(self._survive, jobs)):
            raise SandboxError("killed")
        return await self._sandbox.run(*jobs, ended=ended)

    async def check(self) -> str | None:
        return await self._sandbox.check()


@dataclass
class World:
    """A workspace and what Kairos makes of it."""

    root: Path
    sandbox: Sandbox
    run: Run
    workspace: Workspace
    clock: ManualClock

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def checkouts(self, sandbox: Sandbox | None = None) -> Checkouts:
        used = sandbox or self.sandbox
        folder, patches = self.state / "checkouts", self.state / "patches"
        return Checkouts(used, LocalFiles(), folder=folder, patches=patches, clock=self.clock)

    async def ensure(self) -> Checkout:
        return await self.checkouts().ensure(self.run, self.workspace)

    async def commit(self, call: str = "c_1", message: str = "Do it") -> str | None:
        trailers = {"Kairos-Call": call, "Assisted-by": "Kairos"}
        return await self.checkouts().commit(
            self.run, self.workspace, message=message, author=AUTHOR, trailers=trailers
        )

    async def land(self, slug: str = "Do it!") -> Landed:
        return await self.checkouts().land(self.run, self.workspace, slug=slug)

    async def inside(self, *arguments: str, writable: bool = False) -> str:
        outcome = await self.checkouts().git(self.run, self.workspace)(*arguments, writable=writable)
        return os.fsdecode(outcome.stdout + outcome.stderr).strip()


def committed(work: Path) -> None:
    git(work, "init", "-q")
    (work / "a.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    (work / "b.txt").write_text("b\n")
    (work / ".gitignore").write_text("*.log\n.venv/\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "First")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    executor = ProcessExecutor()
    (tmp_path / "state").mkdir()
    (tmp_path / "work").mkdir()
    sandbox = bubblewrap.build(executor, folder=tmp_path / "state", forbidden=(tmp_path / "state",))
    clock = ManualClock()
    run = Run("r_1", RunState.RUNNING, "do it", "w", "owner", None, 1, Tier.OWNER, clock.now())
    committed(tmp_path / "work")
    yield World(tmp_path, sandbox, run, Workspace("w", tmp_path.resolve() / "work"), clock)
    await executor.close()


def dirty(work: Path) -> None:
    (work / "a.txt").write_text((work / "a.txt").read_text() + "the owner's own line\n")
    (work / "b.txt").unlink()
    (work / "new file ü\n.txt").write_text("untracked\n")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("a.txt")
    (work / "noise.log").write_text("ignored")
    (work / "staged").write_text("staged\n")
    git(work, "add", "staged")


async def test_a_clean_workspace_starts_from_its_head_and_lands_as_a_branch(world: World) -> None:
    head = git(world.work, "rev-parse", "HEAD")
    checkout = await world.ensure()
    assert (checkout.base, checkout.snapshot) == (head, head)
    assert await world.inside("status", "--porcelain") == ""
    before = contents(world.work)
    (checkout.path / "README.md").write_text("hello\n")
    assert await world.commit() is not None
    landed = await world.land()
    assert (landed.branch, landed.patch) == ("kairos/do-it", None)
    assert landed.files == ("README.md",)
    assert landed.summary == "1 file changed, 1 insertion(+)"
    assert landed.how == "git merge kairos/do-it"
    assert landed.commit == git(world.work, "rev-parse", "kairos/do-it")
    after = contents(world.work)
    assert {path: after.get(path) for path in before} == before
    assert all(
        "/objects/" in path or path.endswith("/refs/heads/kairos/do-it") for path in after.keys() - before.keys()
    )
    shown = git(world.work, "log", "-1", "--format=%an|%ae|%cn|%s|%(trailers:unfold,separator=%x2C)", "kairos/do-it")
    assert shown == "Ada Ü|ada@example.com|Kairos|Do it|Kairos-Call: c_1,Assisted-by: Kairos"
    git(world.work, "merge", "-q", "kairos/do-it")
    assert (world.work / "README.md").read_text() == "hello\n"
    git(world.work, "fsck", "--strict")


async def test_a_dirty_workspace_is_seen_as_it_is_and_never_lands(world: World) -> None:
    dirty(world.work)
    status, before = git(world.work, "--no-optional-locks", "status", "--porcelain"), contents(world.work)
    checkout = await world.ensure()
    assert checkout.snapshot != checkout.base
    seen = {path.removeprefix(str(checkout.path)): data for path, data in contents(checkout.path).items()}
    owners = {path.removeprefix(str(world.work)): data for path, data in before.items()}
    assert {path: data for path, data in seen.items() if not path.startswith("/.git/")} == {
        path: data for path, data in owners.items() if not path.startswith("/.git/") and path != "/noise.log"
    }
    assert (checkout.path / "run.sh").stat().st_mode & 0o111
    assert await world.inside("status", "--porcelain") == ""
    (checkout.path / "a.txt").write_text((checkout.path / "a.txt").read_text().replace("line 2\n", "line two\n"))
    await world.commit("c_1", "First change")
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit("c_2", "Second change")
    landed = await world.land()
    assert (landed.branch, landed.files) == ("kairos/do-it", ("a.txt", "fresh"))
    assert git(world.work, "log", "--format=%s", "kairos/do-it") == "Second change\nFirst change\nFirst"
    changed = git(world.work, "diff", "HEAD", "kairos/do-it")
    assert "+line two" in changed
    assert "owner's own" not in changed
    assert git(world.work, "diff", "--name-only", "HEAD", "kairos/do-it") == "a.txt\nfresh"
    after = contents(world.work)
    assert {path: after.get(path) for path in before} == before
    assert git(world.work, "--no-optional-locks", "status", "--porcelain") == status
    assert git(world.work, "for-each-ref", "--format=%(refname)") == "refs/heads/kairos/do-it\nrefs/heads/main"


async def test_work_on_top_of_uncommitted_work_comes_as_a_patch(world: World) -> None:
    dirty(world.work)
    checkout = await world.ensure()
    (checkout.path / "new file ü\n.txt").write_text("untracked\nand more\n")
    await world.commit("c_1")
    (checkout.path / "new file ü\n.txt").write_text("untracked\nand even more\n")
    await world.commit("c_2")
    landed = await world.land()
    assert landed.branch is None
    assert landed.patch is not None
    assert "not committed" in landed.note
    assert Path(landed.patch).stat().st_mode & 0o777 == 0o600
    assert landed.how == f"git apply {landed.patch}"
    assert await world.checkouts().landed(world.run, world.workspace, slug="Do it!", commit=landed.commit or "")
    git(world.work, "apply", landed.patch)
    assert (world.work / "new file ü\n.txt").read_text() == "untracked\nand even more\n"


async def test_a_workspace_may_ask_for_patches(world: World) -> None:
    world.workspace = replace(world.workspace, landing=Landing.PATCH)
    checkout = await world.ensure()
    (checkout.path / "image").write_bytes(bytes(range(256)))
    await world.commit()
    landed = await world.land()
    assert landed.branch is None
    assert landed.patch is not None
    git(world.work, "am", "-q", landed.patch)
    assert (world.work / "image").read_bytes() == bytes(range(256))
    assert git(world.work, "log", "-1", "--format=%an") == "Ada Ü"


async def test_nothing_changed_lands_nowhere(world: World) -> None:
    dirty(world.work)
    await world.ensure()
    assert await world.commit() is None
    assert await world.land() == Landed()
    assert git(world.work, "branch", "--list", "kairos/*") == ""


async def test_doing_it_twice_is_doing_it_once(world: World) -> None:
    dirty(world.work)
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    assert await world.checkouts().find_commit(world.run, world.workspace, call="c_1") is None
    first = await world.commit()
    (checkout.path / "later").write_text("later\n")
    assert await world.commit() == first
    assert await world.checkouts().find_commit(world.run, world.workspace, call="c_1") == first
    assert await world.ensure() == checkout
    assert (checkout.path / "later").exists()
    landed = await world.land()
    assert await world.land() == landed
    assert landed.commit is not None
    assert await world.checkouts().landed(world.run, world.workspace, slug="do it", commit=landed.commit)
    assert git(world.work, "branch", "--list", "kairos/*").split() == ["kairos/do-it"]


async def test_a_taken_name_gets_a_number(world: World) -> None:
    git(world.work, "branch", "kairos/do-it")
    git(world.work, "branch", "kairos/do-it-2")
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit()
    assert (await world.land()).branch == "kairos/do-it-3"
    assert git(world.work, "rev-parse", "kairos/do-it") == git(world.work, "rev-parse", "main")


async def test_a_branch_that_is_in_the_way_leads_to_a_patch(world: World) -> None:
    git(world.work, "branch", "kairos")
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit()
    landed = await world.land()
    assert landed.branch is None
    assert landed.patch is not None
    assert "the branch could not be made" in landed.note


async def test_an_empty_repository_gets_its_first_commit_as_a_branch(world: World) -> None:
    world.workspace = replace(world.workspace, path=world.root.resolve() / "fresh")
    world.workspace.path.mkdir()
    git(world.workspace.path, "init", "-q")
    checkout = await world.ensure()
    assert (checkout.base, checkout.snapshot) == ("", "")
    assert await world.commit() is None
    assert await world.land() == Landed()
    (checkout.path / "README.md").write_text("hello\n")
    assert "+hello" in await world.checkouts().diff(world.run, world.workspace)
    await world.commit()
    landed = await world.land()
    assert landed.branch == "kairos/do-it"
    git(world.workspace.path, "merge", "-q", "kairos/do-it")
    assert (world.workspace.path / "README.md").read_text() == "hello\n"


async def test_files_before_the_first_commit_are_seen_and_do_not_land(world: World) -> None:
    world.workspace = replace(world.workspace, path=world.root.resolve() / "fresh")
    world.workspace.path.mkdir()
    git(world.workspace.path, "init", "-q")
    (world.workspace.path / "draft").write_text("the owner's\n")
    checkout = await world.ensure()
    assert (checkout.path / "draft").exists()
    (checkout.path / "README.md").write_text("hello\n")
    await world.commit()
    landed = await world.land()
    assert landed.branch == "kairos/do-it"
    assert git(world.workspace.path, "ls-tree", "-r", "--name-only", "kairos/do-it") == "README.md"


async def test_a_linked_worktree_lands_in_its_repository(world: World) -> None:
    linked = world.root.resolve() / "linked"
    git(world.work, "worktree", "add", "-q", "-b", "side", str(linked))
    (linked / "b.txt").write_text("side\n")
    world.workspace = replace(world.workspace, path=linked)
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit()
    assert (await world.land()).branch == "kairos/do-it"
    git(linked, "merge", "-q", "kairos/do-it")
    assert (linked / "fresh").exists()
    assert (linked / "b.txt").read_text() == "side\n"


async def test_a_borrowing_repository_in_a_linked_folder_works(world: World) -> None:
    git(world.root, "clone", "-q", "--shared", "work", "borrowing")
    (world.root / "name").symlink_to("borrowing")
    world.workspace = replace(world.workspace, path=(world.root / "name").resolve())
    checkout = await world.ensure()
    assert await world.inside("log", "--format=%s") == "First"
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit()
    assert (await world.land()).branch == "kairos/do-it"
    git(world.root / "borrowing", "fsck", "--strict")


async def test_nothing_of_the_owners_runs_while_a_checkout_is_made_and_landed(world: World) -> None:
    ran = world.root / "ran"
    program = world.root / "program"
    program.write_text(f'#!/bin/sh\necho "$0" >> {ran}\ncat\n')
    program.chmod(0o755)
    for name in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "diff.external", "gpg.program"):
        git(world.work, "config", name, str(program))
    git(world.work, "config", "commit.gpgSign", "true")
    for hook in ("pre-commit", "post-commit", "reference-transaction", "post-checkout", "pre-auto-gc"):
        (world.work / ".git" / "hooks").mkdir(exist_ok=True)
        (world.work / ".git" / "hooks" / hook).write_bytes(program.read_bytes())
        (world.work / ".git" / "hooks" / hook).chmod(0o755)
    (world.work / ".gitattributes").write_text("* filter=evil\n")
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    await world.commit()
    assert (await world.land()).branch == "kairos/do-it"
    assert not ran.exists()


async def test_the_run_cannot_change_what_git_runs_or_reads(world: World) -> None:
    checkout = await world.ensure()
    tries = {
        "config": "git config user.name evil; git config --get user.name",
        "hooks": "echo x > .git/hooks/pre-commit; ls .git/hooks",
        "alternates": "echo /tmp > .git/objects/info/alternates; mv .git elsewhere; ls -d elsewhere",
        "owner": "touch /run/kairos/objects/0/x; ls /run/kairos/objects/0/x",
    }
    git_there = world.checkouts().git(world.run, world.workspace)
    for script in tries.values():
        outcome = await git_there("-c", f"alias.try=!{script}", "try", writable=True)
        assert outcome.stdout == b"", script
    assert sorted(path.name for path in (checkout.path / ".git" / "hooks").iterdir()) == []
    assert "evil" not in (checkout.path / ".git" / "config").read_text().split()


async def test_reading_calls_cannot_write(world: World) -> None:
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    assert "Read-only file system" in await world.inside("add", "-A")
    await world.inside("add", "-A", writable=True)
    assert await world.inside("status", "--porcelain") == "A  fresh"


async def test_shared_folders_are_there_read_only_and_never_committed(world: World) -> None:
    (world.work / ".gitignore").unlink()
    (world.work / ".venv").mkdir()
    (world.work / ".venv" / "lib").write_text("library")
    (world.work / "node_modules").symlink_to("/etc")
    checkout = await world.ensure()
    assert list((checkout.path / ".venv").iterdir()) == []
    git_there = world.checkouts().git(world.run, world.workspace)
    script = "cat .venv/lib; echo x > .venv/lib || echo refused"
    outcome = await git_there("-c", f"alias.try=!{script}", "try", writable=True)
    assert outcome.stdout == b"libraryrefused\n"
    assert ".venv" not in await world.inside("ls-files")
    assert await world.commit() is None


async def test_a_half_made_checkout_is_made_anew(world: World) -> None:
    dirty(world.work)
    dying = Dying(world.sandbox, lambda job: "commit-tree" not in job.argv[-1])
    with pytest.raises(SandboxError):
        await world.checkouts(dying).ensure(world.run, world.workspace)
    assert [path.name for path in (world.state / "checkouts").iterdir()] == ["r_1.tmp"]
    checkout = await world.ensure()
    assert [path.name for path in (world.state / "checkouts").iterdir()] == ["r_1"]
    assert (checkout.path / "staged").exists()


async def test_a_killed_commit_and_a_killed_landing_are_taken_up_again(world: World) -> None:
    checkout = await world.ensure()
    (checkout.path / "fresh").write_text("fresh\n")
    (checkout.path / ".git" / "index.lock").write_text("")
    assert await world.commit() is not None
    dying = Dying(world.sandbox, lambda job: "write-fetch-head" not in job.argv[-1])
    with pytest.raises(SandboxError):
        await world.checkouts(dying).land(world.run, world.workspace, slug="do it")
    assert (await world.land()).branch == "kairos/do-it"


async def test_a_cancelled_making_leaves_no_checkout(world: World) -> None:
    task = asyncio.create_task(world.ensure())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (world.state / "checkouts" / "r_1").exists()
    await world.ensure()


async def test_what_cannot_be_checked_out_says_why(world: World) -> None:
    plain = world.root.resolve() / "plain"
    with pytest.raises(CheckoutError, match="plain is not there"):
        await world.checkouts().ensure(world.run, Workspace("p", plain))
    plain.mkdir()
    with pytest.raises(CheckoutError, match="edits need a git checkout"):
        await world.checkouts().ensure(world.run, Workspace("p", plain))
    (world.work / ".gitattributes").write_text("*.bin filter=lfs\n")
    (world.work / "large.bin").write_text("pointer")
    with pytest.raises(CheckoutError, match="LFS"):
        await world.ensure()
    (world.work / ".gitattributes").unlink()
    with (world.work / "huge").open("wb") as file:
        file.truncate(201_000_000)
    with pytest.raises(CheckoutError, match=r"201 MB .* \.gitignore"):
        await world.ensure()
    (world.work / "huge").unlink()
    git(world.root, "clone", "-q", "work", "part")
    git(world.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(world.root / "part"), "part")
    with pytest.raises(CheckoutError, match="submodules"):
        await world.ensure()


async def test_a_repository_inside_the_workspace_is_left_out(world: World) -> None:
    (world.work / "in side").mkdir()
    committed(world.work / "in side")
    checkout = await world.ensure()
    assert checkout.snapshot == checkout.base
    assert not (checkout.path / "in side").exists()


def nested_repositories(folder: Path) -> None:
    """As a program leaves them behind: with commits, without, as a mere pointer, with an odd name."""
    for name in ("deep/in side\nx", "empty", "st*r"):
        (folder / name).mkdir(parents=True)
        git(folder / name, "init", "-q")
        (folder / name / "inner").write_text("inner\n")
    git(folder / "deep/in side\nx", "add", "-A")
    git(folder / "deep/in side\nx", "commit", "-qm", "Nested")
    (folder / "pointer").mkdir()
    (folder / "pointer/.git").write_text("gitdir: ../empty/.git\n")
    git(folder, "init", "-q", "kept")  # where files of the run's are tracked, they stay so


async def test_a_repository_that_a_program_made_is_left_out_of_commits_and_told(world: World) -> None:
    (world.work / "kept").mkdir()
    (world.work / "kept/file").write_text("1\n")
    git(world.work, "add", "-A")
    git(world.work, "commit", "-qm", "Kept")
    checkout = await world.ensure()
    nested_repositories(checkout.path)
    (checkout.path / "kept/file").write_text("2\n")
    (checkout.path / "fresh").write_text("fresh\n")
    diff = await world.checkouts().diff(world.run, world.workspace)
    assert "+fresh" in diff
    assert "Subproject" not in diff
    assert await world.commit() is not None
    left = await world.checkouts().nested(world.run, world.workspace)
    assert left == ("deep/in side\nx", "empty", "pointer", "st*r")
    landed = await world.land()
    assert landed.files == ("fresh", "kept/file")
    assert "160000" not in git(world.work, "ls-tree", "-r", "kairos/do-it")


async def test_a_repository_that_a_run_itself_committed_does_not_land(world: World) -> None:
    checkout = await world.ensure()
    (checkout.path / "sub").mkdir()
    committed(checkout.path / "sub")
    (checkout.path / "fresh").write_text("fresh\n")
    await world.inside("-c", "user.name=x", "-c", "user.email=x@y", "add", "-A", writable=True)
    await world.inside("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "All of it", writable=True)
    assert "160000" in await world.inside("ls-tree", "HEAD")
    await world.commit()
    assert (await world.land()).files == ("fresh",)
    assert await world.checkouts().nested(world.run, world.workspace) == ("sub",)


async def test_the_diff_shows_everything_so_far(world: World) -> None:
    dirty(world.work)
    checkout = await world.ensure()
    assert await world.checkouts().diff(world.run, world.workspace) == ""
    (checkout.path / "staged").write_text("changed\n")
    await world.commit()
    (checkout.path / "fresh").write_text("fresh\n")
    diff = await world.checkouts().diff(world.run, world.workspace)
    assert "+changed" in diff
    assert "+fresh" in diff
    assert "owner's own" not in diff
    assert await world.inside("status", "--porcelain") == "?? fresh"


async def test_a_parked_runs_base_survives_the_owners_gc(world: World) -> None:
    checkout = await world.ensure()
    base = checkout.base
    await world.checkouts().keep_base(world.run, world.workspace)
    git(world.work, "commit", "-q", "--amend", "-m", "Amended")
    git(world.work, "reflog", "expire", "--expire=now", "--all")
    git(world.work, "gc", "-q", "--prune=now")
    assert await world.inside("log", "-1", "--format=%H %s") == f"{base} First"
    git(world.work, "pack-refs", "--all")
    await world.checkouts().drop_base(world.run, world.workspace)
    await world.checkouts().drop_base(world.run, world.workspace)
    assert git(world.work, "for-each-ref", "refs/kairos") == ""


async def test_only_names_of_ended_runs_are_swept_from_the_owners_repository(world: World, tmp_path: Path) -> None:
    """A kill between the end of a run and its tidying leaves the name; one that is not known here is another home's."""
    opened = open_stores(
        tmp_path / "kairos.db", tmp_path / "journal", transcripts_folder=tmp_path / "state", clock=world.clock
    )
    opened.start()
    now = world.clock.now()
    ended, parked, foreign = (replace(world.run, id=mint("r", now), state=RunState.QUEUED) for _ in range(3))
    for run in (ended, parked):
        decision = Decision(
            id=mint("d", now), workspace="w", tier=Tier.OWNER, verdict=Verdict.ACT, reason="", goal="", confidence=1,
            price=0, next_wake=None, events=(), run=run.id, notice=None, fingerprint="", source="owner", shadow=False,
            asked_at=now, concluded_at=now,
        )  # fmt: skip
        draft = Draft(source="owner", kind="told", key=run.id, tier=Tier.OWNER, workspace="w")
        await opened.stores.events.add_direct(draft, run, decision=decision, now=now)
        assert await opened.stores.runs.start(run.id, now)
        if run is ended:
            await opened.stores.runs.end(replace(run, state=RunState.FAILED, ended=now), (), now=now)
    for run in (ended, parked, foreign):
        await world.checkouts().ensure(run, world.workspace)
        await world.checkouts().keep_base(run, world.workspace)
    git(world.work, "pack-refs", "--all")
    not_git = Workspace("n", tmp_path / "state")
    assert set(await world.checkouts().kept_bases(world.workspace)) == {ended.id, parked.id, foreign.id}
    await drop_bases((not_git, world.workspace), opened.stores, checkouts=world.checkouts())
    assert set(await world.checkouts().kept_bases(world.workspace)) == {parked.id, foreign.id}
    assert await world.checkouts().kept_bases(not_git) == ()
    await opened.close()


async def test_old_checkouts_go_and_kept_ones_stay(world: World) -> None:
    await world.ensure()
    later = world.clock.now() + timedelta(days=36500)
    assert await world.checkouts().prune(later, keep=("r_1",)) == ()
    assert await world.checkouts().prune(world.clock.now() - timedelta(days=36500)) == ()
    assert await world.checkouts().prune(later) == ("r_1",)
    with pytest.raises(CheckoutError, match="is gone"):
        await world.land()
    await world.checkouts().discard(world.run)
    checkout = await world.ensure()
    (checkout.path / "closed").mkdir()
    (checkout.path / "closed" / "file").write_text("x")
    (checkout.path / "closed").chmod(0)
    await world.checkouts().discard(world.run)
    assert not checkout.path.exists()
