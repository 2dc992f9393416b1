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
    shadow = " (shadow: not done)" if data.get("shadow") else ""
    goal = f" — {data['goal']}" if data.get("goal") else ""
    return (
        f"{data.get('verdict')}{shadow}: {data.get('reason') or 'no reason given'}{goal} ({money(data.get('price'))})"
    )


def _asked(data: Data) -> str:
    events = data.get("events")
    count = len(events) if isinstance(events, list) else 0
    return f"looking at {count} event{'' if count == 1 else 's'} from {data.get('source')}"


def _queued(data: Data) -> str:
    return f"{data.get('goal')} (from {data.get('trigger')}, level {data.get('level')})"


def _ended(data: Data) -> str:
    place = data.get("branch") or data.get("patch")
    landed = f"; landed as {place}" if place else ""
    words = data.get("result") or data.get("goal")
    return f"{data.get('state')}: {words}{landed} ({data.get('turns')} turns, {money(data.get('price'))})"


def _call(data: Data) -> str:
    path = f" {data['path']}" if data.get("path") else ""
    more = data.get("result") or data.get("rule") or ""
    return f"{data.get('tool')}{path}{f': {more}' if more else ''}"


def _approval(data: Data) -> str:
    by = f" by {data['channel']}" if data.get("channel") else ""
    return f"{data.get('code')} {data.get('state')}{by}: {data.get('question')}"


def _notice(data: Data) -> str:
    error = f" — {data['error']}" if data.get("error") else ""
    return f"{data.get('channel')}: {data.get('title')}{error}"


def _model(data: Data) -> str:
    tokens = f"{_count(data.get('input'))} in, {_count(data.get('output'))} out"
    outcome = "" if data.get("outcome") == "ok" else f", {data.get('outcome')}"
    return f"{data.get('role')} by {data.get('model')}: {tokens}, {money(data.get('price'))}{outcome}"


def _count(tokens: object) -> str:
    return "?" if tokens is None else str(tokens)


def _fields(data: Data) -> str:
    return ", ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", [], {}))


_FORMS: Mapping[str, Callable[[Data], str]] = {
    "event.received": _event,
    "decision.asked": _asked,
    "decision.made": _made,
    "run.queued": _queued,
    "run.ended": _ended,
    "call": _call,
    "approval": _approval,
    "notice": _notice,
    "model.call": _model,
}
