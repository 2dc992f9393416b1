"""request_approval: asks the owner for a shell line that is not plain; after a yes, bash runs it in the sandbox."""

from __future__ import annotations

import contextlib
import os
import re

from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.shell.characters import check_characters
from kairosd.core.shell.plans import Command, Pipeline, Plan
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolContext
from kairosd.tools.arguments import Arguments, integer, schema, string
from kairosd.tools.base import ROOT, normal_path
from kairosd.tools.shell import Shell

WORD = re.compile(r"[\w./+@%,-]+")  # of a line nobody parses: whatever could be the name of a file
BOUND_MOST = 50  # files of one line that the yes is bound to


class RequestApproval(Shell):
    """Runs `bash -c LINE`. The gate always asks about bash: nobody can tell beforehand what a line will do.

    The yes is bound to the line and to the content of every file of the workspace that a word of it names.
    """

    spec = ToolSpec(
        "request_approval",
        "Ask the owner to allow one shell line that `shell` refused for its form and that has no plain rewrite.",
        schema(
            command=string("the line, for bash"),
            reason=string("why it is needed, for the owner"),
            timeout=integer("seconds", default=120, least=1, most=600),
        ),
    )
    permission = Permission.UNLISTED
    escalates = True

    def read_plan(self, given: Arguments) -> Plan:
        line = given.text("command")
        check_characters(line)
        return Plan((Pipeline((Command(("bash", "-c", line)),)),))

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        """Every word, since each may be a path: so a line that names a protected or a secret one is told apart."""
        return _words(self.read(arguments).text("command"))

    def _given(self, arguments: JsonObject) -> Arguments:
        return self.read(arguments)  # a line only: words are what `shell` takes

    def scripts(self, given: Arguments, context: ToolContext) -> tuple[str, ...]:
        # Of os.path, which takes a word that is too long for a name as no file; pathlib raises.
        named = [word for word in _words(given.text("command")) if os.path.isfile(context.root / word)]  # noqa: PTH113
        return tuple(named[:BOUND_MOST])


def _words(line: str) -> tuple[str, ...]:
    """The words of a line that could be paths inside the workspace, made normal."""
    found: dict[str, None] = {}
    for word in WORD.findall(line):
        with contextlib.suppress(ToolError):  # out of the workspace, where the sandbox has nothing of the owner's
            found[normal_path(word)] = None
    return tuple(word for word in found if word != ROOT)


def build() -> Tool:
    return RequestApproval()
