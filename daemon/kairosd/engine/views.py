"""Rows as the owner's tools see them, in the shapes of design §12. Times are ISO in UTC, prices micro-dollars."""

from __future__ import annotations

from datetime import datetime

from kairosd.core.decisions import Decision
from kairosd.core.events import Event
from kairosd.core.json import JsonObject
from kairosd.core.notices import Notice
from kairosd.core.ratings import Calibration
from kairosd.core.runs import Approval, Call, Grant, Run
from kairosd.core.tasks import Task
from kairosd.ports import Spending

TEXT_SHOWN = 2000


def event_view(event: Event) -> JsonObject:
    """`id source kind key delivery tier workspace received_at state tries decision`, with facts and text."""
    return {
        "id": event.id, "source": event.source, "kind": event.kind, "key": event.key, "delivery": event.delivery,
        "tier": event.tier.label, "workspace": event.workspace, "received_at": iso(event.received_at),
        "state": event.state.value, "tries": event.tries, "decision": event.decision, "error": event.error,
        "facts": event.facts, "text": {name: value[:TEXT_SHOWN] for name, value in event.text.items()},
    }  # fmt: skip


def decision_view(decision: Decision) -> JsonObject:
    """`id verdict reason goal confidence price next_wake events run`, with when and where."""
    return {
        "id": decision.id, "verdict": decision.verdict.value, "reason": decision.reason, "goal": decision.goal,
        "confidence": decision.confidence, "price": decision.price, "next_wake": iso(decision.next_wake),
        "events": list(decision.events), "run": decision.run, "notice": decision.notice,
        "workspace": decision.workspace, "tier": decision.tier.label, "shadow": decision.shadow,
        "at": iso(decision.asked_at), "source": decision.source, "model": decision.model,
        "escalated": decision.escalated,
    }  # fmt: skip


def run_view(run: Run, undone: str | None = None) -> JsonObject:
    """`id state goal workspace trigger level taint turns tokens price started ended result checks branch`.

    `undone` is when it was taken back.
    """
    return {
        "id": run.id, "state": run.state.value, "goal": run.goal, "workspace": run.workspace, "trigger": run.trigger,
        "level": run.level, "taint": run.taint.label, "turns": run.turns, "tokens": run.tokens, "price": run.price,
        "created": iso(run.created), "started": iso(run.started), "ended": iso(run.ended), "result": run.result,
        "checks": list(run.checks), "branch": run.branch, "patch": run.patch, "commit": run.commit,
        "decision": run.decision, "parked_on": run.parked_on.value if run.parked_on else None,
        "escalated": run.escalated, "undone": undone,
    }  # fmt: skip


def call_view(call: Call) -> JsonObject:
    """One tool call with its outcome."""
    return {
        "id": call.id, "run": call.run, "turn": call.turn, "tool": call.tool, "arguments": call.arguments,
        "state": call.state.value, "effect": call.effect, "rule": call.rule, "result": call.result[:TEXT_SHOWN],
        "requested_at": iso(call.requested_at), "ended_at": iso(call.ended_at),
    }  # fmt: skip


def task_view(task: Task) -> JsonObject:
    """One command in the background; `seconds` is how long it took."""
    return {
        "id": task.id, "state": task.state.value, "run": task.run, "call": task.call, "workspace": task.workspace,
        "command": task.command[:TEXT_SHOWN], "code": task.code, "seconds": task.seconds, "timed_out": task.timed_out,
        "output": task.output, "created": iso(task.created), "ended": iso(task.ended),
    }  # fmt: skip


def approval_view(approval: Approval, run: Run) -> JsonObject:
    """One question to the owner, with what it is for and what its run has cost."""
    return {
        "id": approval.id, "code": approval.code, "state": approval.state.value, "run": approval.run,
        "call": approval.call or None, "workspace": approval.workspace, "question": approval.question,
        "effect": approval.effect or None, "rule": approval.rule, "goal": run.goal, "price": run.price,
        "always": bool(approval.exact), "created": iso(approval.created), "expires": iso(approval.expires),
        "answered_at": iso(approval.answered_at), "channel": approval.channel,
    }  # fmt: skip


def grant_view(grant: Grant) -> JsonObject:
    """One standing grant: what it allows, since when, over which channel it was given, and how often it was used."""
    return {
        "id": grant.id, "state": grant.state.value, "workspace": grant.workspace, "tool": grant.tool,
        "question": grant.question, "taint": grant.taint.label, "approval": grant.approval, "channel": grant.channel,
        "created": iso(grant.created), "uses": grant.uses, "used_at": iso(grant.used_at),
        "revoked_at": iso(grant.revoked_at),
    }  # fmt: skip


def notice_view(notice: Notice) -> JsonObject:
    """One notice on one channel."""
    return {
        "id": notice.id, "channel": notice.channel, "title": notice.title, "body": notice.body,
        "severity": notice.severity.label, "state": notice.state.value, "tries": notice.tries, "cause": notice.cause,
        "workspace": notice.workspace, "created": iso(notice.created), "due": iso(notice.due),
        "delivered_at": iso(notice.delivered_at), "receipt": notice.receipt, "error": notice.error,
    }  # fmt: skip


def spending_view(row: Spending, by: str) -> JsonObject:
    """What one group of model calls took; `price` is of those whose price is known, None where none is."""
    return {
        by: row.key, "label": row.label, "calls": row.calls, "price": row.price, "input": row.input,
        "output": row.output, "cache_read": row.cache_read, "cache_write": row.cache_write,
        "tokens": row.input + row.output + row.cache_read + row.cache_write, "unpriced_calls": row.unpriced_calls,
        "unpriced_tokens": row.unpriced_tokens,
    }  # fmt: skip


def calibration_view(row: Calibration) -> JsonObject:
    """What one trigger's decisions came to; `price` without its `unpriced_calls`."""
    counts = {name: getattr(row, name) for name in CALIBRATION_COUNTS}
    return {"trigger": row.trigger, **counts, "price_per_useful": row.price_per_useful}


CALIBRATION_COUNTS = (
    "decisions", "acted", "notified", "shadow", "useful", "noise", "missed", "unrated", "price", "unpriced_calls",
)  # fmt: skip


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, or None."""
    return moment.isoformat() if moment else None
