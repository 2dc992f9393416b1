"""Memory: its entries, the one line that an entry is on disk, and one generation of them all (design §10).

    - Deploys run on Hetzner, port 9090. <!-- m:7f3a k:deploy.host ws:* since:2026-09-10 seen:2026-11-20 src:j1234
      trust:owner check:path=deploy/hetzner.tf -->

is one line. What an entry says stands before the comment, what is known about it inside. `parse_line` and
`format_line` are each other's inverse for every entry there can be: text that could end the line or the comment, or
that a reader could not see, is escaped or never becomes an entry's text (`plain`).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import date
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, unquote

from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject
from kairosd.core.texts import HIDDEN, SELECTORS
from kairosd.frozen import frozen

EVERYWHERE = "*"  # the scope of what holds in every workspace; only the owner's words make such an entry
HAND = "hand"  # the source of a line that the owner wrote or changed in an editor
DREAMT = ("verify", "consolidate")  # the phases of a dream that commit, as manifests name them
TEXT_MAX = 400  # characters of what the dream may write; the owner may write longer lines
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)*")
KEY_MAX = 80
NUMBER_ROOM = 8  # characters of a key made from a text that are kept for what tells it from another one's
CACHED = 2048  # texts whose words are kept at hand: every entry is compared with every new one
ID = re.compile(r"[0-9a-f]{4,32}")
SOURCE = re.compile(r"j[0-9]{1,18}|hand|[edrcan]_[0-9a-z]{26}")
ID_LEAST = 6  # characters of an id's start that are enough to forget by; a slip must not name another entry
CHECK = re.compile(r"(?:path|command|commit|branch|package|port)=.{1,200}", re.DOTALL)

_LINE = re.compile(r"[-*] (?P<text>.*?)(?: *<!-- (?P<about>[^\n]*?) ?-->)? *", re.DOTALL)
_ESCAPES = re.compile(r"&(?=(?:amp|lt|gt);)|<(?=!--)|(?<=--)>|(?<=--!)>")
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_UNESCAPED = {escaped: char for char, escaped in _ESCAPED.items()}
_UNESCAPES = re.compile("|".join(_UNESCAPED))
_WORD = re.compile(r"\w+(?:[._/@:+-]+\w+)*")
_STOPS = (  # "no" and "not" are none of them: what is and what is not so must never look alike
    "a an and are as at be been but by can do does for from had has have i if in into is it its me my of on or our so "
    "than that the their them then there these they this to was we were what when where which who will with you your"
)
STOP_WORDS = frozenset(_STOPS.split())


class Kind(StrEnum):
    """What an entry is about. `user` (who the owner is) and `feedback` (how they want it) come from the owner alone."""

    USER = "user"
    FEEDBACK = "feedback"
    PROJECT = "project"
    REFERENCE = "reference"


INSTRUCTING = (Kind.USER, Kind.FEEDBACK)


@frozen
class Entry:
    """One thing that is remembered.

    `key` names what it is about, such as `deploy.host`: at one time one entry of a scope holds a key's value. `scope`
    is `*` or a workspace's name. `since` is the local day it became true, `seen` the day it was last confirmed.
    `sources` are journal lines (`j` and their number), ids of ours, or `hand`. `trust` is the lowest tier of its
    sources. `check` is a claim that can be looked up, `KIND=VALUE`; `stale` the day it was found to be wrong.
    Raises `ValueError` for what has no line: an unknown form of id, key, source or check, or text that is not `plain`.
    """

    id: str
    key: str
    text: str
    kind: Kind = Kind.PROJECT
    scope: str = EVERYWHERE
    since: date = date(1970, 1, 1)
    seen: date = date(1970, 1, 1)
    sources: tuple[str, ...] = ()
    trust: Tier = Tier.PUBLIC
    check: str = ""
    pinned: bool = False
    stale: date | None = None

    def __post_init__(self) -> None:
        _demand(ID.fullmatch(self.id) is not None, "id", value=self.id)
        _demand(is_key(self.key), "key", value=self.key)
        _demand(bool(self.text) and self.text == plain(self.text), "text", value=self.text)
        _demand(bool(self.scope) and self.scope == plain(self.scope), "scope", value=self.scope)
        _demand(not self.check or is_check(self.check), "check", value=self.check)
        for source in self.sources:
            _demand(SOURCE.fullmatch(source) is not None, "source", value=source)

    @property
    def by_owner(self) -> bool:
        """Whether the owner's own hand wrote or changed it: nothing but the owner may touch it then."""
        return HAND in self.sources

    def visible_in(self, workspace: str | None) -> bool:
        """Whether a prompt, search or dream of `workspace` may hold it; None = one of no workspace."""
        return self.scope in (EVERYWHERE, workspace)


