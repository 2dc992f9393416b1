"""The files of a generation: topics that hold every entry, and the index that stands in prompts (design §10).

Both are made from the entries alone. The index is bounded; what does not fit stays in its topic, which it links to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from kairosd.core.events import Tier
from kairosd.core.json import canonical
from kairosd.core.memory import EVERYWHERE, INSTRUCTING, Entry, Generation, Past, escaped, format_line

INDEX = "MEMORY.md"
HISTORY = "history.jsonl"
TOPICS = "topics"
ALL_TOPICS = f"{TOPICS}/index.md"
INDEX_LINES, INDEX_BYTES, LINE_CHARACTERS = 200, 25_000, 200  # invariant I7
LINKS_MAX = 60  # topics the index names itself
HEADS_MAX = 40  # topics of one scope that have a file of their own; rarer ones share files by their first letter
NEWEST = 40  # entries that stay in the index however many others there are
LEAST_TRUST = Tier.LOCAL  # what is trusted less is found by search, which taints

_ABOUT = "Made by Kairos from topics/. What you change here or there stays as you wrote it."
_NUMBERED = re.compile(r"^# .* <!-- generation:(\d{1,12}) -->", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)]+)\)")


def files_of(entries: Sequence[Entry], history: Sequence[Past], *, number: int = 0) -> dict[str, str]:
    """Every file of a generation but its manifest: path below its folder, and content.

    The heading of each names the generation, so that a copy which an editor holds open is known for how old it is.
    """
    topics = _topics(entries)
    made = {f"{TOPICS}/{slug}.md": _topic(slug, listed, number=number) for slug, listed in topics.items()}
    counts = {slug: len(listed) for slug, listed in topics.items()}
    made[ALL_TOPICS] = "# Topics\n\n" + "".join(_link(slug, counts[slug], folder="") for slug in sorted(counts))
    made[INDEX] = index_of(entries, counts, number=number)
    made[HISTORY] = "".join(f"{canonical(past.record())}\n" for past in history)
    return made


def number_of(content: str) -> int | None:
    """The generation whose file this is, or is a copy of; None where it does not say, or names more than one.

    The owner may have written above the heading.
    """
    found = {int(number) for number in _NUMBERED.findall(content)}
    return found.pop() if len(found) == 1 else None


def index_of(entries: Sequence[Entry], counts: Mapping[str, int], *, number: int = 0) -> str:
    """The text of `MEMORY.md`: pinned entries, then the newest, then the rest as far as they go, then the topics."""
    head = f"{_title('Memory', number)}\n\n{_ABOUT}\n\n"
    largest = sorted(counts, key=lambda slug: (-counts[slug], slug))[:LINKS_MAX]
    links = "".join(_link(slug, counts[slug], folder=f"{TOPICS}/") for slug in sorted(largest))
    if entries:
        links = f"\n## Topics\n\n{links}- [all topics]({ALL_TOPICS})\n"
    lines: list[str] = []
    room = INDEX_BYTES - len((head + links).encode())
    spare = INDEX_LINES - (head + links).count("\n")
    for entry in ranked(entries):
        line = index_line(entry) + "\n"
        if len(lines) >= spare or len(line.encode()) > room:
            break
        lines.append(line)
        room -= len(line.encode())
    return head + "".join(lines) + links


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """What may stand in the index, what must not fall off it first. Stale entries are not told as current."""
    told = [entry for entry in entries if entry.trust >= LEAST_TRUST and entry.stale is None]
    newest = sorted(told, key=lambda entry: (entry.since, entry.seen, entry.id), reverse=True)
    first = {entry.id for entry in newest[:NEWEST]}
    return sorted(
        newest,
        key=lambda one: (not one.pinned, one.id not in first, one.kind not in INSTRUCTING, -one.seen.toordinal()),
    )


def index_line(entry: Entry) -> str:
    """An entry's line of the index: its text, cut to fit, and its id."""
    about = f" <!-- m:{entry.id} -->"
    place = _place(entry)
    return f"- {place}{_cut(escaped(entry.text), LINE_CHARACTERS - len(place) - len(about) - 2)}{about}"


def has_place(entry: Entry) -> bool:
    """Whether its line begins with its scope: also where the text itself would look like one."""
    return entry.scope != EVERYWHERE or entry.text.startswith("[")


def index_text(entry: Entry) -> str:
    """What `index_line` shows between its marks: to tell an owner's edit of the index from what was written there."""
    return index_line(entry)[2:].rpartition(" <!-- ")[0]


