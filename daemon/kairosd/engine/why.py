"""Why: from any id back to what caused it, with reasons and prices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kairosd.core.decisions import Decision
from kairosd.core.events import Event
from kairosd.core.json import JsonObject, canonical
from kairosd.core.notices import Notice
from kairosd.core.runs import Approval, Call, Grant, Run
from kairosd.core.tasks import Task
from kairosd.engine.ending import LANDED
from kairosd.engine.views import iso
from kairosd.errors import NotFoundError
from kairosd.ports import Stores


async def chain(stores: Stores, identifier: str) -> Sequence[JsonObject]:
    """The links from the thing back to its first cause. Raises `NotFoundError`, `AmbiguousIdError`."""
    links: list[JsonObject] = []
    thing: Thing | None = await find(stores, identifier)
    while thing is not None:
        links.append(_link(thing))
        if isinstance(thing, Decision):
            links += [_link(await stores.events.get(event)) for event in thing.events]
            break
        cause = cause_of(thing)
        thing = await find(stores, cause) if cause else None
    return links


CODE_LENGTH = 5  # of an approval

Thing = Event | Decision | Run | Call | Approval | Notice | Grant | Task


async def find(stores: Stores, identifier: str) -> Thing:
    """The row with that id or unique prefix, of whatever kind its letter names."""
    match identifier.partition("_")[0]:
        case "e":
            return await stores.events.get(identifier)
        case "d":
            return await stores.decisions.get(identifier)
        case "r":
            return await stores.runs.get(identifier)
        case "c":
            return await stores.runs.get_call(identifier)
        case "a":
            return await stores.approvals.get(identifier)
        case "n":
            return await stores.notices.get(identifier)
        case "g":
            return await stores.grants.get(identifier)
        case "t":
            return await stores.tasks.get(identifier)
    if len(identifier) == CODE_LENGTH and identifier.isalpha():
        return await stores.approvals.get(identifier)
    raise NotFoundError(
        f"{identifier} is not an id", fix="ids start with e_ d_ r_ c_ t_ a_ g_ n_: see `kairos journal`"
    )


def cause_of(thing: Thing) -> str | None:
    """The id of what led to it, as far as its own row says."""
    match thing:
        case Notice():
            return thing.cause
        case Grant():
            return thing.approval
        case Task():
            return thing.call
        case Approval():
            return thing.call or thing.run
        case Call():
            return thing.run
        case Run() | Event():
            return thing.decision if isinstance(thing, Run) else None
        case _:
            return None


def _link(thing: Thing) -> JsonObject:
    at = _when(thing)
    match thing:
        case Event():
            kind, title, detail = "event", f"{thing.source} {thing.kind}", _event_detail(thing)
        case Decision():
            verdict = f"{thing.verdict.value}{' (shadow)' if thing.shadow else ''}"
            kind, title, detail = "decision", f"{verdict}: {thing.goal or thing.reason}", _reason(thing)
        case Run():
            kind, title, detail = "run", f"{thing.state.value}: {thing.goal}", f"{thing.result}{_landing(thing)}"
        case Call():
            kind, title = "call", f"{thing.tool} {canonical(thing.arguments)[:200]}"
            detail = f"{thing.state.value}{f': {thing.rule}' if thing.rule else ''}"
        case Approval():
            kind, title, detail = "approval", f"{thing.state.value}: {thing.question}", thing.rule
        case Task():
            kind, title, detail = "task", f"{thing.state.value}: {thing.command}", f"exit {thing.code}: {thing.output}"
        case Grant():
            kind, title = "grant", f"{thing.state.value}: {thing.question}"
            detail = f"given over {thing.channel}, used {thing.uses} times"
        case Notice():
            kind, title, detail = "notice", thing.title, f"{thing.channel}: {thing.state.value}"
    price = thing.price if isinstance(thing, (Decision, Run)) else 0
    return {"id": thing.id, "kind": kind, "at": iso(at), "title": title, "detail": detail, "price": price}


def _reason(decision: Decision) -> str:
    return f"{decision.reason} (by {decision.model}: {decision.escalated})" if decision.escalated else decision.reason


def _when(thing: Thing) -> datetime:
    match thing:
        case Event():
            return thing.received_at
        case Decision():
            return thing.asked_at
        case Call():
            return thing.requested_at
        case _:
            return thing.created


def _landing(run: Run) -> str:
    """Where a run's work went: a branch, a patch, or the owner's own files."""
    seen = [str(check.get("seen")) for check in run.checks if check.get("kind") == LANDED]
    return f" — landed: {seen[0]}" if seen else ""


def _event_detail(event: Event) -> str:
    words = "; ".join(f"{name}: {value[:200]}" for name, value in event.text.items())
    return f"{canonical(event.facts)}{f' — {words}' if words else ''} (tier {event.tier.label})"
