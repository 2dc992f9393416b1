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
from kairosd.engine.direct import Change
from kairosd.engine.ledger import CODE_LETTERS, REFUSED, Park, Questions, question_notice
from kairosd.engine.terms import Terms
from kairosd.ports import Clock, Stores

SHOWN_MAX = 4000  # characters of the change in a question; `kairos runs ID` shows all of it
NAMED_MAX = 5
YES = (ApprovalState.APPROVED, ApprovalState.USED)
PLAIN, RUNNABLE, LINK = "100644", "100755", "120000"  # git's modes
RULE = "programs of the run changed what always asks, and no yes covers it"


@dataclass(frozen=True, slots=True)
class Guard:
    """Looks at what is about to land."""

    stores: Stores
    clock: Clock
    checkouts: Checkouts
    terms: Terms
    questions: Questions
    scrub: Scrubber

    async def clear(self, run: Run, workspace: Workspace, *, call: Call) -> bool:
        """Whether something was taken out of what the landing `call` would land, since the owner said no to it.

        All is committed. Raises `Park` with the question, and `CheckoutError`.
        """
        paths = await self._uncovered(run, workspace)
        if not paths:
            return await self._straighten(run, workspace)
        diff = await self.checkouts.diff_of(run, workspace, paths=paths)
        bound = digest({"paths": list(paths), "diff": diff})
        asked = await self.stores.approvals.of_call(call.id)
        if asked is not None and asked.state is ApprovalState.OPEN:
            raise Park(ParkedOn.APPROVAL, None)
        fits = asked is not None and asked.hash == bound
        if asked is not None and asked.state is ApprovalState.APPROVED:
            state = ApprovalState.USED if fits else ApprovalState.STALE
            await self.stores.approvals.move(asked.id, state, now=self.clock.now())
        if asked is not None and fits and asked.state in REFUSED:
            await self.checkouts.take_out(run, workspace, paths=paths)
            return True
        if asked is not None and fits and asked.state in YES:
            return await self._straighten(run, workspace)
        shown = await asyncio.to_thread(self._shown, diff, run)  # megabytes take seconds
        raise self._question(run, call, paths=paths, shown=shown, bound=bound)

    async def _straighten(self, run: Run, workspace: Workspace) -> bool:
        """Makes one commit of all where one on the way holds what the last does not. Nothing is less for it: False."""
        protected = self.terms.policy(run.workspace).protected_paths
        last: dict[str, tuple[str, str]] = {}
        for one in await self.checkouts.passed(run, workspace):
            held = (one.new_mode, one.new_blob)
            if matches(one.path, protected) and last.setdefault(one.path, held) != held:
                await self.checkouts.take_out(run, workspace, paths=())
                break
        return False

    async def left_out(self, call: Call) -> str:
        """What a landing says of that, "" when nothing was taken out of it."""
        asked = await self.stores.approvals.of_call(call.id)
        return f"left out, since you did not allow it: {asked.effect}" if asked and asked.state in REFUSED else ""

    async def _uncovered(self, run: Run, workspace: Workspace) -> tuple[str, ...]:
        """The protected paths that are not as a tool left them; every tool has asked about those it wrote."""
        protected = self.terms.policy(run.workspace).protected_paths
        changed = await self.checkouts.changed(run, workspace)
        guarded = [one for one in changed if matches(one.path, protected) or _stands_in(one, protected)]
        if not guarded:
            return ()
        plans = [
            one.plan for one in await self.stores.runs.calls(run.id) if one.state is CallState.SUCCEEDED and one.plan
        ]
        covered = {(plan.get("path"), plan.get("after")) for plan in plans}
        plain = [one.path for one in guarded if one.new_mode == PLAIN or one.new_mode == one.old_mode == RUNNABLE]
        now = await self.checkouts.digests(run, workspace, paths=plain)
        return tuple(one.path for one in guarded if (one.path, now.get(one.path, "")) not in covered)

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


def _stands_in(change: Change, protected: Sequence[str]) -> bool:
    """Whether it is a link in the place of a folder that protected files are looked for in."""
    below = [glob.split("/") for glob in protected if not glob.startswith("**")]
    folders = {"/".join(parts[:end]) for parts in below for end in range(1, len(parts))}
    return change.new_mode == LINK and matches(change.path, folders)


def listed(paths: Sequence[str]) -> str:
    """Paths as a sentence names them: escaped, the first few of many."""
    shown = ", ".join(" ".join(escaped(path).split()) for path in paths[:NAMED_MAX])
    return shown + (f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else "")
