"""memory_search: what was said, done and learned before, in this workspace; reading it lowers trust to its least."""

from __future__ import annotations

from kairosd.core.events import Tier
from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.core.search import Found, Layer, Question, snippet
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ReadOnly, answer_text, memory_of

# A stranger's text is never shown to a run: see core/triage.py for what is made of it.
TRUSTS = tuple(tier.label for tier in (Tier.OWNER, Tier.LOCAL, Tier.COLLABORATOR))
LIMIT = 8
LAYERS = tuple(layer.value for layer in Layer)


class MemorySearch(ReadOnly):
    """Searches memory, journal and transcripts."""

    spec = ToolSpec(
        "memory_search",
        "Search what was learned, done and said before in this workspace. It may be old: look before you rely on it.",
        schema(
            question=string("what you want to know"),
            layer=string("where to look", default="", choices=("", *LAYERS)),
            when=string('days, such as "last week", "2026-11-03" or "2026-11-01..today"', default=""),
            trust=string("the least trust of an answer", default=Tier.LOCAL.label, choices=TRUSTS),
        ),
    )

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self.read(arguments)
        return ()

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        layer = given.text("layer")
        question = Question(
            given.text("question"), layers=(Layer(layer),) if layer else tuple(Layer),
            tier=Tier.parse(given.text("trust")), limit=LIMIT,
        )  # fmt: skip
        answers = await memory_of(context).look_up(question, when=given.text("when"))
        lines = [line for found in answers.found for line in _shown(found, question)]
        head = f"{len(answers.found)} found{'; the newest days are not indexed yet' if answers.behind else ''}"
        text = answer_text(head, lines, arguments=given, limit=context.limit, rest="ask more exactly")
        taint = min((found.passage.tier for found in answers.found), default=None)
        return ToolAnswer(text, taint=taint)


def _shown(found: Found, question: Question) -> list[str]:
    passage = found.passage
    known = ", ".join((passage.layer.value, passage.tier.label, *passage.doubts))
    about = f"{passage.at.astimezone():%Y-%m-%d} {passage.source} ({known})"
    return [f"- {about}", f"  > {snippet(passage.text, question)}"]


def build() -> Tool:
    return MemorySearch()
