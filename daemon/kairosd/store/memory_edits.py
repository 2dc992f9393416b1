"""What the owner's hand changed in a generation's files: found by comparing each line with what was written there.

The owner always wins. A line that was changed or added is theirs, at tier `owner`; one taken out is in history. A file
says in its first line which generation it was made of. Where an editor has saved a copy of an older one, it is that
one which its lines are compared with: what has come to memory since is neither taken out nor put back by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date

from kairosd.core.events import Tier
from kairosd.core.memory import (
    EVERYWHERE,
    HAND,
    Entry,
    Past,
    format_line,
    key_of,
    new_id,
    parse_line,
    parse_words,
)
from kairosd.core.memory_index import ALL_TOPICS, INDEX, TOPICS, files_of, has_place, index_text, number_of

REMOVED = "removed by hand"
_LINK = re.compile(r"[-*] \[[^\]]*\]\([^)]*\)")
_PLACE = re.compile(r"\[(?P<scope>[^\]]+)\] (?P<text>.+)", re.DOTALL)

Entries = Mapping[str, Entry]


@dataclass(slots=True)
class Edits:
    """The entries as they are with the owner's changes; `edited` names those, `removed` what is no more."""

    entries: dict[str, Entry]
    edited: set[str] = field(default_factory=set)
    removed: list[Past] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Written:
    """What the generation `number` was written with. `older` yields the entries of another one; None = not kept."""

    number: int
    entries: Entries
    history: Sequence[Past]
    older: Callable[[int], Entries | None]


def read_edits(files: Mapping[str, str], written: Written, *, changed: frozenset[str], today: date) -> Edits:
    """What was written, with what was done by hand to the `changed` ones of `files`.

    A file that is gone or empty is damage and no edit: its entries stay, and the next generation has them again.
    """
    found = Edits(dict(written.entries))
    changed = frozenset(name for name in changed if files.get(name, "").strip())
    topics = {name for name in changed if name.startswith(f"{TOPICS}/") and name != ALL_TOPICS}
    reader = _Reader(found, written, today=today)
    if INDEX in changed:
        reader.index(files[INDEX])
    if topics:
        reader.topics({name: files[name] for name in topics}, files)
    return found


class _Base:
    """What a file was, before the hand changed it. `whole` = what is missing in it was taken out by the hand."""

    def __init__(self, entries: Entries, name: str, *, whole: bool) -> None:
        self.entries = entries
        self.whole = whole
        self.written = files_of(tuple(entries.values()), ()).get(name, "").splitlines()
        self.lines = {format_line(entry): entry for entry in entries.values()}


class _Reader:
    def __init__(self, found: Edits, written: Written, *, today: date) -> None:
        self._found = found
        self._all = written
        self._past = {one.id: one.entry for one in written.history}
        self._taken = written.entries.keys() | self._past.keys()
        self._today = today

    def index(self, content: str) -> None:
        base = self._base(INDEX, content)
        shown: set[str] = set()
        for line in content.splitlines():
            if not line.strip() or _LINK.match(line.strip()):
                continue
            text, named = parse_words(line)
            if named in base.entries:
                shown.add(named)
                if line not in base.written:
                    self._reword(base.entries[named], text)
            elif text and line not in base.written:
                self._new(base, text, scope=EVERYWHERE, named=named)
        if base.whole:
            for named in {parse_words(line)[1] for line in base.written} - shown - {""}:
                self._remove(named)

    def topics(self, changed: Mapping[str, str], files: Mapping[str, str]) -> None:
        """`changed` are the topic files that are not as they were written."""
        bases = {name: self._base(name, content) for name, content in sorted(changed.items())}
        elsewhere = {line for name, content in files.items() if name not in changed for line in content.splitlines()}
        seen: set[str] = set()
        for name, base in bases.items():
            scope = _scope_of(base)
            for line in changed[name].splitlines():
                if line in base.lines:
                    seen.add(base.lines[line].id)
                    continue
                text, named = parse_words(line)
                if named in base.entries and named not in seen:
                    seen.add(named)
                    self._change(base.entries[named], line, text=text)
                elif text and not _LINK.match(line.strip()):
                    self._new(base, text, scope=scope, named=named)
        for base in bases.values():
            for line in base.written if base.whole else ():
                if line in base.lines and base.lines[line].id not in seen and line not in elsewhere:
                    self._remove(base.lines[line].id)

    def _base(self, name: str, content: str) -> _Base:
        number = number_of(content)
        if number is not None and number != self._all.number:
            older = self._all.older(number)
            return _Base(self._all.entries if older is None else older, name, whole=older is not None)
        # Without a number a name that is no more tells that it is a copy of an older one.
        whole = number is not None or not any(parse_words(line)[1] in self._past for line in content.splitlines())
        return _Base(self._all.entries, name, whole=whole)

    def _change(self, base: Entry, line: str, *, text: str) -> None:
        try:
            said = parse_line(line.strip())
        except ValueError:  # what stands in the comment was broken by hand: what is known of it stays
            said = replace(base, text=text) if text else base
        now = self._found.entries.get(base.id)
        if now is None:
            self._again(base, said.text)
            return
        changes = {one.name: getattr(said, one.name) for one in fields(Entry) if one.name != "id"}
        self._own(replace(now, **{name: each for name, each in changes.items() if each != getattr(base, name)}))

    def _reword(self, base: Entry, text: str) -> None:
        if not text or text == parse_words(f"- {index_text(base)}")[0]:
            return
        text = _without_place(base, text)
        if (now := self._found.entries.get(base.id)) is not None:
            self._own(replace(now, text=text))
        else:
            self._again(base, text)

    def _again(self, base: Entry, text: str) -> None:
        """The owner changed a line that is active no more: a line of theirs, unless it is forgotten."""
        if self._past.get(base.id, base) is not None and text != base.text:
            self._add(text, base.scope)

    def _own(self, said: Entry) -> None:
        sources = tuple(dict.fromkeys((*said.sources, HAND)))
        self._found.entries[said.id] = replace(said, trust=Tier.OWNER, sources=sources, seen=self._today, stale=None)
        self._found.edited.add(said.id)

    def _new(self, base: _Base, text: str, *, scope: str, named: str) -> None:
        """A line that is none of the base's: the owner's own, or an older generation's, which is no word of theirs."""
        if named not in self._past:
            if base.whole or not named:
                self._add(text, scope)
            return
        past = self._past[named]
        if past is not None and text != parse_words(f"- {index_text(past)}")[0]:
            self._again(past, _without_place(past, text))

    def _add(self, text: str, scope: str) -> None:
        if any(entry.text == text and entry.scope == scope for entry in self._found.entries.values()):
            return
        key = key_of(text)
        made = new_id(scope, key, text=text, taken=self._taken)
        self._taken.add(made)
        self._found.entries[made] = Entry(
            id=made, key=key, text=text, scope=scope, since=self._today, seen=self._today, sources=(HAND,),
            trust=Tier.OWNER,
        )  # fmt: skip
        self._found.edited.add(made)

    def _remove(self, named: str) -> None:
        if named in self._found.edited:
            return  # it was changed in the other file
        if entry := self._found.entries.pop(named, None):
            self._found.removed.append(Past(named, entry, self._today, REMOVED, sources=(HAND,)))


def _scope_of(base: _Base) -> str:
    return next((base.lines[line].scope for line in base.written if line in base.lines), EVERYWHERE)


def _without_place(entry: Entry, text: str) -> str:
    """The text of an index line without the scope that `index_line` put before it."""
    place = _PLACE.fullmatch(text)
    return place["text"] if place and has_place(entry) else text
