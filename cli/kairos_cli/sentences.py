"""Journal lines as sentences. A kind that is not known here is told by its fields, so that nothing is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kairos_cli.render import money
from kairos_cli.terminal import one_line

Data = Mapping[str, object]


def sentence(kind: str, data: Data) -> str:
    """What a line of `kind` says, on one clean line."""
    form = _FORMS.get(kind) or _FORMS.get(kind.partition(".")[0]) or _fields
    return one_line(form(data))


def _event(data: Data) -> str:
    text, facts = data.get("text"), data.get("facts")
    said = "; ".join(str(value) for value in text.values()) if isinstance(text, Mapping) else ""
    return f"{data.get('source')} {data.get('kind')}: {said or _fields(facts if isinstance(facts, Mapping) else {})}"


def _made(data: Data) -> str:
    verdict = f"would have {would_have(data.get('verdict'))}" if data.get("shadow") else data.get("verdict")
    goal = f" — {data['goal']}" if data.get("goal") else ""
    asked = f"; {data['model']} decided, since {data['escalated']}" if data.get("escalated") else ""
    return f"{verdict}: {data.get('reason') or 'no reason given'}{goal}{asked} ({money(data.get('price'))})"


def would_have(verdict: object) -> str:
    """What a verdict that was not followed would have led to."""
    return _WOULD_HAVE.get(str(verdict), str(verdict))


def _rated(data: Data) -> str:
    was = f" (was {data['was']})" if data.get("was") else ""
    return f"you called it {data.get('rating')}{was}"


def _asked(data: Data) -> str:
    events = data.get("events")
    count = len(events) if isinstance(events, list) else 0
    return f"looking at {count} event{'' if count == 1 else 's'} from {data.get('source')}"


def _queued(data: Data) -> str:
    return f"{data.get('goal')} (from {data.get('trigger')}, level {data.get('level')})"


def _ended(data: Data) -> str:
    place = data.get("branch") or data.get("patch") or (OWN_FILES if landed_directly(data) else "")
    landed = f"; landed as {place}" if place else ""
    words = data.get("result") or data.get("goal")
    repaired = f"; {data['escalated']}" if data.get("escalated") else ""
    return f"{data.get('state')}: {words}{landed}{repaired} ({data.get('turns')} turns, {money(data.get('price'))})"


def landed_directly(run: Data) -> bool:
    """Whether a run's work went into the owner's own files: it landed, and neither as a branch nor as a patch."""
    checks = run.get("checks")
    landed = isinstance(checks, list) and any(
        isinstance(check, Mapping) and check.get("kind") == "landed" for check in checks
    )
    return landed and not run.get("branch") and not run.get("patch")


def _undone(data: Data) -> str:
    return f"undone: {_listed(data.get('undone')) or 'there was nothing to take back'}"


def _connected(data: Data) -> str:
    """Where a run's commands went, and where they were not let."""
    places = data.get("places")
    rows = [row for row in places if isinstance(row, Mapping)] if isinstance(places, list) else []
    told = [f"{row.get('host')}:{row.get('port')} {row.get('why') or 'reached'}" for row in rows]
    return f"its commands connected: {_listed(told) or 'to nothing'}"


def _parked(data: Data) -> str:
    on = str(data.get("on"))
    return _WAITS.get(on, f"waits: {on}")


def _task(data: Data) -> str:
    code = f", exit {data['code']}" if data.get("code") is not None else ""
    return f"{data.get('command')}: after {data.get('seconds')} s{code}"


def _call(data: Data) -> str:
    path = f" {data['path']}" if data.get("path") else ""
    more = data.get("result") or data.get("rule") or ""
    return f"{data.get('tool')}{path}{f': {more}' if more else ''}"


def _approval(data: Data) -> str:
    by = f" by {data['channel']}" if data.get("channel") else ""
    return f"{data.get('code')} {data.get('state')}{by}: {data.get('question')}"


def _grant(data: Data) -> str:
    """Who used it is the line's cause; the question is what it allows."""
    times = f", used {data['uses']} times" if data.get("uses") else ""
    return f"{data.get('state')}{times}: {data.get('question')}"


def _level(data: Data) -> str:
    held = ", until the daemon ends" if data.get("level") == "open" else ""
    return f"the level is now {data.get('level')}{held}; it was {data.get('was')}"


def _trusted(data: Data) -> str:
    files = data.get("files")
    return f"trusted as they are now: {_listed(list(files)) if isinstance(files, Mapping) else ''}".rstrip(": ")


def _reloaded(data: Data) -> str:
    parts = [
        (name.replace("_", " "), _listed(data.get(name))) for name in ("changed", "restart_needed", "no_longer_open")
    ]
    return "; ".join(f"{name}: {names}" for name, names in parts if names) or "nothing had changed"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""


