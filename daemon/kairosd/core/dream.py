"""Operations on memory: what a dream may propose, how it is read from a model's answer, and what it does.

A model never rewrites memory. It names operations, each with the journal lines it learned them from; `apply` does them
to a generation without touching any entry that no operation names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum
from itertools import count

from kairosd.core.dream_support import SUPPORT, foreign, support
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.json import Json, JsonObject
from kairosd.core.memory import EVERYWHERE, TEXT_MAX, Entry, Generation, Kind, Past, key_of, new_id, plain
from kairosd.frozen import frozen

OPERATIONS_MAX = 60  # of one answer
SOURCES_MAX = 8  # kept of one entry: the first, and the newest others
REASON_MAX = 200


class Op(StrEnum):
    """What can be done to memory."""

    ADD = "add"
    SUPERSEDE = "supersede"
    MERGE = "merge"
    RETIRE = "retire"
    RESTAMP = "restamp"


WRITING = (Op.ADD, Op.SUPERSEDE, Op.MERGE)


@frozen
class Operation:
    """One change. `targets` are ids of active entries: none for ADD, two or more for MERGE, else one.

    `sources` are the evidence it cites. ADD, SUPERSEDE and MERGE write an entry with `key` (empty = the target's, else
    made from the text), `text`, `kind`, `check`; it holds `everywhere`, else in the workspace that was dreamt of.
    """

    op: Op
    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    key: str = ""
    text: str = ""
    kind: Kind = Kind.PROJECT
    check: str = ""
    everywhere: bool = False
    reason: str = ""

    def record(self) -> JsonObject:
        """The operation as `read_operation` takes it, for manifests and proposals."""
        return {
            "op": self.op.value, "targets": list(self.targets), "sources": list(self.sources), "key": self.key,
            "text": self.text, "kind": self.kind.value, "check": self.check, "everywhere": self.everywhere,
            "reason": self.reason,
        }  # fmt: skip


def operations_schema() -> JsonObject:
    """The JSON schema of a model's answer."""
    strings: JsonObject = {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Json] = {
        "op": {"type": "string", "enum": [op.value for op in Op]},
        "targets": {**strings, "description": "ids of entries; empty for add"},
        "sources": {**strings, "description": "numbers of evidence, such as j123"},
        "key": {"type": "string", "description": "what it is about, such as deploy.port"},
        "text": {"type": "string", "description": "one sentence in the evidence's own words"},
        "kind": {"type": "string", "enum": [kind.value for kind in Kind]},
        "check": {
            "type": "string",
            "description": "path=, command=, commit=, branch=, package= or port=; mostly empty",
        },
        "everywhere": {"type": "boolean", "description": "true only where the owner said it holds in all projects"},
        "reason": {"type": "string"},
    }
    one: JsonObject = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
    return {
        "type": "object", "properties": {"operations": {"type": "array", "maxItems": OPERATIONS_MAX, "items": one}},
        "required": ["operations"], "additionalProperties": False,
    }  # fmt: skip


def read_answer(answer: Mapping[str, object]) -> tuple[list[Operation], list[str]]:
    """The operations of an answer, and what is wrong with those that are none.

    Raises `ValueError` for an answer that is no list of operations, or one longer than anybody would need.
    """
    listed = answer.get("operations")
    if not isinstance(listed, list) or set(answer) != {"operations"}:
        raise ValueError("the answer must be {operations: [...]} and nothing else")
    if len(listed) > OPERATIONS_MAX:
        raise ValueError(f"{len(listed)} operations are more than {OPERATIONS_MAX}")
    found: list[Operation] = []
    problems: list[str] = []
    for place, one in enumerate(listed, start=1):
        try:
            found.append(read_operation(one))
        except ValueError as error:
            problems.append(f"operation {place}: {error}")
    return found, problems


def read_operation(given: object) -> Operation:
    """One operation of an answer or a proposal. Raises `ValueError` naming the first thing that is wrong."""
    if not isinstance(given, Mapping):
        raise ValueError("it is no object")
    if unknown := set(given) - _FIELDS:
        raise ValueError(f"it has no {', '.join(sorted(map(str, unknown)))[:80]}")
    try:
        op, kind = Op(_text(given, "op").lower()), Kind(_text(given, "kind").lower() or Kind.PROJECT)
    except ValueError:
        raise ValueError("op or kind is not one of those that there are") from None
    everywhere = given.get("everywhere", False)
    if not isinstance(everywhere, bool):
        raise ValueError("everywhere must be true or false")
    text = _text(given, "text")
    if len(text) > TEXT_MAX:
        raise ValueError(f"its text has {len(text)} characters, more than {TEXT_MAX}")
    return Operation(
        op, _names(given, "targets"), _names(given, "sources"), key=_text(given, "key"), text=plain(text), kind=kind,
        check=_text(given, "check"), everywhere=everywhere, reason=plain(_text(given, "reason"))[:REASON_MAX],
    )  # fmt: skip


_FIELDS = {"op", "targets", "sources", "key", "text", "kind", "check", "everywhere", "reason"}