def cut_off(entry: Entry) -> str:
    """What `index_line` leaves out of the end of a long text, escaped as there; empty where it shows all of it."""
    shown, whole = index_text(entry), _place(entry) + escaped(entry.text)
    return "" if shown == whole else whole[len(shown) - 1 :]


def prompt_lines(
    generation: Generation, workspace: str | None, *, pins: Sequence[str] = (), limit: int = 8000
) -> tuple[str, ...]:
    """Memory as a prompt of `workspace` holds it: the owner's pins, then hints with their day and trust; at most
    `limit` characters together. Entries of other workspaces are not among them. An age in days would make every
    prompt begin otherwise from midnight on.

    What an entry says stands in quotes that it cannot end, so that none of its words is taken for a mark.
    """
    lines = [f"- {pin} (pinned by the owner)" for pin in pins]
    for entry in ranked(generation.visible(workspace)):
        said = json.dumps(entry.text, ensure_ascii=False)
        lines.append(f"- {said} ({entry.trust.label}, seen {entry.seen}, m:{entry.id})")
    kept: list[str] = []
    for line in lines:
        limit -= len(line) + 1
        if limit < 0:
            break
        kept.append(line)
    return tuple(kept)


def problems_of(files: Mapping[str, str], entries: Sequence[Entry]) -> list[str]:
    """What of invariant I7 does not hold in the files of a generation, as sentences."""
    index = files.get(INDEX, "")
    found = []
    if (count := index.count("\n")) > INDEX_LINES:
        found.append(f"the index has {count} lines, more than {INDEX_LINES}")
    if (size := len(index.encode())) > INDEX_BYTES:
        found.append(f"the index has {size} bytes, more than {INDEX_BYTES}")
    found += [f"an index line has {len(line)} characters" for line in index.splitlines() if len(line) > LINE_CHARACTERS]
    links = set(_LINK.findall(index)) | {f"{TOPICS}/{name}" for name in _LINK.findall(files.get(ALL_TOPICS, ""))}
    found += [f"the link {link} leads nowhere" for link in sorted(links) if link not in files]
    reached = {line for name, content in files.items() if name in links for line in content.splitlines()}
    for entry in entries:
        if format_line(entry) not in reached:
            found.append(f"the entry {entry.id} is in no topic that can be reached")
    must = [entry for entry in ranked(entries) if entry.pinned][:NEWEST]
    newest = max(
        (entry for entry in ranked(entries)), key=lambda entry: (entry.since, entry.seen, entry.id), default=None
    )
    found += [
        f"the {'pinned' if entry.pinned else 'newest'} entry {entry.id} fell off the index"
        for entry in [*must, *([newest] if newest else [])]
        if f"m:{entry.id} " not in index
    ]
    return found


def read_history(content: str) -> tuple[Past, ...]:
    """The inverse of what `files_of` writes. Raises `ValueError`, `KeyError`."""
    return tuple(Past.of(json.loads(line)) for line in content.splitlines())


def _topics(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    heads: dict[str, Counter[str]] = {}
    for entry in entries:
        heads.setdefault(entry.scope, Counter())[entry.key.partition(".")[0]] += 1
    own = {
        scope: {head for head, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:HEADS_MAX]}
        for scope, counts in heads.items()
    }
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda one: (one.key, one.since, one.id)):
        head = entry.key.partition(".")[0]
        name = head if head in own[entry.scope] else f"more-{head[0]}"
        found.setdefault(f"{_scope_name(entry.scope)}.{name}", []).append(entry)
    return found


def _scope_name(scope: str) -> str:
    if scope == EVERYWHERE:
        return "all"
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", scope):
        return f"ws-{scope}"
    return f"ws.{hashlib.sha256(scope.encode()).hexdigest()[:12]}"  # a dot: no plain name can be the same


def _title(name: str, number: int) -> str:
    return f"# {name} <!-- generation:{number:06d} -->"


def _topic(slug: str, entries: Sequence[Entry], *, number: int) -> str:
    return f"{_title(slug, number)}\n\n" + "".join(f"{format_line(entry)}\n" for entry in entries)


def _link(slug: str, count: int, *, folder: str) -> str:
    return f"- [{slug}]({folder}{slug}.md): {count}\n"


def _place(entry: Entry) -> str:
    return f"[{escaped(entry.scope)[:40]}] " if has_place(entry) else ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
