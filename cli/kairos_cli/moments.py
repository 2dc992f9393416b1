"""Moments as people write and read them: local, and relative to now."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_STEPS = ((86400 * 2, 86400, "d"), (3600, 3600, "h"), (60, 60, "min"), (0, 1, "s"))


def now() -> datetime:
    """The moment, in UTC. The CLI lives for one moment and needs no Clock."""
    return datetime.now(UTC)  # noqa: TID251 - the CLI's only clock


def parse_since(text: str, at: datetime) -> datetime:
    """The moment meant by `2h`, `3d`, `today`, `yesterday` or an ISO date or time (local unless it names a zone).

    `at` is now. Raises `ValueError` naming the forms.
    """
    word = text.strip().lower()
    if span := re.fullmatch(r"(\d{1,6})\s*([smhdw])", word, re.ASCII):
        return at - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    if word in ("today", "yesterday"):
        return _midnight(parse_day(word, at)).astimezone(UTC)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: say 2h, 3d, today, yesterday or 2026-11-20T08:30") from None
    return found.astimezone(UTC)


def parse_day(text: str, at: datetime) -> date:
    """The local day meant by `today`, `yesterday` or an ISO date. Raises `ValueError` naming the forms."""
    today = at.astimezone().date()
    word = text.strip().lower()
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise ValueError(f"{text!r} is no day: say today, yesterday or 2026-11-20") from None


def parse(text: object) -> datetime | None:
    """An ISO moment of the daemon's; None where there is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def local(text: object, at: datetime) -> str:
    """An ISO moment as local time, with its date unless it is today's; empty where there is none."""
    moment = parse(text)
    if moment is None:
        return ""
    here = moment.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == at.astimezone().date() else f"{here:%Y-%m-%d %H:%M}"


def relative(text: object, at: datetime) -> str:
    """An ISO moment as `3 min ago` or `in 2 h`; empty where there is none."""
    moment = parse(text)
    if moment is None:
        return ""
    seconds = int((at - moment).total_seconds())
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def span(seconds: int) -> str:
    """A span in its largest sensible unit: `40 s`, `3 min`, `5 h`, `4 d`."""
    for least, unit, name in _STEPS:
        if seconds >= least:
            return f"{seconds // unit} {name}"
    return "0 s"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day).astimezone()
