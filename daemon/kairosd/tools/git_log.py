"""git_log: the newest commits, one line each."""

from __future__ import annotations

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import integer, schema, string
from kairosd.tools.base import ReadOnly, answer_text, normal_path
from kairosd.tools.repository import commit_evidence, git_text

FORMAT = "%h %ad %an %s"


class GitLog(ReadOnly):
    """Lists commits as `sha date author subject`."""

    spec = ToolSpec(
        "git_log",
        "List the newest commits: sha, date, author, subject. To see what a commit changed, use git_show.",
        schema(
            count=integer("how many", default=10, least=1, most=50),
            path=string("only commits that touch this file or folder", default=""),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        path = normal_path(given.text("path"))
        only = () if path == "." else ("--", f":(literal){path}")
        count = given.number("count")
        text = await git_text(context, "log", f"-n{count}", f"--format={FORMAT}", "--date=short", "--no-color", *only)
        lines = text.splitlines()
        head = f"{len(lines)} newest commits" if lines else f"no commit touches {path}"
        told = answer_text(head, lines, arguments=given, limit=context.limit)
        return ToolAnswer(told, evidence=await _newest(context, lines) if lines else "")


async def _newest(context: ToolContext, lines: list[str]) -> str:
    sha, _, rest = lines[0].partition(" ")
    names = await git_text(context, "show", "--diff-merges=first-parent", "--name-only", "-z", "--format=%s%x00", sha)
    subject, *files = [name.strip() for name in names.split("\0") if name.strip()] or [rest]
    return commit_evidence(sha, subject, files=files)


def build() -> Tool:
    return GitLog()
