"""What the owner's hand changed in a generation's files: found by comparing each line with what was written there.

The owner always wins. A line that was changed or added is theirs, at tier `owner`; one taken out is in history. A file
says in its heading which generation it was made of. Where an editor has saved a copy of an older one, it is that one
which its lines are compared with: what has come to memory since is neither taken out nor put back by it. A file that
names one that is not kept takes nothing out. One without its heading may be a copy of any that has its lines: it takes
out what all of those had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date

from kairosd.core.events import Tier
from kairosd.core.memory import (
    EVERYWHERE,
    HAND,
    Entry,
    Past,
    escaped,
    format_line,
    key_of,
    new_id,
    parse_line,
    parse_words,
    plain,
    unescaped,
)
from kairosd.core.memory_index import ALL_TOPICS, INDEX, TOPICS, cut_off, files_of, has_place, index_text, number_of
from kairosd.frozen import frozen

REMOVED = "removed by hand"
_LINK = re.compile(r"[-*] \[[^\]]*\]\([^)]*\)")
_ID = re.compile(r"<!-- m:([0-9a-f]{4,32}) ")
_PLACE = re.compile(r"\[(?P<scope>[^\]]+)\] (?P<text>.+)", re.DOTALL)

_OWNERS = frozenset({"text", "key", "scope", "kind", "check", "pinned"})  # fields that the owner changes on purpose
_LASTING = ("text", "key", "scope", "kind")  # of an entry under its id; the others a dream or a pin may change

Entries = Mapping[str, Entry]


@dataclass(slots=True)
class Edits:
    """The entries as they are with the owner's changes; `edited` names those, `removed` what is no more."""

    entries: dict[str, Entry]
    edited: set[str] = field(default_factory=set)
    removed: list[Past] = field(default_factory=list)


@frozen
class Written:
    """What the generation `number` was written with.

    `older` yields the entries of another one (None = not kept), `copies` a file as each one before it that is kept has
    it, by number.
    """

    number: int
    entries: Entries
    history: Sequence[Past]
    older: Callable[[int], Entries | None]
    copies: Callable[[str], Mapping[int, str]]
    lost: bool = False


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
    """What a file was, before the hand changed it.

    `whole` = it was this and nothing else; what of `sure` is missing in it was taken out by the hand.
    """

    def __init__(self, entries: Entries, name: str, *, whole: bool, sure: Collection[str]) -> None:
        self.entries = entries
        self.name = name
        self.whole = whole
        self.sure = sure
        self.written = files_of(tuple(entries.values()), ()).get(name, "").splitlines()
        self.lines = {format_line(entry): entry for entry in entries.values()}

    def copies(self, named: str, elsewhere: Collection[str]) -> bool:
        """Whether that entry's own line still stands in another file, and never stood in this one."""
        line = format_line(self.entries[named])
        return line in elsewhere and line not in self.written


