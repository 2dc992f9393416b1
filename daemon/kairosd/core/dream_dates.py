"""Dates in what is remembered are absolute: "yesterday" means something else tomorrow (invariant I6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10,
}  # fmt: skip
_COUNT = r"(?P<count>\d{1,3}|" + "|".join(_NUMBERS) + r")"
_PART = r"(?: (?:morning|afternoon|evening|night))?"
_DAY = r"(?P<day>" + "|".join(_DAYS) + r")"

# What can be told from the event's own day, each with the days to add.
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], date], date]], ...] = (
    (re.compile(r"\b(?:the )?day before yesterday\b", re.I), lambda _, day: day - timedelta(days=2)),
    (re.compile(r"\b(?:the )?day after tomorrow\b", re.I), lambda _, day: day + timedelta(days=2)),
    (re.compile(rf"\byesterday\b{_PART}", re.I), lambda _, day: day - timedelta(days=1)),
    (re.compile(r"\blast night\b", re.I), lambda _, day: day - timedelta(days=1)),
    (re.compile(rf"\btomorrow\b{_PART}", re.I), lambda _, day: day + timedelta(days=1)),
    (re.compile(r"\btoday\b|\btonight\b|\bthis (?:morning|afternoon|evening)\b", re.I), lambda _, day: day),
    (re.compile(rf"\b{_COUNT} days? ago\b", re.I), lambda found, day: day - timedelta(days=_count(found))),
    (re.compile(rf"\b{_COUNT} weeks? ago\b", re.I), lambda found, day: day - timedelta(weeks=_count(found))),
    (re.compile(rf"\bin {_COUNT} days?\b", re.I), lambda found, day: day + timedelta(days=_count(found))),
    (re.compile(rf"\bin {_COUNT} weeks?\b", re.I), lambda found, day: day + timedelta(weeks=_count(found))),
    (re.compile(rf"\blast {_DAY}\b", re.I), lambda found, day: _weekday(found, day, back=True)),
    (re.compile(rf"\b(?:next|this coming|this) {_DAY}\b", re.I), lambda found, day: _weekday(found, day, back=False)),
)  # fmt: skip

# What has no one day: a week, a month, or a word that grows old by itself.
_SPAN = r"(?P<span>week|weekend|month|quarter|year|spring|summer|autumn|fall|winter)"
_VAGUE = re.compile(
    rf"\b(?:(?:last|next|this|past|coming) {_SPAN}"
    r"|recently|lately|just now|right now|nowadays|currently|at the moment|these days|soon|earlier today|the other day"
    r"|(?:months?|years?|hours?|minutes?) ago)\b",
    re.I,
)


# After these a date stands by itself; elsewhere "moved yesterday" is "moved on 2026-11-21".
_BEFORE_DATE = re.compile(
    r"(?:^|[^\w\s]\s*|\b(?:on|since|until|till|by|from|before|after|between|at|of|in|for|to|the|and|or|than|is|was|as)\s+)$",
    re.I,
)

# What of it has a length can be told from the day it was said on.
_SPANS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"\b(?:the )?(?:last|past) {_SPAN}\b", re.I), r"the \g<span> before {day}"),
    (re.compile(rf"\b(?:the )?(?:next|coming) {_SPAN}\b", re.I), r"the \g<span> after {day}"),
    (re.compile(rf"\bthis {_SPAN}\b", re.I), r"the \g<span> of {day}"),
    (re.compile(r"\b(?P<span>months?|years?|hours?|minutes?) ago\b", re.I), r"\g<span> before {day}"),
)


def settled(text: str, day: date) -> str:
    """`text` with spans of time told from `day`, so that it stays true: "last week" is "the week before 2026-11-21".

    What is only so "currently", or was "recently", has no day to be told from.
    """
    for pattern, words in _SPANS:
        text = pattern.sub(words.format(day=day.isoformat()), text)
    return text


def resolved(text: str, day: date) -> str:
    """`text` with every relative day as the date it was on `day`, the local day of the event it comes from."""
    for pattern, found in _RULES:
        text = pattern.sub(lambda match, found=found: _written(match, found(match, day)), text)  # type: ignore[misc]
    return text


def relative(text: str) -> str:
    """The first words of `text` that mean another day tomorrow; empty = there are none."""
    for pattern, _ in _RULES:
        if found := pattern.search(text):
            return found[0]
    vague = _VAGUE.search(text)
    return vague[0] if vague else ""


def _written(found: re.Match[str], day: date) -> str:
    before, after = found.string[: found.start()], found.string[found.end() :]
    stands = _BEFORE_DATE.search(before) or after.startswith(("'", "’", "-"))
    return day.isoformat() if stands else f"on {day.isoformat()}"


def _count(found: re.Match[str]) -> int:
    said = found["count"].lower()
    return int(said) if said.isdigit() else _NUMBERS[said]


def _weekday(found: re.Match[str], day: date, *, back: bool) -> date:
    wanted = _DAYS.index(found["day"].lower())
    if back:
        return day - timedelta(days=(day.weekday() - wanted - 1) % 7 + 1)
    return day + timedelta(days=(wanted - day.weekday() - 1) % 7 + 1)
