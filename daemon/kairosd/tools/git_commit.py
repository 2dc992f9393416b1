"""git_commit: everything changed becomes one commit of the owner's, made by Kairos, and it says so."""

from __future__ import annotations

import re

from kairosd.core.json import JsonObject, digest
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Call
from kairosd.errors import ExecutorError, ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ReadOnly, answer_text
from kairosd.tools.repository import DIFF, changed_files, files_plan, git_error, git_outcome, git_text

CALL_TRAILER = "Kairos-Call"
COMMITTER = ("Kairos", "kairos@localhost")
MESSAGE_LENGTH = 5000  # characters
FORGED = re.compile(rf"^[ \t]*({CALL_TRAILER}|Assisted-by)[ \t]*:.*\n?", re.IGNORECASE | re.MULTILINE)
UNSAFE_NAME = re.compile(r"[<>\x00-\x1f]")
QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
# The port runs git and nothing else; an alias is git's own way to remove the files that git says to remove.
UNLOCK = (
    "-c",
    "alias.unlock=!cd \"$(git rev-parse --git-dir)\" && rm -f index.lock HEAD.lock && find refs -name '*.lock' -delete",
    "unlock",
)


class GitCommit(ReadOnly):
    """Commits all changes. The trailers name the call, which is how a crash is told from a commit made."""

    spec = ToolSpec(
        "git_commit",
        "Commit all changed files. Hooks do not run. Use it after write or edit.",
        schema(message=string("subject line; more lines may follow")),
    )
    permission = Permission.COMMIT
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self._message(arguments)
        return ()  # the files were judged when they were changed

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        self._message(arguments)
        files = await changed_files(context)
        if not files:
            raise ToolError("there is nothing to commit", fix="change a file with edit or write first, or call finish")
        listed = files_plan(files)
        whole = digest([[status, path] for status, path in files])
        return {"head": await _head(context), "files": listed, "count": len(files), "digest": whole}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        message = self._message(arguments)
        nested = await _nested(context)
        wanted = "\0".join([":/", *(f":(top,exclude,literal){path}" for path in nested)])
        from_stdin = ("--pathspec-from-file=-", "--pathspec-file-nul")
        await _change(context, "add", "--all", *from_stdin, stdin=wanted.encode(errors="surrogateescape"))
        staged = await git_outcome(context, "diff", *DIFF, "--cached", "--quiet")
        if staged.code == 0:
            raise ToolError("there is nothing to commit", fix="change a file with edit or write first, or call finish")
        text = f"{message}\n\n{CALL_TRAILER}: {context.call}\nAssisted-by: Kairos (run {context.run.id})\n"
        name, email = COMMITTER
        identity = ("-c", f"committer.name={name}", "-c", f"committer.email={email}")
        author = f"--author={_author(context.author)}"
        options = ("--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "--quiet", "--file=-")
        await _change(context, *identity, "commit", author, *options, stdin=text.encode("utf-8", "replace"))
        shown = await git_text(context, "show", *DIFF, "--format=%h %s", "--stat=100", "HEAD", "--")
        lines = [line for line in shown.splitlines() if line.strip()]
        lines += [f"left out, since it is a git repository of its own: {path}" for path in nested]
        return ToolAnswer(answer_text("committed", lines, arguments=given, limit=context.limit))

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        try:
            outcome = await git_outcome(
                context,
                "log",
                "-n1",
                "--format=%H",
                "--fixed-strings",
                f"--grep={CALL_TRAILER}: {call.id}",
                "HEAD",
                "--",
            )
        except (ToolError, ExecutorError):
            return None
        if outcome.code != 0:
            # An unborn branch holds no commit of ours; anything else we cannot read.
            return False if await _head_or_none(context) == "" else None
        return bool(outcome.stdout.strip())

    def _message(self, arguments: JsonObject) -> str:
        text = self.read(arguments).text("message")[:MESSAGE_LENGTH].replace("\r\n", "\n").replace("\0", "")
        message = FORGED.sub("", text).strip()
        if not message:
            raise ToolError("the message is empty", fix="say in one line what the commit changes")
        # git would fold a second line into the subject.
        subject, _, body = message.partition("\n")
        return f"{subject}\n\n{body.strip()}" if body.strip() else subject


async def _nested(context: ToolContext) -> list[str]:
    """Repositories inside of the tree: a commit would hold a link to what nobody has, or fail."""
    outcome = await git_outcome(context, "ls-files", "--others", "--exclude-standard", "-z")
    if outcome.code != 0:
        raise git_error(outcome)
    listed = outcome.stdout.decode(errors="surrogateescape").split("\0")
    return [path.rstrip("/") for path in listed if path.endswith("/")]


async def _change(context: ToolContext, *arguments: str, stdin: bytes = b"") -> None:
    outcome = await git_outcome(context, *QUIET, *arguments, stdin=stdin, writable=True)
    # A checkout is its run's alone, so a lock in it was left by a git that died; the owner's own locks are not ours.
    if outcome.code != 0 and b".lock': File exists" in outcome.stderr and context.root != context.workspace.path:
        await git_outcome(context, *UNLOCK, writable=True)
        outcome = await git_outcome(context, *QUIET, *arguments, stdin=stdin, writable=True)
    if outcome.code != 0:
        raise git_error(outcome)


async def _head(context: ToolContext) -> str:
    outcome = await git_outcome(context, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return outcome.stdout.decode("ascii", "replace").strip()


async def _head_or_none(context: ToolContext) -> str | None:
    outcome = await git_outcome(context, "rev-parse", "--git-dir")
    return await _head(context) if outcome.code == 0 else None


def _author(identity: tuple[str, str]) -> str:
    name, email = (UNSAFE_NAME.sub("", part).strip() for part in identity)
    return f"{name or COMMITTER[0]} <{email or COMMITTER[1]}>"


def build() -> Tool:
    return GitCommit()