@frozen
class Past:
    """An entry that is active no more: when, why, and what took its place (an entry's id, empty = nothing).

    A tombstone (`entry` None) says that one was forgotten, and not what it said.
    """

    id: str
    entry: Entry | None
    ended: date
    reason: str
    successor: str = ""
    sources: tuple[str, ...] = ()

    def record(self) -> JsonObject:
        """Its line of `history.jsonl`."""
        return {
            "id": self.id, "line": format_line(self.entry) if self.entry else None, "ended": self.ended.isoformat(),
            "reason": self.reason, "successor": self.successor, "sources": list(self.sources),
        }  # fmt: skip

    @staticmethod
    def of(record: Mapping[str, Json]) -> Past:
        """The inverse of `record`. Raises `ValueError`, `KeyError`."""
        line = record["line"]
        sources = record.get("sources") or ()
        return Past(
            str(record["id"]), parse_line(str(line)) if line is not None else None,
            date.fromisoformat(str(record["ended"])), str(record["reason"]), str(record.get("successor") or ""),
            tuple(str(one) for one in sources) if isinstance(sources, (list, tuple)) else (),
        )  # fmt: skip


@frozen
class Generation:
    """The whole memory at one time. Generation 0 is the empty one that is there before the first dream.

    `cursor` is the number of the last journal line a dream has looked at. `digest` names the exact bytes on disk that
    this was read from (empty = never written): a commit on top of it is refused when they have changed since.
    `edited` are the ids of entries that the owner's hand has changed or added since the dream wrote them.
    """

    number: int = 0
    cursor: int = 0
    entries: tuple[Entry, ...] = ()
    history: tuple[Past, ...] = ()
    digest: str = ""
    edited: frozenset[str] = frozenset()
    manifest: JsonObject = field(default_factory=dict)

    def get(self, identifier: str) -> Entry | None:
        """The active entry of that id."""
        return next((entry for entry in self.entries if entry.id == identifier), None)

    def visible(self, workspace: str | None) -> tuple[Entry, ...]:
        """What a prompt, search or dream of `workspace` may hold."""
        return tuple(entry for entry in self.entries if entry.visible_in(workspace))

    @property
    def ids(self) -> frozenset[str]:
        """Every id ever given, active or past."""
        return frozenset(entry.id for entry in self.entries) | frozenset(past.id for past in self.history)


def format_line(entry: Entry) -> str:
    """The one line of `entry`, without its newline. What is at its default is left out: kind, check, pin, stale."""
    about = [f"m:{entry.id}", f"k:{entry.key}"]
    if entry.kind is not Kind.PROJECT:
        about.append(f"kind:{entry.kind}")
    about += [f"ws:{_packed(entry.scope)}", f"since:{entry.since}", f"seen:{entry.seen}"]
    if entry.sources:
        about.append(f"src:{','.join(entry.sources)}")
    about.append(f"trust:{entry.trust.label}")
    if entry.check:
        about.append(f"check:{_packed(entry.check)}")
    if entry.pinned:
        about.append("pin:yes")
    if entry.stale:
        about.append(f"stale:{entry.stale}")
    return f"- {escaped(entry.text)} <!-- {' '.join(about)} -->"


def parse_line(line: str) -> Entry:
    """The entry of one line. Raises `ValueError` for a line that is none, or says something about it twice or wrongly.

    A line without its comment is none either: `parse_words` says what it says.
    """
    found = _LINE.fullmatch(line)
    if found is None or found["about"] is None:
        raise ValueError("not the line of an entry")
    about: dict[str, str] = {}
    for part in found["about"].split():
        name, colon, value = part.partition(":")
        if not colon or name in about or name not in _NAMES:
            raise ValueError(f"an entry's line has no {part!r}, or has it twice")
        about[name] = value
    if missing := {"m", "k", "ws", "since", "seen", "trust"} - about.keys():
        raise ValueError(f"an entry's line needs {', '.join(sorted(missing))}")
    try:
        return Entry(
            id=about["m"], key=about["k"], text=unescaped(found["text"]), kind=Kind(about.get("kind", Kind.PROJECT)),
            scope=_unpacked(about["ws"]), since=date.fromisoformat(about["since"]),
            seen=date.fromisoformat(about["seen"]), sources=tuple(filter(None, about.get("src", "").split(","))),
            trust=Tier.parse(about["trust"]), check=_unpacked(about.get("check", "")),
            pinned=about.get("pin") == "yes", stale=date.fromisoformat(about["stale"]) if "stale" in about else None,
        )  # fmt: skip
    except KeyError as error:
        raise ValueError(f"no tier is called {about['trust']!r}") from error


