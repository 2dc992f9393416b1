"""Journal lines: their one form, their hash chain, and the day they belong to (design §5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, date, datetime
from json.encoder import encode_basestring as quoted

from kairosd.core.json import Json, canonical
from kairosd.frozen import frozen

FORMAT = 1
GENESIS = "0" * 64  # `prev` of the very first line


@frozen
class Note:
    """What a transition tells the journal; the store adds number, time and hashes."""

    kind: str
    id: str = ""
    cause: str = ""
    workspace: str = ""
    tier: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)


def stamp(moment: datetime) -> str:
    """`moment` as the journal writes it: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # strftime is ten times slower


def unsealed(sequence: int, moment: datetime, *, note: Note) -> dict[str, Json]:
    """The line of `note` without its chain: what the outbox keeps until the writer appends it."""
    return {
        "v": FORMAT,
        "seq": sequence,
        "t": stamp(moment),
        "kind": note.kind,
        "id": note.id,
        "cause": note.cause,
        "ws": note.workspace,
        "tier": note.tier,
        "data": dict(note.data),
    }


def waiting_line(sequence: int, moment: datetime, *, note: Note) -> str:
    """The canonical text of `unsealed` with an empty `prev`, in half the time: every webhook has one.

    A value of `note.data` may be `Encoded`. Raises `ValueError` when one holds a float.
    """
    data = ",".join([f"{quoted(name)}:{canonical(value)}" for name, value in sorted(note.data.items())])
    return (
        f'{{"cause":{quoted(note.cause)},"data":{{{data}}},"id":{quoted(note.id)},"kind":{quoted(note.kind)},"prev":"",'
        f'"seq":{sequence},"t":"{stamp(moment)}","tier":{quoted(note.tier)},"v":{FORMAT},"ws":{quoted(note.workspace)}}}'
    )


def seal(line: Mapping[str, Json], previous: str) -> tuple[str, str]:
    """Chains `line` to the line whose hash is `previous`. Returns the canonical text (no newline) and its hash."""
    body = {**line, "prev": previous}
    body.pop("hash", None)
    sealed = hashlib.sha256(canonical(body).encode("utf-8")).hexdigest()
    return canonical({**body, "hash": sealed}), sealed


def journal_day(moment: datetime, latest: date | None) -> date:
    """The local day a line goes to: today's, but never before the latest day already written (travel, clock jumps)."""
    today = moment.astimezone().date()
    return today if latest is None or today > latest else latest


def file_name(day: date) -> str:
    """The journal file of `day`, relative to the journal folder."""
    return f"{day:%Y}/{day:%m}/{day:%Y-%m-%d}.jsonl"


def verify_line(text: str, previous: str, *, sequence: int | None) -> tuple[str, int] | str:
    """Checks one line against the hash before it and the number expected (None = any).

    Returns its hash and number, or the problem as a sentence.
    """
    try:
        line = json.loads(text)
    except ValueError:
        return "not JSON"
    if not isinstance(line, dict) or not isinstance(line.get("seq"), int):
        return "not a journal line"
    found = line.pop("hash", None)
    try:
        expected = hashlib.sha256(canonical(line).encode("utf-8")).hexdigest()
    except ValueError:
        return "holds a float"
    if found != expected:
        return "its hash does not match its content"
    if canonical({**line, "hash": found}) != text:
        return "not in canonical form"
    if line.get("prev") != previous:
        return "does not follow the line before it"
    if sequence is not None and line["seq"] != sequence:
        return f"number {line['seq']} where {sequence} was expected"
    return str(found), int(line["seq"])