def apply(
    generation: Generation, operation: Operation, *, evidence: Mapping[str, Evidence], workspace: str, day: date
) -> Generation:
    """`generation` with `operation` done to it; `day` is the day of the dream.

    It must have passed the checks: raises `KeyError` for a target or source that is not there.
    """
    active = {entry.id: entry for entry in generation.entries}
    targets = [active[name] for name in operation.targets]
    cited = [evidence[name] for name in operation.sources]
    if operation.op is Op.RESTAMP:
        seen = max(each.day for each in cited)
        target = targets[0]
        fresh = replace(target, seen=max(seen, target.seen), sources=_joined(target.sources, operation.sources))
        return replace(generation, entries=tuple(fresh if one.id == fresh.id else one for one in generation.entries))
    made = _written(generation, operation, targets=targets, cited=cited, workspace=workspace)
    ended = max((each.day for each in cited), default=day)
    past = tuple(
        Past(one.id, one, max(ended, one.since), operation.op.value, made.id if made else "", operation.sources)
        for one in targets
    )
    left = tuple(one for one in generation.entries if one.id not in operation.targets)
    return replace(generation, entries=(*left, *([made] if made else [])), history=(*generation.history, *past))


def mark_stale(generation: Generation, found: Mapping[str, date | None]) -> Generation:
    """`generation` with entries marked as stale since a day, or as right again (None). Nothing is deleted."""
    entries = tuple(
        replace(one, stale=found[one.id]) if one.id in found and one.stale != found[one.id] else one
        for one in generation.entries
    )
    return replace(generation, entries=entries)


def retired(operations: Iterable[Operation]) -> int:
    """How many active entries the operations leave fewer, those apart that are added."""
    return sum(
        1 if one.op is Op.RETIRE else len(one.targets) - 1 for one in operations if one.op in (Op.RETIRE, Op.MERGE)
    )


def basis(operation: Operation, cited: Sequence[Evidence], *, targets: Sequence[Entry]) -> tuple[tuple[str, ...], Tier]:
    """What a written entry rests on, and its tier, the lowest of that.

    What takes an entry's place rests on its own evidence alone where that holds all it says.
    """
    told = [each.text for each in cited]
    days = {each.day.isoformat() for each in cited}
    alone = support(operation.text, told) >= SUPPORT and not foreign(operation.text, told, also=days)
    if operation.op is Op.SUPERSEDE and alone:
        targets = ()
    sources: tuple[str, ...] = ()
    for one in targets:
        sources = _joined(sources, one.sources)
    lowest = min([*(each.tier for each in cited), *(one.trust for one in targets)], default=Tier.PUBLIC)
    return _joined(sources, operation.sources), lowest


def _written(
    generation: Generation, operation: Operation, *, targets: Sequence[Entry], cited: Sequence[Evidence], workspace: str
) -> Entry | None:
    if operation.op not in WRITING:
        return None
    scope = scope_of(operation, targets, workspace=workspace)
    key = operation.key or (targets[0].key if targets else _free_key(operation.text, scope, generation=generation))
    days = [each.day for each in cited] or [one.seen for one in targets]
    # What says the same as before, with more to it, began when that did.
    begins = [one.since for one in targets if operation.op is Op.MERGE or one.text == operation.text]
    # Of entries that are made one, the checks still tell whether it holds, though a model leaves them out.
    checks = [one.check for one in targets if operation.op is Op.MERGE and _checked(one) in operation.text]
    sources, trust = basis(operation, cited, targets=targets)
    return Entry(
        id=new_id(scope, key, text=operation.text, taken=generation.ids), key=key, text=operation.text,
        kind=operation.kind, scope=scope, since=min(begins, default=max(days)),
        seen=max([*days, *(one.seen for one in targets)] if operation.op is Op.MERGE else days), sources=sources,
        trust=trust, check=operation.check or next(filter(None, checks), ""), pinned=any(one.pinned for one in targets),
    )  # fmt: skip


def _checked(entry: Entry) -> str:
    """What the entry's check looks for, such as a path; empty without a check."""
    return entry.check.partition("=")[2]


def _free_key(text: str, scope: str, *, generation: Generation) -> str:
    taken = {entry.key for entry in generation.entries if entry.scope == scope}
    key = key_of(text)
    return next(name for number in count(1) if (name := key if number == 1 else f"{key}-{number}") not in taken)


def scope_of(operation: Operation, targets: Sequence[Entry], *, workspace: str) -> str:
    """Where the entry that `operation` writes holds."""
    if operation.everywhere or (targets and all(one.scope == EVERYWHERE for one in targets)):
        return EVERYWHERE
    return workspace


def _joined(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    every = tuple(dict.fromkeys((*old, *new)))
    return every if len(every) <= SOURCES_MAX else (every[0], *every[-SOURCES_MAX + 1 :])


def _text(given: Mapping[str, object], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    return value.strip()


def _names(given: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of strings")
    if len(set(value)) != len(value):
        raise ValueError(f"{name} names one twice")
    return tuple(value)
