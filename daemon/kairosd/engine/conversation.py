"""A run's conversation: appended to its transcript entry by entry, and rebuilt from there after any restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.memo import Memo
from kairosd.core.messages import Message, ToolResult, ToolUse, Usage, UseBroken
from kairosd.core.projection import Cuts
from kairosd.engine.asking import Reply
from kairosd.frozen import frozen
from kairosd.ports import Finish, Transcript

CUT = "cut"  # `stop` of a turn whose stream broke off after a whole call
_COUNTS = ("snip", "microcompact", "collapse", "reactive", "trimmed", "limit")  # of `Cuts`


@frozen
class OpenUse:
    """A call of the last turn that has no result yet. `position` counts within its turn, from 0."""

    position: int
    use: ToolUse | UseBroken


class Conversation:
    """What was said in one run. The transcript on disk only grows; the messages here are derived from it.

    `cuts` say what of it a model is shown no more, or shorter. They are in the transcript too, with the summaries, so
    after a restart a prompt begins with the same bytes. `failed_summaries` counts those that failed in a row.
    `tool_set` names the tools that the run was given; `memo` keeps what is worked out of the messages.
    """

    def __init__(self, transcripts: Transcript, run: str) -> None:
        self._transcripts = transcripts
        self._run = run
        self._writing = asyncio.Lock()
        self._unsynced = True  # what a killed process had written may still be nowhere but in memory
        self._messages: list[Message] = []
        self._open: list[OpenUse] = []
        self._asked: Reply | None = None
        self._digest: tuple[int, str] = (0, "")
        self.turn = 0
        self.finish: Finish | None = None
        self.evidence: list[str] = []
        self.told: set[str] = set()
        self.cuts = Cuts()
        self.failed_summaries = 0
        self.tool_set = ""
        self.memo = Memo()

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

    @property
    def torn(self) -> Reply | None:
        """What was put down of a turn whose end is missing, since Kairos was stopped in it: as much as counts."""
        return self._asked

    @property
    def digest(self) -> str:
        """How the workspace stood, as the model was last told and still sees it."""
        index, text = self._digest
        head = index == 0 and not (self.cuts.summarise or self.cuts.reactive)
        return text if head or index >= self.cuts.furthest else ""

    async def add(self, *entries: JsonObject) -> None:
        """Adds entries. A kill loses none of them from now on, a power cut none after the next `sync`."""
        async with self._writing:
            if entries:
                await self._write(entries)

    async def sync(self) -> None:
        """Returns when all is on disk: before an effect, and before the run ends or a call of it parks it.

        What the database counts of a run may be ahead of it: the transcript decides, and is counted again.
        """
        async with self._writing:
            if self._unsynced:
                await self._transcripts.sync(self._run)
                self._unsynced = False

    async def put_down(self, turn: int, text: str, *, uses: Sequence[ToolUse | UseBroken]) -> None:
        """Adds what turn number `turn` has asked for so far, before anything irrevocable is done about it.

        When its end comes, that replaces this; when it never comes, this is what was asked.
        """
        async with self._writing:
            had = self._asked
            new = uses[len(had.uses) if had else 0 :]
            if self.turn < turn and new:
                words = text[len(had.text) if had else 0 :]
                await self._write([{"kind": "asked", "text": words, "uses": [_write_use(use) for use in new]}])
        await self.sync()

    async def open(self, goal: str, *, tool_set: str) -> None:
        """Begins with the goal, and with the set of tools that the run has from now on."""
        await self.add({"kind": "said", "text": goal, "tools": tool_set})

    async def drop_open(self) -> None:
        """Answers the calls behind `finish`, which are never made: a word may not come between a turn and results."""
        await self.add(*(result_entry(one.use.id, "not made: it came after finish", error=True) for one in self._open))

    async def say(self, text: str, *, about: str) -> None:
        """Adds a word from the daemon, on disk before it returns; it reopens a run that had finished.

        `about` names what it tells of; `told` has every such name, so that nothing is told twice.
        """
        await self.add({"kind": "said", "text": text, "about": about})
        await self.sync()

    async def show(self, digest: str) -> None:
        """Adds how the workspace stands now."""
        await self.add({"kind": "digest", "text": digest})

    async def add_cuts(self, cuts: Cuts) -> None:
        """Adds how far compaction has come; a summary is added by itself."""
        if cuts != self.cuts:
            await self.add({"kind": "compacted", **{name: getattr(cuts, name) for name in _COUNTS}})

    async def add_summary(self, text: str, upto: int) -> None:
        """Adds a summary of the first `upto` messages."""
        await self.add({"kind": "summary", "text": text, "upto": upto})

    async def add_failed_summary(self, reason: str) -> None:
        """Adds that a summary failed."""
        await self.add({"kind": "summary", "failed": reason})

    async def _write(self, entries: Sequence[JsonObject]) -> None:
        self._unsynced = True
        await self._transcripts.append(self._run, *entries)
        for entry in entries:
            self._take(entry)

    def _take(self, entry: JsonObject) -> None:
        match entry["kind"]:
            case "said":
                self._messages.append(Message("user", str(entry["text"])))
                self.tool_set = str(entry.get("tools", self.tool_set))
                self.told.add(str(entry.get("about", "")))
                self.finish = None
            case "digest":
                self._take_digest(str(entry["text"]))
            case "asked":
                had = self._asked or cut_reply("", ())
                self._asked = cut_reply(had.text + str(entry["text"]), (*had.uses, *_read_uses(entry)))
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

    def _take_digest(self, text: str) -> None:
        """It stands with the last thing said to the model, behind everything that was there before."""
        if self._messages and self._messages[-1].role == "user":
            self._messages[-1] = replace(self._messages[-1], digest=text)
        else:
            self._messages.append(Message("user", digest=text))
        self._digest = (len(self._messages) - 1, text)

    def _take_turn(self, entry: JsonObject) -> None:
        uses = _read_uses(entry)
        self.turn += 1
        self._asked = None
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
            self._messages[-1] = replace(last, results=(*last.results, result))
        else:
            self._messages.append(Message("user", results=(result,)))

    def _take_summary(self, entry: JsonObject) -> None:
        text, upto = entry.get("text"), entry.get("upto")
        if isinstance(text, str) and isinstance(upto, int):
            self.cuts = replace(self.cuts, summarise=upto, summary=text)
            self.failed_summaries = 0
        else:
            self.failed_summaries += 1


def cut_reply(text: str, uses: Sequence[ToolUse | UseBroken]) -> Reply:
    """What had come of an answer when it broke off; nobody has said what it cost."""
    return Reply(text, tuple(uses), CUT, Usage(), price=None)


def turn_entry(reply: Reply, model: str) -> JsonObject:
    """An answer of the model, whole or cut."""
    uses: list[Json] = [_write_use(use) for use in reply.uses]
    entry: JsonObject = {"kind": "turn", "text": reply.text, "uses": uses, "model": model}
    entry = {**entry, "tokens": reply.tokens, "price": reply.price}
    return {**entry, "cut": True} if reply.stop == CUT else entry


def result_entry(use: str, text: str, *, error: bool, evidence: str = "") -> JsonObject:
    """The result of one open call, and the line of facts that the owner is to see with the answer."""
    entry: JsonObject = {"kind": "result", "use": use, "text": text, "error": error}
    return {**entry, "evidence": evidence} if evidence else entry


def finish_entry(finish: Finish) -> JsonObject:
    """The run's own word that it is through."""
    return {"kind": "finish", "answer": finish.answer, "checks": list(finish.checks)}


def _write_use(use: ToolUse | UseBroken) -> JsonObject:
    if isinstance(use, UseBroken):
        return {"id": use.id, "name": use.name, "problem": use.problem}
    entry: JsonObject = {"id": use.id, "name": use.name, "arguments": without_floats(use.arguments)}
    # A line of the transcript has its keys sorted; caches hold only what comes back in the order it was written.
    names = list(map(str, use.arguments))
    return {**entry, "order": names} if names != sorted(names) else entry


def _read_uses(entry: JsonObject) -> list[ToolUse | UseBroken]:
    raw = entry["uses"] if isinstance(entry["uses"], list) else []
    return [_read_use(item) for item in raw if isinstance(item, Mapping)]


def _read_use(entry: Mapping[str, Json]) -> ToolUse | UseBroken:
    arguments, order = entry.get("arguments"), entry.get("order")
    if isinstance(arguments, Mapping):
        names = order if isinstance(order, list) else ()
        ordered = {str(name): arguments[str(name)] for name in names if str(name) in arguments}
        return ToolUse(str(entry["id"]), str(entry["name"]), {**ordered, **arguments})
    return UseBroken(str(entry["id"]), str(entry["name"]), str(entry.get("problem", "not an object")))
