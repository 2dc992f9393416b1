"""What Kairos sees of a workspace: real repositories through the real sandbox, and the owner's side untouched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kairosd.core.workspaces import Workspace
from kairosd.engine.git import SandboxedGit
from kairosd.engine.repository import Repository
from kairosd.errors import SandboxError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Mount, Sandbox
from kairosd.sandbox import bubblewrap, none
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

OWNER = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
SIGNED = """tree {tree}
author A <a@b.c> 1 +0000
committer A <a@b.c> 1 +0000
gpgsig -----BEGIN {kind}-----
 c2lnbmVk
 -----END {kind}-----

Signed
"""
PERSON = ("-c", "user.name=Owner", "-c", "user.email=owner@example.com", "-c", "init.defaultBranch=main")


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *PERSON, *arguments], cwd=folder, env=OWNER, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return os.fsdecode(ran.stdout).strip()


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    executor = ProcessExecutor()
    state = tmp_path / "state"
    state.mkdir()
    yield bubblewrap.build(executor, folder=state, forbidden=(state,))
    await executor.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one\n")
    (folder / "with space ü.txt").write_text("two\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    return folder


def repository(sandbox: Sandbox, folder: Path, **more: tuple[str, ...]) -> Repository:
    return Repository(sandbox, LocalFiles(), workspace=Workspace("w", folder.resolve(), **more))


async def test_an_unchanged_world_has_one_fingerprint(sandbox: Sandbox, folder: Path) -> None:
    seen = repository(sandbox, folder)
    before = await seen.survey()
    assert (before.git, before.branch, before.head) == (True, "main", git(folder, "rev-parse", "HEAD"))
    assert before.changed == ()
    (folder / "a.txt").touch()
    (folder / "a.txt").write_text("one\n")
    assert (await seen.survey()).fingerprint(["x"]) == before.fingerprint(["x"])
    assert before.fingerprint(["y"]) != before.fingerprint(["x"])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("One\n"),
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "a.txt").unlink(),
        lambda folder: (folder / "a.txt").chmod(0o755),
        lambda folder: git(folder, "branch", "other"),
        lambda folder: git(folder, "tag", "v1"),
        lambda folder: git(folder, "checkout", "-qb", "other"),
        lambda folder: git(folder, "commit", "-q", "--allow-empty", "-m", "x"),
        lambda folder: (folder / "link").symlink_to("a.txt"),
    ],
)
async def test_a_changed_world_has_another(sandbox: Sandbox, folder: Path, change: object) -> None:
    seen = repository(sandbox, folder)
    before = (await seen.survey()).fingerprint()
    assert callable(change)
    change(folder)
    assert (await seen.survey()).fingerprint() != before


async def test_content_counts_also_in_files_that_were_changed_before(sandbox: Sandbox, folder: Path) -> None:
    seen = repository(sandbox, folder)
    (folder / "a.txt").write_text("dirty 1\n")
    (folder / "new").write_text("1")
    first = await seen.survey()
    assert dict((path, status) for status, path in first.changed) == {"a.txt": ".M", "new": "??"}
    (folder / "new").write_text("2")
    second = await seen.survey()
    (folder / "a.txt").write_text("dirty 2\n")
    third = await seen.survey()
    assert len({survey.fingerprint() for survey in (first, second, third)}) == 3


async def test_our_own_refs_and_ignored_files_are_no_news(sandbox: Sandbox, folder: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    seen = repository(sandbox, folder, ignore=("build/**",))
    before = (await seen.survey()).fingerprint()
    git(folder, "branch", "kairos/work")
    git(folder, "update-ref", "refs/kairos/base/r_1", "HEAD")
    (folder / "x.log").write_text("noise")
    (folder / "build").mkdir()
    (folder / "build" / "out").write_text("noise")
    assert (await seen.survey()).fingerprint() == before


async def test_looking_leaves_the_owners_repository_as_it_is(sandbox: Sandbox, folder: Path) -> None:
    seen = repository(sandbox, folder)
    os.utime(folder / "a.txt", (1, 1))  # git would like to refresh its index now
    files = {path: path.read_bytes() for path in (folder / ".git").rglob("*") if path.is_file()}
    await seen.describe(await seen.survey())
    assert {path: path.read_bytes() for path in (folder / ".git").rglob("*") if path.is_file()} == files


async def test_what_the_repository_wants_run_does_not_run_outside(
    sandbox: Sandbox, folder: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >> {canary}\ncat\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "filter.evil.clean", "diff.external", "core.pager", "core.sshCommand"):
        git(folder, "config", name, str(program))
    (folder / ".gitattributes").write_text("*.txt filter=evil\n")
    (folder / ".git" / "hooks").mkdir(exist_ok=True)
    (folder / ".git" / "hooks" / "post-index-change").write_bytes(program.read_bytes())
    (folder / ".git" / "hooks" / "post-index-change").chmod(0o755)
    (folder / "a.txt").write_text("changed\n")
    seen = repository(sandbox, folder)
    survey = await seen.survey()
    assert survey.git
    await seen.describe(survey)
    for arguments in (("diff",), ("log", "-p"), ("show",), ("status",), ("fetch", "origin")):
        await seen.git()(*arguments, writable=True)
    assert not canary.exists()


HOSTILE = (
    "core.askPass", "core.editor", "core.fsmonitor", "core.sshCommand", "credential.helper", "credential.https://x.helper",
    "gpg.openpgp.program", "gpg.program", "gpg.ssh.defaultKeyCommand", "gpg.ssh.program", "gpg.x509.program",
    "sequence.editor",
)  # fmt: skip
SIGNATURES = ("PGP SIGNATURE", "SSH SIGNATURE", "SIGNED MESSAGE")
# Every way in which one of those would be started; what fails is of no interest.
EVERYTHING = """
printf 'protocol=https\nhost=x\n\n' | git credential fill
git fetch ssh://example.invalid/x
git status
git log
for format in openpgp ssh x509; do
  git log --branches --show-signature
  git log --branches --format=%G?
  git -c gpg.format=$format commit -S --allow-empty -m signed
  git -c gpg.format=$format -c user.signingKey=k commit -S --allow-empty -m signed
  git -c gpg.format=$format tag -m signed v-$format
