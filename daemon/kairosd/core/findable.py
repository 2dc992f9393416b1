"""What of memory, journal and transcripts can be found: each thing as the passage that search indexes.

A passage is trusted as little as the least of what it may quote: a journal line as its own tier, a tool's result and
every turn as their run's taint. What belongs to no workspace is found by the owner alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time

from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject
from kairosd.core.memory import Entry
from kairosd.core.search import Layer, Passage

NOWHERE = ""  # the scope of what belongs to no workspace
TEXT_MAX = 2000  # characters of one passage that can be found
WORDS_LEAST = 2
FIRST = frozenset({"goal", "result"})  # what a dream learns from, whatever else a line tells

_NO_WORDS = re.compile(r"(?:[edrcangt]_)?[0-9a-z]{20,}|[0-9a-f]{7,}|[\dT:.Z+-]+")  # ids, hashes, times
_SPEAKERS = {"said": "owner", "turn": "kairos", "result": "tool", "finish": "kairos"}
# Lines that say nothing of the work: what they are about is told by the lines of what was done.
_SILENT = ("tick.", "daemon.", "memory.", "dream.", "prompt.", "model.", "repair", "notice.")
# Lines without a tier of their own that hold what a run has said: its questions too may quote what it has read.
_OF_RUNS = ("run.", "call.", "approval.")


def of_entry(entry: Entry) -> Passage:
    """An entry of memory, dated by when it was last seen."""
    at = datetime.combine(entry.seen, time(12), tzinfo=UTC)
    text = f"{entry.text} ({entry.key.replace('.', ' ')})"
    return Passage(
        Layer.MEMORY, f"m:{entry.id}", text, at, entry.kind.value, entry.scope, entry.trust, stale=entry.stale
    )


def of_line(line: Mapping[str, Json], taints: Mapping[str, Tier]) -> Passage | None:
    """A journal line; None for one that says nothing. `taints` are the runs' own tiers, as far as they are known."""
    kind, data = str(line.get("kind", "")), line.get("data")
    if kind.startswith(_SILENT) or not isinstance(data, Mapping):
        return None
    text = " · ".join(_words(data))[:TEXT_MAX]
    if len(text.split()) < WORDS_LEAST:
        return None
    tier = _tier(line)
    if tier is None:
        tier = taints.get(run_of(line), Tier.COLLABORATOR) if kind.startswith(_OF_RUNS) else Tier.LOCAL
    at, scope = datetime.fromisoformat(str(line["t"])), str(line.get("ws") or NOWHERE)
    return Passage(Layer.JOURNAL, f"j{line['seq']}", f"{kind.replace('.', ' ')}: {text}", at, kind, scope, tier)


def run_of(line: Mapping[str, Json]) -> str:
    """The id of the run that a line tells of; empty = of none, or it does not say of which."""
    data = line.get("data")
    named = data.get("run") if isinstance(data, Mapping) else ""
    return next((str(one) for one in (named, line.get("cause"), line.get("id")) if str(one).startswith("r_")), "")


def of_transcript(
    run: str, entries: Sequence[JsonObject], *, workspace: str, taint: Tier, at: datetime
) -> Iterator[Passage]:
    """The turns of a run, beside each other."""
    for position, entry in enumerate(entries):
        kind = str(entry.get("kind", ""))
        said = " ".join(_turn(entry)).strip()
        if kind in _SPEAKERS and said:
            yield Passage(
                Layer.TRANSCRIPT, f"{run}#{position}", said[:TEXT_MAX], at, kind, workspace, taint,
                _SPEAKERS[kind], run, position,
            )  # fmt: skip


def _turn(entry: JsonObject) -> Iterator[str]:
    for name in ("text", "answer"):
        if isinstance(said := entry.get(name), str):
            yield said
    uses = entry.get("uses")
    for use in uses if isinstance(uses, (list, tuple)) else ():
        if isinstance(use, Mapping):
            arguments = use.get("arguments")
            yield " ".join([str(use.get("name", "")), *_words(arguments if isinstance(arguments, Mapping) else {})])


def _words(value: Json) -> Iterator[str]:
    """Every text in `value` that a person would search for, those of `FIRST` first."""
    if isinstance(value, str):
        if value.strip() and not _NO_WORDS.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for name in sorted(value, key=lambda name: (name not in FIRST, name)):
            if name not in ("key", "delivery"):
                yield from _words(value[name])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _words(each)


def _tier(line: Mapping[str, Json]) -> Tier | None:
    try:
        return Tier.parse(str(line.get("tier") or ""))
    except KeyError:
        return None
