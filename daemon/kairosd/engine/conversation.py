"""A run's conversation: appended to its transcript entry by entry, and rebuilt from there after any restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.messages import Message, ToolResult, ToolUse, UseBroken
from kairosd.core.projection import Cuts
from kairosd.engine.asking import Reply
from kairosd.ports import Finish, Transcript

_COUNTS = ("snip", "microcompact", "collapse", "reactive", "trimmed", "limit")  # of `Cuts`


@dataclass(frozen=True, slots=True)
class OpenUse:
    """A call of the last turn that has no result yet. `position` counts within its turn, from 0."""

    position: int
    use: ToolUse | UseBroken


class Conversation:
    """What was said in one run. The transcript on disk only grows; the messages here are derived from it.

    `cuts` say what of it a model is shown no more, or shorter. They are in the transcript too, with the summaries, so
    after a restart a prompt begins with the same bytes. `failed_summaries` counts those that failed in a row.
    """

    def __init__(self, transcripts: Transcript, run: str) -> None:
        self._transcripts = transcripts
        self._run = run
        self._messages: list[Message] = []
        self._open: list[OpenUse] = []
        self.turn = 0
        self.finish: Finish | None = None
        self.evidence: list[str] = []
        self.cuts = Cuts()
        self.failed_summaries = 0

    @classmethod
    async def load(cls, transcripts: Transcript, run: str) -> Conversation:
        """The conversation as far as it got."""
        conversation = cls(transcripts, run)
        for entry in await transcripts.read(run):
            conversation._take(entry)
        return conversation

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    @property
    def shown_whole(self) -> tuple[Message, ...]:
        """The newest messages: what the model is still shown word for word."""
        return tuple(self._messages[self.cuts.furthest :])

    @property
    def open_uses(self) -> tuple[OpenUse, ...]:
        """Calls of the last turn that still need a result, in request order."""
        return tuple(self._open)

    async def say(self, text: str) -> None:
        """Adds the user's side: the goal, or a word from the daemon."""
        await self._add({"kind": "said", "text": text})

    async def add_turn(self, reply: Reply, model: str) -> None:
        """Adds a whole answer of the model."""
        uses: list[Json] = [_write_use(use) for use in reply.uses]
        entry: JsonObject = {"kind": "turn", "text": reply.text, "uses": uses, "model": model}
        await self._add({**entry, "tokens": reply.tokens, "price": reply.price})

    async def add_result(self, use: str, text: str, *, error: bool, evidence: str = "") -> None:
        """Adds the result of one open call, and the line of facts that the owner is to see with the answer."""
        entry: JsonObject = {"kind": "result", "use": use, "text": text, "error": error}
        await self._add({**entry, "evidence": evidence} if evidence else entry)

    async def add_finish(self, finish: Finish) -> None:
        """Adds the run's own word that it is through."""
        await self._add({"kind": "finish", "answer": finish.answer, "checks": list(finish.checks)})

    async def add_cuts(self, cuts: Cuts) -> None:
        """Adds how far compaction has come; a summary is added by itself."""
        if cuts != self.cuts:
            await self._add({"kind": "compacted", **{name: getattr(cuts, name) for name in _COUNTS}})

    async def add_summary(self, text: str, upto: int) -> None:
        """Adds a summary of the first `upto` messages."""
        await self._add({"kind": "summary", "text": text, "upto": upto})

    async def add_failed_summary(self, reason: str) -> None:
        """Adds that a summary failed."""
        await self._add({"kind": "summary", "failed": reason})

    async def _add(self, entry: JsonObject) -> None:
        await self._transcripts.append(self._run, entry)
        self._take(entry)

    def _take(self, entry: JsonObject) -> None:
        match entry["kind"]:
            case "said":
                self._messages.append(Message("user", str(entry["text"])))
            case "turn":
                self._take_turn(entry)
            case "result":
                self._take_result(entry)
            case "compacted":
                counts = {name: count for name in _COUNTS if isinstance(count := entry.get(name), int)}
                self.cuts = Cuts(summarise=self.cuts.summarise, summary=self.cuts.summary, **counts)
            case "summary":
                self._take_summary(entry)
            case "finish":
                checks = entry["checks"] if isinstance(entry["checks"], list) else []
                self.finish = Finish(str(entry["answer"]), tuple(c for c in checks if isinstance(c, Mapping)))

    def _take_turn(self, entry: JsonObject) -> None:
        raw = entry["uses"] if isinstance(entry["uses"], list) else []
        uses = [_read_use(item) for item in raw if isinstance(item, Mapping)]
        self.turn += 1
        self._open = [OpenUse(position, use) for position, use in enumerate(uses)]
        told = tuple(use if isinstance(use, ToolUse) else ToolUse(use.id, use.name, {}) for use in uses)
        self._messages.append(Message("assistant", str(entry["text"]), uses=told))
        if not uses:
            # Words without a call are how most models end: they are the answer, and nothing vouches for them.
            self.finish = Finish(str(entry["text"]).strip() or "(no answer)")

    def _take_result(self, entry: JsonObject) -> None:
        self._open = [item for item in self._open if item.use.id != entry["use"]]
        if (evidence := str(entry.get("evidence", ""))) and evidence not in self.evidence:
            self.evidence.append(evidence)
        result = ToolResult(str(entry["use"]), str(entry["text"]), bool(entry["error"]))
        last = self._messages[-1]
        if last.role == "user" and last.results:
            self._messages[-1] = Message("user", results=(*last.results, result))
        else:
            self._messages.append(Message("user", results=(result,)))

    def _take_summary(self, entry: JsonObject) -> None:
        text, upto = entry.get("text"), entry.get("upto")
        if isinstance(text, str) and isinstance(upto, int):
            self.cuts = replace(self.cuts, summarise=upto, summary=text)
            self.failed_summaries = 0
        else:
            self.failed_summaries += 1


def _write_use(use: ToolUse | UseBroken) -> JsonObject:
    if isinstance(use, UseBroken):
        return {"id": use.id, "name": use.name, "problem": use.problem}
    return {"id": use.id, "name": use.name, "arguments": without_floats(use.arguments)}


def _read_use(entry: Mapping[str, Json]) -> ToolUse | UseBroken:
    arguments = entry.get("arguments")
    if isinstance(arguments, Mapping):
        return ToolUse(str(entry["id"]), str(entry["name"]), arguments)
    return UseBroken(str(entry["id"]), str(entry["name"]), str(entry.get("problem", "not an object")))