class _Reader:
    def __init__(self, found: Edits, written: Written, *, today: date) -> None:
        self._found = found
        self._all = written
        self._past = {one.id: one.entry for one in written.history}
        self._taken = written.entries.keys() | self._past.keys()
        self._today = today

    def index(self, content: str) -> None:
        base = self._base(INDEX, content)
        lines = [line for line in _lines(content) if line and not _LINK.match(line)]
        untouched = {parse_words(line)[1] for line in lines if line in base.written}
        shown: set[str] = set()
        for line in lines:
            text, named = parse_words(line)
            if line in base.written:
                shown.add(named)
            elif named in base.entries and named not in untouched | shown:
                shown.add(named)
                self._reword(base.entries[named], text)
            elif named in base.entries:
                self._copied(base.entries[named], _as_meant(base.entries[named], text))
            elif text:
                self._new(base, text, scope=EVERYWHERE, named=named)
        for named in sorted({parse_words(line)[1] for line in base.written} & {*base.sure} - shown):
            self._remove(named)

    def topics(self, changed: Mapping[str, str], files: Mapping[str, str]) -> None:
        """`changed` are the topic files that are not as they were written."""
        bases = {name: self._base(name, content) for name, content in sorted(changed.items())}
        elsewhere = {line for name, content in files.items() if name not in changed for line in content.splitlines()}
        seen = {base.lines[line].id for name, base in bases.items() for line in _lines(changed[name])
                if line in base.lines}  # fmt: skip
        for name, base in bases.items():
            scope = _scope_of(base)
            for line in _lines(changed[name]):
                if line in base.lines:
                    continue
                text, named = parse_words(line)
                if named in base.entries and named not in seen and not base.copies(named, elsewhere):
                    seen.add(named)
                    self._change(base, line, text=text, named=named)
                elif named in base.entries:
                    self._copied(base.entries[named], text)
                elif text and not _LINK.match(line):
                    self._new(base, text, scope=scope, named=named)
        for base in bases.values():
            for line in base.written:
                named = base.lines[line].id if line in base.lines else ""
                if named in base.sure and named not in seen and line not in elsewhere:
                    self._remove(named)

    def _base(self, name: str, content: str) -> _Base:
        number, sure = number_of(content), None
        if number is None:
            number, sure = _origin(name, content, written=self._all)
        known = self._all.entries if number == self._all.number else None
        if known is None and number is not None:
            known = self._all.older(number)
        if known is None:
            return _Base(self._all.entries, name, whole=False, sure=())
        return _Base(known, name, whole=sure is None, sure=known.keys() if sure is None else sure)

    def _change(self, base: _Base, line: str, *, text: str, named: str) -> None:
        was = base.entries[named]
        try:
            said = parse_line(line)
        except ValueError:  # what stands in the comment was broken by hand: what is known of it stays
            said = replace(was, text=text) if text else was
        # In a copy of unknown age only those fields that no dream changes can tell the hand from the time that passed.
        names = [one.name for one in fields(Entry) if one.name != "id"] if base.whole else _LASTING
        changes = {name: each for name in names if (each := getattr(said, name)) != getattr(was, name)}
        now = self._found.entries.get(named)
        if now is not None and changes:
            self._own(replace(now, **changes))
        elif now is None and changes.keys() & _OWNERS:
            self._again(replace(was, **changes))

    def _reword(self, base: Entry, text: str) -> None:
        if not text or text == _shown(base):
            return
        text = _as_meant(base, text)
        if text == base.text:
            return
        if (now := self._found.entries.get(base.id)) is not None:
            self._own(replace(now, text=text))
        else:
            self._again(replace(base, text=text))

    def _copied(self, base: Entry, text: str) -> None:
        """A line beside the one it is a copy of: what it says otherwise is the owner's own."""
        if text and text != base.text:
            self._add(text, base.scope)

    def _again(self, said: Entry) -> None:
        """The owner changed a line that is active no more: a line of theirs, unless it is forgotten."""
        if self._past.get(said.id, said) is not None:
            taken = any((one.scope, one.key) == (said.scope, said.key) for one in self._found.entries.values())
            self._add(said.text, said.scope, like=replace(said, key=key_of(said.text)) if taken else said)

    def _own(self, said: Entry) -> None:
        sources = tuple(dict.fromkeys((*said.sources, HAND)))
        self._found.entries[said.id] = replace(said, trust=Tier.OWNER, sources=sources, seen=self._today, stale=None)
        self._found.edited.add(said.id)

    def _new(self, base: _Base, text: str, *, scope: str, named: str) -> None:
        """A line that is none of the base's: the owner's own, or another generation's, which is no word of theirs."""
        known = self._all.entries.get(named) or self._past.get(named)
        if known is None:
            if named not in self._past and (base.whole or not named):
                self._add(text, scope)
            return
        meant = _as_meant(known, text) if base.name == INDEX else text
        if known.text in (text, meant):
            return
        if named in self._past:
            self._again(replace(known, text=meant))
        else:
            self._add(meant, known.scope)

    def _add(self, text: str, scope: str, *, like: Entry | None = None) -> None:
        """A new entry of the owner's; `like` one that was before, it has that one's key, kind, check and pin."""
        if any(entry.text == text and entry.scope == scope for entry in self._found.entries.values()):
            return
        known = like or Entry(id="0000", key=key_of(text), text=text, scope=scope)
        made = new_id(scope, known.key, text=text, taken=self._taken)
        self._taken.add(made)
        self._found.entries[made] = replace(
            known, id=made, since=self._today, seen=self._today, sources=(HAND,), trust=Tier.OWNER, stale=None
        )
        self._found.edited.add(made)

    def _remove(self, named: str) -> None:
        if named in self._found.edited:
            return  # it was changed in the other file
        if entry := self._found.entries.pop(named, None):
            self._found.removed.append(Past(named, entry, self._today, REMOVED, sources=(HAND,)))


def _origin(name: str, content: str, *, written: Written) -> tuple[int | None, Collection[str]]:
    """The newest generation that a file without its heading may be a copy of, and what each of them had in it.

    (None, nothing) where no line of it tells, and where more is missing than is there: a note or a piece of a file.
    """
    texts = {written.number: files_of(tuple(written.entries.values()), ()).get(name, ""), **written.copies(name)}
    held = {number: {*_lines(text)} for number, text in sorted(texts.items())}
    every = frozenset().union(*held.values())
    lines = every.intersection(_lines(content)) - {""}
    like = [number for number in held if lines <= held[number]]
    ids = {number: {*_ID.findall(text)} for number, text in texts.items()}
    here = {*_ID.findall(content)}
    if not like or not here or not here <= set().union(*ids.values()):
        return None, ()
    if like[0] == min(held) and written.lost:
        return None, ()  # it may be of one that is kept no more
    # What came with one before which others are kept no more may have come after one of those, the true one.
    before = [max((one for one in held if one < number), default=number) for number in like]
    wary = {*like, *(one for one, number in zip(before, like, strict=True) if one + 1 < number)}
    sure = set.intersection(*(ids[number] for number in wary))
    return (like[-1], sure) if len(sure - here) <= len(here) else (None, ())


def _lines(content: str) -> list[str]:
    return [line.strip() for line in content.splitlines()]  # blanks around a line are no edit of it


def _scope_of(base: _Base) -> str:
    return next((base.lines[line].scope for line in base.written if line in base.lines), EVERYWHERE)


def _shown(entry: Entry) -> str:
    return parse_words(f"- {index_text(entry)}")[0]


def _as_meant(entry: Entry, text: str) -> str:
    """The text of an edited index line: without the scope before it, and whole where `index_line` had cut it."""
    tail = cut_off(entry)
    if tail and text.count("…") > index_text(entry)[:-1].count("…"):
        before, _, after = text.rpartition("…")
        text = plain(unescaped(f"{escaped(before)}{tail}{escaped(after)}"))
    place = _PLACE.fullmatch(text)
    return place["text"] if place and has_place(entry) else text
