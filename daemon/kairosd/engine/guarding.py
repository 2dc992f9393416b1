"""Guarding: protected paths that a run's programs have changed by themselves land after the owner's yes only.

The yes to a tool covers what the tool wrote. What differs from that, or was written by no tool, is asked about once,
with the change shown, before anything lands. After a no the rest lands without it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from kairosd.core.ids import mint
from kairosd.core.json import digest
from kairosd.core.paths import matches
from kairosd.core.questions import escaped
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, ParkedOn, Run
from kairosd.core.secrets import Scrubber
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.ledger import CODE_LETTERS, REFUSED, Park, Questions, question_notice
from kairosd.engine.terms import Terms
from kairosd.ports import Clock, Files, Stores

SHOWN_MAX = 4000  # characters of the change in a question; `kairos runs ID` shows all of it
NAMED_MAX = 5
RULE = "programs of the run changed what always asks, and no yes covers it"


@dataclass(frozen=True, slots=True)
class Guard:
    """Looks at what is about to land."""

    stores: Stores
    clock: Clock
    checkouts: Checkouts
    files: Files
    terms: Terms
    questions: Questions
    scrub: Scrubber

    async def clear(self, run: Run, workspace: Workspace, *, call: Call) -> bool:
        """Whether something was taken out of what the landing `call` would land, since the owner said no to it.

        All is committed. Raises `Park` with the question, and `CheckoutError`.
        """
        if call.state not in (CallState.REQUESTED, CallState.PARKED):
            return False  # it has begun to land: that was cleared
        paths = await self._uncovered(run, workspace)
        if not paths:
            return False
        diff = await self.checkouts.diff_of(run, workspace, paths=paths)
        bound = digest({"paths": list(paths), "diff": diff})
        asked = await self.stores.approvals.of_call(call.id)
        if asked is not None and asked.state is ApprovalState.OPEN:
            raise Park(ParkedOn.APPROVAL, None)
        fits = asked is not None and asked.hash == bound
        if asked is not None and asked.state is ApprovalState.APPROVED:
            state = ApprovalState.USED if fits else ApprovalState.STALE
            await self.stores.approvals.move(asked.id, state, now=self.clock.now())
        if asked is None or not fits or asked.state is ApprovalState.STALE:
            raise self._question(run, call, paths=paths, shown=self._shown(diff, run), bound=bound)
        if asked.state in REFUSED:
            await self.checkouts.take_out(run, workspace, paths=paths)
            return True
        return False

    async def left_out(self, call: Call) -> str:
        """What a landing says of that, "" when nothing was taken out of it."""
        asked = await self.stores.approvals.of_call(call.id)
        return f"left out, since you did not allow it: {asked.effect}" if asked and asked.state in REFUSED else ""

    async def _uncovered(self, run: Run, workspace: Workspace) -> tuple[str, ...]:
        """The protected paths that are not as a tool left them; every tool has asked about those it wrote."""
        protected = self.terms.policy(run.workspace).protected_paths
        changed = await self.checkouts.changed(run, workspace)
        guarded = [path for path in changed if matches(path, protected)]
        if not guarded:
            return ()
        plans = [
            one.plan for one in await self.stores.runs.calls(run.id) if one.state is CallState.SUCCEEDED and one.plan
        ]
        covered = {(plan.get("path"), plan.get("after")) for plan in plans}
        tree = (await self.checkouts.ensure(run, workspace)).path
        now = await asyncio.to_thread(lambda: {path: self.files.digest(tree, path) for path in guarded})
        return tuple(path for path in guarded if now[path] is None or (path, now[path]) not in covered)

    def _question(self, run: Run, call: Call, *, paths: Sequence[str], shown: str, bound: str) -> Park:
        now = self.clock.now()
        approval = Approval(
            id=mint("a", now), code="".join(secrets.choice(CODE_LETTERS) for _ in range(5)), state=ApprovalState.OPEN,
            run=run.id, call=call.id, workspace=run.workspace, hash=bound,
            question=f"land with {listed(paths)}?\n{shown}", rule=RULE, created=now,
            expires=now + self.questions.expires, effect=f"changes {listed(paths)}", guarded=True,
        )  # fmt: skip
        return Park(ParkedOn.APPROVAL, approval, notices=self.questions.address(question_notice(approval, run)))

    def _shown(self, diff: str, run: Run) -> str:
        """The change line by line, without secrets, every invisible character as an escape."""
        text = "\n".join(escaped(line) for line in self.scrub(diff).text.split("\n"))
        return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}\n(the change goes on: kairos runs {run.id})"


def listed(paths: Sequence[str]) -> str:
    """Paths as a sentence names them: escaped, the first few of many."""
    shown = ", ".join(" ".join(escaped(path).split()) for path in paths[:NAMED_MAX])
    return shown + (f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else "")