def parse_words(line: str) -> tuple[str, str]:
    """What a line says that somebody may have written by hand: its plain text (empty = nothing) and the id it names."""
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return "", ""
    found = _LINE.fullmatch(stripped)
    text, about = (found["text"], found["about"] or "") if found else (stripped, "")
    named = re.search(r"(?:^| )m:([0-9a-f]{4,32})(?: |$)", about)
    return plain(unescaped(text)), named[1] if named else ""


def plain(text: str) -> str:
    """`text` as one line that a person sees all of: no control, bidi or other invisible character, single blanks."""
    if text.isascii() and text.isprintable():  # most of it, in a twentieth of the time
        return " ".join(text.split())
    shown = "".join(" " if each.isspace() else each for each in text)
    shown = "".join(each for each in shown if each == " " or unicodedata.category(each) not in HIDDEN)
    return " ".join(SELECTORS.sub("", shown).split())


def escaped(text: str) -> str:
    """`text` so that it can neither begin nor end a comment; nothing else is changed."""
    return _ESCAPES.sub(lambda found: _ESCAPED[found[0]], text)


def unescaped(text: str) -> str:
    """The inverse of `escaped`."""
    return _UNESCAPES.sub(lambda found: _UNESCAPED[found[0]], text)


def is_key(key: str) -> bool:
    """Whether `key` is one: lower-case words and dots, such as `deploy.host`."""
    return len(key) <= KEY_MAX and KEY.fullmatch(key) is not None


def is_check(check: str) -> bool:
    """Whether `check` is a claim that can be looked up, such as `path=deploy/hetzner.tf` or `port=9090`."""
    return CHECK.fullmatch(check) is not None and check == plain(check)


def key_of(text: str) -> str:
    """A key for a text that came without one: `note.` and its first content words."""
    words = [re.sub(r"[^a-z0-9]+", "-", word).strip("-") for word in content_words(text)]
    key = f"note.{'-'.join([word for word in words if word][:4])}" if any(words) else "note"
    return key[: KEY_MAX - NUMBER_ROOM].rstrip("-.")


def has_given_key(entry: Entry) -> bool:
    """Whether somebody named what `entry` is about; a key made from its text is no claim that it is about one thing."""
    return re.fullmatch(rf"{re.escape(key_of(entry.text))}(?:-\d+)?", entry.key) is None


def new_id(scope: str, key: str, *, text: str, taken: Iterable[str]) -> str:
    """An id for a new entry. The same entry gets the same one, so that a dream done twice is the same dream."""
    known = frozenset(taken)
    named = hashlib.sha256(f"{scope}\n{key}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
    length = 8
    while named[:length] in known and length < 32:
        length += 2
    while named[:length] in known:
        named = hashlib.sha256(named.encode()).hexdigest()
    return named[:length]


def content_words(text: str) -> tuple[str, ...]:
    """The words of `text` that carry it, in lower case and in order, each once; paths and versions stay whole."""
    return tuple(dict.fromkeys(word for word in _WORD.findall(text.casefold()) if word not in STOP_WORDS))


@lru_cache(maxsize=CACHED)
def word_set(text: str) -> frozenset[str]:
    """`content_words` as a set."""
    return frozenset(content_words(text))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's index of two sets of words: 1 = the same ones, 0 = none in common."""
    if not one and not other:
        return 1.0
    return len(one & other) / len(one | other)


_NAMES = frozenset({"m", "k", "kind", "ws", "since", "seen", "src", "trust", "check", "pin", "stale"})


def _packed(value: str) -> str:
    return quote(value, safe="*/=:._-+@~,")


def _unpacked(value: str) -> str:
    return unquote(value, errors="strict")


def _demand(holds: bool, what: str, *, value: object) -> None:
    if not holds:
        raise ValueError(f"{value!r} is no {what} of an entry")
