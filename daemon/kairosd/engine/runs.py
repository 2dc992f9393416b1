"""Runs: one execution of a decided goal. The loop is `Worker.drive`; everything it needs to go on is on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kairosd.core.levels import Level, Opinion
from kairosd.core.messages import Prompt, Usage
from kairosd.core.runs import Call, ParkedOn, Run, RunState
from kairosd.engine.acting import Acting
from kairosd.engine.asking import Reply
from kairosd.engine.compactor import Compactor
from kairosd.engine.conversation import Conversation, turn_entry
from kairosd.engine.ending import REPAIR
from kairosd.engine.guide import Guide, Hidden
from kairosd.engine.instructions import is_trusted
from kairosd.engine.ledger import Park
from kairosd.engine.limits import Meter
from kairosd.engine.patience import CutAnswerError, GaveUpError, Hearer, Patience, SwitchError
from kairosd.engine.prompting import Prompting
from kairosd.engine.purses import NoRoom, payer_of
from kairosd.engine.repository import Place
from kairosd.engine.terms import broken_notice
from kairosd.engine.tooling import Standing, Tooling
from kairosd.engine.turns import Turn
from kairosd.engine.vouching import objection, without_unfounded
from kairosd.errors import CheckoutError, ExecutorError, ModelRefusedError, SandboxError, StoreError, ToolError
from kairosd.ports import Finish, Model, Update

log = logging.getLogger("kairosd.runs")

EVIDENCE_SHOWN = 5  # lines below an answer
OBJECTION = "objection"  # what a run has been told of once its answer has gone back to it
CUT_OFF = "[kairos] That was cut: it was longer than an answer may be. Go on with a call, or finish in fewer words."
OWN_TURN = Reply("", (), "tool_use", Usage(), price=0)  # a turn that no model was asked for


class Worker:
    """Carries one run from `running` to an end or to a question."""

    def __init__(self, tooling: Tooling, place: Place, *, run: Run) -> None:
        self._t = tooling
        self._place = place
        self._standing = Standing(tooling.stores.runs, run, payer=payer_of(run, ()), outlets=tooling.outlets)
        self._meter = Meter(tooling.limits, tooling.clock, run=run)
        self._patience = Patience(
            tooling.asking, tooling.clock, publish=self._publish, model=self._model, paid=self._standing.pay
        )
        self._compactor = Compactor(tooling.tools, ask=self._patiently, paid=self._pay)
        self._prompting = Prompting(tooling, place)
        self._acting = Acting(tooling, place, standing=self._standing, publish=self._publish)
        terms = tooling.ledger.gate.terms
        self._guide = Guide(
            run.goal, tooling.files, workspace=place.workspace.path, commands=terms.ceiling(run) >= Level.SANDBOXED,
            hidden=Hidden(terms.policy(run.workspace).secret_paths, tooling.ledger.scrub),
        )  # fmt: skip

    @property
    def run(self) -> Run:
        """The run as it stands."""
        return self._standing.run

    async def drive(self) -> None:
        """The loop: answer what is open, else ask the model, until somebody says it is through."""
        try:
            talk = await self._begin()
            while not await self._ended(talk):
                await self._standing.catch_up()
                self._standing.run, enough = self._meter.read(self.run)
                if talk.open_uses:
                    await self._resume(talk)
                elif enough:
                    return await self._t.give_up(self.run, RunState.OVER_BUDGET, reason=enough)
                elif not await self._guided(talk, model := self._model()):
                    await self._turn(talk, model)
        except Park as park:
            await self._park(park)
        except NoRoom as refused:
            await self._park(self._t.ending.short(self.run, self._t.asking.purses.wish(self.run, refused.breach)))
        except (GaveUpError, ModelRefusedError) as reason:
            await self._t.give_up(self.run, RunState.FAILED, reason=str(reason))
        except (CheckoutError, SandboxError, ExecutorError) as error:
            await self._park(self._t.ending.stuck(self.run, str(error)))

    async def _begin(self) -> Conversation:
        """The conversation as it was left; what was asked in a turn that never ended counts as that turn."""
        talk = await Conversation.load(self._t.stores.transcripts, self.run.id)
        await self.read_terms()
        self._standing.payer = payer_of(self.run, await self._t.stores.approvals.of_run(self.run.id))
        if not talk.messages:
            await talk.open(f"Goal: {self.run.goal}", tool_set=self._prompting.tool_set(self.run))
        if talk.torn is not None:
            await talk.add(turn_entry(talk.torn, ""))
        self._standing.count_turns(talk.turn)
        return talk

    def _model(self) -> Model:
        return self._t.model(self.run)

    async def _ended(self, talk: Conversation) -> bool:
        """Ends the run where it has finished, unless it has news, or failed checks that it may still mend."""
        if talk.finish is None or await self._t.news.tell_ends(talk, self.run):
            return False
        await self._standing.catch_up()
        await talk.sync()
        sight, vouched = await self._acting.sight(), await self._vouched(talk, talk.finish)
        if vouched is None:
            return False
        finish = with_evidence(vouched, talk.evidence)
        checks = await self._t.ending.check(self.run, finish, sight=sight)
        self._standing.run, enough = self._meter.read(self.run)
        if enough is None:
            to = self._t.model(replace(self.run, escalated=REPAIR)).name
            again = await self._t.ending.give_back(talk, self.run, checks=checks, to=to)
            if again is not None:
                self._standing.run = again
                return False
        await self._t.ending.conclude(self.run, self._place, finish=finish, checks=checks, sight=sight)
        return True

    async def _turn(self, talk: Conversation, model: Model) -> None:
        """Asks the model, and has its calls made while it still talks."""
        self._standing.run = await self._t.news.tell(talk, self.run)
        base = self.run.base
        more = await self._guide.remaining(talk, await self._acting.sight(), base=base) if model.by_schema else ""
        await self._prompting.digest(talk, self.run, stirred=self._acting.stirred, more=more)
        self._acting.stirred = False
        prompt = await self._prompting.prompt(talk, self.run, model=model)
        if model.by_schema:
            prompt = await self._guide.narrow(prompt, talk, sight=await self._acting.sight(), base=base)
        async with Turn(talk, self._acting, publish=self._publish).calling() as turn:
            turn.do_beside(self._put_by(talk))
            try:
                reply = await self._compactor.turn(talk, prompt, model=model, listener=turn)
            except (CutAnswerError, SwitchError):
                if not turn.begun:
                    return  # it is made again, for the other model's window
                reply = turn.cut()
            self._pay(reply)
            turn.do_beside(self._prompting.prepare(talk))
            await self._record(talk, turn, reply=reply, model=model.model)
        await self._unended(talk, reply)

    async def _put_by(self, talk: Conversation) -> None:
        """The row goes with the next reservation; the transcript follows, or the request would wait for both.

        What the disk refuses costs no request that is under way. The row is then stored before the next prompt, the
        transcript before the next effect.
        """
        try:
            await self._standing.save()
            await talk.sync()
        except StoreError as error:
            log.warning("what %s has done is not stored yet: %s", self.run.id, error)

    async def _unended(self, talk: Conversation, reply: Reply) -> None:
        """Words without a call are an answer, unless the model was cut off in them or refuses. Raises `GaveUpError`."""
        if talk.open_uses or reply.uses:
            return
        if reply.stop == "length":
            await talk.say(CUT_OFF, about=f"cut:{talk.turn}")
        elif reply.stop == "refusal":
            raise GaveUpError(f"the model refuses: {reply.text or 'it gave no reason'}")

    async def _guided(self, talk: Conversation, model: Model) -> bool:
        """Makes the call that the daemon makes by itself for a model that is held to a schema, if there is one now."""
        if not model.by_schema:
            return False
        use = await self._guide.next_call(talk, await self._acting.sight(), base=self.run.base)
        if use is None:
            return False
        async with Turn(talk, self._acting, publish=self._publish).calling() as turn:
            turn.do_beside(self._put_by(talk))
            turn.use(use)
            await self._record(talk, turn, reply=OWN_TURN, model="kairos")
        return True

    async def _vouched(self, talk: Conversation, finish: Finish) -> Finish | None:
        """`finish`, for a small model with the daemon's own checks; None where it went back. Raises `GaveUpError`."""
        if not self._model().by_schema:
            return finish
        if wrong := objection(finish, talk, aim=self._guide.aim):
            if self._guide.aim.note:
                raise GaveUpError(wrong)
            held = without_unfounded(finish, talk, aim=self._guide.aim)
            if held is None and OBJECTION not in talk.told:
                await talk.say(f"[kairos] {wrong}. Look, and answer with what you saw.", about=OBJECTION)
                return None
            if held is None:
                raise GaveUpError(f"{wrong}. The answer was: {finish.answer}")
            finish = held
        return await self._guide.checked(finish, talk, base=self.run.base)

    async def _resume(self, talk: Conversation) -> None:
        """Carries on with the calls of a turn that a restart or a question has cut short."""
        self._acting.known = tuple(await self._acting.calls())
        async with Turn(talk, self._acting, publish=self._publish).calling() as turn:
            turn.resume()
            await self._record(talk, turn, reply=None, model="")

    async def _record(self, talk: Conversation, turn: Turn, *, reply: Reply | None, model: str) -> None:
        try:
            await turn.record(reply, model)
        finally:
            self._standing.count_turns(talk.turn)
            if turn.fruitful:
                self._meter.progress(self.run)

    def _pay(self, reply: Reply) -> None:
        self._standing.pay(reply.tokens, reply.price)

    async def _patiently(self, model: Model, prompt: Prompt, *, role: str, listener: Hearer | None = None) -> Reply:
        return await self._patience.ask(model, prompt, payer=self._standing.payer, role=role, listener=listener)

    async def read_terms(self) -> None:
        """The workspace's own policy file, as it is now; the owner is told once of one that is broken."""
        workspace = self._place.workspace
        world = await self._t.stores.worlds.get(workspace.name)
        trusted = is_trusted(workspace, world.trusted_hashes if world else "")
        found = await self._t.ledger.gate.terms.look(self._t.files, workspace, trusted=trusted)
        if found.policy.doubt:
            await self._t.tell(broken_notice(workspace.name, found))

    async def review(self, call: Call) -> Opinion | None:
        """What the gate says now of a call that waits for the owner; None where that cannot be told."""
        tool = self._t.tools.get(call.tool)
        if tool is None:
            return None
        await self.read_terms()
        try:
            # Judged where the files are now: what is only in a checkout is judged again when the run goes on.
            root = self._place.workspace.path
            return await self._t.ledger.judge(self.run, call, tool=tool, root=root, files=self._t.files)
        except ToolError:
            return None

    async def _park(self, park: Park) -> None:
        await self._standing.catch_up()
        if self.run.base and park.on is not ParkedOn.OWNER:
            try:
                await self._t.checkouts.keep_base(self.run, self._place.workspace)
            except (CheckoutError, SandboxError, ExecutorError) as error:
                # Without it the owner's gc may prune the base before the run goes on: it then asks to begin again.
                log.warning("the base of %s is not kept: %s", self.run.id, error)
        await self._t.stores.runs.park(
            self.run, park.on, approval=park.approval, notices=park.notices, now=self._t.clock.now()
        )
        code = park.approval.code if park.approval else None
        question = park.approval.question if park.approval else ""
        self._publish("parked", question, data={"state": "parked", "code": code, "answer": question})

    def _publish(self, kind: str, text: str, *, data: Mapping[str, object]) -> None:
        self._t.feed.publish(self.run.id, Update(kind, text, data))  # type: ignore[arg-type]


def with_evidence(finish: Finish, evidence: Sequence[str]) -> Finish:
    """The answer with what it rests on: the facts are code's own, so a small model's summary can be checked."""
    if not evidence:
        return finish
    seen = "\n".join(f"- {line}" for line in evidence[-EVIDENCE_SHOWN:])
    return replace(finish, answer=f"{finish.answer}\n\nLooked at:\n{seen}")
