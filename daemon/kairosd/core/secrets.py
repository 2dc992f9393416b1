"""Secrets in text: known shapes and the daemon's own are taken out before a model or the journal sees them.

A net below the masks: files that may hold secrets are not shown to programs at all. The shapes are those that the
issuers document (GitHub, GitLab, AWS, Google, Slack, Stripe, npm, PyPI, Anthropic, OpenAI, ntfy, JSON Web Tokens, PEM).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kairosd.frozen import frozen

KNOWN_LENGTH = 8  # characters: anything shorter is found in ordinary text
SHAPES = re.compile(
    r"""
    (?P<pem> -----BEGIN[ ](?:[A-Z0-9]+[ ])*PRIVATE[ ]KEY-----.*?(?:-----END[ ](?:[A-Z0-9]+[ ])*PRIVATE[ ]KEY-----|\Z) )
  | (?P<github> \b(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{30,255})\b )
  | (?P<gitlab> \bglpat-[A-Za-z0-9_-]{20,} )
  | (?P<aws> \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
        | (?i:aws_?secret_?(?:access_?)?key["']?\s*[:=]\s*["']?) [A-Za-z0-9/+=]{40} )
  | (?P<google> \bAIza[A-Za-z0-9_-]{35} | \bya29\.[A-Za-z0-9_-]{20,} )
  | (?P<slack> \bxox[abeoprs]-[A-Za-z0-9-]{10,} | https://hooks\.slack\.com/services/[A-Za-z0-9/_-]+ )
  | (?P<stripe> \b[rs]k_(?:live|test)_[A-Za-z0-9]{16,} )
  | (?P<anthropic> \bsk-ant-[A-Za-z0-9_-]{20,} )
  | (?P<openai> \bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,} )
  | (?P<npm> \bnpm_[A-Za-z0-9]{36}\b )
  | (?P<pypi> \bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{20,} )
  | (?P<ntfy> \btk_[a-z0-9]{29}\b )
  | (?P<jwt> \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,} )
  | (?P<bearer> (?<=[Bb]earer[ ])[A-Za-z0-9._~+/-]{20,}=* )
  | (?P<password> (?<=://)[^\s/:@]{1,100}:[^\s/:@]{3,200}(?=@) )
    """,
    re.VERBOSE | re.DOTALL,
)


# What stands for a secret; a file that were written back with it would have lost the real one.
PLACEHOLDER = re.compile(r"\[secret: (?:Kairos's own|" + "|".join(SHAPES.groupindex) + r")\]")


# A secret that somebody tells by its name alone, in any shape: "password hunter2", "PIN 4711".
_TOLD = re.compile(
    r"\W*(?:(?:the|my)\s+)?(?:\w+\s+)?(?:pass(?:word|wort|wd|phrase|code)?|pw|kennwort|pin|otp|tan|puk|secret|token|wi-?fi|wlan)"
    r"\b\W+(?=\S*[\d!#$%&*+=?@^~])\S{4,}(?:\s+\d+)*\W*", re.IGNORECASE
)  # fmt: skip


def is_told_secret(text: str) -> bool:
    """Whether a text of a few words is nothing but a secret and its name."""
    return _TOLD.fullmatch(text) is not None


@frozen
class Scrubbed:
    """A text without secrets, and how many were taken out."""

    text: str
    found: int


class Scrubber:
    """Takes secrets out of text. `known` are values of the daemon's own: its keys, tokens and webhook secrets."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        values = sorted({value for value in known if len(value) >= KNOWN_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, values))) if values else None

    def __call__(self, text: str) -> Scrubbed:
        """Each secret becomes `[secret: SHAPE]`; the rest of the text stays as it is."""
        found = 0
        if self._known is not None:
            text, found = self._known.subn("[secret: Kairos's own]", text)
        text, shaped = SHAPES.subn(lambda match: f"[secret: {match.lastgroup}]", text)
        return Scrubbed(text, found + shaped)
