"""Channels that answers come over, and what each may say: an answer is as strong as its channel (design §11)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

from kairosd.frozen import frozen

SOCKET = "socket"
NTFY = "ntfy"

UNKNOWN_CODES = 5  # a minute, then a channel is silenced (design §11)
COUNTED_FOR = timedelta(minutes=1)
SILENT_FOR = timedelta(minutes=15)

_ANSWER = re.compile(r"\s{0,9}(?:(yes|allow|approve)|no|deny)\s{1,9}([a-z]{5})\s{0,9}", re.ASCII | re.IGNORECASE)


@frozen
class Strength:
    """What a channel may do besides saying no, which every channel may.

    `private` = to say yes it must have been seen that no stranger can read or write it.
    """

    approves: bool = False
    private: bool = False
    guarded: bool = False
    grants: bool = False
    guessing: bool = True  # whether unknown codes silence it


STRENGTHS: Mapping[str, Strength] = {
    # Only this user's own processes open it, and whoever is one of them can do worse than guess a code.
    SOCKET: Strength(approves=True, guarded=True, grants=True, guessing=False),
    NTFY: Strength(approves=True, private=True),
}
UNKNOWN = Strength()  # a channel without an entry may only say no


@frozen
class Asked:
    """What of a question and its answer matters to a channel."""

    approve: bool
    always: bool
    guarded: bool


def refusal(channel: str, asked: Asked, *, proven: bool) -> str | None:
    """Why `channel` may not give this answer; None where it may. `proven`: it was seen to be private."""
    strength = STRENGTHS.get(channel, UNKNOWN)
    if not asked.approve:
        return None
    if not strength.approves:
        return f"the channel {channel} may say no, but not yes"
    if strength.private and not proven:
        return f"the channel {channel} was not seen to be closed to strangers, so it may say no, but not yes"
    if asked.guarded and not strength.guarded:
        return f"this question is about a protected path, a secret or an open run: {channel} may not say yes to it"
    if asked.always and not strength.grants:
        return f"the channel {channel} may say yes once, but not for always"
    return None


def read_answer(text: str) -> tuple[bool, str] | None:
    """What `yes CODE`, `no CODE` and the like say: whether it is a yes, and the code; None for any other words."""
    found = _ANSWER.fullmatch(text)
    return (found[1] is not None, found[2].lower()) if found else None


def replies_to(channel: str, code: str, *, guarded: bool, proven: bool) -> tuple[str, ...]:
    """The answers to a question that `channel` may give."""
    yes = refusal(channel, Asked(approve=True, always=False, guarded=guarded), proven=proven) is None
    return (f"yes {code}", f"no {code}") if yes else (f"no {code}",)


class Guesses:
    """Counts the unknown codes of each channel, and tells which are silenced."""

    def __init__(self) -> None:
        self._unknown: dict[str, deque[datetime]] = {}
        self._silent: dict[str, datetime] = {}

    def silent_until(self, channel: str, now: datetime) -> datetime | None:
        """Until when nothing that comes over `channel` counts; None where it does."""
        until = self._silent.get(channel)
        return until if until is not None and now < until else None

    def unknown(self, channel: str, now: datetime) -> bool:
        """One more unknown code, said at `now`; True when it silences the channel."""
        if not STRENGTHS.get(channel, UNKNOWN).guessing:
            return False
        times = self._unknown.setdefault(channel, deque(maxlen=UNKNOWN_CODES))
        times.append(now)
        if len(times) < UNKNOWN_CODES or now - times[0] > COUNTED_FOR:
            return False
        times.clear()
        self._silent[channel] = max(now + SILENT_FOR, self._silent.get(channel, now))
        return True
