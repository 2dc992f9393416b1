"""Moves of approvals that happen inside another transition."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, insert, update

from kairosd.core.runs import APPROVAL_MOVES, Approval, ApprovalState
from kairosd.errors import TransitionError
from kairosd.store import notes
from kairosd.store.database import Unit
from kairosd.store.records import APPROVALS
from kairosd.store.schema import approvals

_INSERT = insert(approvals)
_MOVE = (
    update(approvals)
    .where(approvals.c.id == bindparam("approval"), approvals.c.state == bindparam("was"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "answered_at", "channel")})
)
_LIVE = (ApprovalState.OPEN, ApprovalState.APPROVED)


def open_approval(unit: Unit, approval: Approval, *, now: datetime) -> None:
    """A new question."""
    if approval.state is not ApprovalState.OPEN:
        raise TransitionError(f"approval {approval.id} begins as {ApprovalState.OPEN}, not {approval.state}")
    unit.execute(_INSERT, APPROVALS.row(approval))
    unit.note(notes.of_approval("opened", approval), now)


def move_approval(unit: Unit, stored: Approval, *, moved: Approval, now: datetime) -> Approval:
    """Stores `moved`, which differs from `stored` in state, answer and channel. Raises `TransitionError`."""
    if moved.state not in APPROVAL_MOVES.get(stored.state, frozenset()):
        raise TransitionError(f"approval {stored.code} is {stored.state} and cannot become {moved.state}")
    values = {"new_state": moved.state, "new_answered_at": moved.answered_at, "new_channel": moved.channel}
    if unit.execute(_MOVE, {"approval": stored.id, "was": stored.state, **values}).rowcount != 1:
        raise TransitionError(f"approval {stored.code} is no longer {stored.state}")
    answered = moved.state in (ApprovalState.APPROVED, ApprovalState.DENIED)
    unit.note(notes.of_approval("answered" if answered else moved.state.value, moved), now)
    return moved


def open_questions(unit: Unit, run: str) -> tuple[Approval, ...]:
    """What a run still asks."""
    return APPROVALS.all(unit.connection, approvals.c.run == run, approvals.c.state == ApprovalState.OPEN)


def withdraw_approvals(unit: Unit, run: str, *, now: datetime) -> None:
    """What a run that has ended still asked, or may no longer use."""
    for approval in APPROVALS.all(unit.connection, approvals.c.run == run, approvals.c.state.in_(_LIVE)):
        move_approval(unit, approval, moved=replace(approval, state=ApprovalState.WITHDRAWN), now=now)