def _said(text: str, *names: str) -> Callable[[Data], str]:
    """A sentence with fields in braces; a line that lacks one is told by its fields."""
    return lambda data: text.format(**data) if all(name in data for name in names) else _fields(data)


def _notice(data: Data) -> str:
    error = f" — {data['error']}" if data.get("error") else ""
    return f"{data.get('channel')}: {data.get('title')}{error}"


def _model(data: Data) -> str:
    tokens = f"{_count(data.get('input'))} in, {_count(data.get('output'))} out"
    outcome = "" if data.get("outcome") == "ok" else f", {data.get('outcome')}"
    role = _ROLES.get(str(data.get("role")), data.get("role"))
    return f"{role} by {data.get('model')}: {tokens}, {money(data.get('price'))}{outcome}"


def _broken_prefix(data: Data) -> str:
    return f"prompts begin differently from here on, so caches are lost: {_listed(data.get('sections'))}"


def _count(tokens: object) -> str:
    return "?" if tokens is None else str(tokens)


def _fields(data: Data) -> str:
    return ", ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", [], {}))


_WAITS = {
    "approval": "waits for your answer", "owner": "is stuck and waits for your word",
    "task": "waits for its command in the background",
}  # fmt: skip
OWN_FILES = "changes in your own files"
_ROLES = {"triage": "filing an outsider's text", "summary": "summing up"}
_WOULD_HAVE = {"act": "acted", "notify": "told you", "wait": "waited", "ignore": "ignored it"}
_FORMS: Mapping[str, Callable[[Data], str]] = {
    "event.received": _event,
    "event.coalesced": _said("taken together with others: {reason}", "reason"),
    "event.duplicate": _said("came again from {source}: {key}", "source", "key"),
    "decision.asked": _asked,
    "decision.made": _made,
    "run.queued": _queued,
    "run.started": _said("began: {goal}", "goal"),
    "run.escalated": _said("{why}", "why"),
    "run.parked": _parked,
    "run.requeued": _said("goes on: {reason}", "reason"),
    "run.interrupted": _said("the daemon ended in the middle of it; it goes on at the next start"),
    "run.ended": _ended,
    "run.undone": _undone,
    "run.connected": _connected,
    "call": _call,
    "task.started": _said("goes on in the background: {command}", "command"),
    "task": _task,
    "approval": _approval,
    "grant": _grant,
    "notice": _notice,
    "model.call": _model,
    "model.down": _said("{name} does not answer: {reason}", "name", "reason"),
    "model.up": _said("{name} answers again", "name"),
    "prompt.prefix_broken": _broken_prefix,
    "workspace.level": _level,
    "workspace.trusted": _trusted,
    "workspace.missing": _said("its folder is missing"),
    "workspace.back": _said("its folder is there again"),
    "workspace.looked": _said("looked at, and nothing had changed"),
    "watch.lost": _said("its folder cannot be watched any more"),
    "watch.back": _said("its folder is watched again"),
    "watch.limit": _said("{problem}", "problem"),
    "rating.given": _rated,
    "trigger.mode": _said("{trigger}: the mode is now {mode}; it was {was}", "trigger", "mode", "was"),
    "dream.stopped": _said("the dream stopped: {reason}", "reason"),
    "dream.committed": _said("what was learned is generation {generation}", "generation"),
    "dream.dead": _said("evidence was given up: {reason}", "reason"),
    "memory.changed": _said("{op} m:{entry}; memory is generation {generation}", "op", "entry", "generation"),
    "memory.verified": _said("claims were looked up; memory is generation {generation}", "generation"),
    "memory.proposed": _said("{proposal} waits for you: {reason}", "proposal", "reason"),
    "memory.accepted": _said("you accepted {proposal}; memory is generation {generation}", "proposal", "generation"),
    "memory.rejected": _said("you rejected {proposal}", "proposal"),
    "memory.undone": _said("memory went back to generation {generation}", "generation"),
    "memory.redone": _said("memory went forward to generation {generation}", "generation"),
    "memory.forgotten": _said("m:{entry} is forgotten, in {generations} generations", "entry", "generations"),
    "memory.pinned": _said("m:{entry}: pinned is {pinned}", "entry", "pinned"),
    "memory.carried_in": _said("{path}: {proposals} proposals, trusted as {tier}", "path", "proposals", "tier"),
    "daemon.paused": _said("the initiative rests: {reason}", "reason"),
    "daemon.resumed": _said("the initiative goes on"),
    "daemon.reloaded": _reloaded,
    "daemon.swept": _said("retention took away or packed {things} things", "things"),
    "channel.silenced": _said(
        "{channel} is not listened to for {minutes} min: too many unknown codes", "channel", "minutes"
    ),
    "schedule.missed": _said("{job}, due {due}, was missed and is not made up for", "job", "due"),
    "tick.skipped": _said("{ticks} ticks were left out while the machine was busy or asleep", "ticks"),
}
