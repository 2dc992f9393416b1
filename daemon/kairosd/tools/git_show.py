"""git_show: one commit with its subject, author, files and diff; without a reference the last one."""

from __future__ import annotations

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ReadOnly, answer_text, is_secret, normal_path
from kairosd.tools.repository import DIFF, commit_evidence, git_text, pathspecs, valid_ref

# A merge is shown against its first parent: what it brought to the branch, not git's combined form.
SHOW = ("show", "--date=iso-strict", "--diff-merges=first-parent", *DIFF)
BODY_LINES = 30
LETTERS = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type changed"}


class GitShow(ReadOnly):
    """Shows a commit so that "what changed?" is answered by its first lines."""

    spec = ToolSpec(
        "git_show",
        "Show what a commit changed: subject, author, date, files and diff. Without ref: the last commit.",
        schema(
            ref=string("sha, branch or HEAD~1", default="HEAD"),
            path=string("only this file or folder", default=""),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        path = normal_path(given.text("path"))
        ref = valid_ref(given.text("ref") or "HEAD", ranges=False)
        about = await git_text(context, *SHOW, "--no-patch", "--format=%h%x00%s%x00%an%x00%ad%x00%b", ref, "--")
        sha, subject, author, date, body = (about.split("\0", 4) + [""] * 5)[:5]
        only = () if path == "." else ("--", f":(literal){path}")
        names = await git_text(context, *SHOW, "--name-status", "-z", "--format=", ref, *only)
        files = _files(names)
        diff = await git_text(context, *SHOW, "--format=", ref, *pathspecs(path, context.hidden))
        lines = [f"subject: {subject}", f"author: {author}", f"date: {date}"]
        lines += [f"message: {line}" for line in body.strip().splitlines()[:BODY_LINES]]
        lines += [
            _file_line(word, name, shown=name == path or not is_secret(name, context.hidden)) for word, name in files
        ] or ["changed files: none"]
        if diff.strip():
            lines += ["diff:", *diff.strip("\n").splitlines()]
        head = f"commit {sha.strip()}, {len(files)} changed files"
        rest = "give `path` to see one file"
        told = answer_text(head, lines, arguments=given, limit=context.limit, rest=rest)
        return ToolAnswer(told, evidence=commit_evidence(sha, subject, files=[name for _, name in files]))


def _file_line(word: str, name: str, *, shown: bool) -> str:
    hidden = "" if shown else " (content not shown: it may hold secrets)"
    return f"changed file ({word}): {name}{hidden}"


def _files(text: str) -> list[tuple[str, str]]:
    """(what happened, path) from `--name-status -z`, whose renames and copies carry two paths."""
    fields = iter(field for field in text.split("\0") if field)
    found = []
    for status in fields:
        letter = status.strip()[:1]
        name = next(fields, "")
        if letter in "RC":
            name = f"{name} -> {next(fields, '')}"
        found.append((LETTERS.get(letter, "changed"), name))
    return found


def build() -> Tool:
    return GitShow()
