"""The ledger of tool calls: what was requested, what was about to happen, what came of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from kairosd.core.runs import CALL_MOVES, Approval, Call, CallState
from kairosd.errors import NotFoundError, TransitionError
from kairosd.store import notes
from kairosd.store.database import Unit
from kairosd.store.prepared import PreparedInsert, PreparedSelect, PreparedUpdate
from kairosd.store.records import CALLS
from kairosd.store.schema import calls, runs

_INSERT = PreparedInsert(insert(calls), CALLS.names)
# A read that is asked about once more.
_REQUEST = PreparedInsert(insert_or(calls).on_conflict_do_nothing(index_elements=[calls.c.id]), CALLS.names)
_MOVE = PreparedUpdate(
    update(calls)
    .where(calls.c.id == bindparam("call_id"))
    .values({name: bindparam(f"new_{name}") for name in ("state", "plan", "rule", "result", "ended_at")})
)
_STORED = PreparedSelect(CALLS.select(calls.c.id == bindparam("call_id")))
_UNDER_WAY = PreparedSelect(
    CALLS.select(calls.c.run == bindparam("run_id"), calls.c.state == bindparam("under_way", CallState.INTENDED))
)
_PLACE = PreparedSelect(select(runs.c.workspace).where(runs.c.id == bindparam("run_id")))
_OVER = frozenset({CallState.DENIED, CallState.SUCCEEDED, CallState.FAILED, CallState.NOT_DONE})


def insert_call(unit: Unit, call: Call) -> None:
    """A requested call, unless it is there. It has no journal line: the one that says what became of it follows."""
    _REQUEST.run(unit.driver, CALLS.row(call))


def move_call(unit: Unit, call: Call, *, state: CallState, now: datetime) -> Call:
    """Moves `call` on from the state it has on disk; a call not yet on disk is inserted as it ends up.

    So a read-only call may go from request to outcome in one commit.
    """
    stored = _stored(unit, call.id)
    was = stored.state if stored is not None else call.state
    if state not in CALL_MOVES.get(was, frozenset()):
        raise TransitionError(f"call {call.id} is {was} and cannot become {state}")
    moved = replace(call, state=state, ended_at=now if state in _OVER else None)
    if stored is None:
        _INSERT.run(unit.driver, CALLS.row(moved))
    else:
        values: dict[str, object] = {"state": state, "plan": moved.plan, "rule": moved.rule, "result": moved.result}
        values["ended_at"] = moved.ended_at
        _MOVE.run(unit.driver, {"call_id": call.id, **{f"new_{name}": value for name, value in values.items()}})
    places = _PLACE.rows(unit.driver, {"run_id": call.run})
    unit.note(notes.of_call(moved, str(places[0][0]) if places else ""), now)
    return moved


def leave_calls(unit: Unit, run: str, *, now: datetime) -> None:
    """The run has ended: what became of an effect that was under way, nobody has seen."""
    for row in _UNDER_WAY.rows(unit.driver, {"run_id": run}):
        move_call(unit, Call(*row), state=CallState.UNKNOWN, now=now)


def park_call(unit: Unit, approval: Approval, *, now: datetime) -> None:
    """requested → parked; a call asked about once more stays parked. Raises `TransitionError`."""
    stored = _stored(unit, approval.call)
    if stored is None:
        raise NotFoundError(f"there is no call {approval.call} to ask about")
    if stored.state is not CallState.PARKED:
        move_call(unit, replace(stored, rule=approval.rule), state=CallState.PARKED, now=now)


def _stored(unit: Unit, call: str) -> Call | None:
    found = _STORED.rows(unit.driver, {"call_id": call})
    return Call(*found[0]) if found else None
