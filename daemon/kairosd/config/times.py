"""The forms in which a configuration says times: `HH:MM`, `90m`, five cron fields, an ISO moment, and `host:port`."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, time

EVERY = re.compile(r"(\d{1,6}[smhd])+")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 366 * 86400
MONTHS = dict(jan=1, feb=2, mar=3, apr=4, may=5, jun=6, jul=7, aug=8, sep=9, oct=10, nov=11, dec=12)
DAYS = dict(sun=0, mon=1, tue=2, wed=3, thu=4, fri=5, sat=6)
CRON: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)
HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def wall_time(text: str) -> time:
    """`HH:MM` as a time. Raises `ValueError` naming the form."""
    try:
        found = time.fromisoformat(text)
    except ValueError:
        raise ValueError('must be a time such as "22:30"') from None
    if found.tzinfo is not None:
        raise ValueError('must be a local time such as "22:30", without a zone')
    return found


def every_seconds(text: str) -> int:
    """`90m`, `1h30m`, `2d` in seconds. Raises `ValueError` naming the form."""
    if not EVERY.fullmatch(text):
        raise ValueError('must be a span such as "90m", "6h" or "1d"')
    total = sum(int(part[:-1]) * UNITS[part[-1]] for part in re.findall(r"\d+[smhd]", text))
    if not 1 <= total <= LONGEST:
        raise ValueError("must be between 1s and 366d")
    return total


def moment(text: str) -> datetime:
    """An ISO moment; naive = local time. Raises `ValueError` naming the form."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError('must be a moment such as "2027-01-31T09:00"') from None


def check_cron(text: str) -> None:
    """Raises `ValueError` unless `text` is five fields as in crontab(5)."""
    fields = text.split()
    if len(fields) != len(CRON):
        raise ValueError(f"must be five fields (minute hour day month weekday), not {len(fields)}")
    for value, (name, low, high, names) in zip(fields, CRON, strict=True):
        for part in value.lower().split(","):
            if not _cron_part(part, range(low, high + 1), names=names):
                raise ValueError(f"its {name} is not understood: {low} to {high}, with * , - and /")


def _cron_part(part: str, allowed: range, *, names: dict[str, int]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (_is_number(step) and int(step) > 0):
        return False
    if span == "*":
        return True
    ends = [names.get(end, int(end) if _is_number(end) else -1) for end in span.split("-")]
    if names is DAYS and len(ends) == 2 and ends[1] == 0:
        ends[1] = 7  # sat-sun
    return len(ends) <= 2 and all(end in allowed for end in ends) and ends == sorted(ends)


def address(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` taken apart; port 0 = any free one. Raises `ValueError` naming the form."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (_is_number(port) and int(port) <= 65535 and _is_host(bare, v6=bare != host)):
        raise ValueError('must be host:port, such as "127.0.0.1:8787" or "[::1]:8787"')
    return bare, int(port)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()  # "²" is a digit too, and no number


def _is_host(text: str, *, v6: bool) -> bool:
    try:
        return (ipaddress.ip_address(text).version == 6) == v6
    except ValueError:
        return not v6 and len(text) <= 253 and all(HOST_LABEL.fullmatch(label) for label in text.split("."))
