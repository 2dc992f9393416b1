"""Handover: a run's work comes to the owner as an effect of its own, with an intent before and an outcome after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from kairosd.core.ids import mint
from kairosd.core.json import JsonObject
from kairosd.core.policy import Policy
from kairosd.core.runs import Call, CallState, Run, call_hash
from kairosd.core.workspaces import Workspace
from kairosd.engine import direct
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.direct import DirectLanding
from kairosd.engine.landing import Landed, slugged
from kairosd.errors import CheckoutError, StoreError
from kairosd.ports import Clock, Files, Stores

LAND = "land"  # the ledger's name for the daemon's own effect
LANDING_TURN = 1_000_000  # sorts the landing after every turn of the model's


@dataclass(frozen=True, slots=True)
class Handover:
    """Commits what is left in a checkout and lands it. `author` yields (name, email)."""

    stores: Stores
    clock: Clock
    checkouts: Checkouts
    files: Files
    policy: Policy
    author: Callable[[], Awaitable[tuple[str, str]]]

    async def land(self, run: Run, workspace: Workspace, *, subject: str) -> Landed:
        """Lands; taken again after a crash it gives the same one result. Raises `CheckoutError`."""
        slug = slugged(run.goal[:40])
        call = await self._call(run, slug)
        trailers = {"Kairos-Call": call.id, "Assisted-by": f"Kairos (run {run.id})"}
        await self.checkouts.commit(run, workspace, message=subject, author=await self.author(), trailers=trailers)
        landed, call = await self._directly(run, workspace, call=call)
        if landed is None or landed.files == ():
            if call.state is CallState.REQUESTED:
                call = await self._move(call, CallState.INTENDED)
            note = landed.note if landed else ""
            landed = await self.checkouts.land(run, workspace, slug=slug)
            landed = replace(landed, note=f"{note}\n{landed.note}".strip())
        if call.state is CallState.INTENDED:
            await self._move(replace(call, result=landed.how or "nothing to land"), CallState.SUCCEEDED)
        return landed

    async def _directly(self, run: Run, workspace: Workspace, *, call: Call) -> tuple[Landed | None, Call]:
        """Into the owner's own files, where that is wanted; a landing without files says in its note why it is not."""
        pieces = direct.from_plan(call.plan)
        if pieces is None and (call.state is not CallState.REQUESTED or not direct.wanted(run, workspace)):
            return None, call
        landing = DirectLanding(self.files, self.stores.blobs, root=workspace.path)
        try:
            found = await self.checkouts.changes(run, workspace)
            if pieces is None:
                pieces = await landing.plan(found, self.policy)
                call = await self._move(replace(call, plan=direct.to_plan(pieces)), CallState.INTENDED)
            await landing.apply(pieces, found.tree)
        except (CheckoutError, StoreError) as error:
            return Landed(note=f"it could not be written into your files: {error}"), call
        paths = tuple(piece.path for piece in pieces)
        how = f"it is in your files, not committed; kairos undo {run.id} takes it back" if paths else ""
        return Landed(files=paths, how=how, direct=bool(paths)), call

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
