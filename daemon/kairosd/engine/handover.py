"""Handover: a run's work comes to the owner as an effect of its own, with an intent before and an outcome after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from kairosd.core.ids import mint
from kairosd.core.json import JsonObject
from kairosd.core.runs import Call, CallState, Run, call_hash
from kairosd.core.workspaces import Workspace
from kairosd.engine import direct
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.direct import DirectLanding
from kairosd.engine.guarding import Guard, listed
from kairosd.engine.landing import Landed, slugged
from kairosd.engine.terms import Terms
from kairosd.errors import CheckoutError, StoreError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Stores

LAND = "land"  # the ledger's name for the daemon's own effect
BEFORE = (CallState.REQUESTED, CallState.PARKED)  # the states in which nothing of a landing has happened
LANDING_TURN = 1_000_000  # sorts the landing after every turn of the model's


@frozen
class Handover:
    """Commits what is left in a checkout and lands it, under what `terms` say now. `author` yields (name, email)."""

    stores: Stores
    clock: Clock
    checkouts: Checkouts
    files: Files
    terms: Terms
    author: Callable[[], Awaitable[tuple[str, str]]]
    guard: Guard

    async def clear(self, run: Run, workspace: Workspace, *, subject: str) -> bool:
        """Whether what would land is less now than it was, since the owner did not allow some of it.

        Commits what is left in the checkout. Raises `Park` with the question about it, and `CheckoutError`.
        """
        call = await self._call(run, slugged(run.goal[:40]))
        if call.state not in BEFORE:
            return False  # it has begun to land: that was cleared
        # Not the call's own trailer, which finds a commit made before: after a question there may be more to commit.
        trailers = {"Assisted-by": f"Kairos (run {run.id})"}
        await self.checkouts.commit(run, workspace, message=subject, author=await self.author(), trailers=trailers)
        return await self.guard.clear(run, workspace, call=call)

    async def land(self, run: Run, workspace: Workspace) -> Landed:
        """Lands what was cleared; taken again after a crash it gives the same one result. Raises `CheckoutError`.

        It commits nothing: what a check's program has written since then was not cleared.
        """
        call = await self._call(run, slugged(run.goal[:40]))
        left = _left_out(await self.checkouts.nested(run, workspace))
        landed, call = await self._directly(run, workspace, call=call)
        if landed is None or landed.files == ():
            if call.state in BEFORE:
                call = await self._move(call, CallState.INTENDED)
            note = landed.note if landed else ""
            landed = await self.checkouts.land(run, workspace, slug=slugged(run.goal[:40]))
            landed = replace(landed, note=f"{note}\n{landed.note}".strip())
        landed = replace(landed, note=f"{landed.note}\n{await self.guard.left_out(call)}\n{left}".strip())
        if call.state is CallState.INTENDED:
            await self._move(replace(call, result=landed.how or "nothing to land"), CallState.SUCCEEDED)
        return landed

    async def _directly(self, run: Run, workspace: Workspace, *, call: Call) -> tuple[Landed | None, Call]:
        """Into the owner's own files, where that is wanted; a landing without files says in its note why it is not."""
        pieces = direct.from_plan(call.plan)
        how = f"it is in your files, not committed; kairos undo {run.id} takes it back"
        if call.state is CallState.SUCCEEDED:  # never written twice: the owner may have worked on it since
            return _direct(pieces or (), how) if call.result == how else None, call
        wanted = direct.wanted(run, workspace, level=self.terms.ceiling(run))
        if pieces is None and (call.state not in BEFORE or not wanted):
            return None, call
        landing = DirectLanding(self.files, self.stores.blobs, root=workspace.path)
        try:
            found = await self.checkouts.changes(run, workspace)
            if pieces is None:
                pieces = await landing.plan(found, self.terms.policy(run.workspace))
                call = await self._move(replace(call, plan=direct.to_plan(pieces)), CallState.INTENDED)
            await landing.apply(pieces, found.tree)
        except (CheckoutError, StoreError) as error:
            note = f"it could not be written into your files: {error}"
            rest = await landing.take_back(pieces or ())
            if rest:
                note += f"\nstill written there: {listed([piece.path for piece in rest])}; kairos undo takes it back"
            return Landed(note=note), replace(call, plan=direct.to_plan(rest) if rest else None)
        return _direct(pieces, how if pieces else ""), call

    async def _call(self, run: Run, slug: str) -> Call:
        for call in await self.stores.runs.calls(run.id):
            if call.tool == LAND and call.state is not CallState.FAILED:
                return call
        now = self.clock.now()
        arguments: JsonObject = {"slug": slug}
        call = Call(
            id=mint("c", now), run=run.id, turn=LANDING_TURN, position=0, tool=LAND, arguments=arguments,
            hash=call_hash(LAND, arguments), state=CallState.REQUESTED, requested_at=now, effect=True,
            rule="the level lets a run land",
        )  # fmt: skip
        await self.stores.runs.call(call, now)
        return call

    async def _move(self, call: Call, state: CallState) -> Call:
        return await self.stores.runs.move_call(call, state, now=self.clock.now())


def _direct(pieces: Sequence[direct.Piece], how: str) -> Landed:
    return Landed(files=tuple(piece.path for piece in pieces), how=how, direct=bool(pieces))


def _left_out(nested: Sequence[str]) -> str:
    return f"left out, since it is a git repository of its own: {listed(nested)}" if nested else ""
