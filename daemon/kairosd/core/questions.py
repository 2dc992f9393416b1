"""Questions: a call as the owner is shown it, and what a yes to it is bound to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from kairosd.core.json import Json, JsonObject, canonical, digest
from kairosd.core.levels import Permission
from kairosd.core.runs import Approval, ApprovalState, Call, call_hash
from kairosd.core.shell.plans import Plan
from kairosd.core.texts import SELECTORS

VALUE_SHOWN = 300  # characters of an argument; a command is shown whole
REASON = "reason"  # the argument in which a model may say why it asks

DENIALS_IN_A_ROW = 3  # of the owner's, then the initiative rests (design §9)
DENIALS_A_DAY = 20

EFFECTS: Mapping[Permission, str] = {
    Permission.READ: "reads",
    Permission.NOTIFY: "tells you something",
    Permission.REMEMBER: "changes what Kairos remembers",
    Permission.CONTROL: "changes nothing",
    Permission.EDIT: "changes a file in the run's own checkout",
    Permission.COMMIT: "commits in the run's own checkout",
    Permission.READER: "runs a program that only reads, in the sandbox",
    Permission.CONFINED: "runs the workspace's code in the sandbox",
    Permission.EFFECT: "runs a program that changes files, in the sandbox",
    Permission.UNLISTED: "runs in the sandbox what no list knows",
    Permission.NETWORK: "reaches hosts that you list",
    Permission.DIRECT: "changes your own checkout",
}


def escaped(text: str) -> str:
    """`text` on one line, with all that a reader could not see, or that could fool one, as escapes."""
    seen = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return SELECTORS.sub(lambda found: found.group().encode("unicode_escape").decode(), seen)


def describe(call: Call, commands: Plan | None) -> str:
    """The call as the owner is shown it: decoded, with escapes visible; long values are cut, with their length.

    A command is never cut. What the model says of it is marked as its words.
    """
    if commands is None:
        return f"{escaped(call.tool)} {escaped(canonical(_shorten(call.arguments)))}"
    scripts = (call.plan or {}).get("scripts")
    lines = [f"{escaped(call.tool)}: {escaped(commands.text())}"]
    known = sorted(path for path, found in scripts.items() if found) if isinstance(scripts, Mapping) else []
    if known:
        lines.append(f"The yes holds for {', '.join(map(escaped, known))} as it is now")
    reason = call.arguments.get(REASON)
    if isinstance(reason, str) and reason:
        lines.append(f'The model says: "{escaped(_cut(reason))}"')
    return "\n".join(lines)


def effect_of(permissions: Iterable[Permission]) -> str:
    """What a call does, by the gravest of what it is made of."""
    gravity = list(Permission)
    return EFFECTS[max(permissions, key=gravity.index)]


def bound_hash(call: Call, root: str, *, aims: Mapping[str, str]) -> str:
    """What an approval is bound to: the exact call, what it would run or replace, and where its paths lead."""
    # Not the call's stored hash: that was made of what its arguments were once.
    exactly = call_hash(call.tool, call.arguments)
    return digest({"call": exactly, "plan": call.plan, "root": root, "aims": dict(aims)})


def exact_hash(call: Call, commands: Plan | None, *, aims: Mapping[str, str]) -> str:
    """What a standing grant is bound to: as `bound_hash`, but in any checkout, and without what a model says of it."""
    arguments: dict[str, Json] = dict(call.arguments)
    if commands is not None:
        arguments = {name: value for name, value in arguments.items() if name != REASON}
        arguments["commands"] = commands.as_json()
    return digest({"tool": call.tool, "arguments": arguments, "plan": call.plan, "aims": dict(aims)})


def paused_by(answers: Sequence[Approval], now: datetime) -> str | None:
    """Why the owner's answers (newest first) make the initiative rest; None while they do not."""
    row = [one.state is ApprovalState.DENIED for one in answers[:DENIALS_IN_A_ROW]]
    if len(row) == DENIALS_IN_A_ROW and all(row):
        return f"you said no {DENIALS_IN_A_ROW} times in a row"
    day = now - timedelta(days=1)
    denied = [one for one in answers if one.state is ApprovalState.DENIED and one.answered_at and one.answered_at > day]
    return f"you said no {DENIALS_A_DAY} times within a day" if len(denied) >= DENIALS_A_DAY else None


def _shorten(arguments: JsonObject) -> JsonObject:
    return {name: _cut(value if isinstance(value, str) else str(value)) for name, value in arguments.items()}


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}… ({len(text)} characters)"
