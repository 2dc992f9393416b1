"""How a run ends: its work is committed, checked, landed and told. Every step can be taken again after a crash."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from kairosd.core.ids import mint
from kairosd.core.json import JsonObject
from kairosd.core.notices import Notice, NoticeDraft, Severity
from kairosd.core.runs import Approval, ApprovalState, ParkedOn, Run, RunState
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.checks import Sight, evaluate
from kairosd.engine.conversation import Conversation
from kairosd.engine.handover import Handover
from kairosd.engine.landing import Landed
from kairosd.engine.ledger import CODE_LETTERS, Park, question_notice
from kairosd.engine.purses import Wish
from kairosd.engine.repository import Place
from kairosd.engine.signals import Feed
from kairosd.errors import CheckoutError, ExecutorError, SandboxError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Finish, Stores, Update
from kairosd.prompts import text_of

log = logging.getLogger("kairosd.ending")

LANDED = "landed"  # the kind of the check that the daemon adds
# Kinds that show that something was done, or nothing undone; not that it is what was asked for.
SIGNS = frozenset({LANDED, "changed", "within", "added", "unbroken"})
SEEN = ("passed", "seen")  # what evaluating adds to a check
REPAIR = "repair"  # what a run has been told of once its failed checks have gone back to it
ESCALATED_MAX = 300  # characters
Checks = tuple[JsonObject, ...]


@frozen
class EndingDeps:
    """What ending a run takes. `expires` is how long a question stays open."""

    stores: Stores
    clock: Clock
    checkouts: Checkouts
    feed: Feed
    address: Callable[[NoticeDraft], Sequence[Notice]]
    handover: Handover
    expires: timedelta
    workspaces: Mapping[str, Workspace]
    evaluate: Callable[[Sequence[JsonObject], Sight], Awaitable[tuple[JsonObject, ...]]] = evaluate


class Ending:
    """Ends runs."""

    def __init__(self, deps: EndingDeps) -> None:
        self._d = deps
        self._stores = deps.stores
        self._clock = deps.clock
        self._checkouts = deps.checkouts

    async def check(self, run: Run, finish: Finish, *, sight: Sight) -> Checks:
        """What became of the checks of `finish`; after a repair also of those before it: less is not asked for then."""
        before = ({name: value for name, value in one.items() if name not in SEEN} for one in run.checks)
        wanted = [*finish.checks, *(one for one in before if one not in finish.checks)]
        return await self._d.evaluate(wanted, sight)

    async def give_back(self, talk: Conversation, run: Run, *, checks: Checks, to: str) -> Run | None:
        """Tells the run once what failed, so that it goes on with the model `to`; the run as it then is.

        None where nothing failed, or where it has been told before. A crash in between gives it back again.
        """
        failed = [check for check in checks if not check["passed"]]
        if not failed or REPAIR in talk.told:
            return None
        kinds = ", ".join(str(check.get("command") or check["kind"]) for check in failed)
        run = replace(run, checks=checks, escalated=f"{to} went on after failed checks: {kinds}"[:ESCALATED_MAX])
        await self._stores.runs.escalate(run, now=self._clock.now())
        told = text_of("repair").format(failed="\n".join(f"- {check['kind']}: {check['seen']}" for check in failed))
        await talk.drop_open()
        await talk.say(told, about=REPAIR)
        return run

    async def conclude(self, run: Run, place: Place, *, finish: Finish, checks: Checks, sight: Sight) -> None:
        """Lands what the run changed and sets its state from `checks` alone. Raises `CheckoutError`, and `Park`."""
        landed = None
        handover, workspace, subject = self._d.handover, place.workspace, _subject(run.goal)
        if run.base is not None and all(check["passed"] for check in checks):
            if await handover.clear(run, workspace, subject=subject):
                checks = await self.check(run, finish, sight=sight)  # what they saw is not what would land
            if all(check["passed"] for check in checks):
                landed = await handover.land(run, workspace)
        run = replace(run, result=finish.answer, checks=self._with_landing(checks, landed))
        if landed:
            patch = str(landed.patch) if landed.patch else None
            run = replace(run, branch=landed.branch, patch=patch, commit=landed.commit)
        how = f"{landed.how}\n{landed.note}".strip() if landed else ""
        await self._end(run, _state_of(run.checks), how=how)

    async def give_up(self, run: Run, state: RunState, *, reason: str) -> None:
        """Ends a run that did not reach its goal; its checkout stays for `[retention]`."""
        await self._end(replace(run, result=reason), state, how="")

    async def cancel(self, run: Run, *, reason: str) -> None:
        """Ends a run in the record alone, with no program: what it holds in the owner's repository goes later."""
        await self._write_end(replace(run, result=reason), RunState.CANCELLED, how="")

    def stuck(self, run: Run, reason: str) -> Park:
        """Asks the owner whether to try again what could not be done."""
        approval = self._question(
            run, f"{reason.rstrip('.')}. Try again?", bound=run.id, rule="the run cannot go on by itself"
        )
        return Park(ParkedOn.OWNER, approval, notices=self._d.address(question_notice(approval, run)))

    def short(self, run: Run, wish: Wish) -> Park:
        """Asks the owner for more than the run's purse holds."""
        approval = self._question(run, wish.question, bound=wish.bound, rule="its purse is empty")
        return Park(ParkedOn.PURSE, approval, notices=self._d.address(question_notice(approval, run)))

    def _question(self, run: Run, question: str, *, bound: str, rule: str) -> Approval:
        """A question about the run itself."""
        now = self._clock.now()
        return Approval(
            id=mint("a", now), code="".join(secrets.choice(CODE_LETTERS) for _ in range(5)), state=ApprovalState.OPEN,
            run=run.id, call="", workspace=run.workspace, hash=bound, question=question, rule=rule, created=now,
            expires=now + self._d.expires, guarded=False,
        )  # fmt: skip

    @staticmethod
    def _with_landing(checks: tuple[JsonObject, ...], landed: Landed | None) -> tuple[JsonObject, ...]:
        if landed is None or not landed.files:
            return checks
        seen = landed.branch or landed.patch or "your own files"
        return (*checks, {"kind": LANDED, "passed": True, "seen": f"{seen} ({', '.join(landed.files[:10])})"})

    async def _end(self, run: Run, state: RunState, *, how: str) -> None:
        await self._let_go(await self._write_end(run, state, how=how))

    async def _write_end(self, run: Run, state: RunState, *, how: str) -> Run:
        now = self._clock.now()
        ended = replace(run, state=state, ended=now)
        await self._stores.runs.end(ended, self._d.address(_notice_of(ended, how)), now=now)
        data: JsonObject = {
            "state": state.value, "answer": run.result, "price": run.price, "run": run.id, "branch": run.branch,
            "patch": run.patch, "how": how,
        }  # fmt: skip
        self._d.feed.publish(run.id, Update("ended", run.result, data))
        return ended

    async def _let_go(self, run: Run) -> None:
        workspace = self._d.workspaces.get(run.workspace)
        if run.base is None or workspace is None:
            return
        if run.state in (RunState.DONE, RunState.DONE_UNCHECKED):
            await self._checkouts.discard(run)
        try:
            await self._checkouts.drop_base(run, workspace)
        except (CheckoutError, SandboxError, ExecutorError) as error:
            # The run has ended all the same; engine/bases.py comes back for the name.
            log.warning("refs/kairos/base/%s stays in %s: %s", run.id, run.workspace, error)


