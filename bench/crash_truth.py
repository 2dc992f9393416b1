"""What really happened, seen from outside the daemon: its journal's bytes, the owner's git, the ntfy server's cache."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.daemon import git

LANDED = re.compile(r"LOG\.md|handled/[a-z]+-\d{4}\.md")
MARKER = re.compile(r"\b(?:act|tell|calm)-\d{4}\b")


def read_chain(folder: Path) -> list[dict[str, Any]]:
    """The journal's lines; shares no code with the product. Raises `AssertionError` at the first one that is wrong."""
    lines: list[dict[str, Any]] = []
    previous, number = "0" * 64, 0
    for file in sorted(folder.rglob("*.jsonl")):
        content = file.read_bytes()
        assert content.endswith(b"\n"), f"{file} ends in the middle of a line"
        for row, raw in enumerate(content.split(b"\n")[:-1], 1):
            line = json.loads(raw)
            found = line.pop("hash")
            text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert hashlib.sha256(text.encode()).hexdigest() == found, f"{file}:{row}: the hash is wrong"
            assert line["prev"] == previous, f"{file}:{row}: the chain is broken"
            assert line["seq"] == number + 1, f"{file}:{row}: number {line['seq']} after {number}"
            previous, number = found, line["seq"]
            lines.append(line)
    return lines


@dataclass
class Seen:
    """How often each marker was seen, by what was looked at."""

    commits: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    news: Counter[str] = field(default_factory=Counter)
    journal: Counter[str] = field(default_factory=Counter)
    strays: list[str] = field(default_factory=list)
    chain: str = ""


def look(repository: Path, ntfy: str, journal: Path) -> Seen:
    """Looks at everything. `ntfy` is the address of the topic."""
    seen = Seen()
    _look_at_git(repository, seen)
    for message in messages(ntfy):
        title, markers = message.get("title", ""), set(MARKER.findall(message["message"]))
        if title == "Handled":
            seen.handled.update(markers)
        elif title.startswith("engine: done"):
            seen.ended.update(markers)
        elif title.startswith("engine: News"):
            seen.news.update(markers)
        else:
            seen.strays.append(f"notice {title!r}")
    try:
        received = [line["id"] for line in read_chain(journal) if line["kind"] == "event.received"]
        seen.journal.update(received)
    except AssertionError as problem:
        seen.chain = str(problem)
    return seen


def messages(ntfy: str) -> list[dict[str, Any]]:
    """Every message the ntfy server holds of a topic."""
    with urllib.request.urlopen(f"{ntfy}/json?poll=1&since=all", timeout=20) as answer:
        rows = [json.loads(line) for line in answer.read().splitlines() if line]
    return [row for row in rows if row["event"] == "message"]


def _look_at_git(repository: Path, seen: Seen) -> None:
    refs = git(repository, "for-each-ref", "--format=%(refname)", "refs/heads/kairos").split()
    for ref in refs:
        for subject in git(repository, "log", "--format=%s", f"main..{ref}").splitlines():
            seen.commits.update(set(MARKER.findall(subject)))
        added = git(repository, "diff", "--unified=0", f"main...{ref}", "--", "LOG.md")
        seen.lines.update(line[1:] for line in added.splitlines() if re.fullmatch(r"\+(act|tell|calm)-\d{4}", line))
        files = git(repository, "diff", "--name-only", f"main...{ref}").split()
        seen.strays += [
            f"{ref}: {name}" for name in files if not re.fullmatch(r"LOG\.md|handled/[a-z]+-\d{4}\.md", name)
        ]
    if git(repository, "status", "--porcelain").strip():
        seen.strays.append(f"the owner's tree: {git(repository, 'status', '--porcelain').strip()}")


@dataclass
class Tally:
    """What was lost, what came twice, and what should not be at all; each as a sentence."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.twice or self.wrong)

    def count(self, what: str, number: int) -> None:
        """One effect that must have happened exactly once."""
        if number == 0:
            self.lost.append(what)
        elif number > 1:
            self.twice.append(f"{what} ({number} times)")


def compare(accepted: dict[str, str], states: dict[str, str], seen: Seen, known: Sequence[str]) -> Tally:
    """Holds what was seen against what the sender was promised.

    `accepted` maps the marker of every acknowledged event to its id, `states` ids to the state the daemon lists;
    `known` are the strays of earlier looks.
    """
    tally = Tally()
    for marker, event in accepted.items():
        if states.get(event) not in ("settled", "coalesced"):
            tally.lost.append(f"{marker}: its event is {states.get(event, 'gone')}")
        if not seen.chain:
            tally.count(f"{marker}: its journal line", seen.journal[event])
        if marker.startswith("calm"):
            continue
        if marker.startswith("act"):
            tally.count(f"{marker}: its commit", seen.commits[marker])
            tally.count(f"{marker}: its line in LOG.md", seen.lines[marker])
            tally.count(f"{marker}: the run's own notice", seen.handled[marker])
            tally.count(f"{marker}: the notice of the run's end", seen.ended[marker])
        else:
            tally.count(f"{marker}: a notice", seen.handled[marker] + seen.news[marker])
    if seen.chain:
        tally.wrong.append(f"the journal: {seen.chain}")
    tally.wrong += [stray for stray in seen.strays if stray not in known]
    return tally
