"""Runs, tool calls and approvals: their states and the transitions that are allowed (design §2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject, digest
from kairosd.frozen import frozen


class RunState(StrEnum):
    """Where a run is; the last five are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    INTERRUPTED = "interrupted"
    DONE = "done"
    DONE_UNCHECKED = "done_unchecked"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OVER_BUDGET = "over_budget"


ENDED = frozenset({RunState.DONE, RunState.DONE_UNCHECKED, RunState.FAILED, RunState.CANCELLED, RunState.OVER_BUDGET})

# A parked or interrupted run goes back through the queue: the workspace may be taken by another run meanwhile.
RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.PARKED, RunState.INTERRUPTED, *ENDED}),
    RunState.PARKED: frozenset({RunState.QUEUED, RunState.CANCELLED, RunState.FAILED}),
    RunState.INTERRUPTED: frozenset({RunState.QUEUED, RunState.PARKED, RunState.FAILED, RunState.CANCELLED}),
}


class ParkedOn(StrEnum):
    """What a parked run waits for."""

    APPROVAL = "approval"
    PURSE = "purse"
    OWNER = "owner"
    TASK = "task"


INTERRUPTED = "interruption"  # `rested_on` of a run that Kairos was stopped or killed in


class CallState(StrEnum):
    """How far a tool call has got; `intended` is written before an effect, the outcome after it."""

    REQUESTED = "requested"
    DENIED = "denied"
    PARKED = "parked"
    INTENDED = "intended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_DONE = "not_done"


CALL_MOVES: Mapping[CallState, frozenset[CallState]] = {
    CallState.REQUESTED: frozenset(
        {CallState.DENIED, CallState.PARKED, CallState.INTENDED, CallState.SUCCEEDED, CallState.FAILED}
    ),
    # A read-only call that was asked about has no intent: it goes straight to its outcome.
    CallState.PARKED: frozenset(
        {CallState.DENIED, CallState.INTENDED, CallState.REQUESTED, CallState.SUCCEEDED, CallState.FAILED}
    ),
    CallState.INTENDED: frozenset({CallState.SUCCEEDED, CallState.FAILED, CallState.UNKNOWN}),
    CallState.UNKNOWN: frozenset({CallState.SUCCEEDED, CallState.NOT_DONE}),
    # A probe has proved that nothing happened: the same call may be tried again.
    CallState.NOT_DONE: frozenset({CallState.INTENDED, CallState.PARKED, CallState.DENIED, CallState.FAILED}),
}


class ApprovalState(StrEnum):
    """What became of a question to the owner."""

    OPEN = "open"
    APPROVED = "approved"
    USED = "used"
    STALE = "stale"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


APPROVAL_MOVES: Mapping[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.OPEN: frozenset(
        {ApprovalState.APPROVED, ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN}
    ),
    ApprovalState.APPROVED: frozenset({ApprovalState.USED, ApprovalState.STALE, ApprovalState.WITHDRAWN}),
}


@frozen
class Run:
    """One execution of a decided goal. `price` in micro-dollars (None = some call's price is unknown).

    `branch` is where it landed (`kairos/<slug>`), `patch` the file where a branch could not take it. `checks` are the
    postconditions and what was seen of each. `seconds` is how long it has worked, without the time it rested.
    `rested` is since when it has been away without having been told, `rested_on` what for: an interruption, or what it
    was parked on. `escalated` says which model was given the failed checks back, and what had failed; empty = none was.
    """

    id: str
    state: RunState
    goal: str
    workspace: str
    trigger: str
    decision: str | None
    level: int
    taint: Tier
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    turns: int = 0
    tokens: int = 0
    price: int | None = 0
    result: str = ""
    checks: tuple[JsonObject, ...] = ()
    parked_on: ParkedOn | None = None
    branch: str | None = None
    patch: str | None = None
    commit: str | None = None
    base: str | None = None
    seconds: int = 0
    rested: datetime | None = None
    rested_on: str = ""
    escalated: str = ""


@frozen
class Call:
    """One requested tool call. `key` is its idempotency key, `hash` names the exact arguments.

    `plan` is what a tool recorded before its effect (such as the hash of the file it is about to replace): its
    `probe` compares it with the world after a crash. `position` is the call's place in its turn.
    """

    id: str
    run: str
    turn: int
    position: int
    tool: str
    arguments: JsonObject
    hash: str
    state: CallState
    requested_at: datetime
    effect: bool
    provider_id: str = ""
    plan: JsonObject | None = None
    result: str = ""
    rule: str = ""
    ended_at: datetime | None = None


class GrantState(StrEnum):
    """Whether a standing grant still holds."""

    ACTIVE = "active"
    REVOKED = "revoked"


@frozen
class Grant:
    """The owner's standing yes to one exact call (`kairos approve CODE --always`).

    `exact` names tool, arguments and what they would run or replace; `taint` is the tier of the run it was given to: a
    run that has read what is trusted less asks all the same. `approval` is the answer it came from.
    """

    id: str
    state: GrantState
    workspace: str
    tool: str
    exact: str
    question: str
    taint: Tier
    approval: str
    channel: str
    created: datetime
    uses: int = 0
    used_at: datetime | None = None
    revoked_at: datetime | None = None


@frozen
class Approval:
    """A question to the owner, bound to one call by `hash` (the call's, and the plan it was shown with).

    `effect` is what the call does, in words. `exact` is what a standing grant for it would be bound to, "" where there
    can be none. A `guarded` one (protected or secret path, level open) is answered on the strongest channel only.
    """

    id: str
    code: str
    state: ApprovalState
    run: str
    call: str
    workspace: str
    hash: str
    question: str
    rule: str
    created: datetime
    expires: datetime
    answered_at: datetime | None = None
    channel: str | None = None
    effect: str = ""
    guarded: bool = True
    exact: str = ""


def call_hash(tool: str, arguments: Mapping[str, Json]) -> str:
    """Names a call exactly: same tool, same arguments, same hash."""
    return digest({"tool": tool, "arguments": dict(arguments)})
