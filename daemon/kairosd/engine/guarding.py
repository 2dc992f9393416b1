"""Guarding: protected paths that a run's programs have changed by themselves land after the owner's yes only.

The yes to a tool covers what the tool wrote. What differs from that, or was written by no tool, is asked about once,
with the change shown, before anything lands. After a no the rest lands without it, whatever is written there later: a
yes is to the change that was shown, a no to the path.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace

from kairosd.core.ids import mint
from kairosd.core.json import JsonObject, digest
from kairosd.core.paths import matches
from kairosd.core.questions import escaped
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, ParkedOn, Run
from kairosd.core.secrets import Scrubber
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.direct import Change
from kairosd.engine.ledger import CODE_LETTERS, REFUSED, Park, Questions, question_notice
from kairosd.engine.terms import Terms
from kairosd.frozen import frozen
from kairosd.ports import Clock, Stores

SHOWN_MAX = 4000  # characters of the change in a question; `kairos runs ID` shows all of it
NAMED_MAX = 5
YES = (ApprovalState.APPROVED, ApprovalState.USED)
PLAIN, RUNNABLE, LINK = "100644", "100755", "120000"  # git's modes
# Of a landing's plan: its last question, the paths that this is about, and those that were refused before.
BY, ASKED, OUT = "question", "asked", "out"
RULE = "programs of the run changed what always asks, and no yes covers it"


@frozen
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
        asked = await self.stores.approvals.of_call(call.id)
        if asked is not None and asked.state is ApprovalState.OPEN:
            raise Park(ParkedOn.APPROVAL, None)
        refused = _refused(call, asked)
        out, rest = (tuple(path for path in paths if (path in refused) is known) for known in (True, False))
        if rest:
            await self._permit(run, workspace, call=call, asked=asked, paths=rest)
        if out:
            await self.checkouts.take_out(run, workspace, paths=out)
            return True
        return await self._straighten(run, workspace)

    async def _permit(
        self, run: Run, workspace: Workspace, *, call: Call, asked: Approval | None, paths: Sequence[str]
    ) -> None:
        """Spends the owner's yes to just this change of the paths. Raises `Park` where there is none."""
        diff = await self.checkouts.diff_of(run, workspace, paths=paths)
        bound = digest({"paths": list(paths), "diff": diff})
        fits = asked is not None and asked.hash == bound
        if asked is not None and asked.state is ApprovalState.APPROVED:
            state = ApprovalState.USED if fits else ApprovalState.STALE
            await self.stores.approvals.move(asked.id, state, now=self.clock.now())
        if asked is not None and fits and asked.state in YES:
            return
        shown = await asyncio.to_thread(self._shown, diff, run)  # megabytes take seconds
        question, now = self._question(run, call, paths=paths, shown=shown, bound=bound), self.clock.now()
        if call.state is CallState.PARKED:
            call = await self.stores.runs.move_call(call, CallState.REQUESTED, now=now)
        plan: JsonObject = {BY: question.id, ASKED: list(paths), OUT: sorted(_refused(call, asked))}
        await self.stores.runs.move_call(replace(call, plan=plan, rule=RULE), CallState.PARKED, now=now)
        notices = self.questions.address(question_notice(question, run))
        raise Park(ParkedOn.APPROVAL, question, notices=notices)

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
        asked = [one for one in await self.stores.approvals.of_run(call.run) if one.call == call.id]
        effects = dict.fromkeys(one.effect for one in reversed(asked) if one.state in REFUSED)
        return f"left out, since you did not allow it: {'; '.join(effects)}" if effects else ""

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

    def _question(self, run: Run, call: Call, *, paths: Sequence[str], shown: str, bound: str) -> Approval:
        now = self.clock.now()
        return Approval(
            id=mint("a", now), code="".join(secrets.choice(CODE_LETTERS) for _ in range(5)), state=ApprovalState.OPEN,
            run=run.id, call=call.id, workspace=run.workspace, hash=bound,
            question=f"land with {listed(paths)}?\n{shown}", rule=RULE, created=now,
            expires=now + self.questions.expires, effect=f"changes {listed(paths)}", guarded=True,
        )  # fmt: skip

    def _shown(self, diff: str, run: Run) -> str:
        """The change line by line, without secrets, every invisible character as an escape."""
        text = "\n".join(escaped(line) for line in self.scrub(diff).text.split("\n"))
        return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}\n(the change goes on: kairos runs {run.id})"


def _refused(call: Call, asked: Approval | None) -> set[str]:
    """The paths that the owner has said no to, by the answer to the last question of the landing or to one before."""
    plan = call.plan or {}
    answered = asked is not None and asked.id == plan.get(BY) and asked.state in REFUSED
    named = [plan.get(OUT), plan.get(ASKED) if answered else None]
    return {path for paths in named if isinstance(paths, (list, tuple)) for path in paths if isinstance(path, str)}


def _stands_in(change: Change, protected: Sequence[str]) -> bool:
    """Whether it is a link in the place of a folder that protected files are looked for in."""
    below = [glob.split("/") for glob in protected if not glob.startswith("**")]
    folders = {"/".join(parts[:end]) for parts in below for end in range(1, len(parts))}
    return change.new_mode == LINK and matches(change.path, folders)


def listed(paths: Sequence[str]) -> str:
    """Paths as a sentence names them: escaped, the first few of many."""
    shown = ", ".join(" ".join(escaped(path).split()) for path in paths[:NAMED_MAX])
    return shown + (f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else "")
