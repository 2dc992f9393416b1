"""Evidence: what of the journal a dream may learn from. The table is the whole rule; what it does not name is noise.

Kairos's own output is never evidence: no decision's reason, notice, dream, memory or story. Otherwise a guess would be
remembered, told, and found again as its own proof.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, tzinfo

from kairosd.core.dream_dates import resolved
from kairosd.core.dream_support import asserted, denies
from kairosd.core.events import Tier
from kairosd.core.json import Json, JsonObject
from kairosd.core.memory import Entry, content_words, overlap, plain, word_set
from kairosd.core.secrets import Scrubber, is_told_secret
from kairosd.core.texts import cleaned
from kairosd.frozen import frozen

Line = Mapping[str, Json]
TEXT_MAX = 600  # characters of one piece of evidence
SERIES = 3  # texts of one batch that differ in their numbers alone, and none of them is news
ECHO = 0.9  # as much of a text in one active entry, and it says nothing new
ABOUT = 0.5  # Jaccard's index from which two texts may be about one thing


@frozen
class Rule:
    """One row of the table: which lines, up to which tier, and which of their `data` is read.

    `where` demands values of `data`; `tier` is the highest that such a line proves, whatever it says of itself.
    """

    kind: str
    speaker: str
    tier: Tier
    takes: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]


RULES: tuple[Rule, ...] = (
    Rule("event.received", "owner", Tier.OWNER, ("text.message",), {"source": ("owner",)}),
    Rule("event.received", "webhook", Tier.LOCAL, ("kind", "facts.*"), {"source": ("webhook", "github")}),
    Rule(
        "run.ended", "checked run", Tier.LOCAL, ("goal", "result", "checks", "branch", "commit"), {"state": ("done",)}
    ),
    Rule("call.succeeded", "commit", Tier.LOCAL, ("result",), {"tool": ("git_commit",)}),
    Rule("call.succeeded", "command", Tier.LOCAL, ("result",), {"tool": ("shell",)}),
    Rule("call.succeeded", "edit", Tier.LOCAL, ("path",), {"tool": ("write", "edit")}),
)

# Why every other line is noise: a prefix of its kind, and the reason. A test holds that no kind is forgotten here.
NOISE: tuple[tuple[str, str], ...] = (
    ("event.", "files, ticks, boots and schedules say that something moved; the world itself says what"),
    ("decision.", "a model's own reasons"),
    ("run.", "what a run set out to do is no result, and an unchecked result is the model's own word"),
    ("call.", "what was only read is in the workspace still; refusals and failures are how, not what"),
    ("approval.", "the question is a model's prose; the owner's own words come with `tell`"),
    ("grant.", "kept by the gate"),
    ("notice.", "Kairos's own output"),
    ("dream.", "Kairos's own output"),
    ("memory.", "Kairos's own output"),
    ("daemon.", "about the daemon"),
    ("tick.", "about the daemon"),
    ("workspace.", "kept in the configuration"),
    ("trigger.", "kept in the configuration"),
    ("rating.", "kept with what was rated"),
    ("task.", "a command in the background counts by the result of the run it was started for"),
    ("model.", "about the daemon"),
    ("prompt.", "about the daemon"),
    ("channel.", "about the daemon"),
    ("schedule.", "about the daemon"),
    ("watch.", "about the daemon"),
    ("repair", "about the journal"),
)

# One or more of these and nothing else, or one word, or none.
_EMPTY_WORDS = re.compile(
    r"[\W_]*(?:(?:ok(?:ay)?|yes|yeah|yep|no|nope|thanks|thank(?: you)?|(?:very|so) much|a lot|please|great|perfect|nice"
    r"|good|done|fine|sure|cool|right|lgtm|ping|pong|test|hello|hi|hey|bye|heartbeat|still alive|alive|continue|proceed"
    r"|stop|go (?:on|ahead)|carry on|try again|do (?:it|that|so)|(?:well|all) done|all good|got it|i see"
    r"|(?:good|nice|great) (?:work|job|one)|(?:sounds|looks) (?:good|great|fine|right)(?: to me)?|no problem|never mind"
    r"|of course|that['’]s (?:it|all|fine|right|good|great)|good (?:morning|evening|night)"
    r"|nothing to do|up to date|already up to date)\b[\W_]*)*|[\W_]*[a-z0-9]*[\W_]*",
    re.I,
)
# Of a text of one or two words: an answer, an order that is done once, or a lone token.
_OF_THE_MOMENT = re.compile(
    r"[\W_]*(?:(?:always|never|please|ok(?:ay)?|yes|no|hmm)\b[\W_]*)*(?:(?:approve|delete|deploy|do|ignore|merge|push"
    r"|retry|rm|run|ship|skip|trust|try|undo|all|exactly|it|maybe|not|one|option|that|this|the (?:first|second|last)"
    r"|makes sense|works for me|up to you|no idea|idea|later|now)\b|\d*[\W_]*$)|[\x21-\x3c\x3e-\x7e]+$",
    re.I,
)
_SHELL_NOISE = re.compile(
    r"(?:^|\n)\s*(?:\$ |[-dl][rwx-]{9} |heartbeat\b|npm (?:warn|notice)|warning:|"
    r"\[\d+/\d+\]|\d{1,3}%|=+ test session starts|collecting |"
    r"downloading |progress:|remote: (?:counting|compressing)|receiving objects|resolving deltas|total \d+)",
    re.I,
)
_SAID = r"(?:[^.!?]|[.](?=\d))*"
# What a machine reports of itself: one sentence, and nothing of it holds an hour later.
_REPORT = re.compile(
    r"(?:[-dl][rwx-]{9}\s|\[\d+/\d+\]|npm (?:warn|notice)\b|\d{1,3} ?%(?: done| complete|\s*[\[|])|progress\W+\d"
    r"|(?:downloading|unpacking|fetching) \S+\s*\(?\d|remote: (?:enumerating|counting|compressing)\b"
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S* \W?(?:info|debug|trace|notice|warn)|(?:debug|trace): |\[ *\d+\.\d{4,}\] "
    r"|systemd\[\d+\]: |(?:re)?booting\b|(?:get|head|post|put) /\S* (?:http\S* )?\d{3}\b|eta \d"
    r"|receiving objects\b|resolving deltas\b|heart-?beat (?:from|of|ok|sent|received|#?\d+)\b|still alive\b"
    rf"|(?:\w+[ -]){{0,3}}(?:ran|took|booted|started|finished|completed|compiled|built|passed|done|ended)\b{_SAID}"
    r"\bin \d[\d.,]*\s?(?:ms|s|m|h|sec(?:ond)?s?|min(?:ute)?s?|hours?)\b"
    r"|(?:job|task|step|request|worker|runner|process|thread|batch|connection|chunk|shard|epoch|iteration)s? #?\d+\b"
    r"(?: \w+){0,2}? (?:queued|started|finished|done|completed|skipped|retried|exited|connected|disconnected)\b"
    rf"){_SAID}[.! ]*|cache (?:hit|miss) (?:for|on|at) \S+(?: \S+){{0,2}}|total \d+(?: \w+)?",
    re.I,
)
# Of these, what no person writes: a form of its own and, where its words are plain English, nothing after them.
# Only this is noise from the owner, whose fact would be lost for good.
_TIMED = r"\d[\d.,]* ?(?:ms|s|sec(?:ond)?s?|min(?:ute)?s?|hours?)"
_PASTED = re.compile(
    r"(?:[-dl][rwx-]{9}\s|\[\d+/\d+\] (?!of\b)|npm (?:warn|notice) (?:deprecated|config|new|[a-z]+\d|\S+@)"
    r"|\d{1,3} ?% ?[\[|]|systemd\[\d+\]: |\[ *\d+\.\d{6}\] "
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* \W?(?:info|debug|trace|notice|warn)"
    r"|remote: (?:enumerating|counting|compressing) objects\W+\d|(?:receiving objects|resolving deltas): +\d"
    rf"|(?:get|head|post|put|patch|delete) /\S* http/\d\S* \d{{3}}\b){_SAID}[.! ]*"
    r"|(?:get|head|post|put|patch|delete) /\S* \d{3} from [\d.:]+(?:, \d+ bytes)?"
    r"|heart-?beat #?\d+(?: from \w+ #?\d+)?[.! ]*|cache (?:hit|miss) (?:for|on|at) key \S*\d\S*"
    r"|progress\W+\d+ ?(?:%|percent)(?: of \d+ \w+)?[.! ]*|total \d+"
    rf"|(?:compiled|built|ran|finished|completed) \d+ \w+ in {_TIMED}[.! ]*|eta {_TIMED}(?:, \d+ (?:\w+ )?left)?[.! ]*",
    re.I,
)
_REPORT_WORDS = 16  # of the longest one
_LEAST_WORDS = 3  # of what no owner told: "Port 9000" is a fact of theirs
_NO_TIERS: Mapping[str, Tier] = {}


@frozen
class Evidence:
    """One journal line that may be cited. `day` is the local day of the event; `text` has its dates resolved."""

    source: str
    moment: datetime
    day: date
    workspace: str
    tier: Tier
    speaker: str
    text: str

    def record(self) -> JsonObject:
        """As a proposal keeps it."""
        return {
            "source": self.source, "moment": self.moment.isoformat(), "day": self.day.isoformat(),
            "workspace": self.workspace, "tier": self.tier.label, "speaker": self.speaker, "text": self.text,
        }  # fmt: skip


@frozen
class Gathered:
    """What a stretch of the journal holds: `upto` is the last number looked at, `dropped` counts reasons."""

    evidence: tuple[Evidence, ...]
    upto: int
    dropped: Mapping[str, int]


def gather(
    lines: Iterable[Line], entries: Sequence[Entry], *, scrub: Scrubber, zone: tzinfo | None = None,
    known: Mapping[str, Tier] = _NO_TIERS,
) -> Gathered:  # fmt: skip
    """The evidence in `lines`, oldest first: noise, own output, secrets, echoes of memory and repetitions left out.

    `entries` are the active ones, `zone` the owner's (None = this machine's), `known` the tiers that runs have by now:
    what lowered one may stand outside of `lines`.
    """
    kept: list[Evidence] = []
    dropped: dict[str, int] = {}
    seen: dict[tuple[str, Tier, str], int] = {}
    told = _Told(entries)
    lines = list(lines)
    taints = _taints(lines, known)
    for line in lines:
        found = _evidence(line, taints, zone=zone)
        reason = "noise" if found is None else _unusable(found, told, scrub=scrub)
        if found is not None and not reason:
            # The order of words and the small ones count: "tabs, not spaces" is another thing than "spaces, not tabs".
            mark = (found.workspace, found.tier, found.text.casefold().rstrip(".!? "))
            if mark in seen and not _is_answer(found, kept[seen[mark] + 1 :]):
                reason = "repeated"
            else:
                seen[mark] = len(kept)
        if reason or found is None:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append(found)
    return Gathered(tuple(kept), max(map(_number, lines), default=0), dropped)


def without_series(found: Gathered) -> Gathered:
    """`found` without what comes again and again with other numbers, such as a heartbeat; the newest of each stays.

    The owner's words all stay: to them a number can be the news.
    """
    series: dict[tuple[str, Tier, str], list[Evidence]] = {}
    for each in (one for one in found.evidence if one.tier < Tier.OWNER):
        series.setdefault((each.workspace, each.tier, re.sub(r"\d+", "0", each.text)), []).append(each)
    gone = {each.source for same in series.values() if len(same) >= SERIES for each in same[:-1]}
    kept = tuple(each for each in found.evidence if each.source not in gone)
    return replace(found, evidence=kept, dropped={**found.dropped, "series": len(gone)} if gone else found.dropped)


def grouped(evidence: Iterable[Evidence]) -> dict[tuple[str, Tier], list[Evidence]]:
    """By workspace and tier: no text of a stranger's stands in one question with the owner's words."""
    groups: dict[tuple[str, Tier], list[Evidence]] = {}
    for each in evidence:
        groups.setdefault((each.workspace, each.tier), []).append(each)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])))


def rule_of(line: Line) -> Rule | None:
    """The row of the table that a line falls under; None = noise."""
    data = line.get("data")
    if not isinstance(data, Mapping):
        return None
    for rule in RULES:
        if line.get("kind") == rule.kind and all(data.get(name) in wanted for name, wanted in rule.where.items()):
            return rule
    return None


def _evidence(line: Line, taints: Mapping[str, Tier], *, zone: tzinfo | None) -> Evidence | None:
    rule = rule_of(line)
    workspace = line.get("ws")
    if rule is None or not isinstance(workspace, str) or not workspace:
        return None  # what belongs to no workspace would have to be remembered in all of them
    data = line["data"]
    assert isinstance(data, Mapping)
    moment = datetime.fromisoformat(str(line["t"]))
    day = moment.astimezone(zone).date()
    words = plain(cleaned("; ".join(filter(None, (_said(data, take) for take in rule.takes)))).text)[:TEXT_MAX]
    return Evidence(
        f"j{_number(line)}", moment, day, workspace, min(rule.tier, _tier(line, taints)), rule.speaker,
        resolved(words, day),
    )  # fmt: skip


class _Told:
    """What is remembered already, by its words, so that no line has to be compared with every entry."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = [(entry, word_set(entry.text)) for entry in entries]
        self._places: dict[str, list[int]] = {}
        for place, (_, words) in enumerate(self._entries):
            for word in words:
                self._places.setdefault(word, []).append(place)

    def echoes(self, found: Evidence, words: frozenset[str]) -> bool:
        """Whether one entry that its workspace sees holds nearly all of its `words`, and no other value or answer."""
        # It lacks so few of them that it holds at least one of any that many and one more: the rarest say which.
        lacking = int((1 - ECHO) * len(words)) + 1
        rarest = sorted(words, key=lambda word: len(self._places.get(word, ())))[: lacking + 1]
        near = {place for word in rarest for place in self._places.get(word, ())}
        return any(
            entry.visible_in(found.workspace)
            and len(words & known) >= ECHO * len(words)
            and all(word.isalnum() and not word.isdigit() for word in words - known)
            and denies(entry.text) == denies(found.text)
            for entry, known in (self._entries[place] for place in near)
        )