done
git commit --allow-empty
git commit --no-gpg-sign --allow-empty -m plain
git rebase -i HEAD~1
"""


async def test_nothing_that_a_hostile_repository_names_is_started(sandbox: Sandbox, folder: Path) -> None:
    """Each of them would start by itself, which the same commands without our settings prove."""
    started = folder / "started"
    for name in HOSTILE:
        program = folder / "programs" / name.replace("://", "-")
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nbasename "$0" >> {started}\n')
        program.chmod(0o755)
        helper = name.endswith("helper")
        git(folder, "config", name, f"!{program}" if helper else str(program))
    settings = {
        "log.showSignature": "true",
        "format.pretty": "%G?",
        "tag.gpgSign": "true",
        "gpg.ssh.allowedSignersFile": "/dev/null",
    }
    for name, value in settings.items():
        git(folder, "config", name, value)
    for number, kind in enumerate(SIGNATURES):
        signed = subprocess.run(
            ["git", "hash-object", "-w", "-t", "commit", "--stdin"], cwd=folder, env=OWNER, capture_output=True,
            input=SIGNED.format(tree=git(folder, "rev-parse", "HEAD^{tree}"), kind=kind).encode(), check=True,
        ).stdout.decode().strip()  # fmt: skip
        git(folder, "branch", f"signed-{number}", signed)
    mounts = (Mount(folder, folder, writable=True),)
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    safe = SandboxedGit(sandbox, folder, mounts, mounts, environment=person)
    await safe.script(f"set +e\n{EVERYTHING}\nexit 0", {})
    assert not started.exists()
    bare = replace(safe, environment={**person, "GIT_CONFIG_COUNT": "0"})
    await bare.script(f"set +e\n{EVERYTHING}\nexit 0", {})
    # Two spellings of one setting: of what the repository says, the last one counts.
    told = set(started.read_text().split())
    assert told | {"gpg.openpgp.program"} == {name.replace("://", "-") for name in HOSTILE}


async def test_a_submodules_change_is_news(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "x.txt").write_text("x\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "Inner")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "inner")
    git(folder, "commit", "-qm", "With a submodule")
    seen = repository(sandbox, folder)
    before = await seen.survey()
    (folder / "inner/x.txt").write_text("y\n")
    after = await seen.survey()
    assert after.fingerprint() != before.fingerprint()
    assert [path for _, path in after.changed] == ["inner"]


async def test_names_of_any_kind_are_told_apart(sandbox: Sandbox, folder: Path) -> None:
    names = ["new\nline", "tab\there", 'quote"', os.fsdecode(b"byte\xff"), "ünï"]
    for name in names:
        (folder / name).write_text("x")
    survey = await repository(sandbox, folder).survey()
    assert {path for status, path in survey.changed} == set(names)
    described = await repository(sandbox, folder).describe(survey)
    assert "new?line" in described
    described.encode()


async def test_a_description_is_short_and_names_no_secret(sandbox: Sandbox, folder: Path) -> None:
    seen = repository(sandbox, folder)
    first = await seen.survey()
    git(folder, "commit", "-q", "--allow-empty", "-m", "Second " + "x" * 300)
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    (folder / ".env").write_text("TOKEN=1")
    text = await seen.describe(await seen.survey())
    assert text.splitlines()[0].startswith("branch main at ")
    assert "First" in text
    assert ".M a.txt +2 -0" in text
    assert ".env" not in text
    since = await seen.describe(await seen.survey(), since=first.head)
    assert "Second" in since
    assert "First" not in since
    for number in range(300):
        (folder / f"file with a long name {number}").write_text("")
    text = await seen.describe(await seen.survey())
    assert len(text) <= 1500
    assert "… and " in text


async def test_a_new_repository_a_plain_folder_and_none_at_all(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    seen = repository(sandbox, folder)
    plain = await seen.survey()
    assert not plain.git
    (folder / "file").write_text("1")
    assert (await seen.survey()).fingerprint() != plain.fingerprint()
    git(folder, "init", "-q")
    unborn = await seen.survey()
    assert (unborn.git, unborn.head, unborn.changed) == (True, "", (("??", "file"),))
    assert "no commit yet" in await seen.describe(unborn)
    gone = await repository(sandbox, tmp_path / "none").survey()
    assert gone.missing
    assert "missing" in await seen.describe(gone)


async def test_a_linked_worktree_is_seen(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(folder, "worktree", "add", "-q", "-b", "side", str(linked))
    (linked / "a.txt").write_text("side\n")
    survey = await repository(sandbox, linked).survey()
    assert (survey.branch, survey.changed) == ("side", ((".M", "a.txt"),))


async def test_without_a_sandbox_the_files_still_tell(folder: Path) -> None:
    seen = repository(none.NoSandbox(), folder)
    before = await seen.survey()
    assert not before.git
    (folder / "a.txt").write_text("changed\n")
    assert (await seen.survey()).fingerprint() != before.fingerprint()
    with pytest.raises(SandboxError):
        await seen.git()("status")


async def test_masked_files_show_as_empty_to_git(sandbox: Sandbox, folder: Path) -> None:
    (folder / ".env").write_text("TOKEN=hush\n")
    seen = repository(sandbox, folder)
    assert seen.secret_files() == (folder / ".env",)
    shown = await seen.git(masked=seen.secret_files())("diff", "--no-index", "/dev/null", ".env")
    assert b"hush" not in shown.stdout + shown.stderr
    assert b"hush" in (await seen.git()("diff", "--no-index", "/dev/null", ".env")).stdout


async def test_identity_and_origin_are_the_owners(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    seen = repository(sandbox, folder)
    home = tmp_path / "home"
    home.mkdir()
    name, email = await seen.identity(home)
    assert name
    assert "@" in email
    (home / ".gitconfig").write_text("[user]\n\tname = Ada Ü\n\temail = ada@example.com\n")
    assert await seen.identity(home) == ("Ada Ü", "ada@example.com")
    git(folder, "config", "user.email", "work@example.com")
    assert await seen.identity(home) == ("Ada Ü", "work@example.com")
    assert await seen.origin() is None
    for url in ("https://github.com/o-w/n.me.git", "git@github.com:o-w/n.me.git", "ssh://git@host:22/o-w/n.me"):
        git(folder, "config", "remote.origin.url", url)
        assert await seen.origin() == "o-w/n.me"
    git(folder, "config", "remote.origin.url", "/srv/git/thing.git")
    assert await seen.origin() is None
