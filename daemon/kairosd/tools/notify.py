"""notify: tells the owner something."""

from __future__ import annotations

import re

from kairosd.core.json import JsonObject, digest
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.notices import NoticeDraft, Severity
from kairosd.core.runs import Call
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, schema, string
from kairosd.tools.base import ReadOnly, answer_text, visible

TITLE_LENGTH = 100
BODY_LENGTH = 3000
# Not `urgent`: it breaks quiet hours, and that is for the daemon's own troubles.
SEVERITIES = ("low", "normal", "high")


class Notify(ReadOnly):
    """Queues a notice on every channel of the owner's, once a call."""

    spec = ToolSpec(
        "notify",
        "Send the owner a notification. Use it once, for something worth being disturbed for.",
        schema(
            title=string("a few words"),
            body=string("one or two sentences"),
            severity=string("how much it may disturb", default="normal", choices=SEVERITIES),
        ),
    )
    permission = Permission.NOTIFY
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self.read(arguments)
        return ()

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        draft = _draft(self.read(arguments), context.call, context=context)
        return {"digest": digest([draft.title, draft.body, draft.severity.label])}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        draft = _draft(given, context.call, context=context)
        await context.services.notify(draft)
        return ToolAnswer(answer_text(f"notice queued: {draft.title}", [], arguments=given, limit=context.limit))

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        # A key is queued once, ever: asking again both answers the question and mends a "no".
        await context.services.notify(_draft(self.read(call.arguments), call.id, context=context))
        return True


def _draft(given: Arguments, call: str, *, context: ToolContext) -> NoticeDraft:
    title = re.sub(r"\s+", " ", visible(given.text("title"))).strip()
    return NoticeDraft(
        key=f"call:{call}",
        title=title[:TITLE_LENGTH] or "Kairos",
        body=visible(given.text("body")).strip()[:BODY_LENGTH],
        severity=Severity[given.text("severity").upper()],
        cause=context.run.id,
        workspace=context.run.workspace,
    )


def build() -> Tool:
    return Notify()