def _is_answer(found: Evidence, between: Iterable[Evidence]) -> bool:
    """Whether something said since it was said before is about the same: then it holds again."""
    words = word_set(found.text)
    return any(one.workspace == found.workspace and overlap(words, word_set(one.text)) >= ABOUT for one in between)


def _unusable(found: Evidence, told: _Told, *, scrub: Scrubber) -> str:
    if scrub(found.text).found:
        return "secret"
    words = frozenset(content_words(found.text))
    short = len(words) < _LEAST_WORDS
    if short and is_told_secret(found.text):
        return "secret"
    lasts = found.tier is Tier.OWNER and words and asserted(found.text) and not _OF_THE_MOMENT.match(found.text)
    if _EMPTY_WORDS.fullmatch(found.text) or (short and not lasts):
        return "noise"
    report = _PASTED if found.tier is Tier.OWNER else _REPORT
    if len(found.text.split()) <= _REPORT_WORDS and report.fullmatch(found.text):
        return "noise"
    if found.speaker == "command" and _SHELL_NOISE.search(found.text):
        return "noise"
    # The owner may say a thing again, which confirms it; what a tool or run repeats may have come from memory itself.
    if found.tier < Tier.OWNER and told.echoes(found, words):
        return "echo"
    return ""


def _taints(lines: Iterable[Line], known: Mapping[str, Tier]) -> dict[str, Tier]:
    """The lowest tier that each run is known to have had: its calls carry none of their own."""
    found = dict(known)
    for line in lines:
        if str(line.get("kind", "")).startswith("run.") and line.get("tier"):
            run, tier = str(line.get("id")), _parsed(line)
            found[run] = min(tier, found.get(run, tier))
    return found


def _tier(line: Line, taints: Mapping[str, Tier]) -> Tier:
    if str(line.get("kind", "")).startswith("call."):
        return taints.get(str(line.get("cause", "")), Tier.COLLABORATOR)
    return _parsed(line)


def _parsed(line: Line) -> Tier:
    try:
        return Tier.parse(str(line.get("tier")))
    except KeyError:
        return Tier.PUBLIC


def _number(line: Line) -> int:
    number = line.get("seq")
    return number if isinstance(number, int) else 0


def _said(data: Mapping[str, Json], take: str) -> str:
    """The value at a dotted name; `*` = every value there, with its name."""
    found: Json = data
    for part in take.split("."):
        if part == "*":
            return ", ".join(f"{name} {_shown(value)}" for name, value in _items(found) if _shown(value))
        found = found.get(part) if isinstance(found, Mapping) else None
    return _shown(found)


def _items(value: Json) -> list[tuple[str, Json]]:
    return sorted(value.items()) if isinstance(value, Mapping) else []


def _shown(value: Json) -> str:
    render: Callable[[Json], str] = _shown
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {render(each)}" for name, each in _items(value) if render(each))
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(render, value)))
    return "" if value is None or value is False else str(value)
