"""What the owner's hand changed in a generation's files: found by comparing each line with what was written there.

The owner always wins. A line that was changed or added is theirs, at tier `owner`; one taken out is in history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from kairosd.core.memory_index import ALL_TOPICS, INDEX, TOPICS, files_of, index_text

REMOVED = "removed by hand"
_LINK = re.compile(r"[-*] \[[^\]]*\]\([^)]*\)")
_PLACE = re.compile(r"\[(?P<scope>[^\]]+)\] (?P<text>.+)", re.DOTALL)


@dataclass(slots=True)
class Edits:
    """The entries as they are with the owner's changes; `edited` names those, `removed` what is no more."""

    entries: dict[str, Entry]
    edited: set[str] = field(default_factory=set)
    removed: list[Past] = field(default_factory=list)


def read_edits(
    files: Mapping[str, str],
    base: Mapping[str, Entry],
    *,
    changed: frozenset[str],
    history: Sequence[Past],
    today: date,
) -> Edits:
    """`base`, which came after `history`, with what was done by hand to the `changed` files.

    A file that is gone or empty is damage and no edit: its entries stay, and the next generation has them again. So do
    those that are not in a file which an editor had open since an older generation, and what that one said is no news.
    """
    found = Edits(dict(base))
    changed = frozenset(name for name in changed if files.get(name, "").strip())
    topics = {name for name in changed if name.startswith(f"{TOPICS}/") and name != ALL_TOPICS}
    reader = _Reader(found, base, history=history, today=today)
    if INDEX in changed:
        reader.index(files[INDEX])
    if topics:
        reader.topics({name: files[name] for name in topics}, files)
    return found


class _Reader:
    def __init__(self, found: Edits, base: Mapping[str, Entry], *, history: Sequence[Past], today: date) -> None:
        self._found = found
        self._base = base
        self._past = {one.id: one.entry for one in history}
        self._taken = base.keys() | self._past.keys()
        self._old = False  # whether a file is a copy of an older generation's
        self._today = today
        self._written = files_of(tuple(base.values()), ())

    def index(self, content: str) -> None:
        written = self._written[INDEX].splitlines()
        shown: set[str] = set()
        for line in content.splitlines():
            if not line.strip() or _LINK.match(line.strip()):
                continue
            text, named = parse_words(line)
            if named in self._base:
                shown.add(named)
                if line not in written:
                    self._reword(self._base[named], text)
            elif text and line not in written:
                self._new(text, EVERYWHERE, named=named)
        for named in {parse_words(line)[1] for line in written} - shown - {""}:
            self._remove(named)

    def topics(self, changed: Mapping[str, str], files: Mapping[str, str]) -> None:
        """`changed` are the topic files that are not as they were written."""
        lines = {format_line(entry): entry for entry in self._base.values()}
        elsewhere = {line for name, content in files.items() if name not in changed for line in content.splitlines()}
        seen: set[str] = set()
        for name, content in sorted(changed.items()):
            scope = self._scope_of(name)
            for line in content.splitlines():
                if line in lines:
                    seen.add(lines[line].id)
                    continue
                text, named = parse_words(line)
                if named in self._base and named not in seen:
                    seen.add(named)
                    self._change(self._base[named], line, text=text)
                elif text and not _LINK.match(line.strip()):
                    self._new(text, scope, named=named)
        for name in changed:
            for line in self._written.get(name, "").splitlines():
                if line in lines and lines[line].id not in seen and line not in elsewhere:
                    self._remove(lines[line].id)

    def _scope_of(self, name: str) -> str:
        for line in self._written.get(name, "").splitlines():
            if line.startswith("- "):
                return parse_line(line).scope
        return EVERYWHERE

    def _change(self, base: Entry, line: str, *, text: str) -> None:
        try:
            said = parse_line(line.strip())
        except ValueError:  # what stands in the comment was broken by hand: what is known of it stays
            said = replace(base, text=text) if text else base
        self._own(said)

    def _reword(self, base: Entry, text: str) -> None:
        place = _PLACE.fullmatch(text)
        if base.scope != EVERYWHERE and place:
            text = place["text"]
        if text and text != parse_words(f"- {index_text(base)}")[0]:
            self._own(replace(base, text=text))

    def _own(self, said: Entry) -> None:
        sources = tuple(dict.fromkeys((*said.sources, HAND)))
        self._found.entries[said.id] = replace(said, trust=Tier.OWNER, sources=sources, seen=self._today, stale=None)
        self._found.edited.add(said.id)

    def _new(self, text: str, scope: str, *, named: str) -> None:
        """A line that names no active entry: the owner's own, or an older generation's, which is no word of theirs."""
        if named not in self._past:
            self._add(text, scope)
            return
        self._old = True
        past = self._past[named]
        if past is None:
            return  # forgotten
        place = _PLACE.fullmatch(text)
        said = place["text"] if past.scope != EVERYWHERE and place else text
        if text != parse_words(f"- {index_text(past)}")[0] and said != past.text:
            self._add(said, past.scope)

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
        if self._old or named in self._found.edited:
            return  # it came later than the copy, or was changed in the other file
        if entry := self._found.entries.pop(named, None):
            self._found.removed.append(Past(named, entry, self._today, REMOVED, sources=(HAND,)))
