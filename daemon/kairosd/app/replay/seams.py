"""The seams of a replay: stand-ins at every one, and tools that reach nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn, cast

from kairosd.app.ground import Outside, Seams
from kairosd.app.replay.standins import (
    Off,
    Played,
    PlayedAsking,
    PlayedCheckouts,
    PlayedFiles,
    PlayedHandover,
    PlayedMemory,
    PlayedModels,
    PlayedRepository,
    RecordedCall,
    end_of_record,
)
from kairosd.app.replay.tape import OffRecordError
from kairosd.core.events import Tier
from kairosd.core.exchanges import mark
from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolUse
from kairosd.core.runs import Call
from kairosd.core.shell.plans import Plan
from kairosd.engine.asking import Asking
from kairosd.engine.authorship import Authorship
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.checks import Sight
from kairosd.engine.handover import Handover
from kairosd.engine.hints import Hints
from kairosd.engine.repository import Place, Repository
from kairosd.engine.witness import Witness
from kairosd.errors import ToolError
from kairosd.models.book import ModelBook
from kairosd.ports import Commands, Files, Git, RunMemory, Sandbox, Tool, ToolAnswer, ToolContext


class PlayedTool(Witness[Tool]):
    """A tool whose daemon's part is done again, and whose reach outside is answered from the record."""

    def __init__(self, real: Tool, played: Played) -> None:
        self._real = real
        self._played = played

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        try:
            return await self._real.plan(arguments, _sealed(context))
        except OffRecordError:
            known = await self._recorded(context.call, arguments)
        if known.plan is None:
            raise ToolError(known.result)
        return known.plan

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        try:
            answer = await self._real.run(arguments, _sealed(context))
        except OffRecordError:
            answer = None
        known = await self._recorded(context.call, arguments)
        if not known.outcome and (answer is None or self._played.tape.cut):
            await end_of_record(self._played.tape)
        if answer is not None:
            return answer
        if known.outcome == "failed":
            raise ToolError(known.result)
        _, beside = self._played.tape.exchanges.latest(("answer", known.id), self._played.tape.exchanges.size)
        told = dict(beside) if isinstance(beside, Mapping) else {}
        if isinstance(taint := told.get("taint"), int):
            told["taint"] = Tier(taint)
        return ToolAnswer(known.result, evidence=known.evidence, **told)  # type: ignore[arg-type]

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return (await self._recorded(call.id, call.arguments)).happened

    async def _recorded(self, call: str, arguments: JsonObject) -> RecordedCall:
        found = self._played.results(ToolUse(call, self._real.spec.name, arguments))
        if found is None and self._played.tape.cut:
            await end_of_record(self._played.tape)  # the crash came before there was anything to put down
        if found is None:
            raise ToolError("this call is not on record, so nobody knows what it would have led to")
        return found


class _Plans:
    """What commands can be asked without running them."""

    def __init__(self, real: Commands) -> None:
        self._real = real

    async def run(self, plan: Plan, *, seconds: float) -> NoReturn:
        raise OffRecordError("a command was to be run")

    def reads_only(self, plan: Plan) -> bool:
        return self._real.reads_only(plan)

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        return self._real.scripts(plan)


def played_outside(real: Outside, played: Played) -> Outside:
    """Everything outside, played."""

    def place(one: Place) -> Place:
        return replace(one, repository=cast("Repository", PlayedRepository(played, one.workspace.name)))

    return replace(
        real,
        files=cast("Files", PlayedFiles(played)),
        sandbox=cast("Sandbox", Off()),
        places={name: place(one) for name, one in real.places.items()},
        checkouts=cast("Checkouts", PlayedCheckouts(played)),
        models=cast("ModelBook", PlayedModels(played)),
        author=cast("Authorship", _nobody),
    )


def played_seams(played: Played) -> Seams:
    """Seams that play the record."""

    async def evaluated(checks: Sequence[JsonObject], sight: Sight) -> tuple[JsonObject, ...]:
        if not checks:
            return ()
        known, found = played.tape.seen("checked", str(sight.root), mark(list(checks)))
        if not known or not isinstance(found, list):
            raise OffRecordError("what the checks saw is not on record")
        return tuple(each for each in found if isinstance(each, Mapping))

    return Seams(
        outside=lambda real: played_outside(real, played),
        asking=lambda real: cast("Asking", PlayedAsking(real, played)),
        tool=lambda real: cast("Tool", PlayedTool(real, played)),
        remembering=lambda real: cast("Hints", PlayedMemory(played)),
        handover=lambda real: cast("Handover", PlayedHandover(played)),
        evaluate=evaluated,
    )


async def _nobody() -> tuple[str, str]:
    return "nobody", "nobody@localhost"


def _sealed(context: ToolContext) -> ToolContext:
    return replace(
        context,
        files=cast("Files", Off()),
        git=cast("Git", _refuse_git),
        commands=cast("Commands", _Plans(context.commands)),
        background=None,
        memory=cast("RunMemory", Off()),
    )


async def _refuse_git(*arguments: str, **_given: object) -> NoReturn:
    raise OffRecordError(f"git was to be run: {arguments[:1]}")
