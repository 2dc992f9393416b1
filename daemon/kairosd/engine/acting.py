"""Acting: makes the calls of one run, each through the ledger, in the run's checkout from the first change on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kairosd.core.events import Event
from kairosd.core.levels import Permission, Ruling
from kairosd.core.messages import ToolUse, UseBroken
from kairosd.core.notices import NoticeDraft
from kairosd.core.runs import Call, CallState, call_hash
from kairosd.core.triage import Triage
from kairosd.engine.checks import Sight
from kairosd.engine.circles import FIRST_TOLD, MAX_REPEATS, TOLD, Earlier, times_made
from kairosd.engine.commands import Ground, PlanRunner, changes, needs_checkout, signature, workspace_mounts
from kairosd.engine.conversation import OpenUse
from kairosd.engine.ledger import Settled
from kairosd.engine.patience import GaveUpError, Publish
from kairosd.engine.purses import NoRoom
from kairosd.engine.repository import Place
from kairosd.engine.tooling import Standing, Tooling
from kairosd.engine.turns import Made
from kairosd.errors import CheckoutError, ModelError, ToolError, UsageError
from kairosd.ports import Model, Mount, Outcome, Tool, ToolContext

REFUSALS_MAX = 8  # calls that the gate refuses in a row, without one that succeeds between them
CANCELLING = "shell"  # when it fails, what the same turn asked for after it is not made
# How the result of one begins that failed, or may have: after a restart nothing else is left to tell it by.
BAD_END = re.compile(r"\[exit (?!0\])|\[stopped after |unknown: ")


class Acting:
    """Makes calls for one run. `known` are those of the last turn that a restart or a question has left open.

    `stirred` says whether a call may have changed how the workspace stands since it was last asked.
    """

    def __init__(self, tooling: Tooling, place: Place, *, standing: Standing, publish: Publish) -> None:
        self._t = tooling
        self._place = place
        self._standing = standing
        self._publish = publish
        self.known: tuple[Call, ...] = ()
        self.stirred = False

    def is_alone(self, use: ToolUse | UseBroken) -> bool:
        tool = self._t.tools.get(use.name) if isinstance(use, ToolUse) else None
        return tool is not None and (tool.effect or tool.permission is not Permission.READ)

    async def make(self, item: OpenUse, *, turn: int, earlier: Earlier) -> Made:
        """What came of one call. Raises `GaveUpError`, `Park`, `CheckoutError` and what else stops a run."""
        use = item.use
        if isinstance(use, UseBroken):
            return Made(f"{use.name}: {use.problem}; send the arguments as one JSON object", error=True)
        if warning := self._repeats(use, earlier):
            return Made(warning, error=True)
        tool = self._t.tools.get(use.name)
        if tool is None:
            return Made(f"there is no tool {use.name}; there are: {', '.join(self._t.tools)}", error=True)
        self._publish("call", use.name, data={"tool": use.name, "arguments": dict(use.arguments)})
        call = self._known(item, turn) or await self._t.ledger.request(
            self._standing.run, turn, position=item.position, use=use, tool=tool
        )
        settled = await self._settle(call, tool)
        return await self._told(use, settled, tool=tool)

    async def _told(self, use: ToolUse, settled: Settled, *, tool: Tool) -> Made:
        answer = settled.answer
        if settled.look is not None:
            self._standing.owe(settled.look)
        self.stirred = self.stirred or (tool.effect and tool.permission is not Permission.NOTIFY)
        if answer.taint is not None:
            await self._standing.taint(answer.taint)
        self._publish("result", answer.text[:2000], data={"tool": use.name, "error": settled.error})
        if answer.sleep_seconds:
            await self._t.tasks.rest(self._standing.run.id, answer.sleep_seconds)
        failed = use.name == CANCELLING and (answer.failed or BAD_END.match(answer.text) is not None)
        made = Made(answer.text, settled.error, failed, evidence=answer.evidence, finish=answer.finish)
        if settled.error and (refused := refused_in_a_row(await self.calls())) >= REFUSALS_MAX:
            told = answer.text.splitlines()[0]
            reason = f"{refused} calls in a row were refused, the last one {use.name}: {told}"
            return replace(made, stop=GaveUpError(reason))
        return made

    def _known(self, item: OpenUse, turn: int) -> Call | None:
        """The row of a call that was begun before."""
        if not isinstance(item.use, ToolUse) or not self.known:
            return None
        mark = (turn, item.position, call_hash(item.use.name, item.use.arguments))
        return next((one for one in reversed(self.known) if (one.turn, one.position, one.hash) == mark), None)

    def _repeats(self, use: ToolUse, earlier: Earlier) -> str | None:
        """What to tell a model that asks for the same thing again and again. Raises `GaveUpError` when it is enough."""
        count = times_made(earlier, use, changes=self._changes)
        if count >= MAX_REPEATS:
            raise GaveUpError(f"the model asked for the same call {MAX_REPEATS} times: {use.name}")
        return TOLD if count >= FIRST_TOLD else None

    def _changes(self, use: ToolUse) -> bool:
        tool = self._t.tools.get(use.name)
        return tool is not None and changes(tool, use.arguments, workspace=self._place.workspace)

    async def _settle(self, call: Call, tool: Tool) -> Settled:
        """Brings a call to its end, in this run's checkout from the first call on that may need one."""
        run, workspace, ledger = self._standing.run, self._place.workspace, self._t.ledger
        if run.base is None and tool.permission is not Permission.READ and await self._needs_checkout(call, tool):
            # Judged before anything is made for it: what is denied must not fail for want of a checkout.
            known = await ledger.forestall(run, call, tool=tool, root=workspace.path, files=self._t.files)
            if isinstance(known, Settled):
                return known
            try:
                checkout = await self._t.checkouts.ensure(run, workspace)
            except CheckoutError as error:
                if known is not Ruling.ASK:
                    raise
                return await ledger.fail(call, f"not run: there can be no checkout to run it in: {error.message}")
            await self._standing.work_in(checkout.snapshot)
        return await ledger.settle(self._standing.run, call, tool=tool, context=await self._context(call))

    async def _needs_checkout(self, call: Call, tool: Tool) -> bool:
        level = self._t.ledger.gate.terms.ceiling(self._standing.run)
        workspace = self._place.workspace
        return await asyncio.to_thread(needs_checkout, tool, call.arguments, level=level, workspace=workspace)

    async def sight(self) -> Sight:
        """What this run sees: the workspace as it is, or its checkout."""
        run, place = self._standing.run, self._place
        if run.base is not None:
            checkout = await self._t.checkouts.ensure(run, place.workspace)
            root, git = checkout.path, self._t.checkouts.git(run, place.workspace)
        else:
            root, git = place.workspace.path, self._git
        return Sight(root, self._t.files, git, self._commands(root, await self._t.author()))

    async def _git(self, *arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
        """git on the workspace; where it keeps its parts is looked up when a call needs it, which few do."""
        return await self._place.repository.git()(*arguments, stdin=stdin, writable=writable)

    @property
    def _secrets(self) -> tuple[str, ...]:
        return self._t.ledger.gate.terms.policy(self._place.workspace.name).secret_paths

    async def _context(self, call: Call) -> ToolContext:
        sight = await self.sight()
        return ToolContext(
            run=self._standing.run, call=call.id, workspace=self._place.workspace, root=sight.root, files=sight.files,
            git=sight.git, commands=sight.commands, services=self, author=await self._t.author(),
            limit=_result_limit(self._t.model(self._standing.run)), hidden=self._secrets,
            background=self._t.tasks.of(self._standing.run), memory=self._t.remembering.of(self._standing.run),
        )  # fmt: skip

    def _commands(self, root: Path, author: tuple[str, str]) -> PlanRunner:
        run, workspace = self._standing.run, self._place.workspace

        def mounts(files: bool, history: bool) -> tuple[Mount, ...]:
            if run.base is None:
                return workspace_mounts(self._t.files, workspace)
            return self._t.checkouts.mounts(run, workspace, files=files, history=history)

        ground = Ground(
            workspace, root, mounts, self._secrets, signature(author, self._t.clock.now()),
            outlet=self._t.outlets.of(run),
        )  # fmt: skip
        return PlanRunner(self._t.sandbox, self._t.files, ground=ground)

    # What tools may ask of the daemon (ToolServices).

    async def read_event(self, event: str) -> Event:
        try:
            found = await self._t.stores.events.get(event)
        except UsageError as error:
            raise ToolError(str(error)) from error
        if found.workspace != self._place.workspace.name:
            raise ToolError(f"{event} belongs to another workspace")
        return found

    async def triage(self, event: Event) -> Triage | None:
        try:
            triage, cost = await self._t.quarantine.file(event, payer=self._standing.payer)
        except (ModelError, NoRoom) as error:
            raise ToolError(f"the text cannot be filed now: {error}", fix="go on without it") from error
        self._standing.pay(cost.tokens, cost.total)
        return triage

    async def notify(self, draft: NoticeDraft) -> None:
        run = self._standing.run
        await self._t.tell(replace(draft, cause=run.id, workspace=run.workspace))

    async def calls(self) -> Sequence[Call]:
        await self._standing.save()
        return await self._t.stores.runs.calls(self._standing.run.id)


def refused_in_a_row(calls: Sequence[Call]) -> int:
    """How many calls were refused since the last one that succeeded; one that failed counts neither way."""
    refused = 0
    for call in reversed(calls):
        if call.state is CallState.SUCCEEDED:
            break
        refused += call.state is CallState.DENIED
    return refused


def _result_limit(model: Model) -> int:
    """Characters of one tool result: an eighth of the window at four characters a token, so that several fit."""
    return max(1500, min(16_000, model.context // 2))