def _subject(goal: str) -> str:
    line = goal.strip().splitlines()[0] if goal.strip() else "Work of Kairos"
    return line if len(line) <= 72 else f"{line[:71]}…"


def _state_of(checks: Sequence[JsonObject]) -> RunState:
    if not all(check["passed"] for check in checks):
        return RunState.FAILED
    # That it landed says that something was changed, not that it is what was asked for.
    asked = any(check["kind"] not in SIGNS for check in checks)
    return RunState.DONE if asked else RunState.DONE_UNCHECKED


def _notice_of(run: Run, how: str) -> NoticeDraft:
    """An owner's question was answered where it was asked: only its branch or its failure is worth a screen."""
    quiet = run.trigger == "owner" and run.state is not RunState.FAILED and not how
    failed = [f"- {check['kind']}: {check['seen']}" for check in run.checks if not check["passed"]]
    body = "\n".join([f"Goal: {run.goal}", "", run.result, *failed, *([f"\n{how}"] if how else [])])
    return NoticeDraft(
        key=f"run:{run.id}",
        title=f"{run.workspace}: {run.state.value.replace('_', ' ')} — {run.goal[:80]}",
        body=body,
        severity=Severity.LOW if quiet else Severity.NORMAL,
        cause=run.id,
        workspace=run.workspace,
    )
