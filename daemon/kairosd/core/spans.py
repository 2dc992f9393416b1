"""Spans of days that somebody names: `2026-11-03`, `19 August 2026`, `May 2026`, `last week`, `3 days ago`."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date, timedelta

from kairosd.frozen import frozen

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH = r"(?P<month>" + "|".join(f"{name}|{name[:3]}\\b" for name in _MONTHS) + r")"
_NTH = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEARS = range(1900, 2200)  # at the calendar's ends no day has another beside it
_UNITS = {"day": 1, "week": 7, "month": 30, "year": 365}


@frozen
class Span:
    """The days from `first` to `last`, both included; `first` None = from the beginning on."""

    first: date | None
    last: date

    def holds(self, day: date) -> bool:
        """Whether `day` lies within."""
        return (self.first is None or self.first <= day) and day <= self.last


Match = re.Match[str]


def span_in(text: str, today: date) -> Span | None:
    """The first span of days that `text` names, as understood on `today`; None = it names none."""
    for pattern, read in _RULES:
        for found in pattern.finditer(text):
            if (span := read(found, today)) is not None:
                return span
    return None


def span_of(text: str, today: date) -> Span:
    """The span that `text` is: one of a day, or `A..B` from one to another. Raises `ValueError` naming the forms."""
    first, dots, last = text.partition("..")
    start, end = (span_in(part, today) if part.strip() else None for part in (first, last))
    if not dots and start is not None:
        return start
    if dots and (start or end) and not ((first.strip() and not start) or (last.strip() and not end)):
        begin, until = (start.first if start else None), (end.last if end else today)
        if begin is None or begin <= until:
            return Span(begin, until)
    raise ValueError('must be days such as "2026-11-03", "last week", "3 days ago", "May 2026" or "2026-11-01..today"')


def _iso(found: Match, _: date) -> Span | None:
    day = _date(int(found[1]), int(found[2]), day=int(found[3]))
    return Span(day, day) if day else None


def _named(found: Match, today: date) -> Span | None:
    """A month by its name, with a day or a year or both; without a year the last one that has begun."""
    month = next(number for number, name in enumerate(_MONTHS, start=1) if name[:3] == found["month"].lower()[:3])
    groups = found.groupdict()
    day, said = groups.get("day"), groups.get("year")
    year = int(said) if said else today.year - (month > today.month)
    if day is None:
        return Span(date(year, month, 1), date(year, month, monthrange(year, month)[1]))
    one = _date(year, month, day=int(day))
    return Span(one, one) if one else None


def _near(found: Match, today: date) -> Span:
    back = {"today": 0, "yesterday": 1, "the day before yesterday": 2}[found[0].lower()]
    return Span(today - timedelta(back), today - timedelta(back))


def _ago(found: Match, today: date) -> Span:
    count, unit = int(found["count"]) if found["count"].isdigit() else 1, _UNITS[found["unit"].lower()]
    middle = today - timedelta(days=min(count * unit, 36500))
    slack = timedelta(days=0 if unit == 1 else unit // 2)  # "3 weeks ago" is no day
    return Span(middle - slack, middle + slack)


def _past(found: Match, today: date) -> Span:
    days = min(int(found["count"] or 1) * _UNITS[found["unit"].lower()], 36500)
    return Span(today - timedelta(days=days), today)


def _period(found: Match, today: date) -> Span:
    back = found["which"].lower() == "last"
    match found["unit"].lower():
        case "week":
            monday = today - timedelta(days=today.weekday() + 7 * back)
            return Span(monday, monday + timedelta(days=6))
        case "month":
            first = (today.replace(day=1) - timedelta(days=back)).replace(day=1)
            return Span(first, first.replace(day=monthrange(first.year, first.month)[1]))
        case _:
            year = today.year - back
            return Span(date(year, 1, 1), date(year, 12, 31))


def _weekday(found: Match, today: date) -> Span:
    day = today - timedelta(days=(today.weekday() - _DAYS.index(found["weekday"].lower()) - 1) % 7 + 1)
    return Span(day, day)


def _date(year: int, month: int, *, day: int) -> date | None:
    try:
        return date(year, month, day) if year in _YEARS else None
    except ValueError:
        return None


def _rule(
    pattern: str, read: Callable[[Match, date], Span | None]
) -> tuple[re.Pattern[str], Callable[..., Span | None]]:
    return re.compile(pattern, re.IGNORECASE), read


_YEAR = r"(?P<year>(?:19|20)\d\d)"
# A month's name alone is often a word ("may"): it counts with a day, a year, or where `in` or `of` leads to it.
_RULES = (
    _rule(r"\b(\d{4})-(\d{2})-(\d{2})\b", _iso),
    _rule(rf"\b{_NTH}(?: of)? {_MONTH},? {_YEAR}\b", _named),
    _rule(rf"\b{_MONTH} {_NTH},? {_YEAR}\b", _named),
    _rule(rf"\b{_NTH}(?: of)? {_MONTH}\b", _named),
    _rule(rf"\b{_MONTH},? {_YEAR}\b", _named),
    _rule(rf"\b{_MONTH} {_NTH}\b", _named),
    _rule(rf"\b(?:in|during|of|since|until) (?:early |late )?{_MONTH}\b", _named),
    _rule(r"\bthe day before yesterday\b|\byesterday\b|\btoday\b", _near),
    _rule(r"\b(?P<count>a|an|one|\d{1,4}) (?P<unit>day|week|month|year)s? ago\b", _ago),
    _rule(r"\b(?:the )?(?:last|past) (?P<count>\d{1,4}) (?P<unit>day|week|month|year)s?\b", _past),
    _rule(r"\b(?P<which>last|this) (?P<unit>week|month|year)\b", _period),
    _rule(r"\b(?:last|on) (?P<weekday>" + "|".join(_DAYS) + r")\b", _weekday),
)
