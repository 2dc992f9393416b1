"""git_status: the branch and every changed file."""

from __future__ import annotations

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema
from kairosd.tools.base import ReadOnly, answer_text
from kairosd.tools.repository import changed_files, git_outcome

WORDS = {"??": "new", "A": "added", "M": "modified", "D": "deleted", "T": "type changed", "U": "conflict"}


class GitStatus(ReadOnly):
    """Shows the branch and the files that differ from the last commit."""

    spec = ToolSpec("git_status", "Show the branch and the files that are not committed yet.", schema())

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        files = await changed_files(context)
        outcome = await git_outcome(context, "symbolic-ref", "--quiet", "--short", "HEAD")
        branch = outcome.stdout.decode("utf-8", "replace").strip()
        where = f"branch {branch}" if branch else "no branch (detached HEAD)"
        lines = [f"{_word(status)}: {path}" for status, path in files]
        count = f"{len(files)} changed files" if files else "clean: nothing is uncommitted"
        return ToolAnswer(answer_text(f"{where}, {count}", lines, arguments=given, limit=context.limit))


def _word(status: str) -> str:
    if status in WORDS:
        return WORDS[status]
    staged, unstaged = status[0], status[1]
    letter = staged if staged != " " else unstaged
    return WORDS.get(letter, "changed") + (" (staged)" if staged != " " and unstaged == " " else "")


def build() -> Tool:
    return GitStatus()
