"""The git tools, glob and grep on a real repository with the real git."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tool_bench import Bench, bench

from kairosd.errors import ToolError
from kairosd.tools import git_commit, git_diff, git_log, git_show, git_status, glob, grep

pytestmark = pytest.mark.anyio


@pytest.fixture
def made(tmp_path: Path) -> Bench:
    made = bench(tmp_path)
    made.put("README.md", "# Engine\n")
    made.put("src/old name.py", "value = 1\n" * 20)
    made.put(".gitignore", "*.log\n")
    made.commit("Begin")
    made.put("README.md", "# Engine\n\nIt runs.\n")
    made.run_git("mv", "src/old name.py", "src/ünïque.py")
    made.put(".env", "TOKEN=hunter2\n")
    made.commit("Describe the engine\n\nWhy: nobody knew.")
    return made


async def test_git_show_alone_answers_what_changed_in_the_last_commit(made: Bench) -> None:
    text = (await git_show.build().run({}, made.context)).text
    lines = text.splitlines()
    assert lines[0].endswith(", 3 changed files]")
    assert lines[1:3] == ["subject: Describe the engine", "author: Ada"]
    assert "message: Why: nobody knew." in lines
    assert "changed file (modified): README.md" in lines
    assert "changed file (renamed): src/old name.py -> src/ünïque.py" in lines
    assert "changed file (added): .env (content not shown: it may hold secrets)" in lines
    assert "+It runs." in lines
    assert "hunter2" not in text


async def test_a_secret_file_is_shown_only_to_a_call_that_names_it(made: Bench) -> None:
    tool = git_show.build()
    assert tool.paths({"path": ".env"}) == (".env",), "so that the gate can ask"
    assert "hunter2" in (await tool.run({"path": ".env"}, made.context)).text
    made.put(".env", "TOKEN=hunter3\n")
    assert "hunter" not in (await git_diff.build().run({}, made.context)).text
    assert "hunter3" in (await git_diff.build().run({"path": ".env"}, made.context)).text
    assert "hunter3" not in (await grep.build().run({"pattern": "hunter"}, made.context)).text
    assert ".env:1:TOKEN=hunter3" in (await grep.build().run({"pattern": "hunter", "path": ".env"}, made.context)).text


async def test_git_show_takes_a_reference_a_path_and_a_merge(made: Bench) -> None:
    assert "subject: Begin" in (await git_show.build().run({"ref": "HEAD~1"}, made.context)).text
    one = (await git_show.build().run({"path": "README.md"}, made.context)).text
    assert "1 changed files" in one
    assert "src/" not in one
    made.run_git("checkout", "--quiet", "-b", "side", "HEAD~1")
    made.put("side.txt", "side\n")
    made.commit("Side")
    made.run_git("checkout", "--quiet", "main")
    made.run_git("merge", "--quiet", "--no-edit", "side")
    merge = (await git_show.build().run({}, made.context)).text
    assert "changed file (added): side.txt" in merge
    assert "+side" in merge


@pytest.mark.parametrize(
    "ref", ["-x", "--output=x", "HEAD:README.md", "a b", "HEAD;id", "nope", "", "HEAD..main", "$(id)", "^", "@{"]
)
async def test_git_show_refuses_what_is_no_commit(made: Bench, ref: str) -> None:
    if ref == "":
        assert "subject: Describe" in (await git_show.build().run({"ref": ref}, made.context)).text
        return
    with pytest.raises(ToolError) as caught:
        await git_show.build().run({"ref": ref}, made.context)
    assert caught.value.fix


async def test_git_log_lists_sha_date_author_subject(made: Bench) -> None:
    lines = (await git_log.build().run({}, made.context)).text.splitlines()
    assert lines[0] == "[2 newest commits]"
    sha, _, author, subject = lines[1].split(" ", 3)
    assert made.run_git("rev-parse", "--short", "HEAD").strip() == sha
    assert (author, subject) == ("Ada", "Describe the engine")
    assert "1 newest commits" in (await git_log.build().run({"path": ".gitignore"}, made.context)).text
    assert "no commit touches nowhere" in (await git_log.build().run({"path": "nowhere"}, made.context)).text


async def test_git_status_and_diff_tell_new_changed_and_staged(made: Bench) -> None:
    clean = (await git_status.build().run({}, made.context)).text
    assert clean == "[branch main, clean: nothing is uncommitted]"
    made.put("new file.txt", "new\n")
    made.put("noise.log", "ignored\n")
    made.put("README.md", "# Motor\n")
    made.run_git("rm", "--quiet", ".gitignore", "--cached")
    made.put(".gitignore", "*.log\n")
    status = (await git_status.build().run({}, made.context)).text
    assert "new: new file.txt" in status
    assert "modified: README.md" in status
    assert "deleted (staged): .gitignore" in status
    assert "noise" not in status
    diff = (await git_diff.build().run({}, made.context)).text
    assert "new file, not in git yet: new file.txt" in diff
    assert "+# Motor" in diff
    assert "no difference" in (await git_diff.build().run({"path": "src"}, made.context)).text
    assert "+# Motor" not in (await git_diff.build().run({"staged": True}, made.context)).text
    assert "+It runs." in (await git_diff.build().run({"ref": "HEAD~1..HEAD"}, made.context)).text


async def test_git_commit_is_the_owners_made_by_kairos_and_says_so(made: Bench) -> None:
    made.put("README.md", "# Motor\n")
    made.put("deep/new.txt", "new\n")
    marker = made.root / "hook-ran"
    for hook in ("pre-commit", "commit-msg", "post-commit"):
        made.put(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {marker}\n").chmod(0o755)
    made.run_git("config", "commit.gpgSign", "true")
    tool, message = git_commit.build(), "#1 Name it\n\nKairos-Call: c_forged\nAssisted-by: nobody\nbody"
    plan = await tool.plan({"message": message}, made.context)
    assert plan["head"] == made.run_git("rev-parse", "HEAD").strip()
    assert [each["path"] for each in plan["files"]] == ["README.md", "deep/new.txt"]
    text = (await tool.run({"message": message}, made.context)).text
    assert "#1 Name it" in text
    assert "deep/new.txt" in text
    shown = made.run_git("log", "-1", "--format=%an <%ae>|%cn|%s|%(trailers:only)|%b")
    author, committer, subject, trailers, body = shown.split("|")
    assert (author, committer, subject) == ("Ada Löw <ada@example.org>", "Kairos", "#1 Name it")
    assert trailers.split("\n")[:2] == [
        f"Kairos-Call: {made.context.call}",
        f"Assisted-by: Kairos (run {made.context.run.id})",
    ]
    assert "forged" not in body
    assert not marker.exists()
    assert made.run_git("status", "--porcelain") == ""
    with pytest.raises(ToolError, match="nothing to commit"):
        await tool.run({"message": "again"}, made.context)


async def test_git_commit_outlives_the_locks_of_a_git_that_was_killed_but_leaves_the_owners_alone(made: Bench) -> None:
    made.put("a", "a\n")
    locks = [made.put(f".git/{name}.lock", "") for name in ("index", "HEAD", "refs/heads/main")]
    with pytest.raises(ToolError, match="lock"):
        await git_commit.build().run({"message": "Owner is at work"}, made.context)
    assert all(lock.exists() for lock in locks)
    elsewhere = replace(made.context.workspace, path=made.root / "the owner's folder")
    await git_commit.build().run({"message": "In a checkout"}, replace(made.context, workspace=elsewhere))
    assert made.run_git("log", "-1", "--format=%s") == "In a checkout\n"


async def test_git_commit_leaves_repositories_inside_of_the_tree_out_and_says_so(made: Bench) -> None:
    for name in ("nest*d", "empty"):
        made.put(f"{name}/file.txt", "x\n")
        made.run_git("init", "--quiet", name)
    made.run_git("-C", "nest*d", "add", "-A")
    made.run_git("-C", "nest*d", "commit", "--quiet", "-m", "Nested")
    with pytest.raises(ToolError, match="nothing to commit"):
        await git_commit.build().run({"message": "Nothing"}, made.context)
    made.put("nested.txt", "mine\n")
    text = (await git_commit.build().run({"message": "Add it"}, made.context)).text
    assert made.run_git("show", "--name-only", "--format=", "HEAD").split() == ["nested.txt"]
    for name in ("nest*d", "empty"):
        assert f"left out, since it is a git repository of its own: {name}" in text


async def test_git_commit_probe_is_not_fooled_by_other_commits_or_no_commit_at_all(made: Bench, tmp_path: Path) -> None:
    tool, arguments = git_commit.build(), {"message": "Work"}
    call = made.call("git_commit", arguments)
    made.put("a", "a\n")
    made.commit("Work")
    assert await tool.probe(call, made.context) is False
    made.git.broken = True
    assert await tool.probe(call, made.context) is None
    made.git.broken = False
    made.git.folder = tmp_path / "empty"
    made.git.folder.mkdir()
    made.root = made.git.folder
    made.run_git("init", "--quiet")
    assert await tool.probe(call, made.context) is False
    made.git.folder = tmp_path.parent
    assert await tool.probe(call, made.context) is None


async def test_git_commit_starts_a_repository_and_needs_no_name(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.put("a", "a\n")
    nameless = replace(made.context, author=("<>\n", ""))
    await git_commit.build().run({"message": "First"}, nameless)
    assert made.run_git("log", "--format=%an %s") == "Kairos First\n"


async def test_reading_tools_never_ask_to_write(made: Bench) -> None:
    for tool in (git_status, git_diff, git_log, git_show):
        await tool.build().run({}, made.context)
    await grep.build().run({"pattern": "x"}, made.context)
    await git_commit.build().probe(made.call("git_commit", {"message": "m"}), made.context)
    assert made.git.written == []


async def test_without_a_repository_or_a_commit_the_fix_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = bench(tmp_path / "plain", repository=False)
    for tool in (git_status, git_diff, git_log, git_show):
        with pytest.raises(ToolError, match="not a git repository") as caught:
            await tool.build().run({}, plain.context)
        assert "glob" in str(caught.value)
    (tmp_path / "empty").mkdir()
    empty = bench(tmp_path / "empty")
    with pytest.raises(ToolError, match="no commits yet"):
        await git_log.build().run({}, empty.context)
    with pytest.raises(ToolError):
        await git_show.build().run({}, empty.context)
    assert "branch main, clean" in (await git_status.build().run({}, empty.context)).text


async def test_glob_is_newest_first_without_ignored_deleted_and_git_files(made: Bench) -> None:
    made.put("noise.log", "x")
    for age, name in enumerate(("a.txt", "b.txt", "sub/c.txt")):
        os.utime(made.put(name, "x"), (1_000_000 + age, 1_000_000 + age))
    (made.root / "README.md").unlink()
    text = (await glob.build().run({"pattern": "**/*.txt"}, made.context)).text
    assert text.splitlines() == ["[3 files match **/*.txt, newest first]", "sub/c.txt", "b.txt", "a.txt"]
    everything = (await glob.build().run({"pattern": "."}, made.context)).text
    assert "src/ünïque.py" in everything
    for absent in ("noise.log", "README.md", ".git/"):
        assert f"\n{absent}" not in everything
    assert "sub/c.txt" in (await glob.build().run({"pattern": "sub"}, made.context)).text
    assert "src/ünïque.py" in (await glob.build().run({"pattern": "*.{md,py}"}, made.context)).text
    assert "no file matches" in (await glob.build().run({"pattern": "*.rs"}, made.context)).text


async def test_glob_caps_and_counts(made: Bench) -> None:
    for number in range(250):
        made.put(f"many/{number}.dat", "")
    text = (await glob.build().run({"pattern": "*.dat"}, made.context)).text
    assert text.startswith("[250 files match *.dat, newest first; the first 200]")
    assert len(text.splitlines()) == 201


async def test_grep_finds_tracked_and_new_lines_and_reads_what_was_meant(made: Bench) -> None:
    made.put("a:b.txt", "call(x, 42)\n")
    made.put("noise.log", "call(x\n")
    find = grep.build().run
    assert (await find({"pattern": r"x, \d+"}, made.context)).text.endswith("\na:b.txt:1:call(x, 42)")
    literal = (await find({"pattern": "call(x"}, made.context)).text
    assert literal == "[1 lines match call(x (read as plain text)]\na:b.txt:1:call(x, 42)"
    assert "(case ignored)" in (await find({"pattern": "ENGINE"}, made.context)).text
    assert "src/ünïque.py:20:value = 1" in (await find({"pattern": "value", "path": "src"}, made.context)).text
    assert "no line matches" in (await find({"pattern": "value", "glob": "*.md"}, made.context)).text
    assert "no line matches" in (await find({"pattern": "-e"}, made.context)).text
