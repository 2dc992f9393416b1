"""git_diff: what is not committed yet, or what lies between two commits."""

from __future__ import annotations

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import boolean, schema, string
from kairosd.tools.base import ReadOnly, answer_text, normal_path
from kairosd.tools.repository import DIFF, git_text, pathspecs, valid_ref


class GitDiff(ReadOnly):
    """Shows a diff; new files that git does not know yet are named in its head."""

    spec = ToolSpec(
        "git_diff",
        "Show uncommitted changes as a diff. With ref: changes since that commit, or between two (a..b).",
        schema(
            path=string("only this file or folder", default=""),
            staged=boolean("only what is staged"),
            ref=string("commit, branch or a..b", default=""),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        path = normal_path(given.text("path"))
        ref = (valid_ref(given.text("ref"), ranges=True),) if given.text("ref") else ()
        staged = ("--cached",) if given.flag("staged") else ()
        diff = await git_text(context, "diff", *DIFF, *staged, *ref, *pathspecs(path, context.hidden))
        lines = diff.splitlines()
        if not staged and not any(".." in each for each in ref):
            new = await git_text(
                context, "ls-files", "-z", "--others", "--exclude-standard", *pathspecs(path, context.hidden)
            )
            lines = [f"new file, not in git yet: {name}" for name in new.split("\0") if name] + lines
        what = f"diff {' '.join((*staged, *ref, path))}"
        head = what if lines else f"{what}: no difference"
        rest = "give `path` to see one file"
        return ToolAnswer(answer_text(head, lines, arguments=given, limit=context.limit, rest=rest))


def build() -> Tool:
    return GitDiff()
