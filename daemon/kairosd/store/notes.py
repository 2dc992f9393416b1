"""What each transition tells the journal.

Short texts only. What a stranger wrote and what a file holds stay out: an event's text goes in from tier `local` up,
a call's result when it is not the content of something that was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from kairosd.core.decisions import Decision
from kairosd.core.events import Event, Tier
from kairosd.core.journal import Note, stamp
from kairosd.core.json import Json
from kairosd.core.notices import Notice
from kairosd.core.runs import Approval, Call, CallState, Grant, Run
from kairosd.core.tasks import Task, TaskState

TEXT_MAX = 500  # characters


def short(text: str) -> str:
    """`text`, cut to what a journal line may carry."""
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def moment(value: datetime | None) -> str | None:
    """`value` as the journal writes it."""
    return None if value is None else stamp(value)


def received(event: Event, facts: Json) -> Note:
    """A new event with its `facts`, and with its text only where the owner or code of ours wrote it."""
    data: dict[str, Json] = {"source": event.source, "kind": event.kind, "key": event.key, "facts": facts}
    if event.delivery is not None:
        data["delivery"] = event.delivery
    if event.text and event.tier >= Tier.LOCAL:
        data["text"] = {name: short(value) for name, value in event.text.items()}
    return of_event("event.received", event, data=data)


def of_event(kind: str, event: Event, *, data: Mapping[str, Json]) -> Note:
    """Something that became of an event."""
    return Note(kind, event.id, event.decision or "", event.workspace or "", event.tier.label, data)


def asked(decision: Decision) -> Note:
    """A batch was claimed and the model is being asked."""
    data: dict[str, Json] = {"events": list(decision.events), "source": decision.source}
    return _of_decision("decision.asked", decision, data=data)


def made(decision: Decision) -> Note:
    """A verdict, whatever it is; also that none could be had."""
    data: dict[str, Json] = {
        "verdict": decision.verdict.value,
        "reason": short(decision.reason),
        "goal": short(decision.goal),
        "confidence": decision.confidence,
        "price": decision.price,
        "next_wake": moment(decision.next_wake),
        "shadow": decision.shadow,
        "events": list(decision.events),
        "run": decision.run,
        "model": decision.model,
    }
    if decision.escalated:
        data["escalated"] = short(decision.escalated)
    return _of_decision("decision.made", decision, data=data)


def _of_decision(kind: str, decision: Decision, *, data: Mapping[str, Json]) -> Note:
    cause = decision.events[0] if decision.events else ""
    return Note(kind, decision.id, cause, decision.workspace or "", decision.tier.label, data)


def of_run(kind: str, run: Run, *, data: Mapping[str, Json]) -> Note:
    """Something that became of a run."""
    return Note(kind, run.id, run.decision or "", run.workspace, run.taint.label, data)


def queued(run: Run) -> Note:
    """A run was decided, or asked for by the owner."""
    return of_run("run.queued", run, data={"goal": short(run.goal), "trigger": run.trigger, "level": run.level})


def ended(run: Run) -> Note:
    """A run ended: how, with what checks, and what it cost."""
    data: dict[str, Json] = {
        "state": run.state.value,
        "goal": short(run.goal),
        "result": short(run.result),
        "checks": list(run.checks),
        "turns": run.turns,
        "tokens": run.tokens,
        "price": run.price,
        "branch": run.branch,
        "patch": run.patch,
        "commit": run.commit,
    }
    if run.escalated:
        data["escalated"] = short(run.escalated)
    return of_run("run.ended", run, data=data)


def of_call(call: Call, workspace: str) -> Note:
    """Where a call now stands: `call.` and its state."""
    data: dict[str, Json] = {"tool": call.tool, "effect": call.effect, "turn": call.turn, "hash": call.hash}
    path = call.arguments.get("path")
    if isinstance(path, str):
        data["path"] = short(path)
    if call.rule:
        data["rule"] = short(call.rule)
    if call.effect or call.state is not CallState.SUCCEEDED:
        data["result"] = short(call.result)
    else:
        data["characters"] = len(call.result)
    return Note(f"call.{call.state.value}", call.id, call.run, workspace, data=data)


def of_approval(kind: str, approval: Approval) -> Note:
    """Something that became of a question to the owner."""
    data: dict[str, Json] = {
        "code": approval.code,
        "state": approval.state.value,
        "question": short(approval.question),
        "rule": short(approval.rule),
        "expires": moment(approval.expires),
        "channel": approval.channel,
    }
    return Note(f"approval.{kind}", approval.id, approval.call or approval.run, approval.workspace, data=data)


def of_grant(kind: str, grant: Grant, *, cause: str) -> Note:
    """Something that became of a standing grant."""
    data: dict[str, Json] = {
        "state": grant.state.value,
        "tool": short(grant.tool),
        "question": short(grant.question),
        "exact": grant.exact,
        "channel": grant.channel,
        "uses": grant.uses,
    }
    return Note(f"grant.{kind}", grant.id, cause, grant.workspace, grant.taint.label, data)


def of_task(task: Task) -> Note:
    """Where a task now stands: `task.started`, or `task.` and its state."""
    data: dict[str, Json] = {"run": task.run, "command": short(task.command), "output": task.output}
    if task.state is not TaskState.RUNNING:
        data |= {"code": task.code, "seconds": task.seconds, "timed_out": task.timed_out}
    kind = "started" if task.state is TaskState.RUNNING else task.state.value
    return Note(f"task.{kind}", task.id, task.call, task.workspace, task.tier.label, data)


def of_notice(notice: Notice) -> Note:
    """Where a notice now stands: `notice.` and its state."""
    data: dict[str, Json] = {
        "channel": notice.channel,
        "title": short(notice.title),
        "severity": notice.severity.label,
        "tries": notice.tries,
        "due": moment(notice.due),
    }
    for name, value in (("receipt", notice.receipt), ("error", notice.error)):
        if value:
            data[name] = short(value)
    return Note(f"notice.{notice.state.value}", notice.id, notice.cause or "", notice.workspace or "", data=data)
